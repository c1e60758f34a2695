"""Tokens per second of whole optimiser steps, sampling included: plain TRL against rlkd.

A random Llama samples its own answers (transformers' generate, temperature 1). Each token ends an
answer with the same probability, so that lengths are geometric: many short answers and a few long
ones (`skewed`); or no token ends it and all answers have the longest length (`even`). Weights stay
what they are (learning rate 0) and every variant draws from the same seed, so that all compute the
same answers; that is checked.

* time: rounds of one step per variant, interleaved in random order; medians, quartiles, and medians
  of the paired ratios to TRL's step with the bootstrap 95 % interval; sampling is timed apart;
* memory: peak resident size of a fresh process per variant, less what its imports take.

Last line: tokens_per_s_over_trl=… even=… (rlkd's GRPO with the variant --fast, median paired
ratio, skewed and even lengths).
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any, NamedTuple

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import torch

from scripts.bench.step_cost import interval

WAYS: dict[str, dict[str, Any]] = {
    "plain": {"micro_batches": "padded", "answers_only_head": False, "reuse_log_probs": False},
    "default": {},
    "by_length": {"micro_batches": "by_length"},
    "by_tokens": {"micro_batches": "by_tokens"},
    "padding_free": {"micro_batches": "by_tokens", "padding_free": True},
    "shared_prompts": {"micro_batches": "by_tokens", "padding_free": True, "shared_prompts": True},
}

KINDS = ("skewed", "even")


@dataclass(frozen=True)
class Sizes:
    """Of the models and of a step."""

    vocab: int = 4096
    hidden: int = 256
    layers: int = 4
    teacher_hidden: int = 384
    teacher_layers: int = 5
    prompt: int = 48
    """Tokens of the longest prompt; the shortest has a third of them."""
    answer: int = 256
    mean: float = 32.0
    """Mean length of the answers, without the limit."""
    group: int = 4
    rows: int = 64
    micro: int = 8


def make_model(folder: Path, sizes: Sizes, seed: int, *, teacher: bool, mean: float | None) -> None:
    """A Llama whose end token has a constant probability, 1/mean (None: 0), and a tokenizer.

    The first number of every hidden state is a constant that no layer writes to; the head reads it
    for the end token alone.
    """
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = {"<pad>": 0, "<eos>": 1} | {f"w{i}": i for i in range(2, sizes.vocab)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(seed)
    hidden = sizes.teacher_hidden if teacher else sizes.hidden
    config = LlamaConfig(
        vocab_size=sizes.vocab, hidden_size=hidden, intermediate_size=3 * hidden,
        num_hidden_layers=sizes.teacher_layers if teacher else sizes.layers,
        num_attention_heads=max(1, hidden // 64), num_key_value_heads=max(1, hidden // 64),
        max_position_embeddings=4096, eos_token_id=1, pad_token_id=0, bos_token_id=None,
        tie_word_embeddings=False,
    )  # fmt: skip
    model: Any = LlamaForCausalLM(config)
    with torch.no_grad():
        model.model.embed_tokens.weight[:, 0] = 1.0
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight[0] = layer.mlp.down_proj.weight[0] = 0.0
        head = model.lm_head.weight
        head[:, 0] = 0.0
        head[:2] = 0.0
        ids = torch.randint(2, sizes.vocab, (8, 64))
        states = model.model(input_ids=ids).last_hidden_state
        rest = states @ head.T
        # ln(p / (1 - p)) above what the other tokens have together.
        wanted = -100.0 if mean is None else -torch.tensor(mean - 1.0).log().item()
        others = rest[..., 2:].logsumexp(-1).mean().item()
        head[1, 0] = (wanted + others) / states[..., 0].mean()
        head[0, 0] = -100.0 / states[..., 0].mean()  # padding is never sampled
    model.save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    ).save_pretrained(folder)


class Step(NamedTuple):
    """One optimiser step."""

    seconds: float
    sampling: float
    """Seconds, inside of the step."""
    processor: float
    """Seconds of all threads: not stretched by what else the machine does."""
    tokens: int
    """That were sampled."""

    @property
    def learning(self) -> float:
        """Seconds."""
        return self.seconds - self.sampling


class Variant:
    """A trainer and the seconds that it spends in sampling."""

    def __init__(self, name: str, folder: Path, sizes: Sizes) -> None:
        self.name = name
        self.sizes, self.sampling, self.tokens = sizes, 0.0, 0
        self.trainer = _trainer(name, folder, sizes)
        self._rows = prompts(sizes)
        generate = self.trainer._generate_single_turn

        def timed(*words: Any, **named: Any) -> Any:
            start = time.perf_counter()
            found = generate(*words, **named)
            self.sampling += time.perf_counter() - start
            self.tokens += sum(map(len, found[0]))
            return found

        self.trainer._generate_single_turn = timed

    def step(self, seed: int) -> Step:
        trainer = self.trainer
        torch.manual_seed(seed)
        self.sampling, self.tokens = 0.0, 0
        start, processor = time.perf_counter(), time.process_time()
        for _ in range(self.sizes.rows // self.sizes.micro):
            trainer.training_step(trainer.model, self._rows, None)
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()
        trainer.log({"loss": 0.0})
        trainer.state.log_history.clear()
        return Step(
            time.perf_counter() - start,
            self.sampling,
            time.process_time() - processor,
            self.tokens,
        )


def prompts(sizes: Sizes) -> list[dict[str, str]]:
    """The rows of a step: prompts of unequal lengths, each once per answer of its group."""
    draw, rows = random.Random(0), []
    for _ in range(sizes.rows // sizes.group):
        length = draw.randrange(max(1, sizes.prompt // 3), sizes.prompt + 1)
        text = " ".join(f"w{draw.randrange(2, sizes.vocab)}" for _ in range(length))
        rows += [{"prompt": text} for _ in range(sizes.group)]
    return rows


def reward(completions: list, **_: Any) -> list[float | None]:
    return [float(i % 3) for i in range(len(completions))]


def _trainer(name: str, folder: Path, sizes: Sizes) -> Any:
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    from rlkd import GRPO, RLAD, LocalTeacher, Speed, Trainer

    settings: dict[str, Any] = {
        "output_dir": str(folder / "out"), "per_device_train_batch_size": sizes.micro,
        "gradient_accumulation_steps": sizes.rows // sizes.micro, "num_generations": sizes.group,
        "max_completion_length": sizes.answer, "learning_rate": 0.0, "bf16": False,
        "use_cpu": True, "report_to": "none", "gradient_checkpointing": False, "max_steps": 1,
        "seed": 0, "save_strategy": "no", "loss_type": "dapo", "logging_steps": 1,
        "disable_tqdm": True,
    }  # fmt: skip
    data = Dataset.from_list(prompts(sizes))
    student = str(folder / "student")
    kind, _, way = name.partition(" ")
    if kind == "trl":
        trainer = GRPOTrainer(student, reward, GRPOConfig(**settings), data)
    else:
        settings.pop("loss_type")
        speed, extra = Speed(**WAYS[way]), {}
        algorithm = GRPO(beta=0.0, reduction="dapo")
        if kind == "rlad":
            algorithm = RLAD(reduction="dapo")
            teacher = LocalTeacher.from_pretrained(
                str(folder / "teacher"),
                padding_free=speed.padding_free,
                shared_prompts=speed.shared_prompts,
            )
            extra = {"teacher": teacher, "teacher_check": "off"}
        trainer = Trainer(
            student, reward, GRPOConfig(**settings), data, algorithm=algorithm, speed=speed, **extra
        )
    trainer.remove_callback(PrinterCallback)
    trainer.create_optimizer_and_scheduler(1_000_000)
    trainer.model.train()  # pyright: ignore[reportOptionalMemberAccess]
    trainer.current_gradient_accumulation_steps = sizes.rows // sizes.micro
    return trainer


def time_them(
    folder: Path, names: list[str], sizes: Sizes, rounds: int, minutes: float
) -> dict[str, list[Step]]:
    """The steps of each variant."""
    variants = [Variant(name, folder, sizes) for name in names]
    for variant in variants:
        variant.step(seed=0)
    found: dict[str, list[Step]] = {name: [] for name in names}
    until = time.time() + 60 * minutes
    for seed in range(1, rounds + 1):
        for variant in random.sample(variants, len(variants)):
            found[variant.name].append(variant.step(seed))
        sampled = {name: each[-1].tokens for name, each in found.items()}
        if len(set(sampled.values())) != 1:
            raise SystemExit(f"the variants sampled different answers: {sampled}")
        if time.time() > until:
            break
    return found


def report(kind: str, found: dict[str, list[Step]]) -> dict[str, float]:
    """Print a row per variant; returns the median ratios of TRL's seconds to each one's."""
    rounds, trl, ratios = len(found["trl"]), found["trl"], {}
    tokens = median(step.tokens for step in trl)
    print(f"\n{kind} lengths: {tokens:.0f} tokens of answers a step, {rounds} rounds", flush=True)
    print(
        f"{'':20s} {'tokens/s':>8s} {'quartiles':>13s} {'sampling':>8s}   over TRL, whole step"
        "   learning   processor time"
    )

    def over(name: str, field: str) -> tuple[float, float, float]:
        pairs = zip(trl, found[name], strict=True)
        return interval([getattr(t, field) / getattr(s, field) for t, s in pairs])

    for name, steps in found.items():
        rate = [step.tokens / step.seconds for step in steps]
        low, _, high = quantiles(rate, n=4, method="inclusive") if rounds > 1 else rate * 3
        share = median(step.sampling / step.seconds for step in steps)
        ratios[name], least, most = over(name, "seconds")
        print(
            f"{name:20s} {median(rate):8.0f} {low:6.0f}-{high:<6.0f} {share:8.0%}"
            f"   {ratios[name]:.3f} [{least:.3f}, {most:.3f}]"
            f"  {over(name, 'learning')[0]:9.3f} {over(name, 'processor')[0]:16.3f}",
            flush=True,
        )
    return ratios


def weigh_one(name: str, folder: Path, sizes: Sizes) -> None:
    """In a fresh process: print the peak resident bytes of two steps above those of imports."""
    import datasets  # noqa: F401
    import trl.trainer.grpo_trainer  # noqa: F401

    import rlkd.trainer  # noqa: F401

    imports = peak_bytes()
    variant = Variant(name, folder, sizes)
    for seed in range(2):
        variant.step(seed)
    print(f"peak={peak_bytes() - imports}")


def peak_bytes() -> int:
    """Of this program: what getrusage says may be of the process that it was forked from."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def weigh(folder: Path, names: Iterable[str], sizes: Sizes, threads: int) -> None:
    print("\npeak memory above the imports")
    for name in names:
        words = [sys.executable, __file__, "--weigh", name, str(folder), f"--threads={threads}"]
        words += [f"--{key.replace('_', '-')}={value}" for key, value in asdict(sizes).items()]
        done = subprocess.run(words, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-2000:])
        print(f"{name:22s} {int(done.stdout.rpartition('peak=')[2]) / 2**20:8.1f} MiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=12, help="steps of each variant")
    parser.add_argument("--minutes", type=float, default=10.0, help="most time per kind of lengths")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--fast", default="by_tokens", choices=WAYS, help="of the last line")
    parser.add_argument("--ways", nargs="*", default=["plain"], choices=WAYS, help="besides --fast")
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=KINDS, help="of lengths")
    parser.add_argument("--no-rlad", action="store_true", help="leave RLAD out")
    parser.add_argument("--no-memory", action="store_true", help="leave peak memory out")
    for name, value in asdict(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    parser.add_argument("--weigh", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    sizes = Sizes(**{name: getattr(options, name) for name in asdict(Sizes())})
    torch.set_num_threads(options.threads)
    if options.weigh:
        weigh_one(options.weigh[0], Path(options.weigh[1]), sizes)
        return
    from transformers.utils import logging

    logging.disable_progress_bar()
    ways = list(dict.fromkeys([*options.ways, options.fast]))
    kinds = ("grpo",) if options.no_rlad else ("grpo", "rlad")
    names = ["trl", *(f"{kind} {way}" for kind in kinds for way in ways)]
    ratios = {}
    with tempfile.TemporaryDirectory() as place:
        for kind in options.kinds:
            folder, mean = Path(place, kind), sizes.mean if kind == "skewed" else None
            make_model(folder / "student", sizes, 1, teacher=False, mean=mean)
            make_model(folder / "teacher", sizes, 2, teacher=True, mean=mean)
            found = time_them(folder, names, sizes, options.rounds, options.minutes)
            ratios[kind] = report(kind, found)[f"grpo {options.fast}"]
        if not options.no_memory:
            weigh(Path(place, options.kinds[0]), names, sizes, options.threads)
    names = {"skewed": "tokens_per_s_over_trl", "even": "even"}
    print("\n" + " ".join(f"{names[kind]}={value:.3f}" for kind, value in ratios.items()))


if __name__ == "__main__":
    main()
