"""Numbers that may not move: 20 training steps per algorithm on injected rollouts.

The answers are fixed, so that a last-bit difference between processors cannot change a sampled
token. `python -m tests.golden.test_golden` writes the files anew: a change of theirs is committed
with its reason, in CHANGELOG.md.
"""

import random
from pathlib import Path

import pytest
from datasets import Dataset
from trl import GRPOConfig

from rlkd import (
    CISPO,
    DAPO,
    GKD,
    GRPO,
    GSPO,
    HDPO,
    KDRL,
    OPD,
    RLAD,
    RLSD,
    SRPO,
    TOPD,
    DrGRPO,
    MiniLLM,
    OPDLoss,
    Trainer,
)
from rlkd.algorithms.base import Algorithm

HERE = Path(__file__).parent
STEPS, ROWS, GROUP = 20, 16, 4
CASES: dict[str, Algorithm] = {
    "grpo": GRPO(),
    "dr_grpo": DrGRPO(),
    "dapo": DAPO(),
    "gspo": GSPO(),
    "cispo": CISPO(clip_high=0.2),  # the paper's bound cuts nothing in 20 steps
    "gkd": GKD(),
    "opd_loss": OPDLoss(),
    "opd_loss_top_k": OPDLoss(top_k=4, reward_weight=0.5),
    "minillm": MiniLLM(),
    "rlad": RLAD(),
    "opd": OPD(),
    "kdrl": KDRL(teacher_weight=0.1),  # 2e-3 would move no digit
    "kdrl_advantage": KDRL(teacher_weight=0.1, estimator="k1_advantage", mask="correct_answers"),
    "srpo": SRPO(),
    "hdpo": HDPO(teacher_weight=0.1),
    "rlsd": RLSD(),
    "topd": TOPD(),
    "rlad_arithmetic": RLAD(alpha=0.3, mixture="arithmetic", clamp="straight_through"),
}
SOMETIMES_CORRECT = {"kdrl_advantage", "srpo", "hdpo"}  # the others' rewards never reach 1
COLUMNS = ("loss", "grad_norm", "entropy", "clip_ratio/region_mean")
INSTEAD = {"clip_ratio/region_mean": "clip_ratio/capped"}  # CISPO: no token loses its gradient


def run(name: str, folder: Path) -> list[list[float]]:
    """loss, gradient norm, entropy and clipped share of each step."""
    from tests.conftest import make_model

    student = str(make_model(folder / "student", seed=1))
    teacher = str(make_model(folder / "teacher", seed=2, hidden=48, layers=3))
    args = GRPOConfig(
        output_dir=str(folder / "out"), per_device_train_batch_size=8, num_generations=GROUP,
        gradient_accumulation_steps=2, num_iterations=2, max_completion_length=12,
        max_steps=STEPS, learning_rate=3e-3, bf16=False, use_cpu=True, report_to="none",
        gradient_checkpointing=False, save_strategy="no", logging_steps=1, disable_tqdm=True,
    )  # fmt: skip
    draw = random.Random(11)

    def generate(prompt_ids, *_):
        lengths = [draw.randrange(1, 11) for _ in prompt_ids]
        return [[*(draw.randrange(2, 20) for _ in range(n)), 1] for n in lengths], None

    full = 6 if name in SOMETIMES_CORRECT else 7

    def reward(completions, **_):
        return [min(1.0, (sum(map(ord, text)) % 7) / full) for text in completions]

    rows = Dataset.from_list([{"prompt": f"{a}+{b}="} for a in range(8) for b in range(8)])
    algorithm = CASES[name]
    extra = {"teacher": teacher, "teacher_check": "off"} if algorithm.needs_teacher else {}
    trainer = Trainer(student, reward, args, rows, algorithm=algorithm, **extra)
    trainer._generate_single_turn = lambda prompt_ids, *_, **__: generate(prompt_ids)
    trainer.train()
    logs = [row for row in trainer.state.log_history if "loss" in row]
    return [[row.get(column, row.get(INSTEAD.get(column))) for column in COLUMNS] for row in logs]


def write(name: str, rows: list[list[float]]) -> None:
    lines = [" ".join(("step", *COLUMNS))]
    lines += [" ".join([f"{i}", *(f"{v:.6f}" for v in row)]) for i, row in enumerate(rows, 1)]
    (HERE / f"{name}.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("name", CASES)
def test_the_numbers_have_not_moved(name, tmp_path):
    lines = (HERE / f"{name}.txt").read_text().splitlines()
    assert lines[0].split() == ["step", *COLUMNS]
    got = run(name, tmp_path)
    assert len(lines) == len(got) + 1 == STEPS + 1
    for line, row in zip(lines[1:], got, strict=True):
        step, *want = line.split()
        assert row == pytest.approx([float(v) for v in want], rel=2e-3, abs=2e-5), f"step {step}"


if __name__ == "__main__":
    import tempfile

    for case in CASES:
        with tempfile.TemporaryDirectory() as place:
            write(case, run(case, Path(place)))
