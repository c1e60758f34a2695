"""The quickstart's reward, late on one rank."""

import os
import time

from rewards import arithmetic

SLOW_S = 1.0


def accuracy(completions, **columns):
    if os.environ.get("RANK") == "2":
        time.sleep(SLOW_S)
    return arithmetic.accuracy(completions, **columns)
