"""Dynamic sampling on one process and on two: the same rounds, the same batch, the same update."""

import pytest
import torch

from tests.e2e.test_processes import launch


def test_two_processes_draw_and_learn_what_one_does(student, tmp_path):
    results = {}
    for processes in (1, 2):
        output = tmp_path / f"{processes}.pt"
        done = launch(processes, "tests/e2e/resampled_update.py", student, str(output))
        assert done.returncode == 0, done.stderr[-3000:]
        results[processes] = torch.load(output, weights_only=False)
    one, two = results[1], results[2]
    assert two["rows"] == one["rows"]  # in their order: three groups, the second straddles ranks
    assert two["logs"] == one["logs"]
    assert two["fresh"] == one["fresh"]
    for name, value in one["records"].items():
        assert torch.equal(two["records"][name].nan_to_num(), value.nan_to_num()), name
    for name, value in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], value, rtol=1e-5, atol=2e-7)
    # Something was left out, and of two kinds: what has no signal, and what fills the batch.
    assert one["logs"][0]["dynamic_sampling/rounds"] > 1
    assert one["logs"][0]["dynamic_sampling/left_out"] > 0
    assert len({prompt for prompt, _, _ in one["rows"]}) == pytest.approx(6, abs=1)
