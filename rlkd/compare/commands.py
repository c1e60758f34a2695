"""`rlkd compare`: its options, and the grid that it runs. Heavy imports are other processes'."""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from rlkd.compare import grid, processes, records
from rlkd.compare.grid import Job
from rlkd.config import ConfigError

QUICK = ("--optim.steps=12", "--data.eval.size=100")
MARKS = ("<!-- made by rlkd compare -->", "<!-- end -->")
"""Around the table of a page."""
_QUICK_SEEDS = 2
_SEEDS = 5


def add_compare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> set[str]:
    """Define the command; returns its options' names."""
    parser = commands.add_parser(
        "compare",
        help="run algorithms side by side, over tasks and seeds",
        description="Run, or go on with, every ALGORITHM (a YAML file with an `algorithm:` block,"
        " laid over each task's file) on every task with every seed; write OUT/results.json (one"
        " record per run), OUT/results.md (tables) and a page of plots. Runs are processes of one"
        " thread; what is finished is kept, after a kill too. Exit code 1: a run failed; it is"
        " named, and tried again the next time.",
        usage="rlkd compare ALGORITHM.yaml [...] [--tasks TASK.yaml ...] [--seeds N] [--quick]"
        " [--block.key VALUE ...]",
        allow_abbrev=False,
    )
    parser.add_argument("algorithms", metavar="ALGORITHM", nargs="+", type=Path)
    parser.add_argument(
        "--tasks", nargs="+", type=Path, default=[],
        help="YAML files of tasks (default: those in tasks/ beside an algorithm)",
    )  # fmt: skip
    parser.add_argument("--seeds", type=int, help=f"how many, from 0 ({_SEEDS}; --quick: 2)")
    parser.add_argument("--seed", type=int, action="append", help="only this one; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer steps, problems and seeds")
    parser.add_argument(
        "--out", type=Path,
        help="folder of records and tables (configs/evidence; --quick: runs/compare-quick)",
    )  # fmt: skip
    parser.add_argument("--runs", type=Path, help="folder of runs and page (runs/compare…)")
    parser.add_argument("--jobs", type=int, help="runs at once (default: the cores)")
    parser.add_argument(
        "--redo", action="store_true", help="run anew what was run with other settings"
    )
    parser.add_argument("--dry-run", action="store_true", help="check the configs, list the runs")
    parser.add_argument("--table", action="store_true", help="run nothing: write tables and page")
    parser.add_argument(
        "--against", default=grid.BASELINE, metavar="NAME",
        help=f"the algorithm that the others are tested against ({grid.BASELINE}); another one's"
        " tables are RUNS/results_NAME.md",
    )  # fmt: skip
    parser.add_argument("--readme", type=Path, help="put the main table into this page too")
    return {"--help", "--tasks", "--seeds", "--seed", "--quick", "--out", "--runs", "--jobs",
            "--redo", "--dry-run", "--table", "--against", "--readme"}  # fmt: skip


def compare(arguments: argparse.Namespace, overrides: list[str]) -> int:
    """Run what is missing and write the tables; the exit code is 1 where a run failed."""
    from rlkd.compare import page, table

    if arguments.quick:
        overrides = [*QUICK, *overrides]
    out = arguments.out or Path("runs/compare-quick" if arguments.quick else "configs/evidence")
    runs = arguments.runs or Path("runs") / _own_name(arguments.out, arguments.quick)
    if arguments.readme is not None:
        _parts_of(arguments.readme)  # a page without a place is told before the first run
    tasks = arguments.tasks or _tasks_beside(arguments.algorithms)
    found = grid.jobs(arguments.algorithms, tasks, _seeds(arguments), runs, overrides)
    for job in {(job.algorithm, job.task): job for job in found}.values():
        job.config.build_algorithm()  # a wrong field is told before the first run starts
    path = out / "results.json"
    against = _baseline(arguments.against, [job.algorithm for job in found], records.read(path))
    left = [] if arguments.table else grid.missing(found, records.read(path), arguments.redo, path)
    print(f"{len(found)} runs, {len(found) - len(left)} of them in {path}", flush=True)
    if arguments.dry_run:
        print("\n".join(job.name for job in left))
        return 0
    at_once = arguments.jobs or processes.cores()
    if at_once < 1:
        raise ConfigError(f"rlkd compare: --jobs is {at_once}; at least one run at a time")
    try:
        failures = _run(left, path, runs, at_once)
    except KeyboardInterrupt:
        print(f"\nstopped; what is finished stands in {path}, and the same command goes on with it")
        return 130
    kept = records.read(path)
    made, other = table.main_table(kept, against), "" if against == grid.BASELINE else f"_{against}"
    tables = runs / f"results{other}.md" if other else out / "results.md"
    curves = runs / f"compare{other}.html"
    records.write_whole(tables, table.page(kept, against))
    page.write(kept, curves, against)
    if arguments.readme is not None:
        put_table(arguments.readme, f"{made}\n\n{table.note(against)}")
    print(f"\n{made}\n\nrecords {path}\ntables  {tables}\npage    {curves}")
    for failure in failures:
        print(f"failed  {failure}")
    return 1 if failures else 0


