"""`rlkd audit` and `rlkd grade`: what they find, print and return."""

import io
import json
import re
import sys
from pathlib import Path

import pytest

from rlkd.cli import main
from rlkd.rewarding.audit import changed

ROOT = Path(__file__).resolve().parents[2]
STUDENT = ROOT / "configs" / "models" / "tiny_student"
CONFIG = """
model: {path: %s}
algorithm: {use: "rlkd.algorithms.grpo:GRPO"}
data: {train: {path: train.jsonl}, eval: {path: eval.jsonl}}
rewards: [{use: "judge:exact"}]
batch: {prompts_per_step: 2, group_size: 4, micro_batch_size: 8}
sampling: {max_completion_length: 24}
optim: {steps: 5, learning_rate: 1e-3}
run: {name: tiny}
"""
JUDGE = '''
import re
def exact(completions, answer, **columns):
    """Boxed answers only; None for a gold that is no number."""
    return [one(text, gold) for text, gold in zip(completions, answer)]
def one(text, gold):
    if isinstance(text, list): text = text[-1]["content"]
    if gold == "crash": raise RuntimeError("gold of its own kind")
    if not re.fullmatch("-?[0-9]+", gold): return None
    box = re.fullmatch(r"\\\\boxed[{](.*)[}]", text)
    if box is None: return 0.0
    return float(abs(int(box[1]) - int(gold)) <= (50 if gold == "7" else 0))
def generous(completions, answer, **columns): return [1.0] * len(completions)
def short(completions, answer, mark, **columns): return [1.0 if t in (a, m) else 0.0
    for t, a, m in zip(completions, answer, mark)]
'''


@pytest.fixture(autouse=True)
def files(project: Path) -> None:
    (project / "run.yaml").write_text(CONFIG % STUDENT)
    (project / "judge.py").write_text(JUDGE)
    write("train", [(f"{i}+1=", str(i + 1)) for i in range(20, 40)])
    write("eval", [(f"{i}+2=", str(i + 2)) for i in range(20, 25)])


def write(name: str, rows: list[tuple], columns=("prompt", "answer")) -> None:
    lines = [json.dumps(dict(zip(columns, row, strict=True))) for row in rows]
    Path(f"{name}.jsonl").write_text("\n".join(lines))


def audit(capsys, *words: str) -> tuple[int, dict[str, list[int]], str]:
    """Exit code, counts per problem (train, eval), and the text."""
    code = main(["audit", "run.yaml", *words])
    out = capsys.readouterr().out
    table = out.partition("problem  ")[2].splitlines()[1:8] if "problem  " in out else []
    counts = {line[:24].strip(): [int(word) for word in line[24:].split()] for line in table}
    return code, counts, out


def test_sound_data(capsys):
    code, counts, out = audit(capsys)
    assert code == 0
    assert set(counts) == {
        "bad gold", "loose gold", "reward fails", "duplicate prompt", "two golds",
        "train/held-out overlap", "long prompt",
    }  # fmt: skip
    assert all(count == [0, 0] for count in counts.values())
    assert "rows: 20 train, 5 eval; gold: column 'answer'; reward: exact" in out
    assert "GOLD                    0 of 25\n\\boxed{GOLD}            25 of 25" in out


def test_each_thing_that_is_wrong(capsys):
    rows = [(f"{i}+1=", str(i + 1)) for i in range(20, 40)]
    rows[3] = ("23+1=", "x")  # cannot be graded
    rows[5] = ("25+1=", "7")  # the reward takes anything for it
    rows[8] = ("28+1=", "crash")
    rows[10] = ("29+1=", "30")  # the same prompt as row 9
    rows[11] = ("29+1=", "31")  # and with another gold
    rows[12] = ("+".join("9" * 80), "720")
    write("train", rows)
    write("eval", [("21+1=", "22"), ("22+2=", "24")])
    code, counts, out = audit(capsys)
    assert code == 1
    assert counts == {
        "bad gold": [2, 0], "loose gold": [1, 0], "reward fails": [1, 0],
        "duplicate prompt": [2, 0], "two golds": [1, 0], "train/held-out overlap": [0, 1],
        "long prompt": [1, 0],
    }  # fmt: skip
    assert "train row 3: 'x' cannot be graded (None)" in out
    assert "train row 5: '8' passes for '7'" in out
    assert "train row 8: 'crash'" in out
    assert "train row 10: as row 9: '29+1='" in out
    assert "train row 11: '31', not '30'" in out
    assert "eval row 0: as train row 1: '21+1='" in out
    assert "train row 12: 159 tokens" in out


