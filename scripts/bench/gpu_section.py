"""One section of scripts/bench/gpu, in a process of its own; gpu.py starts it.

Writes a JSON list of rows, anew after each: what is finished survives a later failure. Seconds are
exclusive (a phase inside another is not counted twice) and taken with the device idle at each
change of phase, which costs some overlap; all variants pay it alike. The first step, which makes
the optimiser's states and warms kernels up, is left out; medians are over the others.

Operations are counted as usual: 6 N + 12 L Q T per token of a training pass, a third of that per
token of a forward pass (Chowdhery et al. 2022, arXiv 2204.02311, appendix B), N the weights in
matrix products (an embedding that is not also the head is left out), L layers of width Q = heads x
head size, T tokens of a row; sampling counts one forward pass of the whole row.
"""

import argparse
import gc
import json
import statistics
import sys
import tempfile
import time
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch

SHAPES: dict[str, dict[str, Any]] = {
    "SmolLM2-135M": {"kind": "llama", "vocab_size": 49152, "hidden_size": 576,
                     "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
                     "num_key_value_heads": 3, "tie_word_embeddings": True},
    "SmolLM2-360M": {"kind": "llama", "vocab_size": 49152, "hidden_size": 960,
                     "intermediate_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 15,
                     "num_key_value_heads": 5, "tie_word_embeddings": True},
    "Qwen2.5-1.5B": {"kind": "qwen2", "vocab_size": 151936, "hidden_size": 1536,
                     "intermediate_size": 8960, "num_hidden_layers": 28, "num_attention_heads": 12,
                     "num_key_value_heads": 2, "tie_word_embeddings": True},
    # With the student's vocabulary: the real one has 128 rows more that no tokenizer uses.
    "Qwen2.5-7B": {"kind": "qwen2", "vocab_size": 151936, "hidden_size": 3584,
                   "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28,
                   "num_key_value_heads": 4, "tie_word_embeddings": False},
    "tiny": {"kind": "qwen2", "vocab_size": 300, "hidden_size": 32, "intermediate_size": 64,
             "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
             "tie_word_embeddings": True},
    "tiny teacher": {"kind": "llama", "vocab_size": 300, "hidden_size": 48,
                     "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
                     "num_key_value_heads": 2, "tie_word_embeddings": False},
}  # fmt: skip
PAIRS = {"small": ("SmolLM2-135M", "SmolLM2-360M"), "large": ("Qwen2.5-1.5B", "Qwen2.5-7B"),
         "generation": ("SmolLM2-135M", "SmolLM2-360M")}  # fmt: skip
WORK = {
    "small": {"prompts": 8, "group": 8, "micro": 16, "prompt": 128, "answer": 256},
    "large": {"prompts": 4, "group": 8, "micro": 8, "prompt": 128, "answer": 256},
    "generation": {"prompts": 8, "group": 8, "micro": 16, "prompt": 128, "answer": 256},
    "tiny": {"prompts": 2, "group": 2, "micro": 2, "prompt": 6, "answer": 8},
}
VARIANTS = ("trl_grpo", "rlkd_grpo", "rlkd_rlad", "trl_distillation")
MOST_STEPS = 6


class Clock:
    """Exclusive seconds by phase."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._stack, self._since = ["other"], time.perf_counter()

    def turn(self) -> None:
        """What has passed belongs to the phase that is on."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        now = time.perf_counter()
        self.seconds[self._stack[-1]] += now - self._since
        self._since = now

    def begin(self, name: str) -> None:
        self.turn()
        self._stack.append(name)

    def end(self) -> None:
        self.turn()
        self._stack.pop()

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        self.begin(name)
        try:
            yield
        finally:
            self.end()

    def watch(self, holder: Any, method: str, name: str, first: Any = None) -> None:
        """Count what `holder.method` takes; `first`: only where that is its first argument."""
        inner = getattr(holder, method)

        def timed(*args: Any, **kwargs: Any) -> Any:
            if first is not None and args[0] is not first:
                return inner(*args, **kwargs)
            with self.phase(name):
                return inner(*args, **kwargs)

        setattr(holder, method, timed)

    def take(self) -> dict[str, float]:
        self.turn()
        taken, self.seconds = dict(self.seconds), defaultdict(float)
        return taken


