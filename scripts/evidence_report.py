"""What the records of scripts/evidence say: a Markdown table, a picture, a last line."""

import statistics
from pathlib import Path
from typing import Any

ARMS = {
    "none": "no penalty",
    "penalty": "length penalty alone",
    "me": "CEEH-ME",
    "ea": "CEEH-EA",
    "me_rlad": "CEEH-ME + RLAD",
}
MIX = {"easy": 0.4, "hard": 0.6}
"""Their shares of the training problems, and their weights in what is said of all."""
K = 16
Record = dict[str, Any]


def of_arm(records: list[Record], arm: str) -> dict[int, Record]:
    """The records of one arm by seed."""
    return {record["seed"]: record for record in records if record["arm"] == arm}


def differences(records: list[Record], arm: str, band: str, figure: str) -> list[float]:
    """Arm minus no penalty, seed by seed, over the seeds that both have."""
    mine, base = of_arm(records, arm), of_arm(records, "none")
    seeds = sorted(mine.keys() & base.keys())
    return [mine[s]["heldout"][band][figure] - base[s]["heldout"][band][figure] for s in seeds]


def mean_and(spread: str, values: list[float], form: str) -> str:
    """`mean ± spread`: `sd`, or `se` (standard error of the mean); one value has no spread."""
    if not values:
        return "–"
    text = format(statistics.mean(values), form)
    if len(values) > 1:
        wide = statistics.stdev(values) / (len(values) ** 0.5 if spread == "se" else 1.0)
        text += f" ± {wide:{form.lstrip('+')}}"
    return text


def table(records: list[Record]) -> str:
    """Markdown: per band and arm the means over seeds, and what differs from no penalty."""
    arms = [arm for arm in ARMS if of_arm(records, arm)]
    arms += sorted({record["arm"] for record in records} - set(ARMS))
    parts = []
    heads = {
        "all": f"**all** (weighed {MIX['easy']:.0%} easy, {MIX['hard']:.0%} hard, as in training)",
        "easy": "**easy** (two terms; {} problems)",
        "hard": "**hard** (four and five terms; {} problems)",
    }
    for band, head in heads.items():
        lines = [
            "| arm | seeds | accuracy | Δ | length | Δ | ratio | pass@16 | Δ |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for arm in arms:
            mine = [r["heldout"][band] for r in of_arm(records, arm).values()]
            head = head.format(mine[0]["problems"])
            cells = [ARMS.get(arm, f"`{arm}`"), str(len(mine))]
            for figure, form in (("accuracy", ".3f"), ("length", ".2f"), (f"pass@{K}", ".3f")):
                moved = differences(records, arm, band, figure) if arm != "none" else []
                cells += [mean_and("sd", [m[figure] for m in mine], form)]
                cells += [mean_and("se", moved, f"+{form}")]
                if figure == "length":
                    cells += [f"{ratio_of_lengths(records, arm, band):.2f}"]
            lines.append("| " + " | ".join(cells) + " |")
        parts.append("\n".join([head, "", *lines]))
    return "\n\n".join(parts)


def ratio_of_lengths(records: list[Record], arm: str, band: str) -> float:
    """Mean length of the arm over that of no penalty, over the seeds that both have."""
    mine, base = of_arm(records, arm), of_arm(records, "none")
    seeds = mine.keys() & base.keys()
    if not seeds:
        return float("nan")
    lengths = [
        statistics.mean(runs[s]["heldout"][band]["length"] for s in seeds) for runs in (mine, base)
    ]
    return lengths[0] / lengths[1]


def plot(records: list[Record], path: Path) -> None:
    """Length against accuracy over training, one line per arm (mean over seeds) from its first
    steps to its last (the dot), and both against the step."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(15, 4.5), layout="constrained")
    for colour, (arm, name) in enumerate(ARMS.items()):
        curves = [record["curve"] for record in of_arm(records, arm).values()]
        if not curves:
            continue
        points = range(min(map(len, curves)))
        steps = [curves[0][i]["step"] for i in points]
        means = {
            key: [statistics.mean(curve[i][key] for curve in curves) for i in points]
            for key in ("accuracy", "length")
        }
        style = {"color": f"C{colour}", "label": name}
        axes[0].plot(means["length"], means["accuracy"], alpha=0.8, **style)
        axes[0].scatter(means["length"][-1], means["accuracy"][-1], color=f"C{colour}", zorder=3)
        axes[1].plot(steps, means["accuracy"], **style)
        axes[2].plot(steps, means["length"], **style)
    axes[0].set(xlabel="tokens per answer", ylabel="accuracy", title="training rollouts")
    axes[1].set(xlabel="optimiser step", ylabel="accuracy")
    axes[2].set(xlabel="optimiser step", ylabel="tokens per answer")
    for axis in axes:
        axis.grid(alpha=0.3)
    axes[0].legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def last_line(records: list[Record]) -> str:
    """CEEH-ME against no penalty, over all held-out problems."""
    moved = [
        statistics.mean(differences(records, "me", "all", figure))
        for figure in ("accuracy", f"pass@{K}")
    ]
    ratio = ratio_of_lengths(records, "me", "all")
    return f"length_ratio={ratio:.4f} accuracy_delta={moved[0]:+.4f} pass{K}_delta={moved[1]:+.4f}"
