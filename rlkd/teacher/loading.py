"""A frozen model and its tokenizer, from a folder or a hub name."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.integrations import deepspeed as integration

from rlkd.teacher.quantized import quantization_config


def load(
    path: str, dtype: torch.dtype | str, quantization: str | None, device_map: str | None
) -> tuple[PreTrainedModel, Any]:
    """Model and tokenizer; arguments and errors as of LocalTeacher.from_pretrained."""
    settings: dict[str, Any] = {"dtype": dtype}
    if quantization is not None:
        settings["quantization_config"] = quantization_config(quantization)
    if device_map is not None:
        settings["device_map"] = device_map
    with _whole():
        model = AutoModelForCausalLM.from_pretrained(path, **settings)
    return model, AutoTokenizer.from_pretrained(path)


def tokenizer_of(model: PreTrainedModel) -> Any | None:
    """That of the folder which a model came from; None where there is none."""
    path = model.config._name_or_path
    if not path or not (Path(path) / "tokenizer_config.json").is_file():
        return None
    return AutoTokenizer.from_pretrained(path)


@contextmanager
def _whole() -> Iterator[None]:
    """What is loaded inside is whole on every process. Under DeepSpeed ZeRO-3 transformers splits
    whatever it loads among them, and only what DeepSpeed wraps is put together again."""
    reference = integration._hf_deepspeed_config_weak_ref
    config = reference() if reference is not None else None
    if config is None:
        yield
        return
    integration.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        integration.set_hf_deepspeed_config(config)
