"""A reward model: a sequence-classification model that gives one number per answer.

A config names its folder (`use: models/my_rm`). It runs where any other reward does: in a worker
process under the deadline, its weights read before the first call and shared by the workers that
are forked; or, with `in_process: true`, in the trainer. Its numbers are those of TRL, which reads
the same folder as `reward_funcs` (tests/unit/test_reward_model.py): of a chat, the prompt and the
answer through the model's own chat template; of text, the two joined.
"""

import functools
import json
import math
import os
from pathlib import Path
from typing import Any

from rlkd.errors import ConfigError

DTYPE_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_BESIDE_GB = 1.0
"""GiB of memory that a worker needs beside the weights: torch and the activations of a batch."""
_threads: int | None = None
"""Threads that torch would use here; None where `prepare` has not run."""


def score(
    completions: list,
    prompts: list,
    *,
    path: str,
    batch_size: int = 8,
    dtype: str = "float32",
    device: str | None = None,
    chat_template_kwargs: dict[str, Any] | None = None,
    **columns: Any,
) -> list[float | None]:
    """The model's logit for each prompt with its completion.

    None where the two together are longer than the model's context. A score that is no finite
    number stays what it is, and counts as a fault.

    Args:
        completions, prompts: text, or lists of chat messages.
        path: folder of the model and its tokenizer.
        batch_size: rows per forward pass; one, whatever is asked, where the tokenizer has no token
            for padding, because the model could not tell where a shorter row ends.
        dtype: number format of the weights: float32, bfloat16 or float16.
        device: where it runs (`cpu`, `cuda:1`); None: this process's GPU, or the CPU.
        chat_template_kwargs: handed to its chat template.
    """
    import torch

    model, tokenizer = _loaded(path, dtype)
    if _threads is not None:
        torch.set_num_threads(_threads)
    model.to(device or _own_device())
    texts = [
        _text(tokenizer, prompt, completion, chat_template_kwargs or {})
        for prompt, completion in zip(prompts, completions, strict=True)
    ]
    # The template writes the special tokens; TRL adds none to plain text either.
    ids = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    limit = getattr(model.config.get_text_config(), "max_position_embeddings", None) or math.inf
    values: list[float | None] = [None] * len(ids)
    fitting = [row for row, tokens in enumerate(ids) if 0 < len(tokens) <= limit]
    fitting.sort(key=lambda row: len(ids[row]))  # less padding
    step = batch_size if tokenizer.pad_token_id is not None else 1
    for start in range(0, len(fitting), step):
        part = fitting[start : start + step]
        given = _padded(tokenizer, [ids[row] for row in part]).to(model.device)
        with torch.inference_mode():
            logits = model(**given).logits[:, 0].float().tolist()
        for row, value in zip(part, logits, strict=True):
            values[row] = value
    return values


def prepare(*, path: str, dtype: str = "float32", **options: Any) -> None:
    """Read the weights in the process that forks the workers.

    With one thread: those of OpenMP do not survive a fork, and a worker would wait for them for
    ever. The worker then uses as many as it may. No GPU is touched, for the same reason.
    """
    import torch
    from transformers.utils.logging import disable_progress_bar

    global _threads
    disable_progress_bar()
    _threads = torch.get_num_threads()
    torch.set_num_threads(1)
    os.environ["HF_DEACTIVATE_ASYNC_LOAD"] = "1"
    _loaded(path, dtype)


score.prepare = prepare  # pyright: ignore[reportFunctionMemberAccess]


def check_folder(folder: Path, kwargs: dict[str, Any], memory_gb: float | None, place: str) -> None:
    """Check that a folder holds a model that gives one number, and its options.

    Args:
        folder: holds the model.
        kwargs: the config's arguments of `score`.
        memory_gb: GiB that its worker may use; None: it has no worker.
        place: where the config names it (`rewards.0`).

    Raises:
        ConfigError: another kind of model, another number of outputs, no tokenizer, an option out
            of range, or weights that do not fit the worker's memory.
    """
    about = _read(folder / "config.json")
    kinds = about.get("architectures") or ["none"]
    if not any("ForSequenceClassification" in kind for kind in kinds):
        raise ConfigError(
            f"{place}.use: {folder} is no reward model.\n  found: architectures: {kinds[0]}\n"
            "  expected: ...ForSequenceClassification\n"
            "  why: its scoring head would be made of random numbers"
        )
    labels = len(about.get("id2label") or range(about.get("num_labels", 2)))
    if labels != 1:
        raise ConfigError(
            f"{place}.use: the model in {folder} has {labels} outputs, and a reward is one"
            " number.\n"
            "  do: write a reward function that makes one number of them (README, Add your own)"
        )
    if not any((folder / name).is_file() for name in ("tokenizer_config.json", "tokenizer.json")):
        raise ConfigError(f"{place}.use: {folder} holds no tokenizer (tokenizer_config.json)")
    dtype = kwargs.get("dtype", "float32")
    if dtype not in DTYPE_BYTES:
        raise ConfigError(
            f"{place}.kwargs.dtype: {dtype!r} is no number format.\n"
            f"  expected: {', '.join(DTYPE_BYTES)}"
        )
    batch_size = kwargs.get("batch_size", 1)
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ConfigError(f"{place}.kwargs.batch_size: {batch_size!r}; it is a whole number from 1")
    stored = DTYPE_BYTES.get(about.get("dtype") or about.get("torch_dtype") or dtype, 4)
    size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    needed = size / stored * DTYPE_BYTES[dtype] / 2**30 + _BESIDE_GB
    if memory_gb is not None and needed > memory_gb:
        raise ConfigError(
            f"{place}.memory_gb: the reward model needs about {needed:.1f} GiB in its worker, which"
            f" is ended at {memory_gb:g}.\n"
            f"  do: set {place}.memory_gb to {math.ceil(needed)} or more, or a smaller kwargs.dtype"
        )


@functools.lru_cache(maxsize=4)
def _loaded(path: str, dtype: str) -> tuple[Any, Any]:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = AutoModelForSequenceClassification.from_pretrained(path, dtype=dtype)
    tokenizer: Any = AutoTokenizer.from_pretrained(path)
    model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return model.eval(), tokenizer


def _text(tokenizer: Any, prompt: Any, completion: Any, template: dict[str, Any]) -> str:
    if isinstance(prompt, str):
        return prompt + completion
    return tokenizer.apply_chat_template(prompt + completion, tokenize=False, **template)


def _padded(tokenizer: Any, ids: list[list[int]]) -> Any:
    from transformers import BatchEncoding

    if len(ids) == 1:
        rows = {"input_ids": ids, "attention_mask": [[1] * len(ids[0])]}
        return BatchEncoding(rows, tensor_type="pt")
    return tokenizer.pad({"input_ids": ids}, padding_side="right", return_tensors="pt")


def _own_device() -> str:
    import torch

    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{int(os.environ.get('LOCAL_RANK', 0)) % torch.cuda.device_count()}"


def _read(file: Path) -> dict[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
