"""Whole and damaged checkpoints, their rotation, the registry of pieces, the best evaluation."""

import json
from pathlib import Path

import pytest
import torch

from rlkd.checkpoints import manifest, writer
from rlkd.checkpoints.carried import check_usable
from rlkd.checkpoints.manifest import Best, CheckpointError
from rlkd.checkpoints.pieces import Pieces
from rlkd.checkpoints.writer import CheckpointWriter
from rlkd.tracking.best import BestWatch

STATE = ("trainer_state.json", "optimizer.pt", "scheduler.pt", "rng_state.pth", "a/b.txt")


class OneProcess:
    """The part of an accelerator that writing needs."""

    is_main_process, process_index, num_processes = True, 0, 1

    def wait_for_everyone(self) -> None:
        pass


class Number:
    """A piece."""

    def __init__(self, value):
        self.value = value

    def state(self):
        return {"value": self.value}

    def restore(self, state):
        self.value = state["value"]
        return f"is {self.value}"


def save(folder: Path, step: int, *, pieces=None, keep=None, best=None) -> Path:
    saver = CheckpointWriter(OneProcess(), pieces or Pieces(), keep)
    saver.best = lambda: best
    before = list(manifest.candidates(folder))
    with saver.writing(folder, step):
        inside = Path(str(saver.target)) / f"checkpoint-{step}"
        for name in STATE:
            (inside / name).parent.mkdir(parents=True, exist_ok=True)
            (inside / name).write_text(f"{name} {step}")
        assert list(manifest.candidates(folder)) == before
    return folder / f"checkpoint-{step}"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_lists_all_that_it_holds(tmp_path):
    pieces = Pieces()
    pieces.add("count", Number(3))
    pieces.add("own", Number(4), per_rank=True)
    path = save(tmp_path, 5, pieces=pieces, best=Best(2, "eval/accuracy", 0.5))
    found = manifest.verify(path).manifest
    assert set(found.files) == {*STATE, "pieces/count.pt", "pieces/own-rank0.pt"}
    assert found.pieces == {"count": "main", "own": "rank"}
    assert (found.step, found.processes, found.best) == (5, 1, Best(2, "eval/accuracy", 0.5))
    assert names(tmp_path) == ["checkpoint-5"]


@pytest.mark.parametrize(
    ("damage", "message", "seen_by_read"),
    [
        (lambda path: (path / "manifest.json").unlink(), "it was not written to its end", True),
        (lambda path: (path / "a/b.txt").unlink(), "lacks a/b.txt", True),
        (lambda path: (path / "optimizer.pt").write_text("short"), "5 bytes, 14 were", True),
        (lambda path: (path / "optimizer.pt").write_text("optimizer.pt 8"), "has changed", False),
        (lambda path: (path / "manifest.json").write_text("{"), "cannot be read", True),
        (lambda path: (path / "manifest.json").write_text('{"format": 9}'), "format 9", True),
    ],
)
def test_a_damaged_one_is_told_and_never_chosen(damage, message, seen_by_read, tmp_path):
    save(tmp_path, 3)
    path = save(tmp_path, 7)
    damage(path)
    with pytest.raises(CheckpointError, match=message):
        manifest.verify(path)
    if seen_by_read:
        with pytest.raises(CheckpointError, match=message):
            manifest.read(path)
    warnings = []
    chosen = manifest.newest(tmp_path, warnings.append)
    assert chosen is not None
    assert chosen.step == 3
    assert len(warnings) == 1
    assert "checkpoint-7" in warnings[0]


def test_an_error_while_writing_leaves_no_checkpoint_and_the_next_write_cleans_up(tmp_path):
    save(tmp_path, 1)
    saver = CheckpointWriter(OneProcess(), Pieces(), 2)

    def write_half():
        with saver.writing(tmp_path, 2):
            (Path(str(saver.target)) / "checkpoint-2").mkdir()
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert saver.target is None
    assert list(manifest.candidates(tmp_path)) == [1]
    save(tmp_path, 3)
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-3"]


def test_the_newest_and_the_best_stay(tmp_path):
    best = Best(2, "eval/accuracy", 1.0)
    for step in (1, 2, 3, 4, 5):
        save(tmp_path, step, keep=2, best=best if step > 1 else None)
    assert names(tmp_path) == ["checkpoint-2", "checkpoint-4", "checkpoint-5"]
    save(tmp_path, 6, keep=1)
    assert names(tmp_path) == ["checkpoint-6"]


def test_damaged_ones_do_not_count_among_those_kept(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step)
    for step in (2, 3):
        (tmp_path / f"checkpoint-{step}" / "optimizer.pt").unlink()
    save(tmp_path, 4, keep=2)
    assert names(tmp_path) == ["checkpoint-1", "checkpoint-4"]


def test_a_checkpoint_that_is_there_already_is_replaced(tmp_path):
    path = save(tmp_path, 4)
    (path / "optimizer.pt").write_text("damaged")
    save(tmp_path, 4)
    assert manifest.verify(path).step == 4
    save(tmp_path, 5)
    assert names(tmp_path) == ["checkpoint-4", "checkpoint-5"]


