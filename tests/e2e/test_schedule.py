"""A config with a schedule, as a whole run: what is logged, plateaus of evaluations, resuming."""

import re
from pathlib import Path

import pytest
import torch

from rlkd import cli
from rlkd import config as configs
from tests.e2e.runs import differences, lines, newest
from tests.e2e.test_resume import SMALL, stop_after

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch):
    monkeypatch.chdir(ROOT)


def write(folder: Path, text: str) -> str:
    path = folder / "scheduled.yaml"
    path.write_text(text.replace("base: ", f"base: {ROOT}/configs/"), encoding="utf-8")
    return str(path)


def of_readme(folder: Path) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"# configs/my_schedule\.yaml\n(.*?)```", text, re.DOTALL)
    return write(folder, block)


def column(run: Path, name: str) -> list:
    return [line.get(name) for line in lines(run) if "train/loss" in line]


@pytest.mark.parametrize("step", [2, 4])
def test_readmes_schedule_stopped_and_resumed_is_the_whole_run(step, tmp_path, capsys):
    words = ["train", of_readme(tmp_path), *SMALL, f"--run.dir={tmp_path}"]
    assert cli.main([*words, "--run.name=whole"]) == 0
    with pytest.MonkeyPatch.context() as patch:
        stop_after(step, patch)
        assert cli.main([*words, "--run.name=parts"]) == 75
    capsys.readouterr()
    assert cli.main(["train", str(tmp_path / "parts"), "--resume"]) == 0
    assert differences(tmp_path / "whole", tmp_path / "parts") == []
    if step == 4:
        assert "phase 2 of 2, GRPO, begun after step 3" in capsys.readouterr().err
    whole = tmp_path / "whole"
    assert column(whole, "train/schedule/phase") == [1.0] * 3 + [2.0] * 3
    alphas = column(whole, "train/schedule/alpha")
    assert alphas[:3] == pytest.approx([0.3, 0.3 + 0.4 / 3, 0.3 + 0.8 / 3])
    assert alphas[3:] == [None] * 3
    assert column(whole, "train/schedule/beta")[3:] == pytest.approx([5e-3, 4.9e-3, 4.8e-3])
    assert column(whole, "train/schedule/EntropyBonus.coefficient")[3] == pytest.approx(5e-4)
    assert all(gap is not None for gap in column(whole, "train/teacher/gap")[:3])
    assert column(whole, "train/teacher/gap")[3:] == [None] * 3
    assert all(kl is not None for kl in column(whole, "train/kl")[3:])


PLATEAU = """
base: quickstart.yaml
algorithm: {until: {plateau: eval/length, best: lowest, patience: 1}}
then: [{use: "rlkd.algorithms.grpo:GRPO", beta: 0.0}]
"""


def test_a_plateau_of_an_evaluation_ends_a_phase(tmp_path):
    """At a learning rate of 0 no evaluation is better than the first one after a step."""
    words = ["train", write(tmp_path, PLATEAU), *SMALL, f"--run.dir={tmp_path}"]
    words += ["--optim.learning_rate=0", "--optim.steps=8"]
    assert cli.main([*words, "--run.name=whole"]) == 0
    assert column(tmp_path / "whole", "train/schedule/phase") == [1.0] * 4 + [2.0] * 4
    with pytest.MonkeyPatch.context() as patch:
        stop_after(3, patch)
        assert cli.main([*words, "--run.name=parts"]) == 75
    state = torch.load(newest(tmp_path / "parts") / "pieces" / "schedule.pt")
    assert state["begun"] == [0]
    assert state["watch"]["best"]["step"] == 2
    assert cli.main(["train", str(tmp_path / "parts"), "--resume"]) == 0
    assert differences(tmp_path / "whole", tmp_path / "parts") == []


def test_the_door_refuses_a_phase_without_steps(tmp_path, capsys):
    words = ["train", of_readme(tmp_path), "--algorithm.until=6", "--optim.steps=6", "--dry-run"]
    assert cli.main(words) == 2
    assert "algorithm.until: RLAD would end after step 6" in capsys.readouterr().err


def test_the_plan_counts_a_reference_that_a_later_phase_needs(tmp_path):
    from rlkd.planning.plan import work_of

    config = configs.load(of_readme(tmp_path))
    assert work_of(config, 1, 20, cuda=False).reference
    config = configs.load(of_readme(tmp_path), ["--then.0.beta=0.0"])
    assert not work_of(config, 1, 20, cuda=False).reference
