"""Train the arms of a comparison over several seeds; keep, tabulate and draw what they came to.

scripts/evidence ceeh                    what is missing of five arms times five seeds, then table
                                         and picture; after a kill it goes on where it was
scripts/evidence ceeh --quick            no penalty against CEEH-ME, anew, two seeds, 60 steps
scripts/evidence ceeh --arms me_code     another configs/evidence/ceeh_ARM.yaml
scripts/evidence ceeh --optim.steps 50   any key of a config, for all arms

Writes ceeh.json (one record per run) and ceeh.md (the table) into --out, and the runs and ceeh.png
under runs/. The last line of standard output is for machines: CEEH-ME against no penalty on
held-out problems.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from evidence_report import ARMS, MIX, K, Record, last_line, of_arm, plot, table

# Models this small gain nothing from a second thread, and lose much where another program wants it.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from rlkd.compare import records

ROOT = Path(__file__).resolve().parent.parent
BANDS = {"easy": (2, 2), "hard": (4, 5)}
"""Fewest and most terms of a problem (`envs/arithmetic.py`)."""
ANSWERS = 32  # to each held-out problem, sampled as in training
EVERY = 10  # steps behind one point of the training curve
QUICK = ["--optim.steps=60"]


def config_of(arm: str, seed: int, folder: Path, overrides: list[str]) -> Any:
    """The arm's config with this seed, writing into `folder`."""
    from rlkd import config as configs

    words = [f"--run.dir={folder}", f"--run.name={arm}-seed{seed}", f"--run.seed={seed}"]
    words += [f"--data.train.seed={seed}", *overrides]
    return configs.load(f"configs/evidence/ceeh_{arm}.yaml", words)


