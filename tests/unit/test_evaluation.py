"""`evaluate_model` and `rlkd eval`: the numbers against counting by hand, and bad input."""

import json
import math
import statistics
from pathlib import Path

import pytest
import torch

from rlkd import config as configs
from rlkd.cli import main
from rlkd.config import ConfigError
from rlkd.evaluation import Evaluation, Settings, evaluate_model
from rlkd.evaluation.measures import Graded, correctness, lengths, votes

CONFIG = """
model: {{path: {student}}}
algorithm: {{use: "rlkd.algorithms.grpo:GRPO"}}
data:
  train: {{use: "env_e:rows", size: 4}}
  eval: {{use: "env_e:rows", size: 6}}
rewards:
  - {{use: "reward_e:even", in_process: true}}
  - {{use: "reward_e:short", in_process: true, weight: 0}}
batch: {{prompts_per_step: 2, group_size: 4, micro_batch_size: 8}}
sampling: {{max_completion_length: 6, temperature: 0.9}}
optim: {{steps: 1, learning_rate: 1e-3}}
eval: {{batch_size: 16}}
run: {{name: tiny, seed: 3}}
"""
ENVIRONMENT = """
def rows(split, n, seed):
    first = 0 if split == "train" else 50
    return [{"prompt": f"{first + i}+{i % 3}=", "limit": 2 + i % 3} for i in range(n)]
"""
# Correct: an even number of tokens. The answer is how many. A row with limit 4 cannot be graded.
REWARD = """
def even(completions, completion_ids, limit, **columns):
    return [None if most > 3 else float(len(ids) % 2 == 0)
            for ids, most in zip(completion_ids, limit)]
def short(completions, completion_ids, limit, **columns):
    return [float(len(ids) <= most) for ids, most in zip(completion_ids, limit)]
def letters(completions, **columns):
    return [text[:1] or None for text in completions]
def by_text(completions, **columns):
    return list(completions)
def one(texts):
    return [[1.0]] * len(texts)
"""
OTHER = "".join(json.dumps({"question": f"{i}=", "limit": 2}) + "\n" for i in range(5))


@pytest.fixture
def config(project: Path, student: str) -> configs.RunConfig:
    (project / "env_e.py").write_text(ENVIRONMENT)
    (project / "reward_e.py").write_text(REWARD)
    (project / "other.jsonl").write_text(OTHER)
    folder = project / "runs" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(CONFIG.format(student=student))
    (folder / "model").symlink_to(student)
    return configs.load(folder / "config.yaml")


@pytest.fixture
def run(config) -> Path:
    return Path("runs/tiny")


# the numbers


def test_the_measures_are_what_the_rows_say(config, student):
    found = evaluate_model(student, config, samples=8, ks=[1, 3, 8])
    rows = [row for row in found.rows if row["counted"]]
    assert [row["counted"] for row in found.rows] == [8, 8, 0, 8, 8, 0]
    shares = [row["correct"] / 8 for row in rows]
    assert 0 < sum(shares) < len(shares)  # otherwise this shows nothing
    measured = found.measures
    assert measured["pass@1"].value == pytest.approx(statistics.fmean(shares))
    assert measured["pass@1"].se == pytest.approx(statistics.stdev(shares) / math.sqrt(4))
    assert measured["mean@8"].value == pytest.approx(measured["pass@1"].value)
    assert measured["reward/even"] == measured["mean@8"]
    assert measured["reward/short"].rows == 6
    for k in (3, 8):
        each = [1 - math.comb(8 - r["correct"], k) / math.comb(8, k) for r in rows]
        assert measured[f"pass@{k}"].value == pytest.approx(statistics.fmean(each))
        assert measured[f"pass@{k}"].rows == 4
    spent = sum(row["tokens"] for row in rows)
    correct = sum(row["correct"] for row in rows)
    assert measured["correct_per_1k_tokens"].value == pytest.approx(1000 * correct / spent)
    assert measured["length"].value == pytest.approx(sum(r["tokens"] for r in found.rows) / 48)
    assert measured["vendi/all"].rows == 6
    assert measured["vendi/correct"].rows == sum(row["correct"] >= 2 for row in rows)
    assert 1 <= measured["vendi/correct"].value <= measured["vendi/all"].value <= 8
    assert found.about["tokens"] == sum(row["tokens"] for row in found.rows)


