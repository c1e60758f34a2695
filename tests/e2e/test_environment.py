"""A tool environment from a config: a tiny student calls the calculator and learns from it."""

import json
import re
import string
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from envs.calculator import Calculator, rows
from rlkd import cli
from rlkd.tracking import glossary
from rlkd.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
# A call's beginning and end are one token each: a tiny student writes it whole.
OPEN, CLOSE = '<call>{"name": "calculate", "arguments": {"expression": "', '"}}</call>'
SPECIAL = ["<pad>", "<end>", "<user>", "<assistant>", "<tool>"]
TEMPLATE = (
    "{% for t in tools or [] %}{{ t.function.name }}\n{% endfor %}"
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}"
    '<call>{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}'
    "</call>"
    "{% endfor %}<end>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
)
RESPONSE = {
    "defaults": {"role": "assistant"},
    "start_anchor": "<assistant>",
    "fields": {
        "tool_calls": {
            "open": "<call>", "close": "</call>", "repeats": True, "content": "json",
            "transform": {"type": "function", "function": "{content}"},
        },
        "content": {"close": "<end>", "content": "text"},
    },
}  # fmt: skip


def calls(completions, environments, **columns):
    """1 where the rollout used the calculator without an error; shares the trainer's state."""
    return [float(e.calls > 0 and e.errors == 0) for e in environments]


def make_tokenizer() -> PreTrainedTokenizerFast:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers

    words = [*SPECIAL, OPEN, CLOSE, *string.printable[:95], "\n"]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    whole = "|".join(re.escape(word) for word in (OPEN, CLOSE, *SPECIAL))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(f"{whole}|[\\s\\S]"), behavior="isolated")
    inner.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<end>", padding_side="left"
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.response_template = RESPONSE
    return tokenizer


def conversation(row) -> list[dict]:
    """A solution: one call with the problem's numbers, its result, and the result in a box."""
    expression = row["prompt"][0]["content"].removeprefix("Work out ").partition(" with")[0]
    function = {"name": "calculate", "arguments": {"expression": expression}}
    return [
        *row["prompt"],
        {"role": "assistant", "content": "",
         "tool_calls": [{"type": "function", "function": function}]},
        {"role": "tool", "name": "calculate", "content": row["answer"]},
        {"role": "assistant", "content": f"\\boxed{{{row['answer']}}}"},
    ]  # fmt: skip


def make_student(path: Path, steps: int) -> Path:
    """A student of 40 thousand weights that has seen solutions for some steps."""
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=512,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    texts = [
        tokenizer.apply_chat_template(
            conversation(row), tools=[Calculator().calculate], tokenize=False
        )
        for row in rows("train", 64, min_terms=2, max_terms=2, digits=1)
    ]
    batch = tokenizer(texts, return_tensors="pt", padding=True, padding_side="right")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    asked = (batch["input_ids"] == tokenizer.convert_tokens_to_ids(OPEN)).cumsum(-1) == 0
    labels[asked] = -100
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for step in range(steps):
        part = slice(16 * (step % 4), 16 * (step % 4) + 16)
        inputs = {name: value[part] for name, value in batch.items()}
        model(**inputs, labels=labels[part]).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A student that mostly calls the tool."""
    return make_student(tmp_path_factory.mktemp("student"), steps=60)


CONFIG = """
model: {path: STUDENT}
teacher: {path: STUDENT, check: "off"}
algorithm: {use: "rlkd.algorithms.rlad:RLAD", alpha: 0.5}
environment: {use: "envs.calculator:Calculator", max_rounds: 2}
data:
  train:
    use: envs.calculator:rows
    size: 40
    kwargs: {min_terms: 2, max_terms: 2, digits: 1}
rewards:
  - {use: "tests.e2e.test_environment:calls", in_process: true}
  - {use: "rewards.math:accuracy"}
