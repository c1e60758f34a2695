"""What a student is worth: held-out accuracy, pass@k, length, entropy, distance to the teacher."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from rlkd.config import RunConfig
from rlkd.data import load_splits
from rlkd.door import build_rewards
from rlkd.evaluation.answers import answer_greedily, prompt_ids, sample_answers
from rlkd.evaluation.scoring import score
from rlkd.objectives.pass_at_k import pass_at_k
from rlkd.teacher.local import LocalTeacher

SAMPLES = 8
"""Answers to each held-out problem, sampled as in training; the k of pass@k."""
Figures = dict[str, float]


@dataclass(frozen=True)
class Ruler:
    """Measures students of one task alike: the same problems, rewards, teacher and sampling seed,
    whichever algorithm made them."""

    rows: list[dict[str, Any]]
    rewards: dict[str, Any]
    teacher: LocalTeacher | None
    limit: int
    """Most tokens of an answer."""
    batch_size: int
    temperature: float

    @classmethod
    def of(cls, task: RunConfig) -> "Ruler":
        """As the config of the task says. Its first reward counts as correct at 1 and above."""
        label = task.rewards[0].label
        return cls(
            rows=load_splits(task.data)[1] or [],
            rewards={"accuracy": build_rewards(task)[label]},
            teacher=LocalTeacher.from_pretrained(task.local_teacher.path)
            if task.local_teacher
            else None,
            limit=task.eval.max_completion_length or task.sampling.max_completion_length,
            batch_size=task.eval.batch_size,
            temperature=task.sampling.temperature,
        )

    def measure(self, model: Path | str) -> Figures:
        """The figures of the model in a folder.

        Returns:
            accuracy: share of the sampled answers that are right (mean@k).
            pass@8: that one of k is, mean over problems, unbiased.
            greedy: share of problems whose greedy answer is right.
            length: mean tokens of the sampled answers, end token included.
            entropy: −log π_S of their tokens, mean: an estimate of the entropy, nats a token.
            teacher_gap: log π_S − log π_T of their tokens, mean: k1's estimate of KL(S ‖ T), nats a
            token; only with a teacher.
        """
        network = AutoModelForCausalLM.from_pretrained(model)
        tokenizer = AutoTokenizer.from_pretrained(model)
        answers = sample_answers(
            network, tokenizer, self.rows, SAMPLES, self.limit, self.batch_size, 0, self.temperature
        )
        repeated = [row for row in self.rows for _ in range(SAMPLES)]
        right_NG = self._right(answers, tokenizer, repeated).view(-1, SAMPLES)
        greedy = answer_greedily(network, tokenizer, self.rows, self.limit, self.batch_size)
        counted_N = torch.full((len(right_NG),), SAMPLES)
        figures = {
            "accuracy": right_NG.double().mean().item(),
            f"pass@{SAMPLES}": pass_at_k(counted_N, right_NG.sum(-1), SAMPLES).mean().item(),
            "greedy": self._right(greedy, tokenizer, self.rows).double().mean().item(),
            "length": sum(map(len, answers.ids)) / len(answers.ids),
        }
        return figures | self._likelihoods(network, tokenizer, answers.ids, repeated)

    def _right(self, answers: Any, tokenizer: Any, rows: list[dict[str, Any]]) -> torch.Tensor:
        scored = score(answers, tokenizer, rows, self.rewards)
        # What cannot be graded is not right; held-out rows are checked before a run starts.
        return torch.tensor([(row["reward/accuracy"] or 0.0) >= 1.0 for row in scored])

    def _likelihoods(
        self, network: Any, tokenizer: Any, ids: list[list[int]], rows: list[dict[str, Any]]
    ) -> Figures:
        prompts = [prompt_ids(tokenizer, row["prompt"], {}) for row in rows]

        def logp_of(scorer: LocalTeacher) -> torch.Tensor:
            scores = scorer.score(prompts, ids, self.temperature)
            return torch.cat([scored.logp for scored in scores])

        own_M = logp_of(LocalTeacher(network, tokenizer))
        figures = {"entropy": -own_M.mean().item()}
        if self.teacher is not None:
            gap_M = own_M - logp_of(self.teacher)
            figures["teacher_gap"] = gap_M[gap_M.isfinite()].mean().item()
        return figures
