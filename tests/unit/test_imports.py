"""`import rlkd` is instant and does nothing."""

import subprocess
import sys


def test_import_is_light():
    code = (
        "import sys, time; start = time.perf_counter(); import rlkd; "
        "seconds = time.perf_counter() - start; "
        "heavy = {'torch', 'trl', 'transformers', 'wandb', 'sympy', 'numpy'} & set(sys.modules); "
        "print(seconds, sorted(heavy))"
    )
    tries = []
    for _ in range(3):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        seconds, _, heavy = done.stdout.strip().partition(" ")
        assert heavy == "[]", done.stdout + done.stderr
        tries.append(float(seconds))
    assert min(tries) < 0.05


def test_names_resolve_and_unknown_ones_are_told():
    import pytest

    import rlkd

    for name in rlkd.__all__:
        assert getattr(rlkd, name).__name__ == name
    with pytest.raises(AttributeError, match=r"no attribute 'RLADD'; it has CEEH, .*GRPO, .*RLAD"):
        _ = rlkd.RLADD
    assert set(rlkd.__all__) <= set(dir(rlkd))
