"""The rollout store: what it writes, when, and what it does when the disk does not play along."""

import json
import math
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from rlkd.batch import TokenBatch
from rlkd.tracking import reading, store
from rlkd.tracking.callback import StoreCallback
from rlkd.tracking.columns import type_of
from rlkd.tracking.pieces import Pieces
from rlkd.tracking.rollouts import Rollouts, spread
from rlkd.tracking.store import RolloutStore

ROOT = Path(__file__).resolve().parents[2]


def rollouts(step: int, prompt="1+1=", rows: int = 2) -> Rollouts:
    completions = [f"{i}<eos>" for i in range(2, 2 + rows)]
    return Rollouts(step, [prompt] * rows, completions, {"tokens": [2] * rows})


def stored(folder: Path, *batches: Rollouts, rank: int = 0) -> list[dict]:
    writer = RolloutStore(folder, rank)
    for batch in batches:
        writer.write(batch)
    writer.close()
    return [
        row for path in sorted(folder.glob("*.parquet")) for row in pq.read_table(path).to_pylist()
    ]


def test_rollouts_are_files_that_appear_whole(tmp_path):
    writer = RolloutStore(tmp_path / "rollouts", rank=1, every=2)
    for step in (1, 2, 3):
        writer.write(rollouts(step))
    writer.close()
    names = sorted(path.name for path in (tmp_path / "rollouts").iterdir())
    assert names == ["manifest.jsonl", "step-000001-rank1.parquet", "step-000003-rank1.parquet"]
    table = pq.read_table(tmp_path / "rollouts" / names[1]).to_pydict()
    assert table["completion"] == ["2<eos>", "3<eos>"]
    assert table["rank"] == [1, 1]
    assert table["attempt"] == [1, 1]


def test_the_manifest_names_every_file_with_its_rows(tmp_path):
    for rank, rows in ((0, 2), (1, 3)):
        stored(tmp_path / "rollouts", rollouts(1, rows=rows), rollouts(2, rows=rows), rank=rank)
    lines = reading.manifest(tmp_path)
    assert [(e["step"], e["rank"], e["rows"]) for e in lines] == [
        (1, 0, 2), (1, 1, 3), (2, 0, 2), (2, 1, 3),
    ]  # fmt: skip
    assert all((tmp_path / "rollouts" / e["file"]).is_file() for e in lines)
    assert reading.rollouts(tmp_path).rows == 10


def test_the_manifest_is_read_without_files_that_were_set_aside(tmp_path):
    stored(tmp_path / "rollouts", rollouts(1), rollouts(2))
    (tmp_path / "rollouts" / "step-000002-rank0.parquet").unlink()
    assert [entry["step"] for entry in reading.manifest(tmp_path)] == [1]


def test_chat_prompts_are_stored_as_json(tmp_path):
    (row, _) = stored(tmp_path, rollouts(1, prompt=[{"role": "user", "content": "1+1?"}]))
    assert json.loads(row["prompt"]) == [{"role": "user", "content": "1+1?"}]


def test_what_cannot_be_graded_is_none(tmp_path):
    batch = rollouts(1)
    batch.add_rewards(["a", "b"], torch.tensor([[1.0, math.nan], [0.5, 2.0]]))
    batch.add_total(torch.tensor([math.nan, 2.5]))
    batch.add_statuses("a", ["ok", "timeout"])
    batch.add_statuses("b", None)
    rows = stored(tmp_path, batch)
    assert [row["reward/a"] for row in rows] == [1.0, 0.5]
    assert [row["reward/b"] for row in rows] == [None, 2.0]
    assert [row["reward"] for row in rows] == [None, 2.5]
    assert [row["status/a"] for row in rows] == ["ok", "timeout"]
    assert "status/b" not in rows[0]


def test_a_column_of_nothing_but_nulls_has_its_type(tmp_path):
    batch = rollouts(1)
    batch.columns |= {"reward/a": [None, None], "token_text": [None, None]}
    stored(tmp_path, batch)
    schema = pq.read_schema(tmp_path / "step-000001-rank0.parquet")
    assert schema.field("reward/a").type == pa.float64()
    assert schema.field("token_text").type == type_of("token_text")


# -- in the background ----------------------------------------------------------------------------


@pytest.fixture
def disk(monkeypatch):
    """A disk that writes only when the event is set."""
    ready, write = threading.Event(), pq.write_table

    def slow(*args, **kwargs):
        assert ready.wait(20)
        write(*args, **kwargs)

    monkeypatch.setattr(store.pq, "write_table", slow)
    return ready


