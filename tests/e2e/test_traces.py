"""Traces from the teacher to a trained student: made in a run or before it, on one or two ranks."""

import json

import pyarrow.parquet as pq
import pytest

from rlkd import cli
from tests.e2e.runs import lines
from tests.e2e.test_processes import ROOT, launch

SMALL = [
    "--data.train.size=400", "--data.eval.size=200", "--eval.every=4", "--optim.steps=8",
    "--eval.batch_size=200", "--optim.learning_rate=5e-4", "--tracking.wandb=disabled",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_supervised_distillation_on_a_file_of_traces_raises_accuracy(tmp_path, capsys, monkeypatch):
    out = tmp_path / "traces.jsonl"
    words = ["configs/sft_kd.yaml", *SMALL]
    assert cli.main(["traces", *words, "--samples=2", f"--out={out}", "--batch-size=800"]) == 0
    assert "800 answers to 400 prompts kept" in capsys.readouterr().out
    from rlkd.trainer import GRPOTrainer

    def never(*_, **__):
        raise AssertionError("the student was asked to write")

    monkeypatch.setattr(GRPOTrainer, "_generate_single_turn", never)
    place = [f"--run.dir={tmp_path}", "--run.name=sft"]
    assert cli.main(["train", *words, f"--data.traces={{path: {out}}}", *place]) == 0
    rows = lines(tmp_path / "sft")
    accuracy = [row["eval/accuracy"] for row in rows if "eval/accuracy" in row]
    assert len(accuracy) == 3
    assert accuracy[-1] > accuracy[0] + 0.15
    steps = [row for row in rows if "train/loss" in row]
    assert [row["train/traces/share"] for row in steps] == [1.0] * 8
    assert steps[-1]["train/off_policy/logp"] > steps[0]["train/off_policy/logp"]
    assert not any(name.startswith("train/alarms/") for row in steps for name in row if row[name])
    assert not (tmp_path / "sft" / "traces.jsonl").exists()  # it is where it was
    stored = pq.read_table(sorted(tmp_path.glob("sft/rollouts/*.parquet"))[0]).to_pydict()
    assert set(stored["source"]) == {"teacher"}
    assert set(stored["reward/accuracy"]) == {1.0}
    written = {json.loads(line)["text"] + "<eos>" for line in out.read_text().splitlines()}
    assert set(stored["completion"]) <= written


def test_luffy_on_two_processes_shares_the_asking(tmp_path):
    words = [
        "scripts/train.py", "configs/luffy.yaml", *SMALL, "--run.processes=2", "--optim.steps=2",
        "--eval.every=0", "--data.train.size=31", "--batch.prompts_per_step=6",
        "--batch.group_size=4", "--batch.micro_batch_size=6", "--data.traces.samples=2",
        f"--run.dir={tmp_path}", "--run.name=two",
    ]  # fmt: skip
    done = launch(2, *words)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stderr.count("62 answers to 31 prompts kept") == 1
    run = tmp_path / "two"
    about = json.loads((run / "traces.json").read_text())
    made = [json.loads(line) for line in (run / "traces.jsonl").read_text().splitlines()]
    assert about["answers"] == 62
    assert about["kept"] == len(made)
    assert about["prompts"] - about["without"] == len({line["prompt"] for line in made})
    assert about["generated_tokens"] >= sum(len(line["token_ids"]) for line in made)
    steps = [row for row in lines(run) if "train/loss" in row]
    texts: dict[str, set[str]] = {}
    for line in made:
        texts.setdefault(line["prompt"], set()).add(line["text"] + "<eos>")
    for step in (1, 2):
        parts = [
            pq.read_table(run / f"rollouts/step-00000{step}-rank{rank}.parquet").to_pydict()
            for rank in (0, 1)
        ]
        # Groups of four on ranks of twelve rows: the last of each is a trace, where there is one.
        taught = 0
        for part in parts:
            for row, prompt in enumerate(part["prompt"]):
                source = part["source"][row]
                want = "teacher" if row % 4 == 3 and prompt in texts else "student"
                assert source == want
                if source == "teacher":
                    assert part["completion"][row] in texts[prompt]
                    taught += part["tokens"][row]
        assert steps[step - 1]["train/traces/tokens"] == taught