def test_the_settings_are_recorded_and_decide(config, student):
    first = evaluate_model(student, config, samples=4)
    recorded = first.to_json()["settings"]
    assert recorded == {
        "samples": 4, "temperature": 0.9, "top_p": 1.0, "top_k": 0, "seed": 3,
        "max_completion_length": 6, "batch_size": 16, "ks": [1, 2, 4], "greedy": False, "rows": 6,
    }  # fmt: skip
    about = first.about
    assert (about["model"], about["run"], about["reward"]) == (student, "tiny", "even")
    assert about["data"]["use"] == "env_e:rows"
    assert about["versions"]["torch"] == torch.__version__
    assert {"commit", "seconds", "device", "date", "embedder"} <= about.keys()
    torch.rand(7)
    assert evaluate_model(student, config, samples=4).rows == first.rows
    assert evaluate_model(student, config, samples=4, seed=4).rows != first.rows
    cold = evaluate_model(student, config, samples=4, temperature=1e-4)
    one = evaluate_model(student, config, samples=4, top_k=1)
    greedy = evaluate_model(student, config)
    assert cold.rows == one.rows
    assert [row["tokens"] for row in cold.rows] == [4 * row["tokens"] for row in greedy.rows]
    assert cold.measures["vendi/all"].value == pytest.approx(1.0)
    assert len({e.file_name for e in (first, cold, one, greedy)}) == 4
    assert first.file_name == evaluate_model(student, config, samples=4).file_name


def test_a_loaded_model_is_left_as_it_was(config, student):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(student).train()
    before = torch.get_rng_state()
    found = evaluate_model(
        model, config, tokenizer=AutoTokenizer.from_pretrained(student), samples=2
    )
    assert model.training
    assert torch.equal(before, torch.get_rng_state())
    assert found.rows == evaluate_model(student, config, samples=2).rows
    with pytest.raises(ConfigError, match="a loaded model needs its tokenizer"):
        evaluate_model(model, config)