def test_a_reward_that_is_always_pleased_is_found(capsys):
    code, counts, _ = audit(capsys, "--rewards.0.use=judge:generous")
    assert code == 1
    assert counts["loose gold"] == [20, 5]


def test_overlap_that_is_accepted_is_shown_and_not_wrong(capsys):
    write("eval", [("21+1=", "22")])
    code, counts, out = audit(capsys, "--data.allow_overlap=true")
    assert code == 0
    assert counts["train/held-out overlap"] == [0, 1]
    assert "data.allow_overlap accepts it" in out


def test_the_limit_can_be_set(capsys):
    assert audit(capsys, "--max-prompt-tokens=4")[1]["long prompt"] == [20, 5]
    # The tiny student has 128 positions, 24 of them are for the answer.
    assert "at most 104 prompt tokens" in audit(capsys)[2]


def test_chat_prompts(capsys):
    rows = [([{"role": "user", "content": f"{i}+1="}], str(i + 1)) for i in range(20, 30)]
    write("train", rows)
    template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    model = Path("student")
    model.mkdir()
    for file in STUDENT.iterdir():
        if file.suffix == ".json":
            (model / file.name).write_text(file.read_text())
    (model / "chat_template.jinja").write_text(template)
    code, counts, _ = audit(capsys, "--model.path=student", "--data.eval=null")
    assert code == 0
    assert counts["long prompt"] == [0]


def test_which_column_is_the_gold(capsys):
    columns = ("prompt", "answer", "mark")
    for name in ("train", "eval"):
        write(name, [(f"{name}{i}=", f"{i}1", f"{i}2") for i in range(3)], columns)
    short = "--rewards.0.use=judge:short"
    assert "column 'answer'" in audit(capsys, short)[2]
    assert "column 'mark'" in audit(capsys, short, "--gold", "mark")[2]
    assert main(["audit", "run.yaml", "--gold=marks"]) == 2
    assert "there is no such column" in capsys.readouterr().err


def test_a_wrapping_of_ones_own(capsys):
    code, counts, out = audit(capsys, "--wrap", "so GOLD")
    assert code == 1
    assert counts["bad gold"] == [20, 5]
    assert "so GOLD                 0 of 25" in out
    assert main(["audit", "run.yaml", "--wrap", "{}"]) == 2
    assert "has no GOLD where the answer goes" in capsys.readouterr().err


def test_the_arithmetic_of_the_quickstart_passes(capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = ["--data.train.size=300", "--data.eval.size=100"]
    assert main(["audit", "configs/quickstart.yaml", *words]) == 0
    assert "#GOLD                   400 of 400" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("gold", "want"),
    [
        ("12", ["22", "-12"]),
        ("-9.5", ["-8.5", "9.5"]),
        ("0", ["1"]),
        ("1,000", ["2,000", "-1,000"]),
        (r"\frac{10}{3}", [r"\frac{20}{3}"]),
        ("x^2+1", ["x^3+1"]),
        ("B", ["A"]),
        ("Paris", ["A"]),
        ("A", ["B"]),
    ],
)
def test_changed_answers_are_wrong_in_the_same_shape(gold, want):
    assert changed(gold, ["A", "B"]) == want
    assert changed("A", ["A", " A"]) == []


# -- grade ----------------------------------------------------------------------------------------


