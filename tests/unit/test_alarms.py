"""Alarms on streams of plain numbers: each fault raises its own, and a healthy run raises none."""

import json
import math

import pytest

from rlkd.config import ConfigError
from rlkd.tracking import glossary
from rlkd.tracking.alarms import RULES
from rlkd.tracking.alarms.first_batch import FirstBatch, judge
from rlkd.tracking.alarms.rule import percent
from rlkd.tracking.alarms.watch import Alarms
from rlkd.tracking.rollouts import Rollouts
from tests.recorder import recorded

HEALTHY = {
    "loss": 0.01, "grad_norm": 0.5, "reward": 0.4, "reward_std": 0.49, "accuracy": 0.4,
    "rewards/accuracy/mean": 0.4, "rewards/accuracy/faults": 0.0, "rewards/left_out": 0.0,
    "groups/no_signal": 0.3, "entropy": 0.6, "kl": 0.01, "teacher/gap": 0.3,
    "teacher/impossible_tokens": 0.0, "completions/mean_length": 100.0,
    "completions/clipped_ratio": 0.1, "teacher/prefers_right": 0.8, "teacher/pulls_to_right": 0.75,
    "teacher/gap_of_right": 0.3, "teacher/logp_std": 0.4, "teacher/agreement": 0.7,
    "sampling/kl": 1e-3, "sampling/left_out": 0.01,
}  # fmt: skip
ALL_ZERO = {"accuracy": 0.0, "reward": 0.0, "reward_std": 0.0, "rewards/accuracy/mean": 0.0,
            "groups/no_signal": 1.0}  # fmt: skip
FAULTS = {
    "truncated": {"completions/clipped_ratio": 0.97},
    "reward_faults": {"rewards/accuracy/faults": 3.0},
    "ungraded": {"rewards/left_out": 0.7},
    "nothing_right": {"accuracy": 0.0, "rewards/accuracy/mean": 0.0},
    "never_full_mark": {"accuracy": 0.0, "rewards/accuracy/mean": 0.4, "ceeh/gate_open": 0.0},
    "constant_reward": {"reward": 0.5, "reward_std": 0.0, "groups/no_signal": 1.0},
    "too_easy": {"groups/no_signal": 0.98, "accuracy": 0.99},
    "too_hard": {"groups/no_signal": 0.98, "accuracy": 0.01},
    "length_runs_away": {"completions/mean_length": 260.0, "completions/clipped_ratio": 0.45},
    "length_vanishes": {"completions/mean_length": 8.0},
    "entropy_collapsed": {"entropy": 0.03},
    "entropy_exploded": {"entropy": 2.0},
    "kl_exploded": {"kl": 3.0},
    "teacher_gap_exploded": {"teacher/gap": 2.5},
    "teacher_prefers_wrong": {"teacher/prefers_right": 0.2, "teacher/pulls_to_right": 0.3},
    "teacher_leaves_right": {"teacher/gap_of_right": 2.5},
    "teacher_constant": {
        "teacher/logp_std": 0.0,
        "teacher/agreement": 0.0,
        "teacher/prefers_right": 0.5,
    },
    "teacher_blind": {"teacher/agreement": 0.02, "teacher/prefers_right": 0.5},
    "sampler_mismatch": {"sampling/kl": 0.1},
    "sampler_left_out": {"sampling/left_out": 0.9},
    "impossible_tokens": {"teacher/impossible_tokens": 1e-4},
    "not_finite": {"grad_norm": math.nan},
}
"""Alarm -> what is different from a healthy step."""


@pytest.fixture
def alarms(tmp_path):
    return Alarms(tmp_path, RULES, limit=512, verifiable="accuracy")


def told(folder) -> list[tuple[int, str, str]]:
    path = folder / "alarms.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    rows = [json.loads(line) for line in lines]
    return [(row["step"], row["alarm"], row["kind"]) for row in rows]


def feed(alarms, first: int, *steps: dict) -> list[dict[str, float]]:
    return [alarms.see(first + n, HEALTHY | step) for n, step in enumerate(steps)]