def measure(config: Any, model: Path) -> dict[str, dict[str, float]]:
    """Accuracy, length and pass@K of sampled answers to the held-out problems, per band."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from rlkd.data import load_splits
    from rlkd.door import build_rewards
    from rlkd.evaluation.answers import sample_answers
    from rlkd.evaluation.scoring import score
    from rlkd.objectives.pass_at_k import pass_at_k

    rows = load_splits(config.data)[1] or []
    student = AutoModelForCausalLM.from_pretrained(model)
    tokenizer = AutoTokenizer.from_pretrained(model)
    limit, size = config.sampling.max_completion_length, config.eval.batch_size
    answers = sample_answers(student, tokenizer, rows, ANSWERS, limit, size, config.run.seed,
                             config.sampling.temperature)  # fmt: skip
    repeated = [row for row in rows for _ in range(ANSWERS)]
    judge = {"accuracy": build_rewards(config)[config.rewards[0].label]}
    scored = score(answers, tokenizer, repeated, judge)
    right_NG = torch.tensor([row["reward/accuracy"] for row in scored]).view(-1, ANSWERS) >= 1.0
    length_NG = torch.tensor([row["length"] for row in scored]).view(-1, ANSWERS)
    terms_N = torch.tensor([row["difficulty"] for row in rows])
    figures = {}
    for band, (fewest, most) in BANDS.items():
        of_N = (terms_N >= fewest) & (terms_N <= most)
        right_MG, length_MG = right_NG[of_N], length_NG[of_N]
        n_M = torch.full((len(right_MG),), ANSWERS)
        figures[band] = {
            "problems": len(right_MG),
            "accuracy": right_MG.double().mean().item(),
            "length": length_MG.double().mean().item(),
            f"pass@{K}": pass_at_k(n_M, right_MG.sum(-1), K).mean().item(),
        }
    figures["all"] = {
        name: sum(share * figures[band][name] for band, share in MIX.items())
        for name in ("accuracy", "length", f"pass@{K}")
    } | {"problems": len(rows)}
    return figures


def curve_of(folder: Path) -> list[dict[str, float]]:
    """Means over EVERY steps of what the training rollouts were."""
    names = {
        "accuracy": "train/rewards/accuracy/mean",
        "length": "train/completions/mean_length",
        "entropy": "train/entropy",
        "gate_open": "train/ceeh/gate_open",
        "hard_set": "train/difficulty/hard_set",
    }
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    rows = [row for row in rows if "train/loss" in row]
    points = []
    for start in range(0, len(rows), EVERY):
        part = rows[start : start + EVERY]
        point = {"step": part[-1]["step"]}
        for name, key in names.items():
            values = [row[key] for row in part if row.get(key) is not None]
            if values:
                point[name] = round(statistics.mean(values), 4)
        points.append(point)
    return points


def run_one(arm: str, config: Any, overrides: list[str]) -> Record:
    """Train one arm with one seed and measure it."""
    from rlkd import run

    if config.folder.exists():
        shutil.rmtree(config.folder)  # of a call that was killed: nothing of it was kept
    started = time.time()
    run.train(config)
    trained = time.time()
    about = json.loads((config.folder / "run.json").read_text())
    figures = measure(config, config.folder / "model")
    seed = config.run.seed
    return {
        "arm": arm,
        "seed": seed,
        "heldout": figures,
        "steps": config.optim.steps,
        "rollouts": config.optim.steps * config.batch.prompts_per_step * config.batch.group_size,
        "settings": records.fingerprint(config),
        "command": " ".join(
            ["scripts/evidence ceeh --arms", arm, "--seeds", str(seed), *overrides]
        ),
        "commit": about["commit"],
        "versions": about["versions"],
        "machine": f"{about['device']}, {os.cpu_count()} cores, {about['threads']} thread",
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "seconds": {"train": round(trained - started, 1), "eval": round(time.time() - trained, 1)},
        "curve": curve_of(config.folder),
    }


def of_which_run(record: Record) -> tuple[str, int]:
    return record["arm"], record["seed"]


def free_folder(parent: Path) -> Path:
    """The first evidence-quick-N in `parent` that does not exist."""
    number = 1
    while (parent / f"evidence-quick-{number}").exists():
        number += 1
    return parent / f"evidence-quick-{number}"


def ceeh(options: argparse.Namespace, overrides: list[str]) -> None:
    """The runs that are missing, one after the other; then all records as table and picture."""
    import rlkd.run  # noqa: F401  loads torch and transformers before the clock starts

    arms = options.arms or (["none", "me"] if options.quick else list(ARMS))
    seeds = options.seeds or ([0, 1] if options.quick else [0, 1, 2, 3, 4])
    runs, out = Path("runs/evidence/ceeh"), options.out or Path("configs/evidence")
    if options.quick:
        overrides = [*QUICK, *overrides]
        out = options.out or free_folder(Path("runs"))
    if options.quick or options.out:
        runs = out / "runs"
    path = out / "ceeh.json"
    for seed in seeds:
        for arm in arms:
            config = config_of(arm, seed, runs, overrides)
            there = of_arm(records.read(path), arm).get(seed)
            if there is None:
                print(f"\n{arm}, seed {seed}", flush=True)
                records.keep(path, run_one(arm, config, overrides), of_which_run)
            elif there["settings"] != records.fingerprint(config):
                sys.exit(
                    f"{path} holds {arm}, seed {seed}, run with other settings than the config's "
                    "now: both in one table would compare nothing. Name another --out, or delete "
                    "what the old settings gave"
                )
    found = records.read(path)
    text = table(found)
    (out / "ceeh.md").write_text(text + "\n", encoding="utf-8")
    picture = runs.parent / "ceeh.png"
    plot(found, picture)
    print(f"\n{text}\n\nrecords {path}\npicture {picture}\n")
    if of_arm(found, "me").keys() & of_arm(found, "none").keys():
        print(last_line(found))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("comparison", choices=["ceeh"])
    parser.add_argument("--quick", action="store_true", help="two arms, two seeds, fewer steps")
    parser.add_argument("--seeds", type=int, nargs="+", help="default: 0 1 2 3 4")
    parser.add_argument("--arms", nargs="+", help=f"default: {' '.join(ARMS)}")
    parser.add_argument("--out", type=Path, help="folder of records and table")
    options, overrides = parser.parse_known_args()
    if options.out:
        options.out = options.out.resolve()
    os.chdir(ROOT)  # the configs name models, rewards and environments from here
    ceeh(options, overrides)


if __name__ == "__main__":
    main()
