"""difficulty.parquet and `rlkd difficulty`: what is written, read, ordered, printed, refused."""

import io
import json
import math
import os

import pyarrow.parquet as pq
import pytest
import torch
from rich.console import Console

from rlkd import cli
from rlkd.difficulty import Difficulty, Rules, prompt_key
from rlkd.tracking import records, records_table, store

CHAT = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2+2?\n[red]"}]
PROMPTS = ["never", "hard one", "middle one", "easy one", CHAT]


def filled() -> Difficulty:
    """hard 0.25 (shortest 7), middle 0.5 (9), easy 1.0 (3), chat 0 (never solved)."""
    kept = Difficulty(map(prompt_key, PROMPTS))
    correct = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0]]).bool()
    length = torch.tensor([[7, 1, 1, 1], [9, 11, 1, 1], [5, 4, 3, 6], [8, 8, 8, 8]])
    for take in ([0, 1, 2, 3], [2], [2, 3]):  # 1, 1, 3 and 2 visits
        keys = torch.tensor([prompt_key(PROMPTS[i + 1]) for i in take])
        everyone = torch.ones(len(take), 4).bool()
        kept.learn(kept.view(keys, correct[take].float(), length[take], correct[take], everyone))
    return kept


@pytest.fixture
def run(tmp_path):
    (tmp_path / "config.yaml").write_text("")
    records.write(tmp_path, filled(), PROMPTS, step=12)
    return tmp_path


def test_the_file_has_a_row_for_every_prompt(run):
    rows = {row["prompt"]: row for row in pq.read_table(run / "difficulty.parquet").to_pylist()}
    assert list(next(iter(rows.values()))) == ["key", "prompt", "pass_rate", "shortest", "visits"]
    got = {
        prompt: (row["pass_rate"], row["shortest"], row["visits"]) for prompt, row in rows.items()
    }
    assert got == {
        "never": (None, None, 0),
        "hard one": (0.25, 7.0, 1),
        "middle one": (0.5, 9.0, 1),
        "easy one": (1.0, 3.0, 3),
        json.dumps(CHAT): (0.0, None, 2),
    }
    assert all(
        row["key"] == prompt_key(prompt) for prompt, row in rows.items() if "{" not in prompt
    )


def test_what_is_read_is_what_was_written(run):
    kept, found = filled(), records.read(run)
    assert found.step == 12
    assert found.threshold == kept.threshold() == (0.25 + 0.5 + 1.0 + 0.0) / 4
    assert found.rules == Rules()
    for name in ("pass_rate", "shortest", "visits"):
        want_D = kept.table()[name]
        torch.testing.assert_close(
            getattr(found, f"{name}_D"), want_D, rtol=0, atol=0, equal_nan=True
        )


def test_a_prompt_whose_text_is_not_known_keeps_its_row(tmp_path):
    records.write(tmp_path, filled(), [], step=0)
    assert records.read(tmp_path).prompts == [None] * 5


def test_no_prompt_and_no_visit(tmp_path):
    records.write(tmp_path, Difficulty(), [], step=0)
    assert printed(tmp_path, records.read(tmp_path)).splitlines()[1].startswith("0 prompts")
    records.write(tmp_path, Difficulty([1, 2]), [], step=0)
    found = records.read(tmp_path)
    assert math.isnan(found.threshold)
    text = printed(tmp_path, found)
    assert "threshold" not in text
    assert "2 prompts: 0 visited, 0 solved at least once" in text


def test_a_prompt_at_the_threshold_is_not_below_it(tmp_path):
    kept = Difficulty([1, 2])
    all_NG = torch.ones(2, 4).bool()
    kept.learn(kept.view(torch.tensor([1, 2]), all_NG.float(), all_NG * 3, all_NG, all_NG))
    records.write(tmp_path, kept, [], step=1)
    line = printed(tmp_path, records.read(tmp_path)).splitlines()[2]
    assert line == "threshold (mean pass rate) 1.000: 0 prompts below it"


def test_the_file_is_replaced_whole_or_stays(run, monkeypatch):
    before = (run / "difficulty.parquet").read_bytes()

    def breaks(table, path):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(store.pq, "write_table", breaks)
    with pytest.raises(OSError, match="disk full"):
        records.write(run, Difficulty([1]), [], step=13)
    assert (run / "difficulty.parquet").read_bytes() == before
    assert sorted(os.listdir(run)) == ["config.yaml", "difficulty.parquet"]


def shown(found, **how) -> list:
    how = {"sort": "pass_rate", "easiest": False, "band": None} | how
    names = [records_table.one_line(prompt) for prompt in found.prompts]
    return [names[row].partition(" ")[0] for row in records_table.order(found, **how)]


