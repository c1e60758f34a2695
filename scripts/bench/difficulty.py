"""The difficulty records' cost: memory, and milliseconds of a training step (view, CEEH's rewards,
learn) with every prompt of the data set known beforehand, and with prompts that turn up as they
come. Each figure is the median of --steps steps, in processor time, which a busy machine does not
stretch.

Last line: the figures, and ok=yes where 100,000 prompts cost under 20 MB and under 5 ms a step.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from rlkd import CEEH
from rlkd.difficulty import Difficulty, prompt_key


def batch(generator: torch.Generator, keys_D: torch.Tensor, groups: int, size: int) -> dict:
    """`groups` random prompts with `size` answers each, one in ten of them cut."""
    correct = torch.rand(groups, size, generator=generator) < 0.5
    return {
        "key_N": keys_D[torch.randint(len(keys_D), (groups,), generator=generator)],
        "reward_NG": correct.float(),
        "length_NG": torch.randint(1, 8000, (groups, size), generator=generator),
        "correct_NG": correct,
        "counted_NG": torch.rand(groups, size, generator=generator) < 0.9,
    }


def milliseconds(records: Difficulty, batches: list[dict]) -> list[float]:
    component, times = CEEH(), []
    for facts in batches:
        start = time.process_time()
        groups = records.view(**facts)
        component.shape_rewards(groups)
        records.learn(groups)
        times.append(1e3 * (time.process_time() - start))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=100_000)
    parser.add_argument("--groups", type=int, default=512, help="prompts of a step")
    parser.add_argument("--size", type=int, default=12, help="answers to each")
    parser.add_argument("--steps", type=int, default=50)
    settings = parser.parse_args()
    generator = torch.Generator().manual_seed(0)
    keys_D = torch.tensor([prompt_key(f"prompt {n}") for n in range(settings.prompts)])
    batches = [
        batch(generator, keys_D, settings.groups, settings.size) for _ in range(settings.steps)
    ]
    known = Difficulty(keys_D.tolist(), CEEH().rules)
    size = sum(t.element_size() * t.numel() for t in known.table().values()) / 1e6
    step = statistics.median(milliseconds(known, batches))
    met = Difficulty(keys_D[settings.prompts // 2 :].tolist(), CEEH().rules)
    later = statistics.median(milliseconds(met, batches))
    print(
        f"{settings.prompts} prompts; a step of {settings.groups} groups of {settings.size}; "
        f"median of {settings.steps} steps, {torch.get_num_threads()} thread(s)"
    )
    ok = size * 100_000 / settings.prompts < 20 and step < 5
    print(
        f"megabytes={size:.2f} step_ms={step:.2f} step_ms_half_unknown={later:.2f} "
        f"ok={'yes' if ok else 'no'}"
    )


if __name__ == "__main__":
    main()
