"""rlkd plan: every formula by hand, against what autograd keeps, and what the command says."""

import dataclasses
import os
from pathlib import Path

import pytest
import torch

from rlkd.cli import main
from rlkd.config import ConfigError, load
from rlkd.config.schema import Lora
from rlkd.planning import parts
from rlkd.planning.network import ROLES, Network, read_network
from rlkd.planning.phases import Part, Work, estimate
from rlkd.planning.plan import changes, longest_prompt, plan
from tests.conftest import make_model

NET = Network(
    name="hand", weights=4000, trained=4000, width=4, hidden=8, layers=3, heads=4, kv_heads=2,
    head_dim=2, intermediate=16, vocabulary=10,
)  # fmt: skip
"""Q = 8, K = 4, b = 4."""
HALF = dataclasses.replace(NET, width=2, weights=2000, trained=2000)
WORK = Work(prompt=3, completion=5, micro_batch=2, accumulation=2, generated=4)

CONFIG = """
model: {path: models/student}
teacher: {path: models/teacher}
algorithm: {use: "rlkd.algorithms.rlad:RLAD"}
data:
  train: {path: rows.jsonl}
  eval: {path: heldout.jsonl}
rewards: [{use: "reward_p:right"}]
batch: {prompts_per_step: 4, group_size: 4, micro_batch_size: 8}
sampling: {max_completion_length: 40}
optim: {steps: 5, learning_rate: 1e-3}
eval: {batch_size: 6}
run: {name: tiny}
"""


# one formula at a time


def test_states_of_adam_are_two_numbers_per_trained_weight():
    assert parts.adam_states(NET) == 8000


def test_a_layer_of_a_full_model_by_hand():
    """Per token: norms 4·8 + 2, linear inputs 2·8, attention 4·8 + 4 + L, MLP 4·16 numbers."""
    length = 5
    per_token = (4 * 8 + 2) + 2 * 8 + (4 * 8 + 4 + length) + 4 * 16
    assert parts.kept_by_layer(NET, 3, length) == 3 * 5 * 4 * per_token


def test_a_layer_with_adapters_by_hand():
    """Without the normalised inputs (2·8), with 7 adapters of rank 2."""
    net = dataclasses.replace(NET, rank=2, adapted=frozenset(ROLES))
    per_token = (2 * 8 + 2) + 2 * 8 + (4 * 8 + 4 + 5) + 4 * 16 + 7 * 2
    assert parts.kept_by_layer(net, 3, 5) == 3 * 5 * 4 * per_token


def test_a_layer_in_bfloat16_by_hand():
    """Bytes: the norms' inputs and 1/rms (2·8 + 2) and the log-sum-exps (4) stay in float32."""
    per_token = 4 * (2 * 8 + 2 + 4) + 2 * (2 * 8 + 2 * 8 + 4 * 8 + 5 + 4 * 16)
    assert parts.kept_by_layer(HALF, 3, 5) == 3 * 5 * per_token


def test_checkpointing_keeps_the_inputs_of_the_layers_and_one_layer():
    layer, head = parts.kept_by_layer(NET, 2, 8), parts.kept_by_head(NET, 2, 8)
    assert parts.activations(NET, 2, 8, False) == 3 * layer + head
    assert parts.activations(NET, 2, 8, True) == 3 * 16 * 8 * 4 + layer + head


def test_the_heads_tile_is_as_wide_as_trl_makes_it():
    from trl.kernels.chunked_logprob import TOKEN_CHUNK_SIZE
    from trl.trainer.utils import _CHUNKED_LOGPROB_CHUNK_SIZE

    assert (TOKEN_CHUNK_SIZE, _CHUNKED_LOGPROB_CHUNK_SIZE) == (
        parts.TILE_TOKENS,
        parts.TILE_VOCABULARY,
    )
    assert parts.head_forward(NET, 14, triton=True) == 14 * 32768 * 4
    gradients = 4 * 14 * 8 + 4 * 10 * 8
    tile = 14 * 32768 * 4
    assert parts.head_backward(NET, 14, True, False) == tile + gradients
    assert parts.head_backward(NET, 14, False, False) == tile + 7 * 14 * 10 * 4 + gradients
    assert parts.head_backward(NET, 14, False, True) == tile + 8 * 14 * 10 * 4 + gradients
    many = parts.head_backward(NET, 5000, True, False)
    assert many == 4096 * 32768 * 4 + 4 * 5000 * 8 + 4 * 10 * 8


