"""Launched by test_resume.py on two processes: a whole run, the same one stopped, and resumed.

Arguments: STEP, then the words of `rlkd train` without the run's name. Only the second rank is
told to stop.
"""

import os
import sys

import pytest

from rlkd.cli import main
from tests.e2e.test_resume import stop_after


def codes(step: int, words: list[str]) -> list[int]:
    """Exit codes of the three."""
    whole = main(["train", *words, "--run.name=whole"])
    with pytest.MonkeyPatch.context() as patch:
        if os.environ["RANK"] == "1":
            stop_after(step, patch)
        parts = main(["train", *words, "--run.name=parts"])
    return [whole, parts, main(["train", *words, "--run.name=parts", "--resume"])]


if __name__ == "__main__":
    got = codes(int(sys.argv[1]), sys.argv[2:])
    print(f"rank {os.environ['RANK']}: {got}", flush=True)
    sys.exit(got != [0, 75, 0])