def _run(left: Sequence[Job], path: Path, runs: Path, at_once: int) -> list[str]:
    """Run the jobs and keep their records; returns what failed and why."""
    failures: list[str] = []
    started = time.monotonic()
    logs = [runs / "logs" / f"{job.config.run.name}.log" for job in left]
    outcomes = processes.run_all(
        grid.work, [(job,) for job in left], logs, at_once, preload=["rlkd.compare.one"]
    )
    for done, outcome in enumerate(outcomes, 1):
        job = left[outcome.number]
        record = outcome.result if outcome.error is None else grid.failed(job, outcome.error)
        records.keep(path, record)
        if outcome.error is not None:
            failures.append(f"{job.name}: {outcome.error}")
            told = f"FAILED: {outcome.error}"
        else:
            told = f"accuracy {record['accuracy']:.3f}, {record['wall']['train']:.0f} s"
        rest = (time.monotonic() - started) / done * (len(left) - done) / 60
        print(f"{done}/{len(left)}  {job.name}: {told}; {rest:.0f} minutes left", flush=True)
    return failures


def _seeds(arguments: argparse.Namespace) -> list[int]:
    if arguments.seed and arguments.seeds is not None:
        raise ConfigError("rlkd compare: --seeds (how many) and --seed (which) are both given")
    if arguments.seed:
        return sorted(set(arguments.seed))
    number = arguments.seeds
    if number is None:
        number = _QUICK_SEEDS if arguments.quick else _SEEDS
    if number < 1:
        raise ConfigError(f"rlkd compare: --seeds is {number}; it says how many, at least 1")
    return list(range(number))


def _baseline(name: str, algorithms: Sequence[str], kept: Sequence[records.Record]) -> str:
    known = {*algorithms, *(record["algorithm"] for record in kept)}
    if name not in known and name != grid.BASELINE:  # without GRPO's runs there are no tests
        raise ConfigError(
            f"rlkd compare: --against is {name!r}, and no algorithm here is called so: "
            f"{', '.join(sorted(known))}"
        )
    return name


def _own_name(out: Path | None, quick: bool) -> str:
    """A folder of runs for each folder of records, so that pages do not replace each other."""
    name = "compare-quick" if quick else "compare"
    return name if out is None or out == Path("configs/evidence") else f"{name}-{out.name}"


def _tasks_beside(algorithms: Sequence[Path]) -> list[Path]:
    for algorithm in algorithms:
        found = sorted((algorithm.parent / "tasks").glob("*.yaml"))
        if found:
            return found
    raise ConfigError(
        f"rlkd compare: there is no task in {algorithms[0].parent / 'tasks'}.\n"
        "  do: add --tasks TASK.yaml [...]"
    )


def put_table(readme: Path, text: str) -> None:
    """Write the main table between the two marks of a page.

    Raises:
        ConfigError: as `_parts_of`.
    """
    before, after = _parts_of(readme)
    records.write_whole(readme, f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


def _parts_of(readme: Path) -> tuple[str, str]:
    """What stands before and after the two marks of a page.

    Raises:
        ConfigError: there is no such page, or it has not both marks.
    """
    if not readme.is_file():
        raise ConfigError(f"rlkd compare: --readme is {readme}, and there is no such file")
    before, opened, rest = readme.read_text(encoding="utf-8").partition(MARKS[0])
    _, closed, after = rest.partition(MARKS[1])
    if not opened or not closed:
        raise ConfigError(
            f"rlkd compare: {readme} has no place for the table.\n"
            f"  do: write {MARKS[0]} and, on a later line, {MARKS[1]}"
        )
    return before, after
