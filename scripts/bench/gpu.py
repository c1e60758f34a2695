"""What a step costs on a GPU, in one call under ten minutes: TRL's GRPO, rlkd's GRPO and RLAD, and
TRL's DistillationTrainer, seconds by phase, tokens/s, peak memory, and MFU against the matrix rate
measured on the same card.

    scripts/bench/gpu --out runs/gpu
    scripts/bench/gpu --tiny --out runs/gpu-tiny      a trial on a CPU: none of it is a measurement

Sections, each a process of its own with its own budget; one that fails, hangs or does not fit is
named in the result and the others go on:

    matmul      bf16 products of random 8192 x 8192 matrices: the rate that MFU is against
    small       SmolLM2-135M's shape with a teacher of SmolLM2-360M's, 64 answers of 256 tokens
    large       Qwen2.5-1.5B's shape with a teacher of Qwen2.5-7B's, 32 answers of 256 tokens
    generation  the small student's tokens/s: transformers, and its continuous batching

All weights are random (SmolLM2's are a file of 98 MB, more than can be carried to a lent machine),
in bfloat16, all trained, AdamW, no checkpointing; answers have their full length, so that all
variants do the same work. `--out` gets gpu.json (date, device, versions, command, all numbers) and
gpu.md (the table). Exit code 1: a section failed.

On a lent machine (torch 2.11, transformers 5.17, no trl) the missing wheels travel along, from the
root of the repository:

    scripts/bench/gpu --wheels .whl && echo /.whl/ >> .git/info/exclude
    then, as one command there, with `.whl` carried and a limit of 600 seconds:
    python3 -m pip install -q --no-index --no-deps --no-compile --target /tmp/site .whl/*.whl &&
    PYTHONPATH=$PWD:/tmp/site PYTHON=python3 scripts/bench/gpu --out $OUT

TRL 1.16 with transformers 5.17 was tried on a CPU (`--tiny`, torch 2.13), not with torch 2.11. No
run on a GPU has been made yet.
"""

import argparse
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
WHEELS = (
    "trl==1.16.0", "datasets==5.2.0", "dill==0.4.1", "multiprocess==0.70.19", "xxhash==4.1.0",
    "pydantic==2.14.3", "pydantic-core==2.50.4", "annotated-types==0.8.0",
    "typing-inspection==0.4.5",
)  # fmt: skip
"""What rlkd's trainer and TRL import and a lent machine lacks."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")


@dataclasses.dataclass(frozen=True)
class Section:
    """A part of the bench."""

    name: str
    budget_s: float
    """Seconds that it gets."""
    least_s: float
    """Fewer are not worth a start."""
    gib: float
    """GPU memory that it needs, by rlkd's own plan and a margin."""


SECTIONS = (
    Section("matmul", 45, 25, 2),
    Section("small", 140, 60, 20),
    Section("large", 260, 120, 60),
    Section("generation", 70, 40, 10),
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("runs/gpu"), help="folder of the result")
    parser.add_argument("--seconds", type=float, default=540, help="for all sections together")
    parser.add_argument(
        "--sections", nargs="+", choices=[s.name for s in SECTIONS],
        default=[s.name for s in SECTIONS],
    )  # fmt: skip
    parser.add_argument("--tiny", action="store_true", help="tiny shapes on a CPU: a trial")
    parser.add_argument("--wheels", type=Path, help="only fetch the wheels to carry, into this")
    options = parser.parse_args()
    if options.wheels is not None:
        return fetch_wheels(options.wheels)
    about = machine(options.tiny)
    if about["device"] == "cpu" and not options.tiny:
        print("bench/gpu: there is no GPU here; --tiny tries the script on a CPU", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    deadline = time.monotonic() + options.seconds
    result: dict[str, Any] = about | {"sections": {}}
    for section in SECTIONS:
        if section.name in options.sections:
            left = deadline - time.monotonic()
            found = run_section(section, options, left, about["device_gib"])
            result["sections"][section.name] = found
            print(f"{section.name}: {found['status']}", flush=True)
            add_mfu(result["sections"])
            # Written after each section: what is there survives whatever comes.
            text = json.dumps(result, indent=1)
            (options.out / "gpu.json").write_text(text + "\n", encoding="utf-8")
            (options.out / "gpu.md").write_text(table(result), encoding="utf-8")
    print(table(result))
    states = [found["status"] for found in result["sections"].values()]
    print(f"sections_ok={states.count('ok')}/{len(states)}")
    return 0 if all(state == "ok" or state.startswith("left out") for state in states) else 1


# -- the machine -------------------------------------------------------------------------------


def machine(tiny: bool) -> dict[str, Any]:
    import torch

    cuda = torch.cuda.is_available() and not tiny
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30 if cuda else None
    versions = {
        name: version(name)
        for name in ("torch", "transformers", "trl", "accelerate", "peft", "triton", "rlkd")
    }
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "device": torch.cuda.get_device_name(0) if cuda else "cpu",
        "device_gib": memory,
        "cuda": torch.version.cuda if cuda else None,
        "python": platform.python_version(),
        "versions": versions,
        "commit": commit(),
        "command": shlex.join(["scripts/bench/gpu", *sys.argv[1:]]),
        "tiny": tiny,
    }


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    words = ["git", "-C", str(HERE.parent), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def fetch_wheels(folder: Path) -> int:
    """Wheels for Python 3.12 on x86-64 Linux, which a lent machine has."""
    words = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
             "--python-version", "3.12", "--implementation", "cp", "-d", str(folder)]  # fmt: skip
    for name in PLATFORMS:
        words += ["--platform", name]
    code = subprocess.run([*words, *WHEELS]).returncode
    if code == 0:
        size = sum(path.stat().st_size for path in folder.glob("*.whl")) / 2**20
        print(f"{len(WHEELS)} wheels, {size:.1f} MiB, in {folder}")
    return code