def test_a_models_own_generation_settings_change_nothing(config, student, tmp_path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(student)
    model.generation_config.repetition_penalty = 5.0
    model.generation_config.do_sample = True
    model.generation_config.top_k = 2
    model.save_pretrained(tmp_path / "own")
    AutoTokenizer.from_pretrained(student).save_pretrained(tmp_path / "own")
    for samples in (None, 4):
        plain = evaluate_model(student, config, samples=samples)
        assert evaluate_model(tmp_path / "own", config, samples=samples).rows == plain.rows


def test_it_is_json_and_back(config, student, tmp_path):
    found = evaluate_model(student, config, samples=2)
    found.save(tmp_path / "deep" / "x.json")
    kept = json.loads((tmp_path / "deep" / "x.json").read_text())
    assert kept == found.to_json()
    assert Evaluation.from_json(kept).to_json() == kept
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["x.json"]
    assert "NaN" not in (tmp_path / "deep" / "x.json").read_text()


# votes


def test_votes_need_somebody_who_says_what_is_the_same(config, student):
    found = evaluate_model(student, config, samples=4)
    assert not any(name.startswith("maj@") for name in found.measures)
    assert "no maj@k: reward 'even' does not say which answers are the same" in found.notes[0]
    assert {row["majority"] for row in found.rows} == {None}
    voted = evaluate_model(student, config, samples=4, answers="reward_e:by_text")
    assert voted.measures["maj@2"].rows == 4
    assert voted.measures["maj@2"].value == pytest.approx(voted.measures["pass@1"].value)
    assert voted.notes == []
    assert voted.about["answers"] == "answers reward_e:by_text"
    mixed = evaluate_model(student, config, samples=8, answers="reward_e:letters")
    assert "marks answers differently that count as the same vote" in mixed.notes[0]


NAN = math.nan
RIGHT_NG = torch.tensor([[1.0, 0, 0], [1, 1, NAN], [NAN, NAN, NAN]]).double()


def graded(prompts=(0, 1, 2)) -> Graded:
    tokens_NG = torch.tensor([[2.0, 4, 6], [1, 3, 50], [7, 7, 7]])
    return Graded(RIGHT_NG, tokens_NG, (tokens_NG > 6).double(), torch.tensor(prompts))


def test_votes_hand_worked():
    found, majority, odd = votes(graded(), ["aab", "ab-", "---"], (1, 2, 3))
    # Row 0: "a" has two votes, one of them right. Row 1: two graded answers, both right.
    assert majority == [0.5, 1.0, None]
    assert odd == 1
    assert found["maj@3"].value == 0.5
    assert found["maj@3"].rows == 1
    # aa: 1/2; ab twice, each a tie of 1/2 and 0: 1/4. Mean 1/3. Row 1: 1.
    assert found["maj@2"].value == pytest.approx((1 / 3 + 1) / 2)
    assert found["answers/distinct"].value == 2.0
    assert "maj@1" not in found


def test_lengths_and_correctness_hand_worked():
    found = lengths(graded()) | correctness(graded(), (1, 2))
    assert found["length"].value == pytest.approx((12 + 54 + 21) / 9)
    assert found["length/correct"].value == pytest.approx((2 + 1 + 3) / 3)
    assert found["length/wrong"].value == pytest.approx(5.0)
    assert found["truncated"].value == pytest.approx(4 / 9)
    assert found["pass@1"].value == pytest.approx((1 / 3 + 1) / 2)
    assert found["mean@3"].value == pytest.approx(3 / 5)
    assert found["pass@2"].value == pytest.approx((2 / 3 + 1) / 2)
    assert found["correct_per_1k_tokens"].value == pytest.approx(1000 * 3 / 16)


def test_rows_with_the_same_prompt_are_one_prompt():
    apart = correctness(graded(), (1,))["pass@1"]
    together = correctness(graded((0, 0, 1)), (1,))["pass@1"]
    assert together.value == apart.value
    assert together.rows == apart.rows == 2
    assert math.isnan(together.se)
    assert not math.isnan(apart.se)


def test_pass_at_k_rises_with_k(config, student):
    found = evaluate_model(student, config, samples=8, ks=range(1, 9)).measures
    values = [found[f"pass@{k}"].value for k in range(1, 9)]
    assert values == sorted(values)
    assert values[0] < values[-1]


# what cannot be measured


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"samples": 0}, "samples is 0; at least one answer"),
        ({"samples": 4, "ks": [5]}, "k is 5, and there are 4 answers to each row"),
        ({"samples": 4, "ks": [0]}, "k is 0"),
        ({"samples": 4, "temperature": 0.0}, "temperature is 0.0; it is above 0"),
        ({"samples": 4, "temperature": math.nan}, "temperature is nan"),
        ({"samples": 4, "top_p": 1.5}, r"top_p is 1.5; it is in \(0, 1\]"),
        ({"samples": 4, "top_k": -1}, "top_k is -1"),
        ({"temperature": 0.5}, "temperature is 0.5, and nothing is sampled"),
        ({"ks": [1]}, "nothing is sampled"),
        ({"samples": 2, "answers": "reward_e:nope"}, "answers: 'reward_e' has no 'nope'"),
        ({"samples": 2, "embedder": "reward_e"}, "embedder: 'reward_e' is not a reference"),
    ],
)
def test_bad_input_is_told_at_the_door(config, student, monkeypatch, given, said):
    monkeypatch.setattr("rlkd.evaluation.model._load", lambda *_: pytest.fail("it went in"))
    with pytest.raises(ConfigError, match=said):
        evaluate_model(student, config, **given)


