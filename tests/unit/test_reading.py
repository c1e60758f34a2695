"""Reading a run back, by whatever version it was written; `rlkd rollouts`."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rlkd.cli import main
from rlkd.errors import ConfigError
from rlkd.tracking import filters, reading
from rlkd.tracking.rollouts import Rollouts
from rlkd.tracking.store import RolloutStore


def old_file(folder: Path, step: int, **columns) -> None:
    """A step file as the first version wrote it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = {"step": [step] * 2, "rank": [0] * 2, "prompt": ["p", "q"], "completion": ["x", "y"]}
    table = pa.table(rows | {"tokens": [3, 4], "truncated": [False, True]} | columns)
    pq.write_table(table, folder / f"step-{step:06d}-rank0.parquet")


@pytest.fixture
def run(tmp_path) -> Path:
    """Three steps of four rollouts; the third again after a resume."""
    store = RolloutStore(tmp_path / "rollouts", 0)
    for step, attempt in ((1, 1), (2, 1), (3, 1), (3, 2)):
        store.attempt = attempt
        marks = [1.0, 0.0, None, 0.0]
        store.write(
            Rollouts(
                step,
                [f"What is {step}+{i}?" for i in range(4)],
                [f"try {attempt}: " + "long " * (10 * i) + "<eos>" for i in range(4)],
                {
                    "tokens": [10 * step + i for i in range(4)],
                    "truncated": [False, False, False, True],
                    "band": ["hard", "easy", "new", "hard"],
                    "reward/accuracy": marks,
                    "reward": marks,
                    "reward/shaped": marks,
                    "status/accuracy": ["ok", "ok", "timeout", "ok"],
                    "teacher_gap": [0.5, -1.0, None, 2.0],
                },
            )
        )
        store.close()
    lines = [{"step": s, "attempt": a, "train/loss": float(a)} for s, a in ((1, 1), (2, 1), (2, 2))]
    lines.append({"step": 2, "attempt": 2, "eval/accuracy": 0.5})
    lines.append({"step": 1, "attempt": 2, "train/loss": 7.0})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (tmp_path / "metrics.jsonl").write_text(text + '{"step": 3, "train/lo')
    return tmp_path


# -- metrics --------------------------------------------------------------------------------------


def test_of_each_step_the_latest_attempt_is_read(run):
    lines = reading.metrics(run)
    assert [(e["step"], e.get("train/loss"), e.get("eval/accuracy")) for e in lines] == [
        (1, 7.0, None), (2, 2.0, None), (2, None, 0.5),
    ]  # fmt: skip
    assert reading.metrics(run / "rollouts") == []


def test_of_rollouts_too(run):
    # The third step's file was replaced; one of an attempt before it, of a rank there is no more:
    third = run / "rollouts" / "step-000003-rank0.parquet"
    table = pq.read_table(third)
    older = table.set_column(2, "attempt", pa.array([1] * 4))
    pq.write_table(older, run / "rollouts" / "step-000003-rank1.parquet")
    rows = reading.rollouts(run).table(["step", "attempt"]).to_pylist()
    assert [row["attempt"] for row in rows if row["step"] == 3] == [2] * 4
    assert len(rows) == 12


# -- files of other versions ----------------------------------------------------------------------


def test_an_old_file_opens_beside_new_ones_and_what_it_lacks_is_null(run):
    old_file(run / "rollouts", 4, **{"reward/accuracy": pa.nulls(2)}, retired=["a", "b"])
    found = reading.rollouts(run)
    rows = found.table(where=filters.status("ungraded", found)).to_pylist()
    assert [(row["step"], row["band"], row["retired"]) for row in rows] == [
        (1, "new", None), (2, "new", None), (3, "new", None), (4, None, "a"), (4, None, "b"),
    ]  # fmt: skip
    assert found.schema.field("reward/accuracy").type == pa.float64()


def test_a_run_of_the_first_version_alone_opens(tmp_path, capsys):
    old_file(tmp_path / "rollouts", 1, **{"reward/accuracy": [1.0, 0.0]})
    assert main(["rollouts", str(tmp_path), "--status", "wrong", "--sort", "length"]) == 0
    assert "1 of 1 that pass; 2 stored in 1 steps" in capsys.readouterr().out