def test_every_alarm_is_tried_here_and_is_in_the_glossary():
    assert {rule.name for rule in RULES} == FAULTS.keys()
    for name in FAULTS:
        assert glossary.explain(f"train/alarms/{name}") is not None


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_raises_its_alarm_once_with_words_and_clears(name, alarms, tmp_path, capsys):
    rule = next(rule for rule in RULES if rule.name == name)
    feed(alarms, 1, *[{}] * 10)
    assert told(tmp_path) == []
    bad = feed(alarms, 11, *[FAULTS[name]] * 30)
    at = 10 + rule.after
    assert told(tmp_path) == [(at, name, "on")]
    assert [step.get(f"alarms/{name}") for step in bad] == (
        [None] * (rule.after - 1) + [1.0] * (31 - rule.after)
    )
    said = capsys.readouterr().err
    assert said.startswith(f"ALARM {name} (step {at}): ")
    assert "\n  why: " in said
    assert "\n  do: " in said
    after = feed(alarms, 41, *[{}] * 12)
    assert told(tmp_path)[1:] == [(40 + rule.clear, name, "off")]
    assert f"alarm {name} is over (step {40 + rule.clear})" in capsys.readouterr().err
    assert after[-1] == {}


@pytest.mark.parametrize("name", [rule.name for rule in RULES if rule.after > 1])
def test_one_odd_batch_raises_nothing(name, alarms, tmp_path):
    feed(alarms, 1, *[{}] * 8, *([FAULTS[name], {}] * 10))
    assert told(tmp_path) == []


@pytest.mark.parametrize("name", [rule.name for rule in RULES if rule.clear > 1])
def test_an_alarm_that_flickers_is_told_once(name, alarms, tmp_path):
    rule = next(rule for rule in RULES if rule.name == name)
    feed(alarms, 1, *[{}] * 8, *[FAULTS[name]] * rule.after, *([{}, FAULTS[name]] * 10))
    assert told(tmp_path) == [(8 + rule.after, name, "on")]


def test_between_the_thresholds_an_alarm_stays_as_it_is(alarms, tmp_path):
    between = {"completions/clipped_ratio": 0.7}
    feed(alarms, 1, *[between] * 9)
    assert told(tmp_path) == []
    feed(alarms, 10, *[FAULTS["truncated"]] * 3, *[between] * 9)
    assert told(tmp_path) == [(12, "truncated", "on")]


def test_steps_that_sampled_nothing_neither_raise_nor_break_a_row(alarms, tmp_path):
    later = {"loss": 0.01, "grad_norm": 0.5}  # further updates on the same batch
    for step in range(1, 13):
        alarms.see(step, HEALTHY | FAULTS["truncated"] if step % 4 == 1 else later)
    assert told(tmp_path) == [(9, "truncated", "on")]


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([{"accuracy": 0.4 + n / 40, "entropy": 0.6 * 0.85**n, "groups/no_signal": n / 24}
          for n in range(25)], "it learns, and is sure of itself in the end"),
        ([{"completions/mean_length": 100.0 * 1.1**n, "accuracy": 0.4 + n / 50}
          for n in range(25)], "answers grow and get better"),
        ([{"completions/mean_length": 100.0 * 0.85**n, "accuracy": 0.4 + n / 50}
          for n in range(25)], "answers shrink and get better"),
        ([{"teacher/prefers_right": 0.2}] * 20, "wrong answers repeat themselves"),
        ([{"teacher/pulls_to_right": 0.2}] * 20, "the student has outgrown its teacher"),
        ([{"teacher/gap_of_right": 6.0 - n / 5} for n in range(25)], "far away, and coming nearer"),
        ([{"teacher/agreement": n / 25, "teacher/prefers_right": 0.53 + n / 60} for n in range(25)],
         "student and teacher begin with other ways to write"),
        ([{"accuracy": 0.95, "teacher/logp_std": 0.0, "teacher/agreement": 0.0,
           "teacher/prefers_right": 0.5, "groups/no_signal": 0.8}] * 20, "both are certain"),
        ([{"accuracy": 0.0 if n % 9 else 0.02} for n in range(40)], "hard, but not hopeless"),
        ([{"accuracy": 0.0, "rewards/accuracy/mean": 0.3}] * 40, "its full mark is below 1"),
        ([{"entropy": 0.01 * 3 ** (n > 5), "teacher/gap": 0.01 * 5 ** (n > 5)}
          for n in range(25)], "tiny numbers may treble"),
        ([{"reward": None, "accuracy": None, "reward_std": None, "kl": None}] * 20, "not logged"),
    ],
)  # fmt: skip
def test_no_false_alarm(steps, why, alarms, tmp_path):
    feed(alarms, 1, *steps)
    assert told(tmp_path) == [], why


