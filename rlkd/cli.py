"""The command `rlkd`: train, evaluate or look at a run, export, audit data, grade an answer, look
at the machine, plan its memory."""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rlkd import __version__
from rlkd import config as configs
from rlkd.compare.commands import add_compare, compare
from rlkd.config import ConfigError, RunConfig
from rlkd.config.help import describe_fields, list_blocks
from rlkd.doctor.commands import add_doctor, doctor
from rlkd.door import check_at_door
from rlkd.errors import nearest
from rlkd.evaluation import commands as evaluating
from rlkd.geometry import geometry
from rlkd.planning.commands import add_plan, plan
from rlkd.rewarding import commands
from rlkd.rewarding.watch import TooManyFaults
from rlkd.traces.commands import add_traces, traces
from rlkd.tracking import commands as seeing
from rlkd.tracking import views
from rlkd.tracking.trackers.commands import add_workspace, workspace
from rlkd.training.stopped import Broken, PeerFailed, Stopped

_EXAMPLES = """\
examples:
  rlkd train configs/quickstart.yaml --dry-run
  rlkd train configs/quickstart.yaml --algorithm.alpha 0.3 --run.name alpha-0.3
  torchrun --nproc_per_node 2 scripts/train.py configs/quickstart.yaml --run.processes 2
  rlkd train runs/alpha-0.3 --resume
  rlkd eval runs/alpha-0.3 --size 1000
  rlkd eval runs/alpha-0.3 --samples 16 --temperature 1.0
  rlkd export runs/alpha-0.3 models/alpha-0.3
  rlkd difficulty runs/alpha-0.3 --band hard
  rlkd curves runs/alpha-0.3 runs/quickstart --out curves.png
  rlkd doctor configs/quickstart.yaml
  rlkd plan configs/quickstart.yaml
  rlkd audit configs/quickstart.yaml
  rlkd traces configs/luffy.yaml --samples 4 --out traces.jsonl
  rlkd rollouts runs/alpha-0.3 --status wrong --sort length
  rlkd report runs/alpha-0.3 --out report.html
  rlkd compare configs/evidence/compare/*.yaml --seeds 5
  rlkd workspace my-project --entity my-team
  rlkd grade --gold '\\frac12' 'The answer is \\boxed{0.5}'
"""

_TRAIN_EPILOG = """\
the blocks of a config (--help-config lists every field):
{blocks}

any of them can be set on the command line, in YAML, dots between the names:
  --optim.steps 5   --algorithm.alpha=0.3   --rewards.0.weight 2   --teacher null

{examples}"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (2: something that the person wrote is wrong;
    3: a reward failed on too many rows, or a number was NaN, and the run stopped; 75: SIGTERM or
    SIGUSR1 stopped the run, which saved its state; 76: it got stuck, or a process of it was killed;
    130: Ctrl-C did).

    Args:
        argv: the words after `rlkd`; None: those of this process.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser, options = _parser()
    try:
        words, overrides = _split(words, options[words[0] if words and words[0] in options else ""])
        try:
            arguments = parser.parse_args(words)
        except SystemExit as done:  # argparse has printed its help or its complaint
            return int(done.code or 0)
        return _COMMANDS[arguments.command](arguments, overrides)
    except ConfigError as error:
        print(f"rlkd: {error}", file=sys.stderr)
        return 2
    except (TooManyFaults, Broken) as stop:
        print(f"rlkd: {stop}", file=sys.stderr)
        return 3
    except (Stopped, PeerFailed) as stop:
        print(f"rlkd: {stop}", file=sys.stderr)
        return stop.exit_code


def _train(arguments: argparse.Namespace, overrides: list[str]) -> int:
    if arguments.help_config:
        chosen = configs.load(arguments.config, overrides) if arguments.config else None
        uses = [block.use for block in chosen.components] if chosen else []
        then = [block.use for block in chosen.then] if chosen else []
        teacher = getattr(chosen.teacher, "use", None) if chosen else None
        print(describe_fields(chosen.algorithm.use if chosen else None, uses, then, teacher))
        return 0
    if arguments.config is None:
        raise ConfigError("rlkd train: which CONFIG?\n  do: rlkd train configs/NAME.yaml")
    if arguments.force_steps and not arguments.resume:
        raise ConfigError("rlkd train: --force-steps is for --resume, which is not given")
    config = _config_of(arguments.config, overrides, arguments.resume)
    if arguments.dry_run:
        if arguments.resume:
            raise ConfigError("rlkd train: --dry-run checks a new run; leave out --resume")
        _dry_run(config)
        return 0
    from rlkd import run

    run.train(config, resume=arguments.resume, force_steps=arguments.force_steps)
    return 0


def _config_of(target: Path, overrides: list[str], resume: bool) -> RunConfig:
    """The config in a file, or, to resume, in a run's folder (wherever that has moved to)."""
    if resume and not target.exists() and target.suffix != ".yaml":
        siblings = [path.name for path in target.parent.glob("*") if path.is_dir()]
        near = f"\n  did you mean: {target.parent / str(nearest(target.name, siblings))}"
        raise ConfigError(f"rlkd train: there is no run {target} to resume.{near * bool(siblings)}")
    if not target.is_dir():
        return configs.load(target, overrides)
    if not resume:
        raise ConfigError(
            f"rlkd train: {target} is a folder.\n"
            f"  do: rlkd train {target} --resume to go on with the run in it; a new run needs a"
            " CONFIG"
        )
    target = target if target.name not in ("", "..") else target.resolve()
    place = [f"--run.dir={target.parent}", f"--run.name={target.name}"]
    return configs.load(target / "config.yaml", [*place, *overrides])


