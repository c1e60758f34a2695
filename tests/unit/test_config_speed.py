"""The `speed:` block: what it says, and what is refused before anything is loaded."""

import pytest

from rlkd import config as configs
from rlkd.config import ConfigError
from rlkd.config.teacher import build_teacher
from rlkd.door import check_speed
from rlkd.training.speed import Speed, speed_of

SORTED = "--speed.micro_batches=by_tokens"


def read(*words: str):
    return configs.load("configs/quickstart.yaml", list(words))


def test_a_block_that_says_nothing_is_the_default_and_no_wish():
    assert speed_of(read().speed) is None
    assert speed_of(read(SORTED).speed) == Speed(micro_batches="by_tokens")
    every = {name: getattr(read().speed, name) for name in type(read().speed).model_fields}
    assert Speed(**every) == Speed()


def test_a_teacher_without_padding():
    block = read("--teacher.padding_free=true", "--teacher.shared_prompts=true").teacher
    made = build_teacher(block)
    assert made.padding_free
    assert made.shared_prompts


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([SORTED, "--algorithm.reduction=bnpo"], r"speed: micro_batches is 'by_tokens' and RLAD"),
        (
            [SORTED, "--components=[{use: 'rlkd.algorithms.covariance:KLCov'}]"],
            "KLCov depends on which rows share a micro-batch: the covariance",
        ),
        (
            [SORTED, "--algorithm.until=3", "--then=[{use: 'rlkd:GRPO', reduction: bnpo}]"],
            "GRPO depends on which rows share a micro-batch: bnpo averages",
        ),
        (
            ["--speed.padding_free=true", "--generation.backend=continuous_batching"],
            r"speed\.padding_free sets the student's attention, and so does",
        ),
    ],
)
def test_what_cannot_work_is_told_at_the_door(words, message):
    with pytest.raises(ConfigError, match=message):
        check_speed(read(*words))
    check_speed(read(*[w for w in words if not w.startswith("--speed")]))


@pytest.mark.parametrize("block", ["speed", "teacher"])
def test_shared_prompts_need_one_sequence(block):
    with pytest.raises(ConfigError, match="set padding_free to true"):
        read(f"--{block}.shared_prompts=true")


def test_an_unknown_way_is_told():
    with pytest.raises(ConfigError, match="by_length"):
        read("--speed.micro_batches=sorted")