# -- models ------------------------------------------------------------------------------------


def make_model(shape: str, seed: int, device: torch.device) -> Any:
    """Random weights of a shape, in bfloat16."""
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

    settings = dict(SHAPES[shape])
    kind = {"llama": LlamaConfig, "qwen2": Qwen2Config}[settings.pop("kind")]
    config = kind(
        **settings, max_position_embeddings=2048, bos_token_id=None, eos_token_id=1, pad_token_id=0
    )
    torch.manual_seed(seed)
    with device:
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def make_tokenizer(vocabulary: int) -> Any:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<eos>": 1} | {f"w{i}": i for i in range(2, vocabulary)}
    inner = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )


def tflop_forward(model: Any, length: int, tokens: int) -> float:
    """Of a forward pass on `tokens` in rows of `length`; see the top of this file."""
    config = model.config
    weights = sum(weight.numel() for weight in model.parameters())
    if not config.tie_word_embeddings:
        weights -= model.get_input_embeddings().weight.numel()
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    attention = config.num_hidden_layers * config.num_attention_heads * head * length
    return (2 * weights + 4 * attention) * tokens / 1e12


# -- steps -------------------------------------------------------------------------------------


def settings_of(work: dict[str, int], folder: Path, device: torch.device) -> dict[str, Any]:
    rows = work["prompts"] * work["group"]
    return {
        "output_dir": str(folder), "per_device_train_batch_size": work["micro"],
        "gradient_accumulation_steps": rows // work["micro"], "max_steps": MOST_STEPS + 1,
        "max_completion_length": work["answer"], "learning_rate": 1e-6, "bf16": True,
        "gradient_checkpointing": False, "report_to": "none", "save_strategy": "no",
        "logging_steps": 1, "disable_tqdm": True, "seed": 0, "use_cpu": device.type == "cpu",
        "generation_kwargs": {"min_new_tokens": work["answer"]},
    }  # fmt: skip


def rows_of(work: dict[str, int], vocabulary: int) -> Any:
    from datasets import Dataset

    drawn = torch.Generator().manual_seed(0)
    ids = torch.randint(2, vocabulary, (64, work["prompt"]), generator=drawn)
    return Dataset.from_list([{"prompt": " ".join(f"w{i}" for i in row)} for row in ids.tolist()])


def reward(completion_ids: list, **_: Any) -> list[float | None]:
    return [float(ids[-1] % 3) for ids in completion_ids]


def make_trainer(variant: str, student: Any, teacher: Any, tokenizer: Any, data: Any,
                 work: dict[str, int], settings: dict[str, Any]) -> Any:  # fmt: skip
    from trl import DistillationTrainer, GRPOConfig, GRPOTrainer
    from trl.trainer.distillation_config import DistillationConfig

    from rlkd import GRPO, RLAD, LocalTeacher, Trainer

    if variant == "trl_distillation":
        args = DistillationConfig(**settings)
        return DistillationTrainer(student, teacher, args, data, processing_class=tokenizer)
    grouped: dict[str, Any] = settings | {"num_generations": work["group"]}
    if variant == "trl_grpo":
        args = GRPOConfig(**grouped, loss_type="dapo", beta=0.0)
        return GRPOTrainer(student, reward, args, data, processing_class=tokenizer)
    args = GRPOConfig(**grouped)
    if variant == "rlkd_grpo":
        algorithm = GRPO(beta=0.0, reduction="dapo")
        return Trainer(student, reward, args, data, processing_class=tokenizer, algorithm=algorithm)
    return Trainer(
        student, reward, args, data, processing_class=tokenizer, algorithm=RLAD(reduction="dapo"),
        teacher=LocalTeacher(teacher, tokenizer), teacher_check="off",
    )  # fmt: skip