# -- sections ----------------------------------------------------------------------------------


def run_section(
    section: Section, options: argparse.Namespace, left: float, gib: float | None
) -> dict[str, Any]:
    """What a section found: `status` (ok, left out: why, failed: how), `seconds`, `rows`."""
    if left < section.least_s and not options.tiny:
        return {"status": f"left out: {left:.0f} s are left, it needs {section.least_s:.0f}"}
    if gib is not None and gib < section.gib:
        return {"status": f"left out: it needs {section.gib:g} GiB, the card has {gib:.0f}"}
    seconds = min(section.budget_s, left - 5)
    path = options.out / f"{section.name}.part.json"
    path.unlink(missing_ok=True)
    words = [sys.executable, str(HERE.with_name("gpu_section.py")), section.name,
             "--out", str(path), "--seconds", str(seconds)]  # fmt: skip
    start = time.monotonic()
    with (options.out / f"{section.name}.log").open("w") as log:
        process = subprocess.Popen(
            [*words, *(["--tiny"] if options.tiny else [])],
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
            env=os.environ | {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"},
        )  # fmt: skip
        try:
            code = process.wait(600 if options.tiny else seconds + 5)
            status = "ok" if code == 0 else f"failed: exit code {code}, see {section.name}.log"
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            status = f"failed: stopped after {seconds:.0f} s; what it had finished stands here"
    rows = json.loads(path.read_text()) if path.exists() else []
    path.unlink(missing_ok=True)
    broken = [row["name"] for row in rows if row.get("error")]
    if status == "ok" and (broken or not rows):
        status = f"failed: {', '.join(broken) or 'it gave no numbers'}"
    return {"status": status, "seconds": round(time.monotonic() - start, 1), "rows": rows}


def add_mfu(sections: dict[str, Any]) -> None:
    """Operations per second over the matrix rate of the same card, where both are known."""
    rows = sections.get("matmul", {}).get("rows", [])
    rate = rows[0].get("tflops") if rows else None
    for found in sections.values():
        for row in found.get("rows", []):
            if rate and row.get("step_tflop"):
                row["mfu_step"] = row["step_tflop"] / row["step_s"] / rate
                learning = sum(row["phases"].get(p, 0.0) for p in ("forward", "backward"))
                row["mfu_update"] = row["update_tflop"] / learning / rate if learning else None


PHASES = ("generate", "reward", "teacher", "score", "forward", "backward", "optimizer", "other")


def table(result: dict[str, Any]) -> str:
    """The numbers as Markdown."""
    lines = [f"# scripts/bench/gpu on {result['device']}, {result['date']}", ""]
    if result["tiny"]:
        lines += ["A trial with tiny shapes on a CPU: no number here is a measurement.", ""]
    known = [f"{name} {v}" for name, v in result["versions"].items() if v]
    lines += [f"`{result['command']}`, commit {result['commit']}, {', '.join(known)}", ""]
    for name, found in result["sections"].items():
        lines += [f"## {name}: {found['status']}", ""]
        rows = [row for row in found.get("rows", []) if not row.get("error")]
        for row in found.get("rows", []):
            if row.get("error"):
                lines += [f"* {row['name']}: {row['error']}", ""]
        if rows and "phases" in rows[0]:
            lines += _steps(rows)
        elif rows:
            keys = [key for key in rows[0] if key != "name"]
            lines += ["| | " + " | ".join(keys) + " |", "|---" * (len(keys) + 1) + "|"]
            for row in rows:
                cells = " | ".join(_shown(row.get(key)) for key in keys)
                lines.append(f"| {row['name']} | {cells} |")
        lines.append("")
    return "\n".join(lines)


def _steps(rows: list[dict[str, Any]]) -> list[str]:
    heads = ["step_s", *PHASES, "tokens_per_s", "peak_gib", "mfu_step", "mfu_update"]
    lines = ["| seconds | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for row in rows:
        values = row | row["phases"]
        cells = " | ".join(_shown(values.get(head)) for head in heads)
        lines.append(f"| {row['name']} | {cells} |")
    return lines


def _shown(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


if __name__ == "__main__":
    sys.exit(main())