def test_nothing_that_can_be_graded(config, student, project):
    text = REWARD.replace("None if most > 3 else", "None if True else")
    (project / "reward_e.py").write_text(text)
    with pytest.raises(ConfigError, match="'even' could grade none of the 12 answers"):
        evaluate_model(student, config, samples=2)


def test_the_powers_of_two_are_the_default():
    assert Settings().ks == (1,)
    assert Settings(samples=6).ks == (1, 2, 4, 6)
    assert Settings(samples=8).ks == (1, 2, 4, 8)


# the command


def test_greedy_prints_lines_and_keeps_json(run, capsys):
    assert main(["eval", str(run)]) == 0
    printed = capsys.readouterr()
    lines = dict(line.split("=") for line in printed.out.split())
    assert lines.keys() == {
        "rows", "accuracy", "length", "truncated", "reward/even", "reward/short"
    }  # fmt: skip
    (path,) = (run / "evaluations").iterdir()
    assert printed.err.endswith(f"results: {path}\n")
    kept = json.loads(path.read_text())
    assert kept["measures"]["pass@1"]["value"] == pytest.approx(float(lines["accuracy"]), abs=1e-4)
    assert main(["eval", str(run)]) == 0  # the same again overwrites it
    assert list((run / "evaluations").iterdir()) == [path]


def test_samples_print_a_table(run, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    words = ["--samples", "4", "--temperature=0.8", "--top-p", "0.9", "--top-k=5", "--seed", "1"]
    words += ["--k", "1,3", "--answers", "reward_e:by_text", "--embedder", "reward_e:one"]
    assert main(["eval", str(run), *words, "--size", "5"]) == 0
    out = capsys.readouterr().out
    assert "5 rows, 4 samples, temperature 0.8, top_p 0.9, top_k 5, seed 1, at most 6 tokens" in out
    (path,) = (run / "evaluations").iterdir()
    found = Evaluation.from_json(json.loads(path.read_text()))
    assert found.about["embedder"] == "reward_e:one"
    assert found.measures["vendi/all"].value == pytest.approx(1.0)
    for name in ("pass@3", "maj@3", "vendi/all"):
        measure = found.measures[name]
        (line,) = [line for line in out.splitlines() if line.startswith(f" {name} ")]
        shown = line.split()
        assert float(shown[1]) == pytest.approx(measure.value, abs=0.006)
        assert float(shown[2]) == pytest.approx(measure.se, abs=0.006)
        assert int(shown[3]) == measure.rows


def test_other_rows(run, student, capsys):
    words = ["eval", str(run), "--samples=2", "--data", "other.jsonl", "--out", "x.json"]
    assert main([*words, "--data.prompt_column", "question"]) == 0
    assert json.loads(Path("x.json").read_text())["about"]["data"]["path"] == "other.jsonl"
    assert "5 rows" in capsys.readouterr().out
    assert not (run / "evaluations").exists()
    for data, said in (
        ("other.txt", "neither a file of rows nor a function"),
        ("env_e:rows", "is a function; how many rows?"),
    ):
        assert main(["eval", str(run), "--data", data]) == 2
        assert said in capsys.readouterr().err
    assert main(["eval", str(run), "--data", "env_e:rows", "--size=3"]) == 0
    assert "rows=3" in capsys.readouterr().out
    assert main(["eval", str(run), "--samples", "2", "--k", "1,x"]) == 2
    assert "'1,x' is no list of whole numbers" in capsys.readouterr().err


def test_a_model_that_is_no_runs_keeps_nothing_unasked(run, student, capsys, project):
    words = ["eval", student, "--config", str(run / "config.yaml")]
    assert main(words) == 0
    assert "results" not in capsys.readouterr().err
    assert not (Path(student) / "evaluations").exists()
    assert main([*words, "--out=y.json"]) == 0
    assert Path("y.json").exists()
