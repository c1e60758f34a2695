"""Launched by test_teacher_faults.py on two processes: two steps in which the second rank's teacher
gives one row no score. Arguments: student, teacher, folder, overlap. Each rank writes a file."""

import json
import math
import os
import sys
from pathlib import Path

from datasets import Dataset

from rlkd import RLAD, Trainer
from rlkd.teacher.base import TokenScores
from rlkd.teacher.local import LocalTeacher
from tests.parity.test_trl import arguments, reward


class Spoilt(LocalTeacher):
    """Says NaN of the second rank's first row."""

    def score(self, prompt_ids, completion_ids, temperature):
        first, *rest = super().score(prompt_ids, completion_ids, temperature)
        if os.environ["RANK"] == "1":
            first = TokenScores(first.token_ids, first.logp * math.nan)
        return [first, *rest]


if __name__ == "__main__":
    student, teacher, folder, overlap = sys.argv[1:]
    rows = Dataset.from_list([{"prompt": f"{a}+{b}="} for a in range(6) for b in range(4)])
    trainer = Trainer(
        student, reward, arguments(folder), rows, algorithm=RLAD(),
        teacher=Spoilt.from_pretrained(teacher), teacher_check="off", teacher_overlap=overlap,
        on_bad_scores="mask",
    )  # fmt: skip
    items = []
    real = trainer._ask_teacher

    def asked(output):
        real(output)
        items.append((int(output["num_items_in_batch"]), int(output["completion_mask"].sum())))

    trainer._ask_teacher = asked
    trainer.train()
    found = {
        "rank": int(os.environ["RANK"]),
        "masked": [x["teacher/masked_rows"] for x in trainer.state.log_history if "loss" in x],
        "items": items,
        "file": trainer.bad_scores.path.exists(),
        "weights": {name: w.sum().item() for name, w in trainer.model.named_parameters()},
    }
    Path(folder, f"rank-{found['rank']}.json").write_text(json.dumps(found))