def test_two_batches_may_wait_and_the_third_is_waited_for(tmp_path, disk):
    writer = RolloutStore(tmp_path, rank=0)
    start = time.perf_counter()
    writer.write(rollouts(1))
    writer.write(rollouts(2))
    assert time.perf_counter() - start < 5
    third = threading.Thread(target=writer.write, args=(rollouts(3),))
    third.start()
    third.join(0.3)
    assert third.is_alive()
    assert not list(tmp_path.glob("step-*"))
    disk.set()
    third.join(20)
    writer.close()
    assert [e["step"] for e in reading._json_lines(tmp_path / "manifest.jsonl")] == [1, 2, 3]


def test_what_cannot_be_written_is_told_once_counted_and_ends_nothing(
    tmp_path, monkeypatch, caplog
):
    write = pq.write_table

    def full(table, path, **kwargs):
        if table["step"][0].as_py() in (1, 3):
            path.write_bytes(b"PAR1 half")
            raise OSError("No space left on device")
        write(table, path, **kwargs)

    monkeypatch.setattr(store.pq, "write_table", full)
    writer = RolloutStore(tmp_path, rank=0)
    for step in (1, 2, 3, 4):
        writer.write(rollouts(step))
    writer.close()
    names = sorted(path.name for path in tmp_path.glob("step-*"))
    assert names == ["step-000002-rank0.parquet", "step-000004-rank0.parquet"]
    assert writer.errors == 2
    assert caplog.text.count("could not be written") == 1
    assert "No space left on device" in caplog.text


def test_failures_of_all_ranks_are_a_metric_only_where_there_are_any():
    mine = RolloutStore(Path("nowhere"), rank=0)
    callback = StoreCallback(mine, lambda counts: [*counts, 3])
    logs: dict = {"loss": 0.5}
    callback.on_log(None, None, None, logs)  # pyright: ignore
    assert logs == {"loss": 0.5, "tracking/errors": 3.0}
    logs = {"loss": 0.5}
    StoreCallback(mine, lambda counts: counts).on_log(None, None, None, logs)  # pyright: ignore
    assert logs == {"loss": 0.5}


_WRITER = """
import sys, time
from pathlib import Path
import pyarrow.parquet as pq
from rlkd.tracking import store
from tests.unit.test_store import rollouts
write = pq.write_table
def slow(table, path, **kwargs):
    write(table, path, **kwargs)
    with open(path, "r+b") as file:  # the second half comes later
        size = file.seek(0, 2); file.truncate(size // 2)
    time.sleep(0.05)
    write(table, path, **kwargs)
store.pq.write_table = slow
writer = store.RolloutStore(Path(sys.argv[1]), 0)
for step in range(1, 1000):
    writer.write(rollouts(step))
    print(step, flush=True)
"""


@pytest.mark.parametrize("after", [4, 9, 15])
def test_a_killed_run_loses_two_batches_at_the_most_and_none_that_was_durable(after, tmp_path):
    folder = tmp_path / "rollouts"
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin"},
    )  # fmt: skip
    assert process.stdout is not None
    lines = iter(process.stdout.readline, "")
    handed = max(int(next(lines)) for _ in range(after))
    process.send_signal(signal.SIGKILL)
    handed = max([handed, *map(int, lines)])
    process.wait()
    durable = {entry["step"] for entry in reading.manifest(tmp_path)}
    assert len(durable) >= handed - store.DEPTH
    run = reading.rollouts(tmp_path)
    assert run.left_out == []  # no half file is among those that are read
    assert durable <= set(run.steps)
    assert run.rows == 2 * len(run.steps)


# -- what a row knows of its tokens ---------------------------------------------------------------


def token_batch() -> TokenBatch:
    teacher = torch.tensor([[-2.0, -1.0, -9.0], [-1.0, -3.0, 0.0]])
    return TokenBatch(
        logp_BT=torch.full((2, 3), -1.0),
        old_logp_BT=torch.full((2, 3), -1.0),
        entropy_BT=torch.tensor([[0.5, 1.0, 7.0], [0.25, 0.75, 7.0]]),
        mask_BT=torch.tensor([[1, 1, 0], [1, 1, 0]]),
        advantage_BT=torch.zeros(2, 1),
        teacher_logp_BT=teacher,
    )


