"""Weights in fewer bits, by the libraries that transformers knows."""

from importlib.util import find_spec
from typing import Any

METHODS = {
    "bitsandbytes_8bit": "bitsandbytes",
    "bitsandbytes_4bit": "bitsandbytes",
    "torchao_int8": "torchao",
}
"""What can be asked for, and the package that does it. The head is left as it is."""
ON_A_GPU_ONLY = frozenset({"bitsandbytes_4bit"})
"""On a CPU bitsandbytes 0.50 failed on a matrix that its packing does not divide, and was off by
four nats a token on one that it does; its 8 bits passed the contract there."""
MOVES_BY_ITSELF = frozenset({"bitsandbytes_8bit", "bitsandbytes_4bit"})
"""bitsandbytes loads the weights to where they stay, and does not let them be moved."""


def check_method(method: str) -> None:
    """Can weights be quantised so on this machine? Loads nothing but, for some, torch.

    Raises:
        ValueError: no such method, or none for a machine without a GPU.
        ImportError: its package is not installed.
    """
    if method not in METHODS:
        raise ValueError(f"quantization is {method!r}; it is one of {', '.join(METHODS)}")
    package = METHODS[method]
    if find_spec(package) is None:
        raise ImportError(
            f"{method} needs the package {package}: pip install {package} (rlkd's extra quantized)"
        )
    if method in ON_A_GPU_ONLY and not _has_gpu():
        raise ValueError(
            f"{method} needs a GPU, and this machine has none: take torchao_int8, which also runs"
            " on a CPU"
        )


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def quantization_config(method: str) -> Any:
    """What transformers' `from_pretrained` takes as its quantization_config.

    Raises:
        ValueError, ImportError: see `check_method`.
    """
    check_method(method)
    if METHODS[method] == "torchao":
        from torchao.quantization import Int8WeightOnlyConfig  # pyright: ignore[reportMissingImports]
        from transformers import TorchAoConfig

        return TorchAoConfig(Int8WeightOnlyConfig())
    from transformers import BitsAndBytesConfig

    if method == "bitsandbytes_8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True)
