"""scripts/bench/gpu: sections that fail, hang or do not fit are named, and the others go on."""

import argparse
import importlib.util
import time
from pathlib import Path

import pytest
import torch

BENCH = Path(__file__).resolve().parents[2] / "scripts" / "bench"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, BENCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


gpu, inner = load("gpu"), load("gpu_section")
SECTION = gpu.Section("small", 2.0, 1.0, 20)
ROWS = "import json, sys, pathlib; out = pathlib.Path(sys.argv[sys.argv.index('--out') + 1]);"


def ran(script: str, tmp_path, monkeypatch, left=100.0, gib=80.0):
    (tmp_path / "gpu_section.py").write_text(script)
    monkeypatch.setattr(gpu, "HERE", tmp_path / "gpu.py")
    options = argparse.Namespace(out=tmp_path, tiny=False)
    return gpu.run_section(SECTION, options, left, gib)


def test_a_section_that_runs(tmp_path, monkeypatch):
    found = ran(f"{ROWS} out.write_text(json.dumps([{{'name': 'a'}}]))", tmp_path, monkeypatch)
    assert found["status"] == "ok"
    assert found["rows"] == [{"name": "a"}]


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("raise SystemExit(3)", "failed: exit code 3, see small.log"),
        ("pass", "failed: it gave no numbers"),
        (f"{ROWS} out.write_text(json.dumps([{{'name': 'a', 'error': 'no'}}]))", "failed: a"),
    ],
)
def test_a_section_that_fails(script, status, tmp_path, monkeypatch):
    assert ran(script, tmp_path, monkeypatch)["status"] == status


def test_a_section_that_hangs_is_killed_and_keeps_what_it_had(tmp_path, monkeypatch):
    start = time.monotonic()
    script = f"{ROWS} out.write_text(json.dumps([{{'name': 'a'}}])); import time; time.sleep(60)"
    found = ran(script, tmp_path, monkeypatch)
    assert found["status"].startswith("failed: stopped after 2 s")
    assert found["rows"] == [{"name": "a"}]
    assert time.monotonic() - start < 20


def test_a_section_that_does_not_fit_is_left_out(tmp_path, monkeypatch):
    none = "raise AssertionError"
    found = ran(none, tmp_path, monkeypatch, left=0.5)
    assert found["status"] == "left out: 0 s are left, it needs 1"
    found = ran(none, tmp_path, monkeypatch, gib=15.0)
    assert found["status"] == "left out: it needs 20 GiB, the card has 15"


def test_mfu_is_operations_over_the_cards_own_rate():
    row = {"name": "a", "step_tflop": 4.0, "update_tflop": 3.0, "step_s": 2.0,
           "phases": {"forward": 0.5, "backward": 1.0}}  # fmt: skip
    sections = {"matmul": {"rows": [{"tflops": 100.0}]}, "small": {"rows": [row]}}
    gpu.add_mfu(sections)
    assert row["mfu_step"] == pytest.approx(4.0 / 2.0 / 100.0)
    assert row["mfu_update"] == pytest.approx(3.0 / 1.5 / 100.0)


def test_operations_by_hand():
    """Tied: 300 · 32 in the head; a layer: q, k, v, o, gate, up, down (and biases, norms)."""
    model = inner.make_model("tiny", 0, torch.device("cpu"))
    weights = sum(weight.numel() for weight in model.parameters())
    want = (2 * weights + 4 * 2 * 32 * 14) * 56 / 1e12
    assert inner.tflop_forward(model, 14, 56) == pytest.approx(want)
    untied = inner.make_model("tiny teacher", 0, torch.device("cpu"))
    weights = sum(weight.numel() for weight in untied.parameters()) - 300 * 48
    want = (2 * weights + 4 * 2 * 48 * 14) * 56 / 1e12
    assert inner.tflop_forward(untied, 14, 56) == pytest.approx(want)


def test_seconds_are_exclusive():
    clock = inner.Clock(torch.device("cpu"))
    with clock.phase("outer"):
        time.sleep(0.02)
        with clock.phase("inner"):
            time.sleep(0.05)
    taken = clock.take()
    assert 0.015 < taken["outer"] < 0.045
    assert taken["inner"] > 0.045


def test_a_watched_method_counts_for_its_first_argument_alone():
    class Holder:
        def read(self, who):
            time.sleep(0.02)
            return who

    clock, holder = inner.Clock(torch.device("cpu")), Holder()
    clock.watch(holder, "read", "teacher", first=holder)
    assert holder.read("student") == "student"
    assert "teacher" not in clock.take()
    assert holder.read(holder) is holder
    assert clock.take()["teacher"] > 0.015


def test_the_shapes_are_the_models_they_are_named_after():
    """Weights in millions, as the model cards give them (a tied head counts once)."""
    from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config

    for name, millions in {"SmolLM2-135M": 134.5, "Qwen2.5-1.5B": 1543.7, "SmolLM2-360M": 361.8,
                           "Qwen2.5-7B": 7614.5}.items():  # fmt: skip
        settings = dict(inner.SHAPES[name])
        kind = {"llama": LlamaConfig, "qwen2": Qwen2Config}[settings.pop("kind")]
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(kind(**settings))
        count = sum(weight.numel() for weight in model.parameters()) / 1e6
        assert count == pytest.approx(millions, rel=2e-3), name