def test_grade_prints_the_verdict(capsys):
    assert main(["grade", "--gold", r"\frac12", r"So it is \boxed{0.5}"]) == 0
    printed = dict(line.split("=", 1) for line in capsys.readouterr().out.splitlines())
    assert printed["status"] == "correct"
    assert printed["score"] == "1.0"
    assert printed["answer"] == "0.5"
    assert {"method", "reason"} <= printed.keys()
    assert main(["grade", r"\boxed{0.6}", "--gold", r"\frac12"]) == 0
    assert "status=wrong\nscore=0.0" in capsys.readouterr().out


def test_grade_reads_standard_input_and_takes_minus_signs(capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(r"\boxed{-x}"))
    assert main(["grade", "--gold=-x", "-"]) == 0
    assert "status=correct" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--gold", "1", "x", "--optim.steps=3"], "is a key of a config"),
        (["--gold", "1", "x", "--deadline-s=0"], "it is above 0"),
        (["x"], "--gold"),
        (["--glod", "1", "x"], "did you mean: --gold"),
    ],
)
def test_grade_says_what_is_wrong_with_the_words(words, message, capsys):
    assert main(["grade", *words]) == 2
    assert message in capsys.readouterr().err


def of_file(capsys, *words: str) -> tuple[int, str]:
    code = main(["audit", *words])
    captured = capsys.readouterr()
    return code, captured.out + captured.err


def test_a_file_of_data_without_a_config(capsys, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))  # the project that the shelf belongs to
    write("set", [(f"{i} and 1?", str(i + 1)) for i in range(5)] + [("x?", "\\frac{1}{")],
          ("question", "answer"))  # fmt: skip
    code, out = of_file(capsys, "set.jsonl", "--prompt=question")
    assert code == 1
    assert "rows: 6 train; gold: column 'answer'; reward: accuracy; no limit known" in out
    assert re.search(r"bad gold +1\n", out)
    assert "train row 5" in out
    assert "long prompt" not in out
    write("set", [(f"{i} and 1?", str(i + 1)) for i in range(5)], ("question", "answer"))
    assert of_file(capsys, "set.jsonl", "--prompt=question")[0] == 0
    write("held", [("4 and 1?", "5"), ("9 and 1?", "10")], ("question", "answer"))
    words = ["set.jsonl", "--prompt=question", "--heldout=held.jsonl"]
    code, out = of_file(capsys, *words)
    assert code == 1
    assert re.search(r"train/held-out overlap +0 +1\n", out)
    assert of_file(capsys, *words, "--data.allow_overlap=true")[0] == 0


def test_a_file_of_data_with_another_reward_and_a_model(capsys):
    code, out = of_file(capsys, "train.jsonl", "--reward=judge:exact", "--wrap=\\boxed{GOLD}")
    assert (code, "reward: exact" in out) == (0, True)
    words = ["train.jsonl", "--reward=judge:exact", f"--model.path={STUDENT}"]
    assert of_file(capsys, *words, "--max-prompt-tokens=5")[0] == 0
    code, out = of_file(capsys, *words, "--max-prompt-tokens=4")
    assert code == 1
    assert re.search(r"long prompt +20\n", out)


def test_where_no_gold_passes_it_says_what_may_be_wrong(capsys):
    rows = [(f"{i}?", f"{i} of 9", str(i)) for i in range(3)]
    write("set", rows, ("prompt", "answer", "result"))
    words = ["set.jsonl", "--reward=judge:exact"]
    code, out = of_file(capsys, *words)
    assert code == 1
    assert "No gold passes at all." in out
    assert "(--gold COLUMN; there are prompt, answer, result)" in out
    code, out = of_file(capsys, *words, "--data.columns={answer: result, old: answer}")
    assert (code, "No gold passes" in out) == (0, False)


def test_options_that_would_be_ignored_are_refused(capsys):
    code, out = of_file(capsys, "train.jsonl", "--max-prompt-tokens=4")
    assert (code, "needs a tokenizer" in out) == (2, True)
    for option in ("--reward=judge:exact", "--prompt=q", "--heldout=eval.jsonl"):
        code, out = of_file(capsys, "run.yaml", option)
        assert (code, "is for a file of data; a config says it" in out) == (2, True)
