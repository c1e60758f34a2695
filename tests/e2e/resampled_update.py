"""Launched by test_resampling.py: steps with dynamic sampling on injected answers, all saved.

Arguments: student, output file. Answers depend on prompt and place in the group only, so that one
process and two see the same; of the first three prompts two teach nothing.
"""

import os
import random
import sys
import tempfile

import torch
from datasets import Dataset
from trl import GRPOConfig

from rlkd import Trainer
from rlkd.algorithms.dapo import DAPO

GROUP, GROUPS, PROMPTS = 6, 3, 24


def answer(prompt: list[int], place: int) -> list[int]:
    draw = random.Random(f"{prompt} {place}")
    return [*(draw.randrange(2, 20) for _ in range(draw.randrange(1, 9))), 1]


def reward(prompts, completions, **_):
    """Every prompt whose first number is a multiple of 3 has one right answer of two."""
    return [
        float(len(text) % 2) if int(prompt.split("+")[0]) % 3 == 2 else 1.0
        for prompt, text in zip(prompts, completions, strict=True)
    ]


def main() -> None:
    student, output = sys.argv[1:]
    world = int(os.environ.get("WORLD_SIZE", "1"))
    args = GRPOConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=GROUP * GROUPS // world,
        num_generations=GROUP, max_completion_length=12, max_steps=2, learning_rate=0.1,
        lr_scheduler_type="constant", optim="sgd", max_grad_norm=0.0, bf16=False, use_cpu=True,
        report_to="none", save_strategy="no", gradient_checkpointing=False, disable_tqdm=True,
        shuffle_dataset=False, gradient_accumulation_steps=1, logging_steps=1,
    )  # fmt: skip
    rows = Dataset.from_list([{"prompt": f"{i}+1="} for i in range(PROMPTS)])
    batches = []
    trainer = Trainer(
        student, reward, args, rows, algorithm=DAPO(max_sampling_rounds=3),
        on_rollouts=batches.append,
    )  # fmt: skip
    rank = trainer.accelerator.process_index

    def generate(prompt_ids, *_):
        first = rank * len(prompt_ids)
        return [answer(ids, (first + i) % GROUP) for i, ids in enumerate(prompt_ids)], None

    trainer._generate_single_turn = generate
    trainer.train()
    rows_of = trainer.gather_rows([(batch.step, rank, batch) for batch in batches])
    fresh = trainer.gather_rows([trainer.fresh_prompts.state()])
    assert all(state == fresh[0] for state in fresh)
    result = {
        "weights": dict(trainer.accelerator.unwrap_model(trainer.model).state_dict()),
        "records": trainer.difficulty.table(),
        "rows": [
            (batch.prompts[i], batch.completions[i], batch.columns["reward/reward"][i])
            for _, _, batch in sorted(rows_of, key=lambda each: each[:2])
            for i in range(len(batch.prompts))
        ],
        "logs": [
            {k: v for k, v in line.items() if k.startswith("dynamic") or k == "num_tokens"}
            for line in trainer.state.log_history
            if "loss" in line
        ],
        "fresh": fresh[0],
    }
    for other in trainer.gather_rows([result["records"]]):
        for name, value in other.items():
            assert torch.equal(value.nan_to_num(), result["records"][name].nan_to_num()), name
    if rank == 0:
        torch.save(result, output)


if __name__ == "__main__":
    main()