def _export(arguments: argparse.Namespace, overrides: list[str]) -> int:
    run = Path(arguments.run)
    if not (run / "config.yaml").is_file():
        raise ConfigError(f"rlkd export: {run} is no run (it has no config.yaml)")
    from rlkd import export

    weights = export.source(run, arguments.checkpoint)
    export.export(weights, configs.load(run / "config.yaml", overrides), Path(arguments.out))
    print(f"{weights} -> {arguments.out}")
    return 0


def _dry_run(config: RunConfig) -> None:
    # Not even a __pycache__ of the rewards' and environments' folders.
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        world_size = config.run.processes or int(os.environ.get("WORLD_SIZE", "1"))
        check_at_door(config, world_size)
        if config.teacher is not None:
            from rlkd.teacher.probe import check_servers  # imports transformers

            check_servers(config)
        print(configs.dump(configs.resolved(config)))
        print(geometry(config.batch, world_size).describe(config.optim.steps))
    finally:
        sys.dont_write_bytecode = before


def _split(words: list[str], options: set[str]) -> tuple[list[str], list[str]]:
    """The words for argparse, and those that override a key of the config with their values."""
    plain, overrides = [], []
    rest = list(words)
    while rest:
        word = rest.pop(0)
        name = word.partition("=")[0]
        if not word.startswith("--") or word == "--" or name in options:
            plain.append(word)
            continue
        if "." not in name and name[2:] not in RunConfig.model_fields:
            near = nearest(name, options | {f"--{field}" for field in RunConfig.model_fields})
            raise ConfigError(
                f"command line: there is no option {name}.\n  did you mean: {near}\n"
                "  note: a key of the config is given with its block, like --optim.steps 5"
            )
        overrides.append(word)
        if "=" not in word and rest and not rest[0].startswith("--"):
            overrides.append(rest.pop(0))
    return plain, overrides


_COMMANDS = {
    "train": _train,
    "eval": evaluating.evaluate,
    "audit": commands.audit,
    "grade": commands.grade,
    "export": _export,
    "difficulty": views.difficulty,
    "curves": views.curves,
    "rollouts": seeing.rollouts,
    "report": seeing.report,
    "doctor": doctor,
    "plan": plan,
    "compare": compare,
    "traces": traces,
    "workspace": workspace,
}


