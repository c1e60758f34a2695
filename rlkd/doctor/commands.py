"""`rlkd doctor`: its options, and what it prints. What is heavy loads when used."""

import argparse
import os
from pathlib import Path

from rlkd import config as configs
from rlkd.config import ConfigError


def add_doctor(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> set[str]:
    """Define the command; returns its options' names."""
    parser = commands.add_parser(
        "doctor",
        help="look at versions, devices, disk, W&B, and a config's models",
        description="Look at everything a run needs and say what is wrong: versions against what"
        " rlkd asks for, devices, launch, disk, W&B; with a CONFIG also its models, tokenizers and"
        " rows, and its teacher's servers. Loads no weights, asks no other network. Exit code 1:"
        " there is a problem.",
        usage="rlkd doctor [CONFIG] [--block.key VALUE ...]",
        allow_abbrev=False,
    )
    parser.add_argument("config", metavar="CONFIG", nargs="?", type=Path, help="YAML of a run")
    return {"--help"}


def doctor(arguments: argparse.Namespace, overrides: list[str]) -> int:
    """Print what was found; the exit code is 1 where something is a problem."""
    if arguments.config is None and overrides:
        raise ConfigError(f"rlkd doctor: {overrides[0]} is a key of a config; which CONFIG?")
    config = configs.load(arguments.config, overrides) if arguments.config is not None else None
    from rlkd.doctor import machine, software, tracker
    from rlkd.doctor.finding import Finding, show

    sections = [
        ("packages", software.look()),
        ("optional packages", software.look_at_extras()),
    ]
    try:
        sections += [
            ("devices", machine.look_at_devices()),
            ("launch", machine.look_at_launch(wanted=config.run.processes if config else None)),
        ]
    except ImportError as error:
        sections.append(("devices", [Finding("problem", f"torch cannot be imported: {error}")]))
    folder, needed, mode = Path("runs"), None, "offline"
    if config is not None:
        from rlkd.doctor import models

        folder, needed = Path(config.run.dir), models.bytes_written(config)
        mode = config.tracking.wandb
    sections += [
        ("folder", machine.look_at_folder(folder, needed)),
        ("tracking", tracker.look(mode)),
    ]
    if config is not None:
        world_size = config.run.processes or int(os.environ.get("WORLD_SIZE", "1"))
        sections.append((f"{arguments.config}", models.look(config, world_size)))
    show(sections)
    levels = [finding.level for _, findings in sections for finding in findings]
    problems, warnings = levels.count("problem"), levels.count("warning")
    print(f"{problems} problem{'s' * (problems != 1)}, {warnings} warning{'s' * (warnings != 1)}")
    return 1 if problems else 0
