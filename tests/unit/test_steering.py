"""A reward and a component that set the same are told at the door."""

from pathlib import Path

import pytest

from rlkd import cli

ROOT = Path(__file__).resolve().parents[2]
OF = "kwargs: {of: 'rewards.arithmetic:accuracy'}"
RIGHT = "{use: 'rewards.arithmetic:accuracy'}"


def dry_run(config: str, second: str) -> int:
    words = ["train", f"configs/{config}.yaml", "--dry-run", f"--rewards=[{RIGHT}, {second}]"]
    return cli.main([*words, "--run.dir=runs/never"])


@pytest.mark.parametrize("name", ["kimi", "shorter_better", "arora_zanette"])
def test_two_length_rewards_contradict_each_other(name, monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert dry_run("ceeh", f"{{use: 'rewards.length:{name}', {OF}}}") == 2
    said = capsys.readouterr().err
    assert f"rewards.1: {name} and CEEH both set the length reward" in said
    assert "run ceeh: 1 problem" in said
    # Alone it may stand, or beside CEEH where it is only logged.
    assert dry_run("quickstart", f"{{use: 'rewards.length:{name}', {OF}}}") == 0
    assert dry_run("ceeh", f"{{use: 'rewards.length:{name}', weight: 0, {OF}}}") == 0


def test_what_looks_at_the_limit_only_may_stand_beside_it(monkeypatch):
    monkeypatch.chdir(ROOT)
    overlong = "{use: 'rewards.length:soft_overlong', kwargs: {max_length: 24, cache: 4}}"
    assert dry_run("ceeh", overlong) == 0


def test_a_components_mistake_is_told_once(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    assert cli.main(["train", "configs/ceeh.yaml", "--dry-run", "--components.0.gait=above"]) == 2
    assert capsys.readouterr().err.count("components.0.gait: there is no such key") == 1