def test_a_kill_between_the_two_renames_loses_nothing(tmp_path, monkeypatch):
    path = save(tmp_path, 4)

    class Killed(BaseException):
        pass

    real = Path.rename

    def rename(self, target):
        if "unfinished" in str(self):
            raise Killed
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(Killed):
        save(tmp_path, 4)
    monkeypatch.undo()
    assert not path.exists()
    chosen = manifest.newest(tmp_path, print)
    assert chosen is not None
    assert chosen.step == 4
    writer.clear_leftovers(tmp_path)
    assert names(tmp_path) == ["checkpoint-4"]
    assert manifest.verify(path).step == 4


def test_what_is_missing_from_transformers_part_is_refused(tmp_path):
    path = save(tmp_path, 1)
    check_usable(manifest.verify(path), 1)
    with pytest.raises(CheckpointError, match=r"written by 1 process\(es\) and this launch has 4"):
        check_usable(manifest.verify(path), 4)
    for name in STATE[:-1]:
        (path / name).unlink()
        manifest.write(path, 1, 1, {}, None)
        with pytest.raises(CheckpointError, match="written without"):
            check_usable(manifest.verify(path), 1)
        (path / name).write_text("back")


# -- pieces ---------------------------------------------------------------------------------------


def test_pieces_come_back_and_say_so(tmp_path):
    pieces = Pieces()
    number, own = Number(torch.tensor([1.5, 2.5])), Number("x")
    pieces.add("number", number)
    pieces.add("own", own, per_rank=True)
    chosen = manifest.verify(save(tmp_path, 1, pieces=pieces))
    number.value, own.value = None, None
    said = pieces.restore(chosen, 0)
    assert torch.equal(number.value, torch.tensor([1.5, 2.5]))
    assert own.value == "x"
    assert said == {"number": "is tensor([1.5000, 2.5000])", "own": "is x"}


@pytest.mark.parametrize(
    ("ours", "message"),
    [
        ({"a": False}, "piece 'b' is missing.\n  found: it has it and this run has not"),
        ({"a": False, "b": False, "c": False}, "piece 'c' is missing.\n  found: this run has it"),
        ({"a": False, "b": True}, "piece 'b' was written by main and this run expects rank"),
    ],
)
def test_a_piece_that_only_one_side_has_is_refused(ours, message, tmp_path):
    theirs, mine = Pieces(), Pieces()
    for name in ("a", "b"):
        theirs.add(name, Number(1))
    chosen = manifest.verify(save(tmp_path, 1, pieces=theirs))
    for name, per_rank in ours.items():
        mine.add(name, Number(0), per_rank=per_rank)
    with pytest.raises(CheckpointError, match=message):
        mine.restore(chosen, 0)


def test_a_piece_of_the_main_rank_is_restored_on_all(tmp_path):
    main, other = Pieces(), Pieces()
    main.add("number", Number(1))
    main.add("log", Number(2))
    chosen = manifest.verify(save(tmp_path, 1, pieces=main))
    copy = Number(0)
    other.add("number", copy)
    other.add("log", None)  # the main rank's alone
    assert other.restore(chosen, 1) == {"number": "is 1"}
    assert copy.value == 1


def test_what_no_piece_may_hold_is_refused(tmp_path):
    pieces = Pieces()
    pieces.add("odd", Number(Best(1, "a class of our own", 0.0)))
    chosen = manifest.verify(save(tmp_path, 1, pieces=pieces))
    with pytest.raises(CheckpointError, match=r"odd.pt cannot be read"):
        pieces.restore(chosen, 0)
    with pytest.raises(ValueError, match="'odd': a piece's name is a word that no other piece has"):
        pieces.add("odd", Number(1))
    with pytest.raises(ValueError, match=r"'a/b'"):
        pieces.add("a/b", Number(1))


# -- the best evaluation --------------------------------------------------------------------------


def test_the_best_is_the_first_of_the_highest_or_the_lowest():
    for highest, values, want in ((True, [1, 3, 3, 2], 2), (False, [3, 1, 1, 2], 2)):
        watch = BestWatch("eval/x", highest)
        news = [watch.add(step, {"eval/x": value}) for step, value in enumerate(values, start=1)]
        assert news == [True, True, False, False]
        assert watch.best == Best(want, "eval/x", values[want - 1])
        assert not watch.exhausted


def test_patience_counts_evaluations_without_a_new_best():
    watch = BestWatch("eval/x", patience=2)
    assert not watch.add(0, {"eval/x": 9.0})  # before the first step: nothing was trained
    seen = []
    for step, value in enumerate([1.0, 1.0, 2.0, 0.0, None], start=1):
        watch.add(step, {} if value is None else {"eval/x": value})
        again = BestWatch("eval/x", patience=2)
        again.restore(json.loads(json.dumps(watch.state())))
        watch = again  # a resume after each evaluation changes nothing
        seen.append(watch.exhausted)
    assert seen == [False, False, False, False, True]