def test_half_files_are_left_out_and_told(run, capsys):
    (run / "rollouts" / "step-000004-rank0.tmp").write_bytes(b"PAR1")
    (run / "rollouts" / "step-000005-rank0.parquet").write_bytes(b"PAR1 broken")
    found = reading.rollouts(run)
    assert found.steps == [1, 2, 3]
    assert [text.partition(":")[0] for text in found.left_out] == ["step-000005-rank0.parquet"]
    assert main(["rollouts", str(run)]) == 0
    assert "left out step-000005" in capsys.readouterr().err


# -- the command ----------------------------------------------------------------------------------


def passed(run: Path, capsys, *words: str) -> str:
    assert main(["rollouts", str(run), *words]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "number"),
    [
        ([], 12),
        (["--step", "2"], 4),
        (["--step", "2:"], 8),
        (["--step", ":1"], 4),
        (["--status", "wrong"], 6),
        (["--status", "wrong", "--status", "truncated"], 3),
        (["--status", "correct", "--step=1:2"], 2),
        (["--status", "ungraded"], 3),
        (["--status", "timeout"], 3),
        (["--status", "crashed"], 0),
        (["--where", "band=hard"], 6),
        (["--where", "tokens >= 20", "--where", "tokens<31"], 5),
        (["--where", "reward/accuracy<0.5"], 6),
        (["--where", "reward=null"], 3),
        (["--where", "teacher_gap != null"], 9),
        (["--where", "truncated=TRUE"], 3),
        (["--contains", "WHAT is 3+"], 4),
        (["--contains", "try 2"], 4),
    ],
)
def test_filters_pass_what_they_say(run, capsys, words, number):
    last = passed(run, capsys, *words).splitlines()[-1]
    assert f" of {number} that pass; 12 stored in 3 steps" in last


def test_the_longest_come_first_and_ascending_turns_it(run, capsys):
    out = passed(run, capsys, "--sort", "length", "--limit", "2")
    assert [line for line in out.splitlines() if " tokens" in line] == [
        "  33 tokens · accuracy 0 · shaped 0 · band hard · gap 2",
        "  32 tokens · accuracy none · shaped none · accuracy timeout · band new",
    ]
    out = passed(run, capsys, "--sort", "gap", "--ascending", "--limit", "1")
    assert "gap -1" in out
    # Null is neither large nor small.
    assert "gap" in passed(run, capsys, "--sort", "gap", "--limit", "9").rsplit("step ", 2)[1]


def test_plain_output_is_readable_at_80_columns(run, capsys):
    out = passed(run, capsys, "--sort", "length", "--limit", "3")
    assert max(map(len, out.splitlines())) <= 80
    assert "step 3  rank 0  wrong, truncated" in out
    assert "What is 3+3?" in out
    assert out.count("long") == 30 + 20 + 10


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--status", "wrnog"], "did you mean: wrong"),
        (["--where", "bnad=hard"], "did you mean: band"),
        (["--where", "token_text=a"], "no column token_text"),
        (["--where", "tokens"], "expected COLUMN, one of"),
        (["--where", "tokens=many"], "tokens is int64, and 'many' is not"),
        (["--where", "truncated=1"], "truncated is bool"),
        (["--step", "9"], "no rollouts of step 9.\n  found: 3 steps, 1 to 3"),
        (["--step", "a:b"], "a step, or a range like 10:20"),
        (["--sort", "entropy"], "did not store entropy"),
        (["--limit", "0"], "--limit is 0"),
        (["--optim.steps", "3"], "is a key of a config"),
    ],
)
def test_what_is_wrong_is_told(run, capsys, words, problem):
    assert main(["rollouts", str(run), *words]) == 2
    captured = capsys.readouterr()
    assert problem in captured.err
    assert captured.out == ""


def test_what_is_no_run_is_told(tmp_path):
    empty = tmp_path
    with pytest.raises(ConfigError, match="is not a run"):
        reading.check_run(empty)
    with pytest.raises(ConfigError, match="there is no folder"):
        reading.check_run(empty / "no")
    (empty / "one").mkdir()
    (empty / "one" / "metrics.jsonl").write_text("")
    with pytest.raises(ConfigError, match="do: give one of the runs in it: one"):
        reading.check_run(empty)
    (empty / "metrics.jsonl").write_text("")
    with pytest.raises(ConfigError, match="has no stored rollouts"):
        reading.rollouts(empty)