def test_keys_and_values():
    """4 rows, 8 tokens, 3 layers, two of 4 numbers."""
    assert parts.kv_cache(NET, 4, 8) == 4 * 8 * 3 * 2 * 4 * 4
    assert parts.kv_cache(HALF, 4, 8) == parts.kv_cache(NET, 4, 8) // 2


def test_decoding_is_logits_or_the_copy_of_a_layers_keys():
    assert parts.decoding(NET, 4, 2, copies=3) == 4 * 10 * (4 + 3 * 4)
    assert parts.decoding(NET, 4, 100, copies=3) == 4 * 100 * 4 * 4


def test_the_teachers_pass():
    from rlkd.teacher.local import LocalTeacher

    defaults = LocalTeacher.__init__.__kwdefaults__
    assert defaults["max_tokens"] == parts.TEACHER_TOKENS
    wide = dataclasses.replace(NET, vocabulary=1000)
    states = 4 * (8 + 5) * 8 * 4
    assert parts.teacher_forward(wide, 4, 8, 5, chunk=7) == states + 7 * 1000 * 4
    half = dataclasses.replace(HALF, vocabulary=1000)
    assert parts.teacher_forward(half, 4, 8, 5, chunk=7) == states // 2 + 7 * 1000 * 6
    # No chunk is longer than the answers; no pass longer than 16,384 tokens: here two rows.
    assert parts.teacher_forward(wide, 4, 8, 5, chunk=10**6) == states + 20 * 1000 * 4
    long = parts.teacher_forward(wide, 4, 8192, 1, chunk=1)
    assert long == 2 * 8192 * 4 * max(3 * 16 + 2 * 8, 2 * 8 + 2 * 8 + 2 * 4)


# what autograd keeps, counted


def kept(model, ids, mask) -> int:
    """Bytes that the backward pass of TRL's fused forward keeps, weights aside."""
    from trl.trainer.utils import add_fused_lm_head

    base = model.get_base_model() if hasattr(model, "peft_config") else model
    add_fused_lm_head(base, outputs=("log_probs", "entropy"))
    own = {t.untyped_storage().data_ptr() for t in [*model.parameters(), *model.buffers()]}
    found = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage
        return tensor

    half = next(model.parameters()).dtype == torch.bfloat16
    labels = ids.clone()
    labels[:, :8] = -100
    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=half),
    ):
        model(input_ids=ids, attention_mask=mask, labels=labels, fused_lm_head=True)
    return sum(storage.nbytes() for storage in found.values())


