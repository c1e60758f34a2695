"""The blocks of the objective: an algorithm, its components, and when another takes over."""

from typing import Literal

from pydantic import Field

from rlkd.config.schema.base import Block, SettingsBlock


class UntilPlateau(Block):
    """The end of a phase: a logged number that has not improved for a while."""

    plateau: str = Field(pattern="^(eval|train)/.")
    """The number, by its logged name: `eval/accuracy`, `train/reward`."""
    best: Literal["highest", "lowest"] = "highest"
    """Which value of it is the best."""
    patience: int = Field(default=3, gt=0)
    """So many values in a row without a new best end the phase: evaluations, or logged steps."""
    window: int = Field(default=1, gt=0)
    """Each value is the mean of so many of the last ones: single steps are noisy."""
    at_latest: int | float | None = None
    """The phase ends then in any case: a step (a whole number) or a share of the run's steps; null:
    it may last to the end of the run."""


class AlgorithmBlock(SettingsBlock):
    """The objective: a dataclass and a visible departure from its defaults per key."""

    use: str
    """The algorithm's class, as module:name; its fields are the further keys of this block. A
    number may move: `beta: {from: 0.005, to: 0.001}` in place of `beta: 0.005`."""
    until: int | float | UntilPlateau | None = None
    """When `then` takes over: after this step of the run (a whole number), at this share of its
    steps (0.5), or at a plateau (a block); null: never."""


class ComponentBlock(SettingsBlock):
    """What the algorithm carries besides: a dataclass and a departure from its defaults per key."""

    use: str
    """The component's class, as module:name (`rlkd.algorithms.ceeh:CEEH`); its fields are the
    further keys of this block. A number may move, as the algorithm's may."""