def steps_of(trainer: Any, variant: str, clock: Clock, deadline: float) -> list[dict[str, float]]:
    """Train until the deadline; the seconds of each step by phase, without the first."""
    from transformers import PrinterCallback, TrainerCallback

    found: list[dict[str, float]] = []

    class Steps(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            clock.begin("optimizer")

        def on_optimizer_step(self, args, state, control, **kwargs):
            clock.end()

        def on_step_end(self, args, state, control, **kwargs):
            taken = clock.take()
            if state.global_step > 1:
                found.append(taken)
            elif clock.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
            if len(found) >= 2 and time.monotonic() > deadline:
                control.should_training_stop = True

    clock.watch(trainer, "_generate_single_turn", "generate")
    clock.watch(trainer, "_generate_and_score_completions", "score")
    clock.watch(trainer, "_compute_loss", "forward")
    clock.watch(trainer.accelerator, "backward", "backward")
    if variant != "trl_distillation":
        clock.watch(trainer, "_calculate_rewards", "reward")
    if variant == "rlkd_rlad":
        clock.watch(trainer, "_ask_teacher", "teacher")
    if variant == "trl_distillation":
        teacher = trainer.accelerator.unwrap_model(trainer.teacher_model)
        clock.watch(trainer, "_get_last_hidden_state", "teacher", first=teacher)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(Steps())
    clock.take()
    trainer.train()
    return found


def measure(
    variant: str,
    models: dict[str, Any],
    work: dict[str, int],
    deadline: float,
    folder: Path,
    device: torch.device,
) -> dict[str, Any]:
    """A row: medians over the measured steps."""
    student = make_model(models["student shape"], 0, device)
    teacher = None
    if variant in ("rlkd_rlad", "trl_distillation"):
        if models["teacher"] is None:
            models["teacher"] = make_model(models["teacher shape"], 1, device)
        teacher = models["teacher"].eval()
    trainer = make_trainer(
        variant, student, teacher, models["tokenizer"], models["data"], work,
        settings_of(work, folder / variant, device),
    )  # fmt: skip
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    steps = steps_of(trainer, variant, Clock(device), deadline)
    names = dict.fromkeys(name for step in steps for name in step)
    phases = {name: statistics.median(step.get(name, 0.0) for step in steps) for name in names}
    step_s = statistics.median(sum(step.values()) for step in steps)
    rows, length = work["prompts"] * work["group"], work["prompt"] + work["answer"]
    forward = tflop_forward(student, length, rows * length)
    reading = tflop_forward(teacher, length, rows * length) if teacher is not None else 0.0
    log = next((line for line in trainer.state.log_history if "grad_norm" in line), {})
    return {
        "name": variant, "steps": len(steps), "step_s": step_s, "phases": phases,
        "tokens_per_s": rows * work["answer"] / step_s,
        "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else None,
        "step_tflop": 4 * forward + reading, "update_tflop": 3 * forward,
        "first_loss": log.get("loss"), "first_grad_norm": log.get("grad_norm"),
        "shapes": [models["student shape"], models["teacher shape"]], "work": work,
    }  # fmt: skip


# -- the sections ------------------------------------------------------------------------------

Keep = Callable[[dict[str, Any]], None]


def matmul(keep: Keep, tiny: bool, device: torch.device) -> None:
    """TFLOP/s of bfloat16 products of random square matrices: the median of several."""
    size, times = (64, 3) if tiny else (8192, 20)
    left, right = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in "ab")
    clock, seconds = Clock(device), []
    for _ in range(times + 3):
        clock.take()
        for _ in range(5):  # back to back, so that a launch is not what is timed
            torch.mm(left, right)
        seconds.append(sum(clock.take().values()) / 5)
    median = statistics.median(seconds[3:])
    keep({"name": f"bf16 {size}", "tflops": 2 * size**3 / median / 1e12, "seconds": median})