def test_too_easy_is_not_told_before_it_is_so(alarms, tmp_path):
    """The last steps of a run that solves its prompts."""
    feed(alarms, 1, *[{"groups/no_signal": 1.0, "accuracy": 1.0, "reward_std": 0.0}] * 9)
    assert told(tmp_path) == [(5, "too_easy", "on")]


def test_one_cause_is_one_alarm(alarms, tmp_path):
    feed(alarms, 1, *[ALL_ZERO | {"completions/clipped_ratio": 1.0}] * 30)
    assert told(tmp_path) == [(3, "truncated", "on")]


def test_all_zero_names_the_cause(alarms, tmp_path, capsys):
    feed(alarms, 1, *[ALL_ZERO | {"completions/clipped_ratio": 0.3}] * 12)
    assert [name for _, name, _ in told(tmp_path)] == ["constant_reward", "nothing_right"]
    said = capsys.readouterr().err
    assert "rewards with mean 0: accuracy" in said
    assert "30 % are cut off before they end" in said


def test_numbers_that_are_none_are_named(alarms, tmp_path, capsys):
    alarms.see(1, HEALTHY | {"loss": math.nan, "teacher/gap": math.inf, "reward": math.nan})
    assert "not a finite number: loss nan, teacher/gap inf\n" in capsys.readouterr().err
    other = Alarms(tmp_path / "no such folder", RULES)
    other.see(1, HEALTHY | {"updates/left_out": 1.0})
    said = capsys.readouterr().err
    assert "the update was left out" in said
    assert "alarms.jsonl cannot be written" in said


def test_a_resumed_run_knows_its_start_and_its_alarms(alarms, tmp_path):
    feed(alarms, 1, *[{}] * 8, *[FAULTS["entropy_collapsed"]] * 4)
    resumed = Alarms(tmp_path, RULES, attempt=2)
    assert resumed.restore(json.loads(json.dumps(alarms.state()))) == "none is on"
    feed(resumed, 13, FAULTS["entropy_collapsed"])
    assert told(tmp_path) == [(13, "entropy_collapsed", "on")]
    again = Alarms(tmp_path, RULES, attempt=3)
    assert again.restore(resumed.state()) == "on: entropy_collapsed"
    assert feed(again, 14, FAULTS["entropy_collapsed"])[0] == {"alarms/entropy_collapsed": 1.0}
    assert len(told(tmp_path)) == 1
    (line,) = (tmp_path / "alarms.jsonl").read_text().splitlines()
    assert json.loads(line)["attempt"] == 2


def test_alerts_reach_the_tracker_and_its_failure_stops_nothing(tmp_path, caplog):
    log = recorded(tmp_path, fails={"alert"})
    alarms = Alarms(tmp_path, RULES, log.alert)
    for step in range(3):
        feed(alarms, 20 * step + 1, FAULTS["not_finite"], *[{}] * 12)
        log.recorder.wait()
    log.log(1, {"train/loss": 1.0})
    log.close()
    ((_, title, text),) = log.recorder.of("alert")
    assert title == "not_finite (step 1)"
    assert "\n  do: " in text
    assert all(len(f"{rule.name} (step 1000000)") < 64 for rule in RULES)  # W&B's limit
    assert caplog.text.count("Recorder failed at the alert") == 1
    assert len(told(tmp_path)) == 6
    assert log.recorder.of("numbers") == [(1, {"train/loss": 1.0})]


@pytest.mark.parametrize(
    ("share", "words"), [(1.0, "100 %"), (0.999, "over 99 %"), (0.97, "97 %"), (0.0, "0 %"),
                         (1e-4, "under 1 %")],
)  # fmt: skip
def test_shares_in_words(share, words):
    assert percent(share) == words


# -- the first batch ------------------------------------------------------------------------------

