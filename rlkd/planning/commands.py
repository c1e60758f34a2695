"""`rlkd plan`: its options, and what it prints. What is heavy loads when used."""

import argparse
import os
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rlkd import config as configs
from rlkd.config import ConfigError, RunConfig

if TYPE_CHECKING:
    from rlkd.planning.plan import Change, Plan

_UNCOUNTED = """\
not counted: Python and its libraries (0.7 to 1 GiB of RAM), a GPU's own
context, what an allocator holds back, reward workers"""
_UNTRIED = "these formulas were held against measurements on a CPU, never on a GPU"


def add_plan(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> set[str]:
    """Define the command; returns its options' names."""
    parser = commands.add_parser(
        "plan",
        help="estimate a config's memory, part by part",
        description="Estimate the memory of one process from the models' config.json (no weights"
        " are loaded), for answers of the full length: what lives in each phase of a step, the part"
        " that dominates the peak, and what to change. Exit code 1: it does not fit.",
        usage="rlkd plan CONFIG [--prompt-tokens N] [--memory-gib X] [--device cpu|cuda]"
        " [--sharding ddp|fsdp2]"
        " [--block.key VALUE ...]",
        allow_abbrev=False,
    )
    parser.add_argument("config", metavar="CONFIG", type=Path, help="YAML file of the run")
    parser.add_argument(
        "--prompt-tokens",
        type=int,
        help="tokens of the longest prompt (default: counted in the data, with the student's"
        " tokenizer)",
    )
    parser.add_argument(
        "--memory-gib", type=float, help="memory of a device, GiB (default: of this one)"
    )
    parser.add_argument(
        "--device", choices=("cpu", "cuda"), help="plan for it (default: what is here)"
    )
    parser.add_argument(
        "--sharding", choices=("ddp", "fsdp2"), default="ddp",
        help="how several processes share the student (default: ddp, each has all of it)",
    )  # fmt: skip
    return {"--help", "--prompt-tokens", "--memory-gib", "--device", "--sharding"}


def plan(arguments: argparse.Namespace, overrides: list[str]) -> int:
    """Print the estimate; the exit code is 1 where it exceeds the device's memory."""
    for option, value in (
        ("--prompt-tokens", arguments.prompt_tokens),
        ("--memory-gib", arguments.memory_gib),
    ):
        if value is not None and value <= 0:
            raise ConfigError(f"rlkd plan: {option} is {value:g}; it is above 0")
    config = configs.load(arguments.config, overrides)
    from rlkd.planning import plan as planning

    world_size = config.run.processes or int(os.environ.get("WORLD_SIZE", "1"))
    sharded = arguments.sharding == "fsdp2"
    if sharded and world_size == 1:
        raise ConfigError(
            "rlkd plan: --sharding fsdp2 spreads the student over processes, and there is one.\n"
            "  do: say how many: --run.processes 8"
        )
    device, memory = _device(arguments.device, arguments.memory_gib)
    prompt = arguments.prompt_tokens
    if prompt is None:
        rows = planning.rows_of(config)
        tokenizer = planning.tokenizer_of(config.model.path)
        prompt = planning.longest_prompt(tokenizer, rows, config.model.chat_template_kwargs)

    def reload(more: Sequence[str]) -> RunConfig:
        return configs.load(arguments.config, [*overrides, *more])

    cuda = device == "cuda"
    made = planning.plan(config, world_size, prompt, cuda=cuda, sharded=sharded)
    found = planning.changes(config, reload, world_size, made, cuda=cuda)
    print("\n".join([*_about(made, world_size, device), *_table(made), *_advice(made, found)]))
    # The processes of a CPU share its memory; each GPU has its own.
    shared = 1 if cuda or arguments.memory_gib is not None else world_size
    return _verdict(made, memory, device, shared)


def _device(wanted: str | None, memory_gib: float | None) -> tuple[str, int | None]:
    """The device's kind, and its memory in bytes where it is known."""
    import torch

    here = "cuda" if torch.cuda.is_available() else "cpu"
    device = wanted or here
    if memory_gib is not None:
        return device, int(memory_gib * 2**30)
    if device == "cuda":
        known = here == "cuda"
        return device, torch.cuda.get_device_properties(0).total_memory if known else None
    return device, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _about(made: "Plan", world_size: int, device: str) -> list[str]:
    work, student = made.work, made.student
    kind = f"LoRA of rank {student.rank}" if student.rank else "all weights trained"
    processes = f"one of {world_size} processes" if world_size > 1 else "one process"
    processes += " under FSDP2" * work.sharded
    lines = [
        f"{processes} on a {'GPU' if device == 'cuda' else 'CPU'}: {student.name}, {kind}"
        + ", checkpointing" * work.checkpointing,
        f"rows of {work.prompt} + {work.completion} tokens (prompt + answer):"
        f" {work.generated} sampled at once, {work.micro_batch} in a pass,"
        f" {work.micro_batch * work.accumulation} in an optimiser step",
    ]
    if made.teacher is not None:
        name, chunk = made.teacher.name, work.chunk_tokens
        lines.append(f"teacher {name}: logits of {chunk} positions at once")
    notes = [f"note: {note}" for note in made.notes]
    return [line for text in [*lines, *notes] for line in textwrap.wrap(text, 80)]


def _table(made: "Plan") -> list[str]:
    """A line per part and a column per phase."""
    phases = made.estimate.phases
    unit = _unit(made)
    names = dict.fromkeys(part.name for phase in phases for part in phase.parts)
    width = max(map(len, names)) + 1
    heads = "".join(f"{phase.name:>10}" for phase in phases)
    lines = ["", f"{unit:<{width}}{heads}"]
    for name in names:
        cells = []
        for phase in phases:
            sizes = [part.size for part in phase.parts if part.name == name]
            cells.append(f"{_in(unit, sizes[0]):>10}" if sizes else " " * 10)
        lines.append(f"{name:<{width}}{''.join(cells)}".rstrip())
    totals = "".join(f"{_in(unit, phase.total):>10}" for phase in phases)
    return [*lines, f"{'in all':<{width}}{totals}"]


def _advice(made: "Plan", found: "list[Change]") -> list[str]:
    peak, part, unit = made.estimate.peak, made.estimate.dominant, _unit(made)
    lines = [
        "",
        f"peak: {_in(unit, peak.total)} {unit} in {peak.name}; the largest part is {part.name}"
        f" ({part.size / peak.total:.0%})",
    ]
    for same, heading in (
        (True, "what lowers it, the update staying the same:"),
        (False, "what lowers it, and changes what is learnt:"),
    ):
        some = [change for change in found if change.same_update == same]
        lines += [heading] * bool(some)
        lines += [
            f"  {_in(unit, change.peak):>8} {unit} with {_quoted(change.override)}"
            for change in some
        ]
    if not found:
        lines.append("no single change that is known here lowers it by a twentieth")
    return lines


def _verdict(made: "Plan", memory: int | None, device: str, shared: int) -> int:
    print(_UNCOUNTED)
    if device == "cuda":
        print(_UNTRIED)
    if memory is None:
        print("there is no GPU here: --memory-gib X says what it must fit into")
        return 0
    peak, name = shared * made.estimate.peak.total, "GPU" if device == "cuda" else "RAM"
    name += f", for all {shared} processes" if shared > 1 else ""
    fits = peak <= memory
    print(
        f"{'fits' if fits else 'DOES NOT FIT'}: {peak / memory:.0%} of"
        f" {_in('GiB', memory)} GiB ({name})"
    )
    return 0 if fits else 1


def _quoted(override: str) -> str:
    return f"'{override}'" if " " in override else override


def _unit(made: "Plan") -> str:
    return "GiB" if made.estimate.peak.total >= 2**31 else "MiB"


def _in(unit: str, size: int) -> str:
    """The size in that unit, with digits that say something."""
    value = size / {"GiB": 2**30, "MiB": 2**20}[unit]
    return f"{value:.2f}" if value < 10 else f"{value:.1f}"
