"""A reward model named by its folder: TRL's numbers, in a worker that can be killed."""

import json
import math
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from rlkd import Trainer, cli
from rlkd.config import ConfigError, load
from rlkd.door import build_rewards, check_prompts
from rlkd.rewarding.model import score
from rlkd.rewarding.setup import close, guard
from tests.conftest import make_model
from tests.parity.test_trl import arguments

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = "{% for m in messages %}{{ m.content }};{% endfor %}"
PROMPTS = ["1+2=", "4+4=", "12+30=", "7=", "9-"]
COMPLETIONS = ["3", "8;8;8;8", "", "7+0=7", "a"]


def make_reward_model(path: Path, *, labels: int = 1, template: str | None = TEMPLATE) -> Path:
    """A random reward model with the tests' character tokenizer."""
    make_model(path, seed=5)
    torch.manual_seed(6)
    model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=labels)
    torch.nn.init.normal_(model.score.weight)
    model.save_pretrained(path)
    if template is not None:
        (path / "chat_template.jinja").write_text(template)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> str:
    return str(make_reward_model(tmp_path_factory.mktemp("models") / "my_rm"))


def chats(texts, role):
    return [[{"role": role, "content": text}] for text in texts]


@pytest.mark.parametrize("chat", [False, True])
def test_the_scores_are_those_of_trl(chat, folder, student, prompts, tmp_path):
    trainer = Trainer(student, [folder], arguments(tmp_path), prompts)
    given, said = PROMPTS, COMPLETIONS
    if chat:
        given, said = chats(PROMPTS, "user"), chats(COMPLETIONS, "assistant")
    rows = [{"prompt": prompt} for prompt in given]
    theirs = trainer._calculate_rewards(rows, given, said, [[]] * len(given))[:, 0]
    assert theirs.std() > 0.1
    for batch_size in (1, 2, 8):
        ours = score(said, given, path=folder, batch_size=batch_size)
        torch.testing.assert_close(torch.tensor(ours), theirs, atol=1e-5, rtol=1e-5)
    if chat:
        assert score(COMPLETIONS, PROMPTS, path=folder) != pytest.approx(theirs.tolist(), abs=1e-3)


