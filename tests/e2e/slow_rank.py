"""Launched by test_phases.py on two processes: three steps in which the second rank's reward is
slow. Arguments: student, folder. The first rank prints what each step logged, a line of JSON."""

import json
import os
import sys
import time

from datasets import Dataset

from rlkd import GRPO, Trainer
from tests.parity.test_trl import arguments

SLOW = 1.0


def reward(completions, **_):
    if os.environ["RANK"] == "1":
        time.sleep(SLOW)
    return [float(i % 2) for i in range(len(completions))]


if __name__ == "__main__":
    rows = Dataset.from_list([{"prompt": f"{a}+{b}="} for a in range(6) for b in range(4)])
    args = arguments(sys.argv[2], max_steps=3)
    trainer = Trainer(sys.argv[1], reward, args, rows, algorithm=GRPO(beta=0.0))
    trainer.train()
    if os.environ["RANK"] == "0":
        for line in trainer.state.log_history:
            if "loss" in line:
                print(json.dumps(line), flush=True)
