"""`rlkd difficulty` and `rlkd curves`: their options, and what they do. What is heavy loads when
used."""

import argparse
from pathlib import Path
from typing import Any

from rlkd.config import ConfigError

_BANDS = ("hard", "middle", "easy", "new")
_SORTS = ("pass_rate", "shortest", "visits")


def add_difficulty(commands: Any) -> set[str]:
    """Define the command; returns its options' names."""
    parser = commands.add_parser(
        "difficulty",
        help="how hard each prompt of a run was for its student",
        description="Print a run's difficulty records: counts, bands, the threshold, and the"
        " hardest prompts. All of it is in RUN/difficulty.parquet.",
        usage="rlkd difficulty RUN [--sort WHAT] [--easiest] [--band BAND] [--limit N]",
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="folder of the run")
    parser.add_argument(
        "--sort",
        choices=_SORTS,
        default="pass_rate",
        help="by pass rate, lowest first (default); by shortest correct answer, longest first; by"
        " visits, most first",
    )
    parser.add_argument("--easiest", action="store_true", help="from the other end")
    parser.add_argument("--band", choices=_BANDS, help="only the prompts of that band")
    parser.add_argument("--limit", type=int, default=10, help="prompts to list (10)")
    return {"--help", "--sort", "--easiest", "--band", "--limit"}


def difficulty(arguments: argparse.Namespace, overrides: list[str]) -> int:
    """Print the records of a run."""
    _refuse(overrides, "difficulty")
    if arguments.limit < 1:
        raise ConfigError(f"rlkd difficulty: --limit is {arguments.limit}; it is at least 1")
    from rlkd.tracking import records, records_table

    try:
        found = records.read(arguments.run)
    except ConfigError as error:
        raise ConfigError(f"rlkd difficulty: {error}") from error
    records_table.show(
        arguments.run,
        found,
        limit=arguments.limit,
        sort=arguments.sort,
        easiest=arguments.easiest,
        band=arguments.band,
    )
    return 0


def add_curves(commands: Any) -> set[str]:
    """Define the command; returns its options' names."""
    parser = commands.add_parser(
        "curves",
        help="draw length against accuracy over one run or several",
        description="Draw how answers became longer or shorter while accuracy changed: a point per"
        " evaluation, joined in the order of the steps; of the rollouts where a run was not"
        " evaluated twice.",
        usage="rlkd curves RUN [RUN ...] [--out FILE]",
        allow_abbrev=False,
    )
    parser.add_argument("runs", metavar="RUN", type=Path, nargs="+", help="folder of a run")
    parser.add_argument(
        "--out", type=Path, help="picture, .png .pdf or .svg (one run: RUN/length_accuracy.png)"
    )
    return {"--help", "--out"}


def curves(arguments: argparse.Namespace, overrides: list[str]) -> int:
    """Draw the picture and print where it is."""
    _refuse(overrides, "curves")
    from rlkd.tracking import curves as drawing

    runs: list[Path] = arguments.runs
    if arguments.out is None and len(runs) > 1:
        raise ConfigError("rlkd curves: one picture of several runs, where?\n  do: add --out FILE")
    path: Path = arguments.out or runs[0] / drawing.NAME
    if path.suffix[1:].lower() not in drawing.FORMATS:
        raise ConfigError(f"rlkd curves: --out is {path}; it ends in .png, .pdf or .svg")
    if arguments.out is not None and not path.parent.is_dir():
        raise ConfigError(f"rlkd curves: there is no folder {path.parent} for {path.name}")
    names = [run.resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = [str(run) for run in runs]
    found = [_curve(run, name) for run, name in zip(runs, names, strict=True)]
    drawing.draw(found, path)
    print(path)
    return 0


def _curve(run: Path, name: str) -> Any:
    from rlkd.tracking import curves as drawing

    metrics = run / "metrics.jsonl"
    if not metrics.is_file():
        what = "has no metrics.jsonl" if run.is_dir() else "is not there"
        raise ConfigError(f"rlkd curves: {run} {what}\n  do: name a run's folder, like runs/NAME")
    curve = drawing.read(metrics, name)
    if curve is None:
        raise ConfigError(
            f"rlkd curves: {metrics} has no line with length and accuracy\n"
            "  expected: eval/length and eval/accuracy, or train/completions/mean_length and"
            " train/accuracy"
        )
    return curve


def _refuse(overrides: list[str], command: str) -> None:
    if overrides:
        raise ConfigError(
            f"rlkd {command}: {overrides[0]} is a key of a config, and there is none here"
        )
