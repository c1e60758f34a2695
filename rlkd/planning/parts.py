"""One formula per part of the memory: pure functions of sizes, in bytes.

What autograd keeps was counted tensor by tensor in transformers 5.23's Llama and Qwen3 and TRL
1.16's fused head (tests/unit/test_planning.py counts again with saved-tensor hooks); it is the
count of Korthikanti et al. 2022 (arXiv 2205.05198, section 4.1) redone for RMSNorm, gated MLPs,
grouped queries and an attention that keeps no L x L matrix.
"""

from rlkd.planning.network import Network

TILE_TOKENS, TILE_VOCABULARY = 4096, 32768
"""TRL's tile of logits (trl.kernels.chunked_logprob, trl.trainer.utils): always that wide."""
DIVERGENCE_LOGITS = 1 << 24
"""Logits of one chunk where whole distributions are compared (rlkd.objectives.chunked)."""
TEACHER_TOKENS = 16_384
"""Tokens of one forward of the local teacher (`LocalTeacher.max_tokens`)."""


def adam_states(net: Network) -> int:
    """Two averages per trained weight, in the weight's own format: torch's AdamW makes them with
    `zeros_like`, and rlkd keeps no float32 master copy of bfloat16 weights."""
    return 2 * net.trained


def trained_apart(net: Network) -> int:
    """Bytes of what FSDP2 trains, over all processes. Weights that are trained in bfloat16 become
    float32 (accelerate 1.15, `fsdp2_prepare_model`); adapters are float32 already."""
    return net.trained * 4 // net.width if net.rank == 0 else net.trained


def gathered(net: Network) -> int:
    """What FSDP2 holds whole while it computes: the layer in work and the next one, and the head,
    which accelerate keeps from the forward pass to the backward pass."""
    head = net.head_size * net.width
    layers = net.weights - head * (1 if net.tied else 2)
    return 2 * layers // net.layers + head


def kept_by_layer(net: Network, rows: int, length: int) -> int:
    """What one decoder layer keeps for its backward pass, rows of `length` tokens with padding.

    Per token, all weights trained, float32 (b = 4), in numbers:

        two RMSNorms    4 H + 2   their inputs, the normalised inputs, 1 / rms
        linear inputs   2 H       after each norm (Q of `o_proj` and I of `down_proj`: below)
        attention       4 Q + heads + L   q, repeated k and v, output; log-sum-exp; the mask
        gated MLP       4 I       gate, silu(gate), up, their product

    The mask is kept as numbers, once per layer. In bfloat16 a norm's input is kept in float32.
    Queries and keys that are normalised per head (Qwen3) keep 2 (Q + K) more. With adapters the
    norms' weights are frozen and their normalised inputs are not kept, nor is the input of a
    linear layer without an adapter; each adapter keeps `rank` numbers, and in bfloat16 a copy of
    its input and of its two matrices.
    """
    h, q, k, i, b = net.hidden, net.q_width, net.kv_width, net.intermediate, net.width
    full = net.rank == 0
    per_token = 2 * 4 * h + 2 * 4  # the norms' inputs, in float32 whatever b is
    per_token += b * 4 * q + 4 * net.heads + b * length
    per_token += b * 3 * i
    if net.qk_norm:
        per_token += 4 * (q + k) + 4 * (net.heads + net.kv_heads)
    if full:
        per_token += b * (2 * h + 2 * h + i) + (b * (q + k) if net.qk_norm else 0)
        return rows * length * per_token
    sizes = adapter_sizes(net)
    per_token += b * net.rank * len(sizes)
    if b == 4:  # linear layers that share an input share what is kept of it
        first = bool(net.adapted & {"q_proj", "k_proj", "v_proj"})
        second = bool(net.adapted & {"gate_proj", "up_proj"})
        per_token += b * (h * (first + second) + i * ("down_proj" in net.adapted))
        return rows * length * per_token
    per_token += b * sum(inner for inner, _ in sizes)
    return rows * length * per_token + b * net.rank * sum(map(sum, sizes))


def adapter_sizes(net: Network) -> list[tuple[int, int]]:
    """(inputs, outputs) of each adapted linear layer of a decoder layer."""
    h, q, k, i = net.hidden, net.q_width, net.kv_width, net.intermediate
    sizes = {
        "q_proj": (h, q), "k_proj": (h, k), "v_proj": (h, k), "o_proj": (q, h),
        "gate_proj": (h, i), "up_proj": (h, i), "down_proj": (i, h),
    }  # fmt: skip
    # Of names that are not known the count is what is left to go by: see Network.known.
    return [sizes.get(name, (h, i)) for name in sorted(net.adapted)]


def kept_by_head(net: Network, rows: int, length: int) -> int:
    """The last norm (its input in float32, the normalised input where it is trained) and the fused
    head: its input, and per token log Z, entropy, target and position."""
    per_token = 4 * net.hidden + net.width * net.hidden * (2 if net.rank == 0 else 1) + 40
    return rows * length * per_token


