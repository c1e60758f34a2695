"""The machine: devices, how this process was launched, and the folder of the runs."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from rlkd.doctor.finding import Finding
from rlkd.errors import ConfigError
from rlkd.launch import read_launch

GIB = 2**30
DRIVER = Path("/proc/driver/nvidia/version")
MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")
LITTLE_SPACE = 5 * GIB
"""Free space below which a runs folder is warned about, where the config says nothing."""


def look_at_devices() -> list[Finding]:
    """The GPUs that torch can use, and the CPU."""
    return [*_gpus(), _cpu()]


def _gpus() -> list[Finding]:
    import torch

    driver = DRIVER.read_text().splitlines()[0] if DRIVER.is_file() else None
    if not torch.cuda.is_available():
        if driver is None:
            return [Finding("ok", "no GPU: runs use the CPU")]
        built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        return [
            Finding(
                "problem",
                f"an NVIDIA driver is here, but torch {torch.__version__} ({built}) sees no GPU:"
                " a run would use the CPU",
                "nvidia-smi; look at CUDA_VISIBLE_DEVICES; install the torch build for this driver",
            )
        ]
    found = []
    for number in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(number)
        bf16 = torch.cuda.get_device_capability(number) >= (8, 0)
        found.append(
            Finding(
                "ok" if free > 0.8 * total else "warning",
                f"cuda:{number} {torch.cuda.get_device_name(number)}: {free / GIB:.1f} of"
                f" {total / GIB:.1f} GiB free, {'bfloat16' if bf16 else 'no bfloat16'} in hardware,"
                f" CUDA {torch.version.cuda}",
                "" if free > 0.8 * total else "nvidia-smi shows who else uses it",
            )
        )
    if driver is not None:
        found.append(Finding("ok", f"driver: {driver.removeprefix('NVRM version: ').strip()}"))
    return found


def _cpu() -> Finding:
    import torch

    cores, threads = len(os.sched_getaffinity(0)), torch.get_num_threads()
    page = os.sysconf("SC_PAGE_SIZE")
    memory, free = page * os.sysconf("SC_PHYS_PAGES"), page * os.sysconf("SC_AVPHYS_PAGES")
    limit = MEMORY_LIMIT.read_text().strip() if MEMORY_LIMIT.is_file() else "max"
    bound = f", of which this container may use {int(limit) / GIB:.1f}" if limit.isdigit() else ""
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    text = (
        f"CPU: {cores} cores, {threads} torch threads; RAM {memory / GIB:.1f} GiB{bound},"
        f" {free / GIB:.1f} unused"
    )
    if threads * here > cores:
        return Finding(
            "warning",
            f"{text}; {here} processes x {threads} threads on {cores} cores slow each other",
            f"export OMP_NUM_THREADS={max(1, cores // here)}",
        )
    return Finding("ok", text)


def look_at_launch(
    env: Mapping[str, str] | None = None, wanted: int | None = None, gpus: int | None = None
) -> list[Finding]:
    """This process among others, and what `accelerate launch` would do by default.

    Args:
        env: None: this process's environment.
        wanted: `run.processes` of the config, if there is one.
        gpus: that this machine shows; None: they are counted.
    """
    env = dict(os.environ) if env is None else dict(env)
    gpus = _count_gpus() if gpus is None else gpus
    launched = "WORLD_SIZE" in env
    found = []
    try:
        # Alone, and not launched, it looks at a config that shall be launched later.
        launch = read_launch(wanted if launched or wanted == 1 else None, env, gpus)
        if not launched and wanted is not None and wanted > 1:
            found.append(_to_be_launched(wanted, gpus))
        elif launch.world_size == 1:
            found.append(Finding("ok", "one process (torchrun starts several: README)"))
        elif not 0 <= launch.rank < launch.world_size:
            found.append(
                Finding(
                    "problem",
                    f"RANK is {launch.rank} and WORLD_SIZE {launch.world_size}",
                    "unset both, or launch with torchrun",
                )
            )
        else:
            found.append(Finding("ok", f"rank {launch.rank} of {launch.world_size} processes"))
        if launch.world_size > 1 and not {"MASTER_ADDR", "MASTER_PORT"} <= set(env):
            found.append(
                Finding(
                    "problem",
                    f"WORLD_SIZE is {launch.world_size}, but MASTER_ADDR or MASTER_PORT is not set:"
                    " the processes would not find each other",
                    "unset WORLD_SIZE, or launch with torchrun",
                )
            )
    except ConfigError as error:
        found.append(Finding("problem", str(error)))
    except ValueError:
        ranks = {name: env[name] for name in ("RANK", "WORLD_SIZE") if name in env}
        found.append(Finding("problem", f"not numbers: {ranks}", "unset them"))
    return [*found, _accelerate(env)]


def _to_be_launched(wanted: int, gpus: int) -> Finding:
    text = f"run.processes is {wanted}, and this is one process"
    if 0 < gpus < wanted:
        return Finding(
            "warning",
            f"{text}; this machine shows {gpus} GPU{'s' * (gpus > 1)}, one for each process",
            "launch it where there are more, set CUDA_VISIBLE_DEVICES, or lower run.processes",
        )
    if gpus:
        how = (
            f"accelerate launch --config_file configs/accelerate/ddp.yaml --num_processes {wanted}"
        )
    else:
        how = f"torchrun --nproc_per_node {wanted}"
    return Finding("ok", f"{text}: start it with {how} scripts/train.py CONFIG")


def _count_gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def _accelerate(env: Mapping[str, str]) -> Finding:
    home = Path(env.get("HF_HOME", str(Path.home() / ".cache" / "huggingface")))
    file = home / "accelerate" / "default_config.yaml"
    if not file.is_file():
        return Finding("ok", "accelerate has no default config")
    import yaml

    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8"))
        words = (
            f"{said.get('distributed_type')}, {said.get('num_processes')} processes, mixed"
            f" precision {said.get('mixed_precision')}"
        )
    except (yaml.YAMLError, AttributeError, OSError) as error:
        return Finding("warning", f"{file} cannot be read: {error}", "accelerate config")
    return Finding("ok", f"accelerate launch takes from {file}: {words}")


def look_at_folder(folder: Path, needed: int | None = None) -> list[Finding]:
    """Can a run be written there, and is there space?

    Args:
        folder: of the runs; need not exist.
        needed: bytes that the run will write; None: not known.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        return [Finding("problem", f"{place} is a file: {folder} cannot be made", "--run.dir DIR")]
    found = []
    try:
        with tempfile.TemporaryFile(dir=place):
            found.append(Finding("ok", f"{folder} can be written (in {place})"))
    except OSError as error:
        found.append(
            Finding("problem", f"{folder} cannot be written: {error}", "--run.dir DIR elsewhere")
        )
    free = shutil.disk_usage(place).free
    text = f"disk: {free / GIB:.1f} GiB free at {place}"
    if needed is not None:
        text += f"; the run's checkpoints and model take about {needed / GIB:.1f}"
    if free < (needed or GIB // 4):
        advice = "free some, set --run.dir to another disk, or lower run.keep"
        found.append(Finding("problem", text, advice))
    elif free < 2 * (needed or LITTLE_SPACE // 2):
        found.append(Finding("warning", text, "rollouts and logs come on top: free some"))
    else:
        found.append(Finding("ok", text))
    return found