def test_orders(run):
    found = records.read(run)
    assert shown(found) == ["2+2?", "hard", "middle", "easy", "never"]
    assert shown(found, easiest=True) == ["easy", "middle", "hard", "2+2?", "never"]
    assert shown(found, sort="shortest") == ["middle", "hard", "easy", "2+2?", "never"]
    assert shown(found, sort="shortest", easiest=True)[:3] == ["easy", "hard", "middle"]
    assert shown(found, sort="visits") == ["easy", "2+2?", "hard", "middle", "never"]
    assert shown(found, sort="visits", easiest=True)[0] == "never"
    assert shown(found, band="hard") == ["2+2?", "hard"]
    assert shown(found, band="middle") == ["middle"]
    assert shown(found, band="new") == ["never"]


def printed(run, found, width=80, terminal=False, **how) -> str:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=terminal, highlight=False)
    records_table.show(run, found, console=console, **{"limit": 10, **how})
    return file.getvalue()


def test_the_table(run):
    lines = printed(run, records.read(run)).splitlines()
    assert lines[0] == f"{run}, after step 12"
    assert lines[1] == "5 prompts: 4 visited, 3 solved at least once"
    assert lines[2] == "threshold (mean pass rate) 0.438: 2 prompts below it"
    cells = [line.split() for line in lines]
    assert ["hard", "2", "0.400", "pass", "rate", "below", "1/3"] in cells
    assert ["new", "1", "0.200", "not", "visited", "yet"] in cells
    assert "5 of 5 prompts, lowest pass rate first" in lines
    start = cells.index(["pass_rate", "shortest", "visits", "band", "prompt"])
    assert cells[start + 1 :] == [
        ["0.000", "-", "2", "hard", "2+2?", "[red]"],
        ["0.250", "7", "1", "hard", "hard", "one"],
        ["0.500", "9", "1", "middle", "middle", "one"],
        ["1.000", "3", "3", "easy", "easy", "one"],
        ["-", "-", "0", "new", "never"],
    ]


def test_long_prompts_and_control_characters_keep_to_their_line(tmp_path):
    nasty = "x\x1b[31m" + "long words " * 50
    kept = Difficulty([prompt_key(nasty)])
    records.write(tmp_path, kept, [nasty], step=1)
    found = records.read(tmp_path)
    for terminal in (False, True):
        text = printed(tmp_path, found, terminal=terminal)
        assert "\x1b[31m" not in text
        assert "x�[31mlong words" in text
    plain = printed(tmp_path, found).splitlines()
    assert max(map(len, plain[2:])) <= 80
    assert plain[-1].rstrip().endswith("…")
    assert "\x1b" not in "".join(plain)
    assert "\x1b[1m" in printed(tmp_path, found, terminal=True)


def test_the_command(run, capsys):
    assert cli.main(["difficulty", str(run), "--limit", "1", "--band", "hard", "--easiest"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "1 of 2 hard prompts, highest pass rate first" in lines
    assert lines[-1].split() == ["0.250", "7", "1", "hard", "hard", "one"]
    records.write(run, Difficulty([1]), [], step=1)
    assert cli.main(["difficulty", str(run), "--band", "easy"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no easy prompts"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["bare"], "the folder bare has no difficulty.parquet"),
        (["early"], "the run early has no difficulty.parquet"),
        (["broken"], "broken/difficulty.parquet is not a file of difficulty records"),
        (["foreign"], "foreign/difficulty.parquet is not a file of difficulty records"),
        (["early", "--limit", "0"], "--limit is 0; it is at least 1"),
        (["early", "--optim.steps", "3"], "--optim.steps is a key of a config"),
        (["early", "--limt", "3"], "did you mean: --limit"),
        (["early", "--band", "odd"], "invalid choice: 'odd'"),
    ],
)
def test_errors(words, message, project, capsys):
    for name in ("bare", "early", "broken", "foreign"):
        (project / name).mkdir()
    (project / "early" / "config.yaml").write_text("")
    (project / "broken" / "difficulty.parquet").write_bytes(b"PAR1 not really")
    store.write_whole(store.pa.table({"key": [1]}), project / "foreign" / "difficulty.parquet")
    assert cli.main(["difficulty", *words]) == 2
    assert message in capsys.readouterr().err


def test_the_choices_of_the_command_are_those_of_the_records():
    from rlkd.difficulty import BANDS
    from rlkd.tracking import views

    assert views._BANDS == BANDS
    assert views._SORTS == records_table.SORTS
