"""Under which heading each metric is shown: in the report, and in the saved view of W&B."""

from collections.abc import Sequence

SECTIONS = (
    ("Evaluation", ("eval/",)),
    ("Reward", ("train/reward", "train/accuracy", "train/groups/", "train/frac_reward")),
    ("Difficulty", ("train/difficulty/",)),
    ("Length", ("train/completions/",)),
    ("Teacher", ("train/teacher/",)),
    ("Entropy and KL", ("train/entropy", "train/kl", "train/ceeh/", "train/components/")),
    ("Clipping", ("train/clip_ratio/", "train/first_update/")),
    ("Optimiser", ("train/loss", "train/grad_norm", "train/learning_rate", "train/aux_loss")),
    ("Time and progress", ("train/step_time", "train/time/", "train/num_tokens", "train/epoch",
                           "train/tracking/", "train/memory", "train/overlap/")),
)  # fmt: skip
"""Heading -> beginnings of the names under it."""
OTHER = "Other"
"""The heading of the rest."""


def by_section(names: Sequence[str]) -> dict[str, list[str]]:
    """Heading -> its names, in their order; headings without a name are left out."""
    rest = list(names)
    found = {}
    for heading, beginnings in SECTIONS:
        found[heading] = [name for name in rest if name.startswith(beginnings)]
        rest = [name for name in rest if not name.startswith(beginnings)]
    found[OTHER] = rest
    return {heading: inside for heading, inside in found.items() if inside}