def steps(section: str, keep: Keep, tiny: bool, device: torch.device, until: float,
          folder: Path) -> None:  # fmt: skip
    shapes = ("tiny", "tiny teacher") if tiny else PAIRS[section]
    work = WORK["tiny" if tiny else section]
    vocabulary = SHAPES[shapes[0]]["vocab_size"]
    models = {
        "student shape": shapes[0], "teacher shape": shapes[1], "teacher": None,
        "tokenizer": make_tokenizer(vocabulary), "data": rows_of(work, vocabulary),
    }  # fmt: skip
    for number, variant in enumerate(VARIANTS):
        left = until - time.monotonic()
        share = left / (len(VARIANTS) - number)
        try:
            deadline = time.monotonic() + share
            keep(measure(variant, models, work, deadline, folder, device))
        except Exception as error:  # the other variants can still say something
            traceback.print_exc()
            keep({"name": variant, "error": f"{type(error).__name__}: {error}"[:500]})
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def generation(keep: Keep, tiny: bool, device: torch.device, folder: Path) -> None:
    """Tokens/s of the student's answers, by what writes them."""
    from trl import GRPOConfig

    from rlkd import GRPO, Trainer

    shape = "tiny" if tiny else PAIRS["generation"][0]
    work = WORK["tiny" if tiny else "generation"]
    vocabulary = SHAPES[shape]["vocab_size"]
    data, tokenizer = rows_of(work, vocabulary), make_tokenizer(vocabulary)
    for backend in ("transformers", "continuous_batching"):
        settings: dict[str, Any] = settings_of(work, folder / backend, device) | {
            "num_generations": work["group"], "generation_kwargs": None,
            "use_transformers_continuous_batching": backend == "continuous_batching",
            "transformers_continuous_batching_config": {"max_memory_percent": 0.02} if tiny else {},
        }  # fmt: skip
        try:
            trainer = Trainer(
                make_model(shape, 0, device), reward, GRPOConfig(**settings), data,
                processing_class=tokenizer, algorithm=GRPO(beta=0.0),
            )  # fmt: skip
            prompts = [
                tokenizer(data[n]["prompt"])["input_ids"]
                for n in range(work["prompts"]) for _ in range(work["group"])
            ]  # fmt: skip
            seconds, tokens = [], 0
            for _ in range(2):  # the first one warms up
                clock = Clock(device)
                answers, _ = trainer._generate_single_turn(prompts, None, {}, work["group"])
                seconds.append(sum(clock.take().values()))
                tokens = sum(map(len, answers))
            keep({"name": backend, "tokens": tokens, "seconds": seconds[-1],
                  "tokens_per_s": tokens / seconds[-1]})  # fmt: skip
            del trainer
        except Exception as error:
            traceback.print_exc()
            keep({"name": backend, "error": f"{type(error).__name__}: {error}"[:500]})
        gc.collect()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("section", choices=["matmul", "small", "large", "generation"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--tiny", action="store_true")
    options = parser.parse_args()
    until = time.monotonic() + 0.85 * options.seconds
    device = torch.device("cpu" if options.tiny else "cuda")
    rows: list[dict[str, Any]] = []

    def keep(row: dict[str, Any]) -> None:
        rows.append(row)
        options.out.write_text(json.dumps(rows))
        print(row, flush=True)

    with tempfile.TemporaryDirectory() as place:
        if options.section == "matmul":
            matmul(keep, options.tiny, device)
        elif options.section == "generation":
            generation(keep, options.tiny, device, Path(place))
        else:
            steps(options.section, keep, options.tiny, device, until, Path(place))


if __name__ == "__main__":
    main()
