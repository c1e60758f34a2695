"""`rlkd audit` and `rlkd grade`: their options, and what they do. What is heavy loads when used."""

import argparse
import sys
from pathlib import Path

from rlkd import config as configs
from rlkd.config import ConfigError


def audit(arguments: argparse.Namespace, overrides: list[str]) -> int:
    """Print the report; the exit code is 1 where something is wrong with the data."""
    config = configs.load(arguments.config, overrides)
    from rlkd.rewarding import audit as auditing

    report = auditing.audit(
        config,
        gold_column=arguments.gold,
        wrap=arguments.wrap,
        limit=arguments.max_prompt_tokens,
    )
    print("\n".join(report.lines()))
    return 1 if report.wrong else 0


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
    parser.add_argument("config", metavar="CONFIG", type=Path, help="YAML file of the run")
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
    return {"--help", "--gold", "--wrap", "--max-prompt-tokens"}


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