CUT = {"completions/clipped_ratio": 1.0}
SILENT = {"groups/no_signal": 1.0, "reward_std": 0.0, "reward": 0.0, "accuracy": 0.0}
NONE = {"rewards/left_out": 1.0, "groups/no_signal": 1.0, "reward": math.nan, "reward_std": 0.0}


@pytest.mark.parametrize(
    ("metrics", "rows", "refused", "warned"),
    [
        ({}, 16, [], []),
        (CUT | SILENT, 16, ["truncated"], ["constant_reward"]),
        (CUT | SILENT, 4, [], ["truncated", "constant_reward"]),  # so few may be chance
        (CUT, 16, [], ["truncated"]),  # some are better than others: there is a gradient
        ({"completions/clipped_ratio": 0.6}, 16, [], ["truncated"]),
        (SILENT, 16, [], ["constant_reward"]),
        ({"groups/no_signal": 0.95}, 16, [], ["no_signal"]),
        (NONE, 16, ["ungraded"], []),
        (NONE | {"rewards/accuracy/faults": 16.0}, 16, [], ["ungraded"]),  # FaultStop's business
        ({"rewards/left_out": 0.3}, 16, [], ["ungraded"]),
    ],
)
def test_the_first_batch(metrics, rows, refused, warned):
    found = judge(HEALTHY | metrics, rows)
    assert (list(found.refusals), list(found.warnings)) == (refused, warned)
    assert found.summary.startswith(f"first batch: {rows} rollouts  ")
    assert "nan" not in found.summary


def test_cut_answers_that_are_masked_teach_nothing():
    assert list(judge(HEALTHY | CUT, 16, cut_is_masked=True).refusals) == ["truncated"]


def first(mode, tmp_path, **settings):
    heard: list = []
    batch = Rollouts(1, ["1+1="] * 8, ["2"] * 8)
    judged = FirstBatch(mode, lambda _: tmp_path / "kept", lambda *said: heard.append(said),
                        **settings)  # fmt: skip
    return judged, batch, heard


def test_the_first_batch_refuses_once_on_all_ranks(tmp_path, capsys):
    judged, batch, heard = first("error", tmp_path, limit=24)
    with pytest.raises(ConfigError) as error:
        judged(HEALTHY | CUT | SILENT, batch)
    said = str(error.value)
    assert said.startswith("nothing can be learnt from the first batch, and no update was made.\n")
    assert "100 % of the first answers were cut off by the length limit of 24 tokens" in said
    assert "raise sampling.max_completion_length" in said
    assert str(tmp_path / "kept") in said
    assert "--run.first_batch warn" in said
    assert [(name, kind) for name, _, kind in heard] == [
        ("constant_reward", "warning"), ("truncated", "refused"),
    ]  # fmt: skip
    assert "first batch: 8 rollouts  reward 0.000" in capsys.readouterr().err
    silent = FirstBatch("error", lambda _: tmp_path / "kept", None)
    with pytest.raises(ConfigError):
        silent(HEALTHY | CUT | SILENT, batch)
    assert capsys.readouterr().err == ""


def test_the_first_batch_warns_or_is_off_and_looks_once(tmp_path):
    judged, batch, heard = first("warn", tmp_path)
    judged(HEALTHY | NONE, batch)
    judged(HEALTHY | NONE, batch)
    assert [(name, kind) for name, _, kind in heard] == [("ungraded", "warning")]
    judged, batch, heard = first("off", tmp_path)
    judged(HEALTHY | NONE, batch)
    assert heard == []


def test_the_first_batch_has_the_size_that_was_asked_for(tmp_path):
    judged, batch, _ = first("error", tmp_path, expected=16, world_size=2)
    with pytest.raises(ConfigError, match="got 8 rollouts and expected 16"):
        judged(HEALTHY, batch)


def test_points_without_a_full_mark_concern_only_who_reads_it(alarms, tmp_path):
    partial = {"accuracy": 0.0, "rewards/accuracy/mean": 0.4}
    feed(alarms, 1, *[partial] * 30)
    assert told(tmp_path) == []
    feed(alarms, 31, *[partial | {"ceeh/gate_open": 0.0, "accuracy": 0.1}] * 30)
    assert told(tmp_path) == []
