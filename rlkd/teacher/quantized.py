"""Weights in fewer bits, by the libraries that transformers knows."""

from importlib.util import find_spec
from typing import Any

METHODS = {
    "bitsandbytes_8bit": "bitsandbytes",
    "bitsandbytes_4bit": "bitsandbytes",
    "torchao_int8": "torchao",
}
"""What can be asked for, and the package that does it. The head is left as it is."""


def quantization_config(method: str) -> Any:
    """What transformers' `from_pretrained` takes as its quantization_config.

    Raises:
        ValueError: no such method.
        ImportError: its package is not installed.
    """
    if method not in METHODS:
        raise ValueError(f"quantization is {method!r}; it is one of {', '.join(METHODS)}")
    package = METHODS[method]
    if find_spec(package) is None:
        raise ImportError(f"{method} needs the package {package}: pip install {package}")
    if package == "torchao":
        from torchao.quantization import Int8WeightOnlyConfig  # pyright: ignore[reportMissingImports]
        from transformers import TorchAoConfig

        return TorchAoConfig(Int8WeightOnlyConfig())
    from transformers import BitsAndBytesConfig

    if method == "bitsandbytes_8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(load_in_4bit=True)