@pytest.mark.parametrize("targets", [None, "all-linear", ["q_proj", "v_proj"], ["down_proj"]])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("family", ["Llama", "Qwen3", "Qwen2"])
def test_what_a_layer_keeps_is_what_autograd_keeps(family, dtype, targets, tmp_path):
    import transformers
    from peft import LoraConfig, get_peft_model

    counts, estimates = [], []
    ids = torch.randint(0, 50, (3, 24), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[0, :4] = 0
    lora = None if targets is None else Lora(r=4, alpha=8, target_modules=targets)
    for layers in (2, 3):
        folder = tmp_path / str(layers)
        config = getattr(transformers, f"{family}Config")(
            vocab_size=50, hidden_size=48, intermediate_size=112, num_hidden_layers=layers,
            num_attention_heads=6, num_key_value_heads=2, max_position_embeddings=64,
            tie_word_embeddings=True, head_dim=16 if family == "Qwen3" else 8,
        )  # fmt: skip
        model = getattr(transformers, f"{family}ForCausalLM")(config)
        model.save_pretrained(folder)
        model = model.to(getattr(torch, dtype))
        if lora is not None:
            model = get_peft_model(
                model, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM")
            )
        net = read_network(
            str(folder), dtype, "model.path", lora.model_dump_json() if lora else None
        )
        assert net.known
        trained = [p for p in model.parameters() if p.requires_grad]
        assert net.trained == sum(p.numel() * p.element_size() for p in trained)
        assert net.weights == sum(p.numel() * p.element_size() for p in model.parameters())
        counts.append(kept(model.train(), ids, mask))
        estimates.append(parts.activations(net, 3, 24, False))
    layer = parts.kept_by_layer(net, 3, 24)
    assert counts[1] - counts[0] == layer
    assert estimates[1] - estimates[0] == layer
    # The rest is close, not equal. Before its first adapter the first layer keeps nothing.
    spared = layer if lora is not None else 0
    assert -spared <= counts[1] - estimates[1] + 0.1 * counts[1]
    assert counts[1] - estimates[1] <= 0.1 * counts[1]


# phases


def test_phases_by_hand():
    made = estimate(NET, None, WORK)
    assert [phase.name for phase in made.phases] == ["generate", "backward", "update"]
    generate, backward, update = made.phases
    resident = 4000 + 8000
    # Reading the prompts holds more than writing: 12 tokens of 3·16 + 2·8 numbers, and the masks.
    reading = 12 * 4 * (3 * 16 + 2 * 8) + 4 * 3 * 3 * 5
    assert generate.total == resident + parts.kv_cache(NET, 4, 3) + reading
    writes = estimate(NET, None, dataclasses.replace(WORK, completion=50)).phases[0]
    assert writes.total == resident + parts.kv_cache(NET, 4, 53) + 4 * 53 * 4 * 4
    activations = parts.activations(NET, 2, 8, False)
    head = parts.head_backward(NET, 14, False, False)
    assert backward.total == resident + 4000 + activations + head
    assert update.total == resident + 4000 + 3 * 320
    apart = estimate(dataclasses.replace(NET, tied=False), None, WORK).phases[-1]
    assert apart.total == resident + 4000 + 320
    assert made.peak is backward
    assert made.dominant == Part("the head's gradient", head)


def test_one_micro_batch_has_no_gradients_when_its_backward_begins():
    made = estimate(NET, None, dataclasses.replace(WORK, accumulation=1))
    assert {part.name: part.size for part in made.phases[1].parts}["gradients"] == 0
    assert made.phases[2].total == 12000 + 4000 + 2 * 320


def test_a_reference_a_teacher_and_other_processes_stay_in_memory():
    plain = estimate(NET, None, WORK).phases[-1].total
    teacher = dataclasses.replace(NET, weights=700)
    work = dataclasses.replace(WORK, reference=True, scores_itself=True, processes=2)
    made = estimate(NET, teacher, work)
    assert made.phases[-1].total == plain + 4000 + 700 + 4000
    assert [phase.name for phase in made.phases][1] == "score"


def test_whole_distributions_keep_the_teachers_hidden_states():
    """4 sampled rows, 5 answer tokens, 6 numbers of the teacher; while it scores, three times."""
    from rlkd.objectives.chunked import CHUNK_LOGITS

    assert CHUNK_LOGITS == parts.DIVERGENCE_LOGITS
    teacher = dataclasses.replace(NET, weights=700, hidden=6)
    plain = estimate(NET, teacher, WORK)
    made = estimate(NET, teacher, dataclasses.replace(WORK, whole_vocabulary=True))
    kept = 4 * 5 * 6 * 4
    assert parts.hidden_states(teacher, 4, 5) == kept
    added = {
        one.name: two.total - one.total for one, two in zip(plain.phases, made.phases, strict=True)
    }
    assert added == {"generate": kept, "score": 2 * kept, "backward": kept, "update": kept}
    # One teacher's pass on little is less than what it gives: then that counts.
    small = dataclasses.replace(teacher, intermediate=0, layers=1, heads=0, head_dim=0)
    passing = dataclasses.replace(WORK, prompt=1, completion=100, whole_vocabulary=True,
                                  chunk_tokens=1, generated=1000)  # fmt: skip
    score = estimate(NET, small, passing).phases[1]
    assert score.parts[-1].size >= 2 * parts.hidden_states(small, 1000, 100)


def test_a_divergence_of_whole_distributions_by_hand():
    """Six tensors of a chunk's logits; gradients of 14 · 8 hidden numbers and of the head's 80."""
    other = dataclasses.replace(NET, vocabulary=9)
    want = 6 * 14 * 9 * 4 + 4 * 14 * 8 + 4 * 80
    assert parts.divergence_backward(NET, other, 14) == want
    frozen = dataclasses.replace(NET, head_trained=False)
    assert parts.divergence_backward(frozen, other, 14) == want - 4 * 80
    wide = dataclasses.replace(NET, vocabulary=1 << 20)
    gradients = 4 * 100 * 8 + 4 * (1 << 23)
    assert parts.divergence_backward(wide, wide, 100) == 6 * 16 * (1 << 20) * 4 + gradients


def test_fsdp2_spreads_what_is_the_students():
    def sizes(phase, **changes):
        work = dataclasses.replace(WORK, processes=4, sharded=True, **changes)
        (found,) = [p for p in estimate(NET, None, work).phases if p.name == phase]
        return {part.name: part.size for part in found.parts}

    update = sizes("update", accumulation=1)
    assert update["student's weights"] == update["gradients"] == 4000 // 4
    assert update["AdamW's states"] == 8000 // 4
    assert update["layers gathered"] == 2 * (4000 - 320) // NET.layers + 320
    assert "DDP's buckets" not in update
    # Until the last micro-batch gradients are whole on every process.
    assert sizes("backward", accumulation=2)["gradients"] == 4000
    # In bfloat16 what is trained is kept in float32.
    half = dataclasses.replace(NET, width=2)
    assert parts.trained_apart(half) == 2 * half.trained
    adapters = dataclasses.replace(half, rank=2, trained=100)
    assert parts.trained_apart(adapters) == 100
    # A reference is spread too, and whole while it scores.
    with_reference = {"reference": True, "scores_itself": True}
    assert sizes("update", **with_reference)["reference's weights"] == 1000
    more = estimate(NET, None, dataclasses.replace(WORK, scores_itself=True)).phases[1].parts[-1]
    assert sizes("score", **with_reference)["the student's own scoring"] == more.size + 4000


def test_adapters_have_no_gradient_of_the_head_on_its_way():
    net = dataclasses.replace(NET, rank=2, trained=100, head_trained=False)
    names = {part.name: part.size for part in estimate(net, None, WORK).phases[-1].parts}
    assert names["gradients on their way"] == 0
    assert names["AdamW's states"] == 200


# a config


@pytest.fixture
def config(project: Path) -> Path:
    make_model(project / "models" / "student", seed=1)
    make_model(project / "models" / "teacher", seed=2, hidden=48, layers=3)
    (project / "reward_p.py").write_text("def right(completions, **columns): ...\n")
    rows = [f'{{"prompt": "{a}+{b}={"1" * (a + b)}"}}' for a in range(4) for b in range(5)]
    (project / "rows.jsonl").write_text("\n".join(rows[:16]))
    (project / "heldout.jsonl").write_text("\n".join(rows[16:]))
    path = project / "run.yaml"
    path.write_text(CONFIG)
    return path


def test_a_config_says_what_one_process_does(config: Path):
    made = plan(load(config, ["--batch.iterations=2"]), 2, 7, cuda=True)
    assert made.work == Work(
        prompt=7, completion=40, micro_batch=8, accumulation=1, generated=8, evaluated=6,
        eval_completion=40, chunk_tokens=1024, sampler_copies=3, scores_itself=True, processes=2,
        triton=True, answers_only=True,
    )  # fmt: skip
    assert not plan(load(config), 1, 7, cuda=True).work.scores_itself


def test_the_algorithm_says_whether_hidden_states_are_kept(config: Path):
    assert not plan(load(config), 1, 7, cuda=True).work.whole_vocabulary
    words = ["--algorithm.use", "rlkd.algorithms.opd_loss:OPDLoss"]
    assert plan(load(config, words), 1, 7, cuda=True).work.whole_vocabulary
    words = ["--algorithm.until", "2", "--then", "[{use: 'rlkd.algorithms.opd_loss:OPDLoss'}]"]
    assert plan(load(config, words), 1, 7, cuda=True).work.whole_vocabulary


def test_a_teacher_that_only_writes_traces_is_not_there_in_a_step(config: Path):
    words = ["--algorithm.use", "rlkd.algorithms.luffy:LUFFY", "--data.traces.samples", "2"]
    made = plan(load(config, words), 1, 7, cuda=True)
    assert made.teacher is None
    assert any("only writes traces" in note for note in made.notes)
    names = {part.name for phase in made.estimate.phases for part in phase.parts}
    assert not any("teacher" in name for name in names)
    words = [*words[:2], "--data.traces.path", "traces.jsonl"]
    assert any("nothing asks for its scores" in n for n in plan(load(config, words), 1, 7,
                                                                 cuda=True).notes)  # fmt: skip
    assert plan(load(config), 1, 7, cuda=True).teacher is not None


def test_the_samplers_correction_makes_the_student_score_itself(config: Path):
    words = ["--generation.backend", "vllm_colocate"]
    made = plan(load(config, words), 1, 7, cuda=True)
    assert made.work.scores_itself
    assert any("the engine's memory is its own" in note for note in made.notes)
    words += ["--generation.correction", "none"]
    assert not plan(load(config, words), 1, 7, cuda=True).work.scores_itself


def test_the_longest_prompt_is_counted_in_tokens(config: Path):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained("models/student")
    assert longest_prompt(tokenizer, [{"prompt": "1+1="}, {"prompt": "1+2=111"}], {}) == 7


def test_changes_lower_the_peak_and_can_be_typed(config: Path):
    now = plan(load(config), 1, 7, cuda=False)
    found = changes(load(config), lambda more: load(config, more), 1, now, cuda=False)
    assert any(change.override == "--batch.micro_batch_size=4" for change in found)
    for change in found:
        again = plan(load(config, [change.override]), 1, 7, cuda=False)
        assert again.estimate.peak.total == change.peak <= 0.95 * now.estimate.peak.total


def test_the_command_prints_parts_phases_and_advice(config: Path, capsys):
    assert main(["plan", "run.yaml", "--memory-gib", "100"]) == 0
    shown = capsys.readouterr().out
    # The longest prompt, of the held-out rows, is "3+4=1111111".
    assert "rows of 11 + 40 tokens (prompt + answer): 16 sampled at once, 8 in a pass" in shown
    head = next(line for line in shown.splitlines() if line.startswith("MiB"))
    assert head.split()[1:] == ["generate", "evaluate", "score", "backward", "update"]
    assert "peak: " in shown
    assert "--batch.micro_batch_size=4" in shown
    assert "of 100.0 GiB (RAM)" in shown
    assert all(len(line) <= 80 for line in shown.splitlines())


def test_what_does_not_fit_is_exit_code_one(config: Path, capsys):
    assert main(["plan", "run.yaml", "--prompt-tokens", "7", "--memory-gib", "0.001"]) == 1
    assert "DOES NOT FIT" in capsys.readouterr().out


def test_processes_share_the_memory_of_a_cpu(config: Path, capsys):
    shares = []
    for count in (1, 2):
        words = ["--run.processes", str(count), "--batch.micro_batch_size", "4"]
        assert main(["plan", "run.yaml", "--device", "cpu", "--prompt-tokens", "400", *words]) == 0
        shown = capsys.readouterr().out
        peak = float(shown.partition("peak: ")[2].split()[0])
        shares.append((peak, int(shown.partition("fits: ")[2].partition("%")[0])))
    assert "for all 2 processes" in shown
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**20
    for count, (peak, share) in enumerate(shares, 1):
        assert abs(share - 100 * count * peak / total) < 0.6


def test_the_command_under_fsdp2(config: Path, capsys):
    words = ["plan", "run.yaml", "--run.processes=2", "--batch.micro_batch_size=4"]
    assert main([*words, "--sharding", "fsdp2", "--memory-gib", "100"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("one of 2 processes under FSDP2 on a ")
    assert "layers gathered" in shown
    assert main(["plan", "run.yaml", "--sharding", "fsdp2", "--run.processes=1"]) == 2
    assert "spreads the student over processes, and there is one" in capsys.readouterr().err


def test_a_gpu_that_is_not_here(config: Path, capsys):
    assert main(["plan", "run.yaml", "--device", "cuda"]) == 0
    shown = capsys.readouterr().out
    assert "never on a GPU" in shown
    if not torch.cuda.is_available():
        assert "there is no GPU here" in shown


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--prompt-tokens", "0"], "--prompt-tokens is 0; it is above 0"),
        (["--memory-gib", "-1"], "--memory-gib is -1; it is above 0"),
        (["--model.path", "nowhere"], "model.path: there is no folder nowhere"),
        (["--batch.micro_batch_size", "7"], "cannot be cut into micro-batches"),
    ],
)
def test_complaints(config: Path, capsys, words: list[str], said: str):
    assert main(["plan", "run.yaml", *words]) == 2
    assert said in capsys.readouterr().err


def test_a_folder_without_a_config_is_told(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"has no config\.json"):
        read_network(str(tmp_path), "float32", "model.path")
    (tmp_path / "config.json").write_text('{"model_type": "nonesuch"}')
    with pytest.raises(ConfigError, match="builds no causal language model"):
        read_network(str(tmp_path), "float32", "model.path")


def test_another_kind_of_model_is_said_to_be_guessed(config: Path, project: Path):
    from transformers import GPT2Config

    GPT2Config(n_layer=1, n_embd=16, n_head=2, vocab_size=30).save_pretrained("models/gpt2")
    made = plan(load(config, ["--model.path=models/gpt2"]), 1, 7, cuda=False)
    assert not made.student.known
    assert any("gpt2 is not a dense decoder" in note for note in made.notes)