batch: {prompts_per_step: 4, group_size: 4, micro_batch_size: 8}
sampling: {max_completion_length: 60}
optim: {steps: 3, learning_rate: 1.0e-3}
run: {name: tools, dir: RUNS}
tracking: {wandb: disabled}
"""


@pytest.fixture
def config(folder, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(ROOT)
    path = tmp_path / "tools.yaml"
    path.write_text(CONFIG.replace("STUDENT", str(folder)).replace("RUNS", str(tmp_path / "runs")))
    return path


@pytest.fixture
def seen(monkeypatch):
    """What each loss was given: TRL's inputs and the batch made of them."""
    kept = []
    real = Trainer._token_batch

    def note(self, inputs, *rest):
        batch = real(self, inputs, *rest)
        kept.append((inputs, batch))
        return batch

    monkeypatch.setattr(Trainer, "_token_batch", note)
    return kept


@pytest.mark.parametrize("backend", ["transformers", "continuous_batching"])
def test_a_student_learns_with_the_calculator(backend, config, folder, tmp_path, seen):
    share = ["--generation.memory_share", "0.02"] if backend == "continuous_batching" else []
    words = ["train", str(config), "--generation.backend", backend, *share]
    assert cli.main(words) == 0
    lines = (tmp_path / "runs" / "tools" / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in lines]
    assert [row["step"] for row in steps] == [1, 2, 3]
    assert not [name for row in steps for name in row.keys() - {"step", "seconds"}
                if glossary.explain(name) is None]  # fmt: skip
    for row in steps:
        assert row["train/tools/call_frequency"] > 0.5
        assert row["train/tools/failure_frequency"] < 0.5
        assert row["train/rewards/calls/faults"] == row["train/rewards/accuracy/faults"] == 0
        assert 0 < row["train/rewards/calls/mean"] <= 1
    # The teacher is the student as it was, and scores what the student sampled, tools or not.
    assert steps[0]["train/teacher/gap"] == pytest.approx(0, abs=1e-5)
    assert abs(steps[2]["train/teacher/gap"]) > 1e-4

    table = pq.read_table(tmp_path / "runs/tools/rollouts/step-000001-rank0.parquet").to_pydict()
    own = [t - by for t, by in zip(table["tokens"], table["tool_tokens"], strict=True)]
    assert sum(table["tool_tokens"]) > 0
    assert sum(own) / 16 == pytest.approx(steps[0]["train/completions/mean_length"])
    # Nor does a difficulty record (CEEH's length term) count what a tool wrote.
    ended = [n for n, cut in zip(own, table["truncated"], strict=True) if not cut]
    assert steps[0]["train/difficulty/new/length"] == pytest.approx(sum(ended) / len(ended))
    assert max(map(abs, table["teacher_gap"])) < 1e-4
    for text, value, tokens in zip(
        table["completion"], table["reward/calls"], table["tool_tokens"], strict=True
    ):
        assert value in (0.0, 1.0)
        if value:
            assert OPEN in text
            assert "<tool>" in text
            assert tokens > 0

    tokenizer = AutoTokenizer.from_pretrained(folder)
    results = 0
    for inputs, batch in seen:
        there = inputs["completion_mask"].bool()
        assert torch.equal(batch.mask_BT.bool(), there & inputs["tool_mask"].bool())
        for row, ids in enumerate(inputs["completion_ids"]):
            mask = batch.mask_BT[row].bool() | ~there[row]
            marked = "".join(
                token if own else f"«{token}»"
                for token, own in zip(tokenizer.convert_ids_to_tokens(ids), mask.tolist(),
                                      strict=True)
            )  # fmt: skip
            marked = marked.replace("»«", "").split("<pad>")[0]
            # What no loss sees is what the tool wrote and its frame, to the token.
            for turn, written in re.findall("([^«]*)«([^»]*)»", marked):
                assert written.endswith("<assistant>")
                given = re.findall("<tool>([^<]*)<end>", written)
                asked = re.findall(re.escape(OPEN) + "([^<]*)" + re.escape(CLOSE), turn)
                assert [Calculator().calculate(json.loads(f'"{text}"')) for text in asked] == given
                results += len(given)
    assert results > 20