def test_without_a_padding_token_rows_go_one_by_one(folder, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = None
    model.config.pad_token_id = None
    model.save_pretrained(tmp_path / "bare")
    tokenizer.save_pretrained(tmp_path / "bare")
    assert AutoTokenizer.from_pretrained(tmp_path / "bare").pad_token_id is None
    want = score(COMPLETIONS, PROMPTS, path=folder, batch_size=1)
    assert score(COMPLETIONS, PROMPTS, path=str(tmp_path / "bare")) == pytest.approx(want, abs=1e-6)


def test_what_does_not_fit_the_context_is_not_graded(folder):
    values = score(["1" * 125, "1" * 124, ""], ["1+1=", "1+1=", ""], path=folder)
    assert [value is None for value in values] == [True, False, True]


def test_bfloat16_is_near_float32(folder):
    exact = torch.tensor(score(COMPLETIONS, PROMPTS, path=folder))
    rough = torch.tensor(score(COMPLETIONS, PROMPTS, path=folder, dtype="bfloat16"))
    assert not torch.equal(exact, rough)
    torch.testing.assert_close(exact, rough, atol=0.3, rtol=0.1)


# -- from a config --------------------------------------------------------------------------------


@pytest.fixture
def configured(monkeypatch):
    monkeypatch.chdir(ROOT)

    def make(**reward):
        return load(Path("configs/quickstart_grpo.yaml"), [f"--rewards={json.dumps([reward])}"])

    return make


@pytest.fixture
def guarded(configured):
    """The one reward of a config behind its guard; its processes are ended."""
    made = []

    def make(**reward):
        config = configured(**reward)
        made.append(guard(config, build_rewards(config)))
        return made[-1]

    yield make
    for rewards in made:
        close(rewards)


def test_the_worker_gives_the_same_scores_with_several_threads(guarded, folder, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")  # the template's; a broken pool of threads hangs
    (reward,) = guarded(use=folder, deadline_s=20).values()
    assert reward.__name__ == "my_rm"
    here = score(COMPLETIONS * 40, PROMPTS * 40, path=folder)
    for _ in range(2):
        assert reward(completions=COMPLETIONS * 40, prompts=PROMPTS * 40) == pytest.approx(
            here, abs=1e-5
        )
    assert reward.take_faults() == {"rows": 400, "repeats": 0}


def test_reading_the_weights_is_not_on_the_deadlines_time(guarded, folder, monkeypatch):
    # Importing torch and transformers alone takes a second or more.
    (reward,) = guarded(use=folder, deadline_s=1.0).values()
    assert None not in reward(completions=COMPLETIONS, prompts=PROMPTS)


def test_scores_that_are_no_numbers_are_faults(guarded, folder, tmp_path):
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    torch.nn.init.constant_(model.score.weight, math.nan)
    model.save_pretrained(tmp_path / "broken")
    AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "broken")
    for place in ({}, {"in_process": True}):
        (reward,) = guarded(use=str(tmp_path / "broken"), **place).values()
        assert reward(completions=COMPLETIONS, prompts=PROMPTS) == [None] * 5
        assert reward.take_faults()["not_a_number"] == 5


def test_training_with_one_and_a_function(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    rewards = [
        {"use": folder, "weight": 0.5, "kwargs": {"batch_size": 4}},
        {"use": "rewards.arithmetic:accuracy"},
    ]
    words = [
        "train", "configs/quickstart_grpo.yaml", f"--rewards={json.dumps(rewards)}",
        "--optim.steps=2", "--data.train.size=40", "--data.eval=null", "--eval.every=0",
        "--batch.prompts_per_step=2", "--batch.group_size=4", "--batch.micro_batch_size=8",
        f"--run.dir={tmp_path}", "--run.name=x", "--tracking.wandb=disabled",
    ]  # fmt: skip
    assert cli.main(words) == 0
    text = (tmp_path / "x" / "metrics.jsonl").read_text()
    for row in map(json.loads, text.splitlines()):
        assert row["train/rewards/my_rm/faults"] == 0
        assert row["train/rewards/my_rm/std"] > 0
        mine, other = (row[f"train/rewards/{name}/mean"] for name in ("my_rm", "accuracy"))
        assert row["train/reward"] == pytest.approx(0.5 * mine + other, abs=1e-5)


# -- the door -------------------------------------------------------------------------------------


def refusal(configured, **reward) -> str:
    with pytest.raises(ConfigError) as caught:
        build_rewards(configured(**reward))
    return str(caught.value)


def test_what_is_no_reward_model_is_refused(configured, tmp_path, folder):
    assert "there is no folder no/such" in refusal(configured, use="no/such")
    assert "is no reward model" in refusal(configured, use="configs/models/tiny_student")
    two = make_reward_model(tmp_path / "two", labels=2)
    assert "has 2 outputs, and a reward is one number" in refusal(configured, use=str(two))
    message = refusal(configured, use=folder, kwargs={"dtype": "int8"})
    assert "rewards.0.kwargs.dtype: 'int8' is no number format" in message
    message = refusal(configured, use=folder, kwargs={"batch_size": 0})
    assert "rewards.0.kwargs.batch_size: 0; it is a whole number from 1" in message
    message = refusal(configured, use=folder, kwargs={"batchsize": 2})
    assert "did you mean: batch_size" in message
    message = refusal(configured, use=folder, memory_gb=0.5)
    assert "needs about 1.0 GiB" in message
    assert "set rewards.0.memory_gb to 2 or more" in message
    build_rewards(configured(use=folder, memory_gb=0.5, in_process=True))
    with pytest.raises(ConfigError, match="kwargs sets 'path', which `use` sets already"):
        configured(use=folder, kwargs={"path": "other"})
    for name in ("tokenizer_config.json", "tokenizer.json"):
        (two / name).unlink()
    about = json.loads((two / "config.json").read_text())
    (two / "config.json").write_text(json.dumps(about | {"id2label": {"0": "good"}}))
    assert "holds no tokenizer" in refusal(configured, use=str(two))


def test_chats_need_a_chat_template(configured, tmp_path):
    bare = make_reward_model(tmp_path / "bare", template=None)
    student = make_model(tmp_path / "student", seed=1)
    config = configured(use=str(bare))
    config = config.model_copy(
        update={"model": config.model.model_copy(update={"path": str(student)})}
    )
    check_prompts(config, [{"prompt": "1+1="}])
    chat = [{"prompt": chats(["1+1="], "user")[0]}]
    for place, folder in (("model.path", student), ("rewards.0.use", bare)):
        with pytest.raises(ConfigError, match=f"{place}: .* has no chat template"):
            check_prompts(config, chat)
        (folder / "chat_template.jinja").write_text(TEMPLATE)
    check_prompts(config, chat)
