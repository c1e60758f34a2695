"""Rows as one sequence: the numbers of each row alone, whatever the architecture's attention."""

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

from rlkd import packing
from rlkd.teacher.base import TeacherError
from rlkd.teacher.batches import cut
from rlkd.teacher.local import LocalTeacher

SHARED = [5, 6, 7, 8, 9]
ROWS = [
    (SHARED, [3, 4, 5]), ([2, 3], [7]), (SHARED, [9]), (SHARED, [4, 4, 4, 4, 1]), ([2, 3], []),
    ([11], [12, 13, 14, 15, 16, 17]),
]  # fmt: skip
SIZES = {
    "vocab_size": 20, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 64,
    "eos_token_id": 1, "pad_token_id": 0, "bos_token_id": None,
}  # fmt: skip
MODELS = {
    "llama": LlamaConfig(**SIZES),
    "qwen2": Qwen2Config(**SIZES),
    "qwen3": Qwen3Config(**SIZES, head_dim=8),
    "mistral, wide window": MistralConfig(**SIZES, sliding_window=32),
    "gpt2": GPT2Config(vocab_size=20, n_embd=32, n_layer=2, n_head=4, n_positions=64),
}


def model_of(config, attention="sdpa"):
    torch.manual_seed(3)
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention).eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(4.0)
    return model


def states(model, pack, name):
    index = torch.tensor(pack.states)
    output = model.base_model(**pack.inputs(name, torch.device("cpu")), use_cache=False)
    return output.last_hidden_state[0, index]


def alone(model):
    """The states that predict the answers' tokens, each row by itself."""
    found = []
    for prompt, answer in ROWS:
        if answer:
            ids = torch.tensor([prompt + answer])
            hidden = model.base_model(input_ids=ids, use_cache=False).last_hidden_state[0]
            found.append(hidden[len(prompt) - 1 : -1])
    return torch.cat(found)


def gradient(model, value_MH):
    model.zero_grad()
    weight = torch.linspace(-1, 1, value_MH.numel()).view_as(value_MH)
    (value_MH * weight).sum().backward()
    return {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("kind", MODELS)
def test_states_and_gradients_are_those_of_each_row_alone(kind, share):
    model = model_of(MODELS[kind])
    name = packing.use_spans(model)
    pack = packing.pack([p for p, _ in ROWS], [a for _, a in ROWS], share=share)
    wanted, found = alone(model), states(model, pack, name)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    wanted, found = gradient(model, wanted), gradient(model, found)
    assert wanted.keys() == found.keys()
    for each, value in wanted.items():
        torch.testing.assert_close(found[each], value, rtol=1e-3, atol=1e-4)


def test_equal_prompts_are_computed_once():
    prompts, answers = [p for p, _ in ROWS], [a for _, a in ROWS]
    apart, together = packing.pack(prompts, answers), packing.pack(prompts, answers, share=True)
    assert len(apart.ids) - len(together.ids) == 2 * len(SHARED)
    assert apart.targets == together.targets == [token for answer in answers for token in answer]
    assert sum(span.length for span in together.spans) == len(together.ids)
    nothing = packing.pack([[4, 5], [6]], [[], []])
    assert (nothing.ids, nothing.states) == ([4, 5], [])
    with pytest.raises(ValueError, match="row 1 has an empty prompt"):
        packing.pack([[1], []], [[2], [3]])


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_transformers_own_packed_path_gives_the_same(kind, attention):
    """Restarting positions and no mask: it makes a block-diagonal mask of them."""
    model = model_of(MODELS[kind], attention)
    pack = packing.pack([p for p, _ in ROWS], [a for _, a in ROWS])
    found = states(model, pack, attention)
    torch.testing.assert_close(found, alone(model), rtol=1e-4, atol=1e-5)


def test_generation_is_what_it_was():
    model = model_of(MODELS["llama"])
    ids = torch.tensor([[0, 0, 5, 6], [3, 4, 5, 6]])
    how = {"attention_mask": (ids > 0).long(), "max_new_tokens": 8, "do_sample": False}
    wanted = model.generate(ids, **how)
    assert packing.use_spans(model) == packing.NAME
    assert packing.use_spans(model) == packing.NAME  # once is enough
    assert torch.equal(model.generate(ids, **how), wanted)


def test_attention_that_spans_cannot_do_is_refused(tmp_path):
    narrow = model_of(MistralConfig(**SIZES, sliding_window=3))
    name = packing.use_spans(narrow)
    pack = packing.pack([p for p, _ in ROWS], [a for _, a in ROWS])
    with pytest.raises(ValueError, match="a sliding window of 3 tokens for a row of 9"):
        states(narrow, pack, name)
    with pytest.raises(ValueError, match="and this model's is 'eager'"):
        packing.use_spans(model_of(MODELS["llama"], "eager"))


# -- teachers -------------------------------------------------------------------------------------


@pytest.mark.parametrize("keep_hidden", [False, True])
@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("max_tokens", [1, 9, 1000])
def test_a_teacher_scores_without_padding(max_tokens, share, keep_hidden):
    prompts, answers = [p for p, _ in ROWS], [a for _, a in ROWS]

    def scores(teacher):
        score = teacher.score_with_hidden if keep_hidden else teacher.score
        return score(prompts, answers, 0.7)

    plain = LocalTeacher(model_of(MODELS["llama"]), max_tokens=max_tokens)
    lean = LocalTeacher(model_of(MODELS["llama"]), max_tokens=max_tokens, padding_free=True,
                        shared_prompts=share)  # fmt: skip
    for one, other, answer in zip(scores(plain), scores(lean), answers, strict=True):
        assert other.token_ids.tolist() == answer
        torch.testing.assert_close(other.logp, one.logp, rtol=1e-4, atol=1e-5)
        if keep_hidden:
            torch.testing.assert_close(other.hidden_TH, one.hidden_TH, rtol=1e-4, atol=1e-5)
    assert lean.usage.rows >= len(ROWS) - 1
    if max_tokens == 1000:
        inside = sum(len(p) + len(a) - 1 for p, a in ROWS if a)
        assert lean.usage.tokens == inside - 2 * len(SHARED) * share
        assert plain.usage.tokens > inside


def test_a_teacher_whose_architecture_does_not_fit_is_refused(monkeypatch):
    monkeypatch.setattr(packing.Span, "prompt", 1)  # reads too little of a shared prompt
    teacher = LocalTeacher(model_of(MODELS["llama"]), padding_free=True, shared_prompts=True)
    with pytest.raises(
        TeacherError, match=r"other log-probabilities without padding.*padding_free"
    ):
        teacher.score([p for p, _ in ROWS], [a for _, a in ROWS], 1.0)
    with pytest.raises(ValueError, match="set padding_free too"):
        LocalTeacher(model_of(MODELS["llama"]), shared_prompts=True)
    with pytest.raises(TeacherError, match="this model's is 'eager'"):
        LocalTeacher(model_of(MODELS["llama"], "eager"), padding_free=True)


def test_a_teachers_forwards_are_cut_where_that_saves_padding():
    rows = [([1] * 10, [2] * 991)] + [([1] * 10, [2] * 91)] * 12
    found = cut(list(range(13)), rows, 16_384)
    assert found == [[0], list(range(1, 13))]
    equal = [([1], [2] * 100)] * 20
    assert cut(list(range(20)), equal, 16_384) == [list(range(20))]
    assert [len(part) for part in cut(list(range(20)), equal, 700)] == [7, 7, 6]
    assert cut([0, 1], [([1], [2] * 900), ([1], [2])], 10) == [[0], [1]]
