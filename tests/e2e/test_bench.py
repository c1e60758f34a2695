"""The benchmarks run and end with the line that they promise; their figures are not judged here."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_step_cost_measures_all_three():
    words = [sys.executable, "scripts/bench/step_cost.py", "--minutes", "0", "--rounds", "2"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    number = r"(\d+\.\d{4}|-\d+\.\d{4})"
    last = done.stdout.strip().splitlines()[-1]
    pattern = (
        f"grpo_over_trl={number} rlad_extra_over_teacher_forward={number} "
        f"peak_over_trl_plus_teacher={number}"
    )
    assert re.fullmatch(pattern, last), last
    # Two rounds say little of time, but memory is not noisy.
    assert 0.2 < float(last.rpartition("=")[2]) < 1.1


def test_difficulty_measures_memory_and_time():
    words = [sys.executable, "scripts/bench/difficulty.py", "--prompts", "500", "--steps", "3"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    last = done.stdout.strip().splitlines()[-1]
    number = r"\d+\.\d\d"
    pattern = f"megabytes=0.01 step_ms={number} step_ms_half_unknown={number} ok=(yes|no)"
    assert re.fullmatch(pattern, last), last


def test_the_memory_plan_is_within_a_quarter_of_what_lives():
    words = [sys.executable, "scripts/bench/plan_memory.py", "--cases", "tiny", "--no-resident"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    head, row, last = done.stdout.strip().splitlines()
    assert re.fullmatch(r"estimate_over_measured_peak=\d\.\d\d\.\.\d\.\d\d", last), last
    assert 0.75 < float(last.rpartition("..")[2]) < 1.25
    pairs = [cell.split("/") for cell in row.split() if "/" in cell]
    assert len(pairs) == 5
    assert "backward" in head
    for guess, found in pairs:  # every phase, not only the peak
        assert 0.75 < float(guess) / float(found) < 1.25, row


def test_log_cost_measures_the_loop_and_the_trackers():
    words = [sys.executable, "scripts/bench/log_cost.py", "--steps", "3", "--data.train.size=50",
             "--data.eval.size=10", "--batch.prompts_per_step=4", "--batch.group_size=4",
             "--batch.micro_batch_size=16"]  # fmt: skip
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr[-2000:]
    last = done.stdout.strip().splitlines()[-1]
    found = re.fullmatch(
        r"loop_ms=(\d+\.\d\d) with_trackers_ms=(\d+\.\d\d) step_ms=(\d+\.\d)"
        r" share=\d\.\d{4} ok=(yes|no)",
        last,
    )
    assert found, last
    loop, both, step = (float(found[i]) for i in (1, 2, 3))
    assert 0 < loop <= both < step


def test_the_gpu_bench_on_a_cpu_has_all_sections(tmp_path):
    """The whole script on a CPU: every section, every variant, every number but the GPU's."""
    words = [sys.executable, "scripts/bench/gpu.py", "--tiny", "--out", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
    assert done.stdout.strip().endswith("sections_ok=4/4")
    result = json.loads((tmp_path / "gpu.json").read_text())
    assert result["tiny"]
    assert result["device"] == "cpu"
    assert result["versions"]["trl"]
    assert list(result["sections"]) == ["matmul", "small", "large", "generation"]
    for name in ("small", "large"):
        rows = {row["name"]: row for row in result["sections"][name]["rows"]}
        assert tuple(rows) == ("trl_grpo", "rlkd_grpo", "rlkd_rlad", "trl_distillation")
        for row in rows.values():
            assert row["tokens_per_s"] > 0
            assert 0 < row["mfu_step"] < 1
            assert {"generate", "forward", "backward", "optimizer"} <= row["phases"].keys()
        for variant in ("rlkd_rlad", "trl_distillation"):
            assert rows[variant]["phases"]["teacher"] > 0
        # The same weights, prompts and samples: rlkd's GRPO is TRL's.
        norms = [rows[variant]["first_grad_norm"] for variant in ("trl_grpo", "rlkd_grpo")]
        assert norms[0] == pytest.approx(norms[1], rel=0.02)
        assert norms[0] > 0
    rows = result["sections"]["generation"]["rows"]
    assert [row["name"] for row in rows] == ["transformers", "continuous_batching"]
    assert "| rlkd_rlad |" in (tmp_path / "gpu.md").read_text()
    assert "no number here is a measurement" in (tmp_path / "gpu.md").read_text()


def test_throughput_samples_the_same_answers_and_measures_all():
    words = [sys.executable, "scripts/bench/throughput.py", "--rounds", "1", "--threads", "1",
             "--vocab", "64", "--hidden", "64", "--layers", "1", "--teacher-hidden", "64",
             "--teacher-layers", "1", "--prompt", "6", "--answer", "16", "--mean", "4",
             "--rows", "8", "--micro", "4", "--fast", "padding_free", "--ways"]  # fmt: skip
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=290)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.strip().splitlines()
    assert re.fullmatch(r"tokens_per_s_over_trl=\d+\.\d{3} even=\d+\.\d{3}", lines[-1]), lines[-1]
    for name in ("trl", "grpo padding_free", "rlad padding_free"):
        assert sum(line.startswith(f"{name} ") for line in lines) == 3, name  # two times, memory
    sampled = [int(line.split()[2]) for line in lines if "tokens of answers a step" in line]
    assert len(sampled) == 2
    assert sampled[0] < sampled[1] == 8 * 16
    peaks = [float(line.split()[-2]) for line in lines if line.endswith(" MiB")]
    assert len(peaks) == 3
    assert min(peaks) > 1.0