def test_a_micro_batch_finds_its_rows_and_gives_each_token_its_opinion():
    batch = Rollouts(1, ["p"] * 3, ["ab", "cd", "ef"])
    batch.add_pieces({0: ["a", "b"], 1: ["c", "d"]})
    batch.note(token_batch(), torch.tensor([2, 0]))
    assert batch.columns["entropy"] == [0.5, None, 0.75]
    assert batch.columns["entropy_max"] == [0.75, None, 1.0]
    assert batch.columns["teacher_logp"] == [-2.0, None, -1.5]
    assert batch.columns["teacher_gap"] == [1.0, None, 0.5]
    assert batch.columns["teacher_gap_min"] == [0.0, None, 0.0]
    assert batch.columns["teacher_gap_max"] == [2.0, None, 1.0]
    assert batch.columns["token_teacher_log_ratio"] == [[0.0, -2.0], None, None]
    assert batch.columns["token_entropy"] == [[0.25, 0.75], None, None]


def test_a_token_that_does_not_count_has_no_opinion():
    batch = Rollouts(1, ["p", "p"], ["abc", "cde"])
    batch.add_pieces({0: ["a", "b", "c"]})
    batch.note(token_batch(), torch.tensor([0, 1]))
    assert batch.columns["token_teacher_log_ratio"] == [[-1.0, 0.0, None], None]
    nothing = token_batch().replace(mask_BT=torch.zeros(2, 3, dtype=torch.int64))
    batch.note(nothing, torch.tensor([0, 1]))
    assert batch.columns["entropy"] == [None, None]
    assert batch.columns["teacher_gap_max"] == [None, None]


@pytest.mark.parametrize(("rows", "number", "chosen"), [(8, 2, [0, 4]), (2, 8, [0, 1]), (4, 0, [])])
def test_the_rows_with_tokens_are_spread_over_the_batch(rows, number, chosen):
    assert spread(rows, number) == chosen


class Bytes:
    """Two bytes a token may be cut in; a first word loses its space, as with SentencePiece."""

    VOCABULARY = (b"a", b" b", b"\xc3", b"\xa9", b"<eos>", b"\xf0\x9f", b"\x98\x80")

    def decode(self, ids, skip_special_tokens):
        assert skip_special_tokens is False
        return b"".join(self.VOCABULARY[i] for i in ids).decode("utf-8", "replace").lstrip(" ")


@pytest.mark.parametrize(
    ("ids", "pieces"),
    [
        ([], []),
        ([1, 1, 0, 4], ["b", " b", "a", "<eos>"]),
        ([0, 2, 3, 1], ["a", "", "é", " b"]),
        ([5, 6, 5, 6, 4], ["", "😀", "", "😀", "<eos>"]),
        ([0, 2], ["a", "\N{REPLACEMENT CHARACTER}"]),
    ],
)
def test_tokens_are_pieces_that_make_up_the_text(ids, pieces):
    cut = Pieces(Bytes())
    assert cut(ids) == pieces
    assert cut(ids) == pieces  # from memory
    if ids != [0, 2]:
        assert "".join(cut(ids * 20)) == Bytes().decode(ids * 20, False)


TEXT = "Thus, the sum is 3 + 4 = 7; \u03c0\u00b2 \u2248 9.87 \U0001f600\n\n  done.\u00e9"


@pytest.mark.parametrize("kind", ["byte-level", "sentencepiece"])
def test_pieces_of_real_tokenizers_make_up_the_text(kind):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.BPE(byte_fallback=kind == "sentencepiece", unk_token=None))
    first: list[str] = ["<eos>"]
    if kind == "byte-level":
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
    else:
        inner.pre_tokenizer = pre_tokenizers.Metaspace()
        inner.decoder = decoders.Sequence(
            [decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
             decoders.Strip(" ", 1, 0)]
        )  # fmt: skip
        alphabet, first = [], [*first, *(f"<0x{byte:02X}>" for byte in range(256))]
    ascii_only = TEXT.encode("ascii", "ignore").decode()
    trainer = trainers.BpeTrainer(
        vocab_size=600, special_tokens=first, initial_alphabet=alphabet, show_progress=False
    )
    inner.train_from_iterator([ascii_only] * 3, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<eos>")
    ids = [*tokenizer(TEXT * 6)["input_ids"], 0]  # pyright: ignore
    pieces = Pieces(tokenizer)(ids)
    assert len(pieces) == len(ids)
    assert "".join(pieces) == tokenizer.decode(ids, skip_special_tokens=False)
    assert pieces[-1] == "<eos>"
    assert max(map(len, pieces)) < 12
