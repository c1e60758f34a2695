"""`rlkd audit` and `rlkd grade`: their options, and what they do. What is heavy loads when used."""

import argparse
import sys
from pathlib import Path
from typing import Any

from rlkd import config as configs
from rlkd.config import ConfigError
from rlkd.datafiles import KINDS

NO_MODEL = "."
"""The model's path where a file of data is audited and none is named: lengths are not looked at."""


def audit(arguments: argparse.Namespace, overrides: list[str]) -> int:
    """Print the report; the exit code is 1 where something is wrong with the data."""
    if arguments.config.suffix in KINDS:
        config = _of_dataset(arguments, overrides)
    else:
        for option in ("heldout", "reward", "prompt"):
            if getattr(arguments, option) is not None:
                raise ConfigError(f"rlkd audit: --{option} is for a file of data; a config says it")
        config = configs.load(arguments.config, overrides)
    from rlkd.rewarding import audit as auditing

    report = auditing.audit(
        config,
        lengths=config.model.path != NO_MODEL,
        gold_column=arguments.gold,
        wrap=arguments.wrap,
        limit=arguments.max_prompt_tokens,
    )
    print("\n".join(report.lines()))
    return 1 if report.wrong else 0


def _of_dataset(arguments: argparse.Namespace, overrides: list[str]) -> configs.RunConfig:
    """A run of which only the data and the reward are meant."""
    data: dict[str, Any] = {"train": {"path": str(arguments.config)}}
    if arguments.heldout is not None:
        data["eval"] = {"path": str(arguments.heldout)}
    if arguments.prompt is not None:
        data["prompt_column"] = arguments.prompt
    tree = {
        "model": {"path": NO_MODEL},
        "algorithm": {"use": "rlkd.algorithms.grpo:GRPO"},
        "data": data,
        "rewards": [{"use": arguments.reward or "rewards.math:accuracy"}],
        "batch": {"prompts_per_step": 1, "group_size": 2, "micro_batch_size": 2},
        "sampling": {"max_completion_length": 1},
        "optim": {"steps": 1, "learning_rate": 0.0},
        "run": {"name": "audit"},
    }
    config = configs.overlay(tree, overrides, f"rlkd audit {arguments.config}")
    if arguments.max_prompt_tokens is not None and config.model.path == NO_MODEL:
        raise ConfigError(
            "rlkd audit: --max-prompt-tokens needs a tokenizer to count with.\n"
            "  do: add --model.path FOLDER"
        )
    return config


def grade(arguments: argparse.Namespace, overrides: list[str]) -> int:
    """Print the verdict; the exit code is 0 whatever it is."""
    if overrides:
        raise ConfigError(
            f"rlkd grade: {overrides[0]} is a key of a config, and there is none here"
        )
    if arguments.deadline_s <= 0:
        raise ConfigError(f"rlkd grade: --deadline-s is {arguments.deadline_s:g}; it is above 0")
    from rlkd import grading

    completion = sys.stdin.read() if arguments.completion == "-" else arguments.completion
    try:
        verdict = grading.grade(
            completion,
            arguments.gold,
            deadline_s=arguments.deadline_s,
            math_verify=arguments.math_verify,
        )
    except ImportError as error:
        raise ConfigError(f"rlkd grade: {error}") from error
    for name in ("status", "score", "answer", "method", "reason"):
        print(f"{name}={getattr(verdict, name)}")
    return 0


def audit_options(parser: argparse.ArgumentParser) -> set[str]:
    """Define them; returns their names."""
    parser.add_argument(
        "config",
        metavar="CONFIG|DATASET",
        type=Path,
        help=f"YAML file of the run, or a file of rows ({', '.join(KINDS)})",
    )
    parser.add_argument("--heldout", metavar="FILE", type=Path, help="with DATASET: held-out rows")
    parser.add_argument("--prompt", metavar="COLUMN", help="with DATASET: the prompt (prompt)")
    parser.add_argument(
        "--reward",
        metavar="MODULE:NAME",
        help="with DATASET: the reward to verify with (rewards.math:accuracy)",
    )
    parser.add_argument(
        "--gold", metavar="COLUMN", help="column of the gold (default: what the reward asks for)"
    )
    parser.add_argument(
        "--wrap",
        metavar="TEXT",
        help="how an answer is written, GOLD for it (default: bare, \\boxed{GOLD}, and others)",
    )
    parser.add_argument(
        "--max-prompt-tokens",
        type=int,
        help="longest prompt (default: the student's positions less max_completion_length)",
    )
    return {
        "--help", "--gold", "--wrap", "--max-prompt-tokens", "--heldout", "--prompt", "--reward",
    }  # fmt: skip


def grade_options(parser: argparse.ArgumentParser) -> set[str]:
    """Define them; returns their names."""
    parser.add_argument(
        "completion",
        metavar="COMPLETION",
        help="what the model wrote; - reads it from standard input; put -- before one with a dash",
    )
    parser.add_argument(
        "--gold", required=True, help="the right answer (--gold=-x where it starts with a dash)"
    )
    parser.add_argument(
        "--deadline-s", type=float, default=1.0, help="wall seconds for a hard comparison (1)"
    )
    parser.add_argument(
        "--math-verify",
        action="store_true",
        help="ask Math-Verify about what is otherwise undecided (needs rlkd[math-verify])",
    )
    return {"--help", "--gold", "--deadline-s", "--math-verify"}