def _parser() -> tuple[argparse.ArgumentParser, dict[str, set[str]]]:
    """The parser, and the options of each subcommand (all other `--words` are overrides)."""
    parser = argparse.ArgumentParser(
        prog="rlkd",
        description="Reinforcement-learning post-training with a teacher, on TRL's GRPO trainer.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"rlkd {__version__}")
    added = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    train = added.add_parser(
        "train",
        help="run a config",
        description="Train the model of a config. Exit code 2: the config is wrong, or nothing can"
        " be learnt from the first batch; 3: a reward failed on too many rows, or a loss, gradient"
        " or teacher's score was NaN; 75: SIGTERM or SIGUSR1 stopped the run; 76: it got stuck, or"
        " one of its processes was killed; 130: Ctrl-C stopped it. After 3, 75 and 130 the message"
        " says what is saved; --resume goes on from the last checkpoint.",
        usage="rlkd train CONFIG_OR_RUN [--dry-run] [--resume [--force-steps]] [--block.key VALUE"
        " ...]",
        epilog=_TRAIN_EPILOG.format(blocks=list_blocks(), examples=_EXAMPLES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    evaluate = added.add_parser(
        "eval",
        help="measure a run or a model on held-out rows",
        description="Answer the held-out rows of a config and judge the answers: one greedy answer"
        " to each, or several sampled ones, with pass@k, maj@k, lengths and diversity, each with a"
        " standard error by prompt. All of it is kept as JSON.",
        usage="rlkd eval RUN_OR_MODEL [--config CONFIG] [--samples N] [--size N] [--data ROWS]"
        " [--block.key VALUE ...]",
        allow_abbrev=False,
    )
    audit = added.add_parser(
        "audit",
        help="check a config's data through its first reward, before any training",
        description="Every gold answer must get full marks itself and a changed one must not;"
        " finds duplicates, overlap of training and held-out rows, and long prompts. Exit code 1:"
        " something is wrong.",
        usage="rlkd audit CONFIG|DATASET [--gold COLUMN] [--wrap TEXT] [--block.key VALUE ...]",
        allow_abbrev=False,
    )
    grade = added.add_parser(
        "grade",
        help="compare one completion with a gold answer",
        description="Print the verdict of rlkd.grading on one completion.",
        usage="rlkd grade --gold GOLD COMPLETION",
        allow_abbrev=False,
    )
    export = added.add_parser(
        "export",
        help="write a run's model as a plain Hugging Face folder",
        description="Write a run's model, adapters merged, with its tokenizer, as transformers and"
        " vLLM load it.",
        usage="rlkd export RUN OUT [--checkpoint STEP|best]",
        allow_abbrev=False,
    )
    rollouts = added.add_parser(
        "rollouts",
        help="read what a run's model wrote",
        description="Print stored rollouts of a run, filtered and sorted; in a terminal with the"
        " teacher's opinion of their tokens.",
        usage="rlkd rollouts RUN [--step N|A:B] [--status STATUS] [--where TEXT] [--contains TEXT]"
        " [--sort KEY] [--ascending] [--limit N]",
        allow_abbrev=False,
    )
    report = added.add_parser(
        "report",
        help="write one HTML file that shows one or several runs",
        description="Write curves, length against accuracy, difficulty bands, rollouts and configs"
        " of runs into one HTML file that needs no network. Runs that differ only in their seed are"
        " shown together.",
        usage="rlkd report RUN [RUN ...] [--out FILE.html]",
        allow_abbrev=False,
    )
    options = {
        "": {"-h", "--help", "--version"},
        "train": _train_options(train),
        "eval": evaluating.eval_options(evaluate),
        "audit": commands.audit_options(audit),
        "grade": commands.grade_options(grade),
        "export": _export_options(export),
        "difficulty": views.add_difficulty(added),
        "curves": views.add_curves(added),
        "rollouts": seeing.rollouts_options(rollouts),
        "report": seeing.report_options(report),
        "doctor": add_doctor(added),
        "plan": add_plan(added),
        "compare": add_compare(added),
        "traces": add_traces(added),
        "workspace": add_workspace(added),
    }
    return parser, options


def _train_options(parser: argparse.ArgumentParser) -> set[str]:
    parser.add_argument(
        "config",
        metavar="CONFIG_OR_RUN",
        nargs="?",
        type=Path,
        help="YAML file of the run; with --resume also the run's folder",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check all that needs neither data nor weights, print the resolved config and the"
        " batch sizes, write nothing (rlkd audit reads the data)",
    )
    parser.add_argument(
        "--help-config",
        action="store_true",
        help="list every field of a config (with CONFIG: also those of its algorithm)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the run's newest whole checkpoint; prints what was restored",
    )
    parser.add_argument(
        "--force-steps",
        action="store_true",
        help="with --resume: accept an optim.steps other than the run began with",
    )
    return {"--help", "--dry-run", "--help-config", "--resume", "--force-steps"}


def _export_options(parser: argparse.ArgumentParser) -> set[str]:
    parser.add_argument("run", metavar="RUN", help="folder of the run")
    parser.add_argument("out", metavar="OUT", help="folder to write, new or empty")
    parser.add_argument(
        "--checkpoint",
        metavar="STEP|best",
        help="this checkpoint (default: the final model, or the newest checkpoint while there is"
        " none)",
    )
    return {"--help", "--checkpoint"}


if __name__ == "__main__":
    sys.exit(main())
