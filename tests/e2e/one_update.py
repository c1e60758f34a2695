"""Launched by test_processes.py: one optimiser step on injected rollouts, its gradient saved.
many_ranks.py takes `gradient` from here.

Arguments: student, teacher, output file, rows per micro-batch, way to cut them. The same 24 rows
(3 groups of 8) whatever the number of processes; on two, the second group straddles them.
"""

import os
import random
import sys
import tempfile

import torch
from datasets import Dataset
from peft import LoraConfig
from torch.distributed.tensor import DTensor
from trl import GRPOConfig, GRPOTrainer

from rlkd import GKD, GRPO, KDRL, LUFFY, RLAD, SFTKD, MiniLLM, OPDLoss, Speed, Trainer
from rlkd.algorithms.ceeh import CEEH
from rlkd.difficulty import prompt_key
from rlkd.traces.book import Trace, Traces

ROWS, GROUP = 24, 8
NAN = float("nan")
RECORDS = {  # of the three prompts, in the order of their keys
    "pass_rate": torch.tensor([0.1, 0.0, 0.9], dtype=torch.float64),
    "shortest": torch.tensor([3.0, NAN, 2.0], dtype=torch.float64),
    "visits": torch.tensor([4, 1, 7], dtype=torch.int32),
}
ME, EA = CEEH(length_beta=0.5, entropy_coefficient=0.1), CEEH(entropy="ea", hard_bound="at_most")
CARRIED = {"grpo with ceeh-me": (ME,), "grpo with ceeh-ea": (EA,), "rlad with ceeh-me": (ME,)}
WAYS = {
    "default": None,
    "by_tokens": Speed(micro_batches="by_tokens"),
    "packed": Speed(micro_batches="by_tokens", padding_free=True, shared_prompts=True),
}
ALGORITHMS = {
    "grpo": GRPO(beta=0.0),
    "grpo with reference": GRPO(beta=0.1, reduction="dapo"),
    "dr_grpo": GRPO(beta=0.0, reduction="dr_grpo", advantage_scale="none"),
    "gspo": GRPO(beta=0.0, ratio_level="sequence"),
    "rlad": RLAD(),
    "rlad dapo": RLAD(reduction="dapo", eos="old_policy"),
    "rlad arithmetic": RLAD(mixture="arithmetic", clamp="straight_through"),
    "rlad with lora": RLAD(),
    "kdrl": KDRL(teacher_weight=0.3),
    "gkd": GKD(),
    "opd_loss": OPDLoss(top_k=4, reward_weight=0.5),
    "minillm": MiniLLM(),
    "grpo with ceeh-me": GRPO(beta=0.0, advantage_scale="none"),
    "grpo with ceeh-ea": GRPO(beta=0.0, reduction="dapo"),
    "rlad with ceeh-me": RLAD(advantage_scale="none"),
    "luffy": LUFFY(off_policy=3, reduction="dapo"),
    "sft-kd": SFTKD(),
}


def answers() -> list[list[int]]:
    draw = random.Random(5)
    return [
        [*(draw.randrange(2, 20) for _ in range(draw.randrange(1, 11))), 1] for _ in range(ROWS)
    ]


def traces() -> Traces:
    """Five of each prompt, of several lengths."""
    draw = random.Random(6)
    return Traces.gather(
        (
            prompt_key(f"{i}+{i + 1}="),
            Trace((*(draw.randrange(2, 20) for _ in range(draw.randrange(1, 11))), 1)),
        )
        for i in range(ROWS // GROUP)
        for _ in range(5)
    )


def gradient(
    name: str, student: str, teacher: str, micro: int, way: str = "default"
) -> dict[str, torch.Tensor]:
    """−gradient, as the difference that one step of plain gradient descent at rate 1 makes."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    args = GRPOConfig(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=micro, num_generations=GROUP,
        gradient_accumulation_steps=ROWS // (micro * world), max_completion_length=12,
        max_steps=1, learning_rate=1.0, lr_scheduler_type="constant", optim="sgd",
        max_grad_norm=0.0, bf16=False, use_cpu=True, report_to="none", save_strategy="no",
        gradient_checkpointing=False, disable_tqdm=True, shuffle_dataset=False,
    )  # fmt: skip

    def reward(completions, **_):
        return [(sum(map(ord, text)) % 11) / 10 for text in completions]

    rows = Dataset.from_list([{"prompt": f"{i}+{i + 1}="} for i in range(ROWS // GROUP)])
    algorithm = ALGORITHMS[name]
    extra = {"teacher": teacher, "teacher_check": "off"} if algorithm.needs_teacher else {}
    extra |= {"traces": traces()} if algorithm.needs_traces(GROUP) else {}
    components = CARRIED.get(name, ())
    if "lora" in name:
        torch.manual_seed(3)  # of the adapters
        extra["peft_config"] = LoraConfig(r=4, lora_alpha=64, task_type="CAUSAL_LM")
    trainer = Trainer(
        student, reward, args, rows, algorithm=algorithm, components=components,
        speed=WAYS[way], **extra,
    )  # fmt: skip
    trainer.difficulty.restore(trainer.difficulty.state() | RECORDS)
    rank, share = trainer.accelerator.process_index, ROWS // world
    assert trainer.accelerator.num_processes == world
    mine = answers()[rank * share : (rank + 1) * share]

    def generate(self, prompt_ids, *_, **__):
        if len(prompt_ids) == len(mine):  # where generation is an act of all ranks together
            return mine, None
        own = [ids for ids, trace in zip(mine, self._plan, strict=True) if trace is None]
        assert len(own) == len(prompt_ids)
        return own, None

    GRPOTrainer._generate_single_turn = generate
    before = weights(trainer)
    trainer.train()
    after = weights(trainer)
    logs = trainer.state.log_history[0]
    columns = ["entropy", "clip_ratio/region_mean", "difficulty/hard_set"]
    if extra.get("traces"):
        columns = ["traces/tokens", "traces/reward", "off_policy/logp", "num_tokens"]
    if name == "luffy":
        columns += ["reward", "completions/mean_length", "completions/min_terminated_length"]
    columns += ["ceeh/length_term", "reward_shaped"] if components else []
    seen = {key: torch.tensor(logs[key]) for key in columns}
    records = trainer.difficulty.table()
    for other in trainer.gather_rows([records]):
        for key, value in records.items():
            assert torch.equal(value.nan_to_num(), other[key].nan_to_num()), f"ranks differ: {key}"
    return {key: after[key] - before[key] for key in before} | seen | records


def weights(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Of the student, whole, however it is spread over the ranks; every rank calls."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    with trainer._dist.gather_params(list(model.parameters())):
        found = model.state_dict()
        return {
            name: (w.full_tensor() if isinstance(w, DTensor) else w).clone()
            for name, w in found.items()
        }


def main() -> None:
    student, teacher, output, micro, way = sys.argv[1:]
    result = {name: gradient(name, student, teacher, int(micro), way) for name in ALGORITHMS}
    if int(os.environ.get("RANK", "0")) == 0:
        torch.save(result, output)


if __name__ == "__main__":
    main()
