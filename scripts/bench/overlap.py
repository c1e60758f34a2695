"""What asking the teacher ahead (teacher.overlap) takes off a step: seconds from the last sampled
token to the forward pass (rewards, own log-probs, the rest of the teacher) with it over those
without it, in turns in one training; the median of neighbouring pairs. Under 1 it is of use.

Two teachers: one that is waited for (a server elsewhere) and one that computes here. Three rewards:
one that waits (an endpoint), one that computes in worker processes on all cores, one that computes
in this process under Python's lock. All take about --seconds alone.

And what it takes off a whole step to begin with answers that are finished while others are still
being written: answers of geometric length from scripts/bench/throughput's model, a teacher that
takes one request per answer, four at a time and --seconds in all, an instant reward.

    scripts/bench/overlap [--seconds 0.3] [--rounds 6]

Its last line: TEACHER_REWARD=RATIO of the six, and early=RATIO.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from datasets import Dataset
from transformers import (
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    PrinterCallback,
    TrainerCallback,
)
from trl import GRPOConfig

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from rlkd import RLAD, Trainer
from rlkd.teacher.base import Teacher, TokenScores
from rlkd.teacher.local import LocalTeacher
from rlkd.teacher.threads import Threads
from scripts.bench.throughput import Sizes, make_model, prompts

STUDENT = "configs/models/tiny_student"
ROWS = 64


def work(loops: int) -> int:
    """Arithmetic that takes a while."""
    value = 1
    for step in range(loops):
        value = (value * 1103515245 + step) % 2147483648
    return value


class Waited(Teacher):
    """A server elsewhere, as far as this machine can tell."""

    name, computes_here = "waited for", False

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def prepare(self, device: torch.device) -> None:
        """Nothing to do."""

    def check_tokenizer(self, tokenizer: object, model_vocab_size: int) -> None:
        """Nothing to compare."""

    def score(self, prompt_ids, completion_ids, temperature):
        time.sleep(self._seconds)
        return [
            TokenScores(torch.tensor(ids, dtype=torch.int64), torch.full((len(ids),), -1.0))
            for ids in completion_ids
        ]


class Requests(Waited):
    """One request per answer, four at a time, `seconds` for a batch of them."""

    begins = True

    def __init__(self, seconds: float, rows: int) -> None:
        super().__init__(4 * seconds / rows)
        self._threads, self._begun = Threads(4, "request"), {}

    def begin(self, prompt_ids, completion_ids, temperature):
        future = self._threads.submit(time.sleep, self._seconds)
        self._begun.setdefault(tuple(completion_ids), []).append(future)
        return True

    def score(self, prompt_ids, completion_ids, temperature):
        waited = [self._begun.get(tuple(ids)) for ids in completion_ids]
        for future in [
            begun.pop() if begun else self._threads.submit(time.sleep, self._seconds)
            for begun in waited
        ]:
            future.result()
        self._begun.clear()
        return [
            TokenScores(torch.tensor(ids, dtype=torch.int64), torch.full((len(ids),), -1.0))
            for ids in completion_ids
        ]


def local(seconds: float) -> LocalTeacher:
    """Deep enough for its scores of a batch to take about so long."""
    tokenizer = AutoTokenizer.from_pretrained(STUDENT)
    rows, taken, layers = [[5] * 9] * ROWS, 0.0, 1
    while taken < seconds and layers < 64:
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=len(tokenizer), hidden_size=256, intermediate_size=768,
            num_hidden_layers=layers, num_attention_heads=4, pad_token_id=0, eos_token_id=1,
        )  # fmt: skip
        teacher = LocalTeacher(LlamaForCausalLM(config), tokenizer)
        teacher.score(rows, [[6] * 24] * ROWS, 1.0)
        start = time.perf_counter()
        teacher.score(rows, [[6] * 24] * ROWS, 1.0)
        taken = time.perf_counter() - start
        layers = max(layers + 1, round(layers * min(4.0, seconds / taken)))
    return teacher


def rewards(seconds: float, pool: ProcessPoolExecutor):
    """The three, by name."""
    start = time.perf_counter()
    work(1_000_000)
    loops = int(1_000_000 * seconds / (time.perf_counter() - start))
    cores = os.cpu_count() or 1

    def values(completions):
        return [float(sum(map(ord, text)) % 2) for text in completions]

    def waits(completions, **columns):
        time.sleep(seconds)
        return values(completions)

    def workers(completions, **columns):
        list(pool.map(work, [loops] * cores))
        return values(completions)

    def python(completions, **columns):
        work(loops)
        return values(completions)

    return {"waits": waits, "workers": workers, "python": python}


class InTurns(TrainerCallback):
    """Switches something on at every other step."""

    def __init__(self, switch: Callable[[bool], None]) -> None:
        self._switch = switch

    def on_step_begin(self, args, state, control, **kwargs):
        """See TrainerCallback."""
        self._switch(state.global_step % 2 == 0)


def measure(teacher: Teacher, reward, rounds: int) -> float:
    """The ratio of asking ahead."""

    def ahead(on: bool) -> None:
        trainer._overlaps = on

    args = GRPOConfig(
        output_dir="/tmp/bench-overlap", per_device_train_batch_size=ROWS, num_generations=8,
        max_completion_length=24, max_steps=2 * rounds + 2, use_cpu=True, bf16=False,
        report_to="none", logging_steps=1, save_strategy="no", disable_tqdm=True,
        gradient_checkpointing=False,
    )  # fmt: skip
    data = Dataset.from_list([{"prompt": f"{a}+{b}="} for a in range(10) for b in range(10)])
    trainer = Trainer(
        STUDENT, reward, args, data, algorithm=RLAD(), teacher=teacher, teacher_check="off",
        callbacks=[InTurns(ahead)],
    )  # fmt: skip
    return ratio(trainer, "time/reward", "time/score", "time/teacher")


def measure_early(seconds: float, rounds: int) -> float:
    """The ratio of beginning early."""
    sizes = Sizes(hidden=128, layers=2, vocab=512, rows=32, micro=8, answer=96, mean=16.0)
    teacher = Requests(seconds, sizes.rows)

    def early(on: bool) -> None:
        teacher.begins = on

    args = GRPOConfig(
        output_dir="/tmp/bench-overlap", per_device_train_batch_size=sizes.micro,
        gradient_accumulation_steps=sizes.rows // sizes.micro, num_generations=sizes.group,
        max_completion_length=sizes.answer, max_steps=2 * rounds + 2, use_cpu=True, bf16=False,
        report_to="none", logging_steps=1, save_strategy="no", disable_tqdm=True,
        gradient_checkpointing=False, learning_rate=0.0,
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        make_model(Path(place), sizes, 1, teacher=False, mean=sizes.mean)
        trainer = Trainer(
            place, lambda completions, **_: [float(i % 3) for i in range(len(completions))], args,
            Dataset.from_list(prompts(sizes)), algorithm=RLAD(), teacher=teacher,
            teacher_check="off", teacher_overlap="on", callbacks=[InTurns(early)],
        )  # fmt: skip
        return ratio(trainer, "time/step")


def ratio(trainer: Trainer, *phases: str) -> float:
    """Seconds of these phases with what is switched on over without it, median over pairs of
    neighbouring steps."""
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    taken = [
        sum(line.get(phase, 0.0) for phase in phases)
        for line in trainer.state.log_history
        if "loss" in line
    ][2:]
    return statistics.median(on / off for on, off in zip(taken[::2], taken[1::2], strict=True))


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--rounds", type=int, default=6)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    found = {}
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        for reward, function in rewards(given.seconds, pool).items():
            for name, teacher in (
                ("waited", Waited(given.seconds)),
                ("local", local(given.seconds)),
            ):
                found[f"{name}_{reward}"] = measure(teacher, function, given.rounds)
    found["early"] = measure_early(given.seconds, given.rounds)
    print(" ".join(f"{name}={ratio:.2f}" for name, ratio in found.items()))


if __name__ == "__main__":
    main()
