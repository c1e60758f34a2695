"""The saved view of a W&B project: every metric under its heading, seeds grouped.

W&B shows what is logged under panels that it makes itself; this view has rlkd's own sections, in
the same order as `rlkd report`, and the tables.
"""

import re
from typing import Any

from rlkd.errors import ConfigError
from rlkd.tracking.glossary import GLOSSARY
from rlkd.tracking.panels import by_section

NAME = "rlkd"
TABLES = ("rollouts", "eval/answers")
INSTALL = "pip install 'rlkd[trackers]', or wandb-workspaces"


def build(entity: str, project: str, name: str = NAME) -> Any:
    """The view, not saved: nothing is asked of the network.

    A panel's title is the metric's name; where the glossary has a pattern (a reward's name, a
    band), one panel has a line for each name that fits.

    Raises:
        ConfigError: wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as wr
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise ConfigError(
            f"rlkd workspace: the package wandb-workspaces is not installed.\n  do: {INSTALL}"
        ) from error

    def line(metric: str) -> Any:
        if "*" not in metric:
            return wr.LinePlot(title=metric, x="train/step", y=[metric])
        pattern = re.escape(metric).replace(r"\*", "[^/]+")
        return wr.LinePlot(title=metric, x="train/step", metric_regex=f"^{pattern}$")

    first = ("Evaluation", "Reward", "Length")
    sections = [
        ws.Section(
            name=heading, panels=[line(metric) for metric in names], is_open=heading in first
        )
        for heading, names in by_section(list(GLOSSARY)).items()
    ]
    tables = [wr.WeavePanelSummaryTable(table_name=table) for table in TABLES]
    curve = wr.ScatterPlot(
        title="length against accuracy", x=wr.SummaryMetric("eval/length"),
        y=wr.SummaryMetric("eval/accuracy"),
    )  # fmt: skip
    sections.insert(1, ws.Section(name="Answers", panels=[curve, *tables], is_open=True))
    return ws.Workspace(
        entity=entity,
        project=project,
        name=name,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="train/step", group_by_prefix="first"),
        runset_settings=ws.RunsetSettings(groupby=[ws.Metric("Group")]),
        # What is logged besides: charts, a user's own metrics.
        auto_generate_panels=True,
    )


def save(project: str, entity: str | None = None, name: str = NAME) -> str:
    """Save the view in the account that wandb is logged in to; returns its address.

    Args:
        entity: user or team; None: the account's default.

    Raises:
        ConfigError: it cannot be saved (no key, no network, not allowed); the runs are untouched.
    """
    build(entity or "me", project, name)  # not installed: said before the network is asked
    import wandb

    from rlkd.tracking.trackers.weights_and_biases import login

    if login() is None:
        raise ConfigError("rlkd workspace: there is no key for W&B.\n  do: wandb login")
    try:
        owner = entity or str(wandb.Api(timeout=30).default_entity)
        return build(owner, project, name).save().url
    except Exception as error:
        first, *_ = str(error).splitlines() or [""]
        raise ConfigError(
            f"rlkd workspace: W&B did not take the view of {project} ({type(error).__name__}:"
            f" {first}).\n  why: no network, or the account may not write there; runs and their"
            " panels are as they were\n  do: try again, or name another owner: --entity NAME"
        ) from error
