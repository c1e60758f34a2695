"""A file of traces from a config, without a run."""

from pathlib import Path

from transformers import AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from rlkd.config import RunConfig
from rlkd.data import check_columns, load_splits
from rlkd.door import build_rewards, check_model_folder, check_prompts
from rlkd.launch import Launch
from rlkd.rewarding.setup import close, guard
from rlkd.traces import source
from rlkd.traces.making import Asked, Made


def write(
    config: RunConfig,
    out: Path,
    samples: int,
    temperature: float = 1.0,
    top_p: float = 1.0,
    batch_size: int = 64,
) -> Made:
    """Let the config's teacher answer its training rows; write to `out` what the rewards keep, and
    beside it what that cost.

    Raises:
        ConfigError: model, teacher, data or rewards cannot be used.
    """
    assert config.local_teacher is not None
    disable_progress_bar()
    check_model_folder(config.model.path, "model.path")
    check_model_folder(config.local_teacher.path, "teacher.path")
    functions = build_rewards(config)
    rows, _ = load_splits(config.data)
    check_columns(functions, rows[0])
    check_prompts(config, rows)
    asked = Asked(
        samples=samples, temperature=temperature, top_p=top_p, batch_size=batch_size,
        max_completion_length=config.sampling.max_completion_length, seed=config.run.seed,
    )  # fmt: skip
    tokenizer = AutoTokenizer.from_pretrained(config.model.path)
    rewards = guard(config, functions)
    try:
        made = source.ask_teacher(config, rows, rewards, tokenizer, asked, Launch(0, 1))
    finally:
        close(rewards)
    source.keep(made, out)
    return made
