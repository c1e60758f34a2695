"""`rlkd workspace`: its options, and what it does. What is heavy loads when used."""

import argparse
from typing import Any

from rlkd.errors import ConfigError


def add_workspace(commands: Any) -> set[str]:
    """Define the command; returns its options' names."""
    parser = commands.add_parser(
        "workspace",
        help="save a view of a W&B project with rlkd's panels",
        description="Save a view of a W&B project: every metric under its heading, tables of"
        " rollouts and answers, runs that are seeds of one experiment grouped. Needs an account"
        " and wandb-workspaces.",
        usage="rlkd workspace PROJECT [--entity NAME] [--view NAME] [--print]",
        allow_abbrev=False,
    )
    parser.add_argument("project", metavar="PROJECT", help="W&B project (tracking.project)")
    parser.add_argument("--entity", metavar="NAME", help="user or team (the account's default)")
    parser.add_argument("--view", metavar="NAME", default="rlkd", help="name of the view (rlkd)")
    parser.add_argument(
        "--print",
        action="store_true",
        help="list the view's sections and panels; save nothing, ask no network",
    )
    return {"--help", "--entity", "--view", "--print"}


def workspace(arguments: argparse.Namespace, overrides: list[str]) -> int:
    """Save the view, or print what it has."""
    if overrides:
        raise ConfigError(
            f"rlkd workspace: {overrides[0]} is a key of a config, and there is none here"
        )
    from rlkd.tracking.trackers import workspace as views

    if not arguments.print:
        print(views.save(arguments.project, arguments.entity, arguments.view))
        return 0
    for section in views.build(arguments.entity or "me", arguments.project).sections:
        print(section.name)
        for panel in section.panels:
            print(f"  {getattr(panel, 'title', None) or panel.table_name}")
    return 0