@pytest.mark.parametrize(("words", "most"), [([], 2), (["--environment.max_rounds=null"], 1e9)])
def test_the_rounds_are_limited_as_asked(config, words, most, monkeypatch):
    rounds = []
    monkeypatch.setattr(
        Trainer, "train", lambda self, *_, **__: rounds.append(self.max_tool_calling_iterations)
    )
    assert cli.main(["train", str(config), *words]) == 0
    assert rounds[0] == most or rounds[0] > most == 1e9


# -- the door -------------------------------------------------------------------------------------


def refused(config, capsys, *words) -> str:
    assert cli.main(["train", str(config), *words]) == 2
    return capsys.readouterr().err


def test_evaluation_without_tools_is_refused(config, capsys):
    message = refused(config, capsys, "--data.eval={use: 'envs.calculator:rows', size: 8}")
    assert "data.eval and environment are both set, and evaluation has no tools" in message


def test_a_student_without_a_template_for_tools_is_refused(config, folder, tmp_path, capsys):
    words = [
        "--model.path=configs/models/tiny_student",
        "--teacher.path=configs/models/tiny_student",
    ]
    assert "found: no chat template" in refused(config, capsys, *words)
    for template, complaint in (
        (
            "{% for m in messages %}{{ m.content }}{% endfor %}",
            "leaves out the tool's name, its arg",
        ),
        (TEMPLATE.replace("{{ m.content }}", ""), "leaves out its result"),
        ("{{ raise_exception('no tools') }}", "fails on a tool's call"),
    ):
        other = tmp_path / "other"
        LlamaForCausalLM.from_pretrained(folder).save_pretrained(other)
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(other)
        assert complaint in refused(config, capsys, f"--model.path={other}")
    tokenizer.chat_template = TEMPLATE
    tokenizer.response_template = None
    tokenizer.save_pretrained(other)
    message = refused(config, capsys, f"--model.path={other}")
    assert "TRL refuses the student's tokenizer: Unrecognized chat template" in message
    assert not (tmp_path / "runs").exists()


def test_prompts_must_be_chats(config, capsys):
    words = ["--data.train={use: 'envs.countdown:rows', size: 40}", "--rewards.1.weight=0"]
    assert "an environment needs chats" in refused(
        config, capsys, *words, "--rewards.1.use=rewards.format:box"
    )


class Toy:
    """Has all that is wanted; the classes below lack something."""

    def __init__(self, *, size: int = 1):
        if size < 0:
            raise ValueError("size is below 0")

    def reset(self, **row) -> None: ...

    def look(self, place: int) -> str:
        """
        Look at a place.

        Args:
            place: Which.
        """
        return "nothing"


class NoReset:
    look = Toy.look

    def rest(self) -> None: ...


class NoTools:
    reset = Toy.reset

    def _look(self) -> None: ...


class Untold(Toy):
    def turn(self, side):
        return side


class Paid(Toy):
    def get_reward(self) -> float:
        return 1.0


class Narrow(Toy):
    def reset(self, answer, key) -> None: ...


def test_what_is_no_environment_is_refused(config, capsys):
    for name, complaint in (
        ("calls", "is a function"),
        ("NoReset", "has no method reset"),
        ("NoTools", "has no public method to use as a tool"),
        ("Untold", "cannot be told how to call Untold.turn"),
        ("Paid", "has a reward of its own (get_reward)"),
        ("Narrow", "reset needs key"),
    ):
        words = f"--environment={{use: 'tests.e2e.test_environment:{name}'}}"
        assert complaint in refused(config, capsys, words), name
    words = "--environment={use: 'tests.e2e.test_environment:Toy', kwargs: "
    assert "Toy has no such parameter" in refused(config, capsys, words + "{sise: 1}}")
    assert "ValueError: size is below 0" in refused(config, capsys, words + "{size: -1}}")
    assert "environment.max_rounds" in refused(
        config, capsys, "--trl.max_tool_calling_iterations=2"
    )
