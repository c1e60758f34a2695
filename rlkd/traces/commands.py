"""`rlkd traces`: let the teacher of a config write answers to its training prompts."""

import argparse
from pathlib import Path
from typing import Any

from rlkd import config as configs
from rlkd.config import ConfigError


def add_traces(added: Any) -> set[str]:
    """The subcommand's parser; returns its options."""
    parser: argparse.ArgumentParser = added.add_parser(
        "traces",
        help="let the teacher write answers to the training prompts",
        description="Let the teacher of a config answer its training prompts, judge the answers by"
        " the config's rewards, and write those with the first reward's full mark to a file for"
        " data.traces. Exit code 1: none was kept.",
        usage="rlkd traces CONFIG [--samples N] [--out FILE.jsonl] [--temperature T] [--top-p P]"
        " [--block.key VALUE ...]",
        allow_abbrev=False,
    )
    parser.add_argument("config", metavar="CONFIG", type=Path, help="YAML with teacher and rows")
    parser.add_argument("--samples", type=int, default=4, help="answers to each prompt (default 4)")
    parser.add_argument(
        "--out", type=Path, default=Path("traces.jsonl"), help="file to write (traces.jsonl)"
    )
    parser.add_argument("--temperature", type=float, default=1.0, help="of the teacher (1)")
    parser.add_argument("--top-p", type=float, default=1.0, help="nucleus sampling (1)")
    parser.add_argument("--batch-size", type=int, default=64, help="answers per pass (64)")
    return {"--help", "--samples", "--out", "--temperature", "--top-p", "--batch-size"}


def traces(arguments: argparse.Namespace, overrides: list[str]) -> int:
    """Write the file; the exit code is 1 where no answer was kept."""
    config = configs.load(arguments.config, overrides)
    if config.local_teacher is None:
        there = (
            "the config names no teacher"
            if config.teacher is None
            else "the config's teacher.use only scores, and a model in a folder is to write"
        )
        raise ConfigError(f"rlkd traces: {there}.\n  do: add --teacher.path=FOLDER")
    for name in ("samples", "temperature", "batch_size"):
        if not getattr(arguments, name) > 0:
            raise ConfigError(f"rlkd traces: --{name.replace('_', '-')} must be above 0")
    if not 0 < arguments.top_p <= 1:
        raise ConfigError("rlkd traces: --top-p must be above 0 and at most 1")
    if arguments.out.suffix != ".jsonl":
        raise ConfigError(f"rlkd traces: --out is {arguments.out}; it must end in .jsonl")
    if arguments.out.exists():
        raise ConfigError(f"rlkd traces: {arguments.out} is there already; choose another --out")
    from rlkd.traces import whole

    made = whole.write(
        config, arguments.out, arguments.samples, arguments.temperature, arguments.top_p,
        arguments.batch_size,
    )  # fmt: skip
    print(made)
    print(f"-> {arguments.out}: data.traces: {{path: {arguments.out}}}")
    return 0 if made.lines else 1