def activations(net: Network, rows: int, length: int, checkpointing: bool) -> int:
    """What a micro-batch keeps for the backward pass.

    With checkpointing (Chen et al. 2016, arXiv 1604.06174) every layer keeps its input only, and
    one layer at a time is computed again.
    """
    layer, tokens = kept_by_layer(net, rows, length), rows * length
    if checkpointing:
        kept = net.layers * tokens * net.width * net.hidden + layer
    else:
        kept = net.layers * layer
    return kept + kept_by_head(net, rows, length)


def head_forward(net: Network, scored: int, triton: bool) -> int:
    """TRL's fused head in the forward pass: the buffer of one tile of logits; without Triton also
    three float32 copies of the tile."""
    return _tile(net, scored, copies=0 if triton else 3)


def head_backward(net: Network, scored: int, triton: bool, entropy_gradient: bool) -> int:
    """TRL's fused head in the backward pass: the tile, and the float32 gradients of what came in
    (`scored` x H) and of the head's weight (V x H).

    Without Triton (a CPU) seven float32 copies of the tile live at once, eight where the loss asks
    for the entropy's gradient.
    """
    copies = 0 if triton else 7 + entropy_gradient
    gradients = 4 * scored * net.hidden + (4 * net.head_size if net.head_trained else 0)
    return _tile(net, scored, copies) + gradients


def _tile(net: Network, scored: int, copies: int) -> int:
    tokens = min(scored, TILE_TOKENS)
    buffer = tokens * TILE_VOCABULARY * net.width
    return buffer + copies * tokens * min(net.vocabulary, TILE_VOCABULARY) * 4


def layer_forward(net: Network, rows: int, length: int, masked: bool = True) -> int:
    """The most that a decoder layer holds where nothing is kept: three widths of the MLP beside
    the residual stream and its norm, or what the attention holds; and the mask (L x L per row, as
    booleans and as numbers)."""
    b, tokens = net.width, rows * length
    mlp = b * (3 * net.intermediate + 2 * net.hidden)
    repeated = 2 * net.q_width if masked else 0
    attention = b * (2 * net.hidden + 2 * net.q_width + 2 * net.kv_width + repeated)
    mask = rows * length * length * (1 + b) if masked else 0
    return tokens * max(mlp, attention) + mask


def layer_backward(net: Network, rows: int, length: int) -> int:
    """What the backward pass of a layer holds beside what was kept: gradients of two widths of the
    MLP and of the residual stream."""
    return rows * length * net.width * (2 * net.intermediate + 2 * net.hidden)


def kv_cache(net: Network, rows: int, length: int) -> int:
    """Keys and values of every layer: R · L · layers · 2 K numbers. All rows of a generation batch
    of this process are sampled at once."""
    return rows * length * net.layers * 2 * net.kv_width * net.width


def decoding(net: Network, rows: int, length: int, copies: int) -> int:
    """One step of sampling beside the cache: the keys of one layer twice (a longer copy is made at
    each token), and the logits (R · V): as the model gives them, and `copies` in float32."""
    twice = rows * length * net.kv_width * net.width
    return max(twice, rows * net.vocabulary * (net.width + 4 * copies))


def teacher_forward(net: Network, rows: int, length: int, completion: int, chunk: int) -> int:
    """A forward pass of the teacher on at most 16,384 tokens (or one row): the larger of a layer's
    tensors, and the last hidden states (twice: of all tokens, of the answers) beside a chunk of
    logits: chunk · V · 4 bytes, 6 for a bfloat16 head (rlkd.objectives.logprobs)."""
    rows = min(rows, max(1, TEACHER_TOKENS // length))
    chunk = min(chunk, rows * completion)
    logits = chunk * net.vocabulary * (4 if net.width == 4 else 4 + net.width)
    states = rows * (length + completion) * net.hidden * net.width
    return max(layer_forward(net, rows, length, masked=False), states + logits)


def hidden_states(net: Network, rows: int, completion: int) -> int:
    """Last hidden states of the answers, padding included: R · T · H numbers."""
    return rows * completion * net.hidden * net.width


def divergence_backward(student: Network, teacher: Network, compared: int) -> int:
    """The backward pass of a divergence over the whole vocabulary at `compared` positions: six
    float32 tensors of a chunk of logits (rlkd.objectives.chunked), and the float32 gradients of the
    student's hidden states and of its head's weight."""
    rows = min(student.vocabulary, teacher.vocabulary)
    chunk = min(compared, max(1, DIVERGENCE_LOGITS // rows))
    gradients = 4 * compared * student.hidden + 4 * student.head_size * student.head_trained
    return 6 * chunk * rows * 4 + gradients
