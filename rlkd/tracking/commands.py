"""`rlkd rollouts` and `rlkd report`: their options, and what they do. What is heavy loads when
used."""

import argparse
import sys
import time
from pathlib import Path

from rlkd.errors import ConfigError


def rollouts(arguments: argparse.Namespace, overrides: list[str]) -> int:
    """Print the rollouts of a run that pass the filters."""
    _no_overrides("rollouts", overrides)
    if arguments.limit < 1:
        raise ConfigError(f"rlkd rollouts: --limit is {arguments.limit}; it is at least 1")
    from rlkd.tracking import filters, reading, show

    folder = Path(arguments.run)
    reading.check_run(folder)
    run = reading.rollouts(folder)
    for reason in run.left_out:
        print(f"rlkd: left out {reason}", file=sys.stderr)
    low, high = filters.steps(arguments.step) if arguments.step else (0, 2**62)
    if not any(low <= step <= high for step in run.steps):
        raise ConfigError(
            f"rlkd rollouts: {folder} has no rollouts of step {arguments.step}.\n"
            f"  found: {len(run.steps)} steps, {run.steps[0]} to {run.steps[-1]}"
        )
    parts = [filters.status(name, run) for name in arguments.status]
    parts += [filters.comparison(text, run) for text in arguments.where]
    if arguments.contains:
        parts.append(filters.contains(arguments.contains))
    sort = filters.SORTS[arguments.sort] if arguments.sort else None
    if sort is not None and sort not in run.schema.names:
        raise ConfigError(f"rlkd rollouts: this run did not store {sort}; choose another --sort")
    rows, passed = run.first(
        arguments.limit,
        sort,
        descending=not arguments.ascending,
        where=filters.together(parts),
        steps=lambda step: low <= step <= high,
    )
    show.show(rows, run.rewards[0] if run.rewards else None)
    print(f"{len(rows)} of {passed} that pass; {run.rows} stored in {len(run.steps)} steps")
    return 0


def report(arguments: argparse.Namespace, overrides: list[str]) -> int:
    """Write the report of one or several runs into one HTML file."""
    _no_overrides("report", overrides)
    from rlkd.report import build, page

    out = Path(arguments.out)
    if out.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"rlkd report: --out is {out}; the report is an .html file")
    if not out.parent.is_dir():
        raise ConfigError(f"rlkd report: there is no folder {out.parent} for --out")
    start = time.perf_counter()
    text = page.page(build.collect([Path(run) for run in arguments.runs]))
    out.write_text(text, encoding="utf-8")
    size, seconds = out.stat().st_size / 1e6, time.perf_counter() - start
    print(f"{out}  {size:.2f} MB, {seconds:.1f} s")
    return 0


def _no_overrides(command: str, overrides: list[str]) -> None:
    if overrides:
        raise ConfigError(
            f"rlkd {command}: {overrides[0]} is a key of a config, and there is none here"
        )


def rollouts_options(parser: argparse.ArgumentParser) -> set[str]:
    """Define them; returns their names."""
    parser.add_argument("run", metavar="RUN", help="folder of a run")
    parser.add_argument("--step", metavar="N|A:B", help="a step, or a range of them")
    parser.add_argument(
        "--status",
        action="append",
        default=[],
        metavar="STATUS",
        help="correct or wrong (by the first reward), ungraded, truncated, crashed, timeout,"
        " wrong_count, not_a_number; given twice: both must hold",
    )
    parser.add_argument(
        "--where",
        action="append",
        default=[],
        metavar="TEXT",
        help="a comparison: 'reward/NAME<0.5', 'tokens>=100', band=hard; may be repeated",
    )
    parser.add_argument("--contains", metavar="TEXT", help="text in the prompt or the answer")
    parser.add_argument(
        "--sort",
        choices=("length", "reward", "advantage", "gap", "entropy", "step"),
        help="the largest first (default: as stored)",
    )
    parser.add_argument("--ascending", action="store_true", help="the smallest first")
    parser.add_argument("--limit", type=int, default=5, help="how many to show (5)")
    return {"--help", "--step", "--status", "--where", "--contains", "--sort", "--ascending",
            "--limit"}  # fmt: skip


def report_options(parser: argparse.ArgumentParser) -> set[str]:
    """Define them; returns their names."""
    parser.add_argument("runs", metavar="RUN", nargs="+", help="folder of a run")
    parser.add_argument("--out", default="report.html", help="the file to write (report.html)")
    return {"--help", "--out"}
