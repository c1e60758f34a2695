"""A model's folder and a teacher's devices, looked at before anything is loaded."""

import json
from pathlib import Path

from rlkd.errors import ConfigError, nearest

_STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")
"""What accelerate finds a device map by."""
_LFS = b"version https://git-lfs"


def check_whole_model(folder: Path, place: str) -> None:
    """The folder holds a whole model, weights included; they are not read.

    Raises:
        ConfigError: it holds adapters only, no weights, some of them, or stand-ins for them.
    """
    if (folder / "adapter_config.json").is_file():
        about = _read(folder / "adapter_config.json", place)
        base = about.get("base_model_name_or_path", "unknown")
        raise ConfigError(
            f"{place}: {folder} holds adapters, no whole model.\n"
            f"  found: adapter_config.json (of the base model {base})\n"
            "  why: it is loaded as one plain model\n"
            "  do: merge them into their base (a run's: rlkd export RUN OUT; others: peft's"
            " merge_and_unload) and name that folder"
        )
    wanted = _named_in_index(folder, place)
    missing = [name for name in wanted if not (folder / name).is_file()]
    if missing:
        raise ConfigError(
            f"{place}: {folder} lacks {len(missing)} of its {len(wanted)} files of weights.\n"
            f"  found: no {missing[0]}\n"
            "  why: the download or the copy did not end\n"
            "  do: get the rest: hf download NAME --local-dir FOLDER goes on where it stopped"
        )
    weights = [p for kind in ("*.safetensors", "*.bin") for p in folder.glob(kind) if p.is_file()]
    if not weights:
        names = sorted(p.name for p in folder.iterdir())
        raise ConfigError(
            f"{place}: {folder} has a config.json and no weights.\n"
            f"  found: {', '.join(names[:12])}\n"
            "  expected: model.safetensors, or several of them with their index\n"
            "  do: download the whole model, or name the folder that holds the weights"
            + _about_gguf(names)
        )
    for file in weights:
        with file.open("rb") as opened:
            if opened.read(len(_LFS)) == _LFS:
                raise ConfigError(
                    f"{place}: {file} is no file of weights.\n"
                    "  found: a pointer of Git LFS, a few lines of text in its place\n"
                    f"  do: git lfs pull in {folder}, or hf download NAME --local-dir FOLDER"
                )


def check_device_map(wanted: str, place: str) -> None:
    """The devices are there.

    Raises:
        ConfigError: the word is no device and no way to find some, or it is not on this machine.
    """
    import torch

    known = [*_STRATEGIES, "cpu", "cuda", "cuda:0"]
    if wanted in _STRATEGIES:
        return
    try:
        device = torch.device(wanted)
    except RuntimeError as error:
        raise ConfigError(
            f"{place}: {wanted!r} is no device.\n  did you mean: {nearest(wanted, known)}\n"
            f"  expected: {', '.join(_STRATEGIES)} (accelerate spreads the layers), or a device"
            " like cuda:1"
        ) from error
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "meta" or (device.type == "cuda" and (device.index or 0) >= count):
        there = f"{count} GPU{'s' * (count != 1)}" if count else "no GPU, only the CPU"
        raise ConfigError(
            f"{place}: {wanted!r} is not on this machine.\n  found: {there}\n"
            f"  do: leave {place.rpartition('.')[2]} out (the teacher goes to the rank's own"
            " device), or name a device that is there"
        )


def _about_gguf(names: list[str]) -> str:
    if not any(name.endswith(".gguf") for name in names):
        return ""
    return "\n  note: a .gguf is llama.cpp's format, which is not read here"


def _named_in_index(folder: Path, place: str) -> list[str]:
    """The files of weights that an index lists; none where there is no index."""
    for name in ("model.safetensors.index.json", "pytorch_model.bin.index.json"):
        if (folder / name).is_file():
            return sorted(set(_read(folder / name, place).get("weight_map", {}).values()))
    return []


def _read(file: Path, place: str) -> dict:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{place}: {file} is not JSON: {error}\n  do: copy it anew") from error
    return said if isinstance(said, dict) else {}
