"""From gathered rows to groups beside what is remembered of their prompts, and what follows from
it: shaped rewards, what a loss may know of a row's prompt, what is logged."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlkd.algorithms.component import Composed
from rlkd.batch import Groups
from rlkd.difficulty import Difficulty, prompt_key
from rlkd.tracking.bands import band_of, difficulty_metrics


def row_facts(prompts: Iterable[Any], lengths: Sequence[int], is_cut: Sequence[bool]) -> Tensor:
    """(R, 3) int64, to be gathered over the ranks: key of the prompt, tokens that the model wrote
    (the end token too, and none of a tool's), 1 where it ended by itself."""
    facts = [
        (prompt_key(prompt), length, not cut)
        for prompt, length, cut in zip(prompts, lengths, is_cut, strict=True)
    ]
    return torch.tensor(facts, dtype=torch.int64)


def correctness(verifiable_NG: Tensor, own_NG: Tensor | None = None) -> dict[str, Tensor]:
    """(R,) per row: `correct` (the verifiable reward's full mark, 1) and `group_accuracy` (share of
    such rows among the gradable ones of the group that are the student's own, `own_NG`; NaN where
    none is)."""
    correct_NG, gradable_NG = verifiable_NG >= 1.0, ~verifiable_NG.isnan()
    if own_NG is not None:
        gradable_NG = gradable_NG & own_NG
    accuracy_N = (correct_NG & gradable_NG).sum(-1) / gradable_NG.sum(-1)
    return {
        "correct": correct_NG.reshape(-1),
        "group_accuracy": accuracy_N.repeat_interleave(verifiable_NG.shape[1]),
    }


@dataclass(frozen=True)
class Shaped:
    """A training batch of all ranks after its prompts' records and the components had their say."""

    reward_NG: Tensor
    """Rewards that become advantages."""
    known: dict[str, Tensor]
    """(R,) per row: `shaped` reward, `hard` (x ∈ D_h), `band` (a place in `BANDS`), `correct`
    (the verifiable reward's full mark), `group_accuracy` (share of such rows among the gradable
    ones of the group; NaN where none is)."""
    metrics: dict[str, float]
    """The same on every rank."""


class Grouping:
    """Keeps the difficulty records of a run and reads every training batch through them.

    Args:
        prompts: all training prompts; empty where they are streamed.
    """

    def __init__(self, objective: Composed, prompts: Iterable[Any]) -> None:
        self.objective = objective
        """Whose components shape the rewards; it may be another later, with the same rules."""
        self.difficulty = Difficulty((prompt_key(p) for p in prompts), objective.rules())

    def shape(
        self,
        reward_NG: Tensor,
        verifiable_R: Tensor,
        facts_R3: Tensor,
        own_R: Tensor | None = None,
    ) -> Shaped:
        """Shape a batch by the records as they are, then let the records learn from it.

        Args:
            reward_NG: weighted sums of the rewards; NaN: not gradable.
            verifiable_R: the raw verifiable reward of each row; 1 and more counts as correct.
            facts_R3: see `row_facts`.
            own_R: False on traces: neither records nor accuracies speak of what the teacher wrote.
        """
        own_NG = None if own_R is None else own_R.view_as(reward_NG)
        groups = self._groups(reward_NG, verifiable_R, facts_R3, own_NG)
        verifiable_NG = verifiable_R.view_as(reward_NG)
        correct_NG, gradable_NG = groups.correct_NG, ~verifiable_NG.isnan()
        if own_NG is not None:
            gradable_NG = gradable_NG & own_NG
        shaped_NG = self.objective.rewards(groups)
        metrics = difficulty_metrics(groups, self.difficulty.threshold())
        if gradable_NG.any():
            metrics["accuracy"] = correct_NG[gradable_NG].double().mean().item()
        for component in self.objective.components:
            metrics |= component.group_measures(groups)
        if self.objective.components and not shaped_NG.isnan().all():
            metrics["reward_shaped"] = shaped_NG.nanmean().item()
        self.difficulty.learn(groups)
        size = reward_NG.shape[1]
        known = {
            "shaped": shaped_NG.reshape(-1),
            "hard": groups.hard_N.repeat_interleave(size),
            "band": band_of(groups.history_N).repeat_interleave(size),
            **correctness(verifiable_NG, own_NG),
        }
        return Shaped(shaped_NG, known, metrics)

    def learn(self, reward_NG: Tensor, verifiable_R: Tensor, facts_R3: Tensor) -> None:
        """Let the records learn from groups that are not trained on; see `shape`."""
        self.difficulty.learn(self._groups(reward_NG, verifiable_R, facts_R3))

    def _groups(
        self,
        reward_NG: Tensor,
        verifiable_R: Tensor,
        facts_R3: Tensor,
        own_NG: Tensor | None = None,
    ) -> Groups:
        key_NG, length_NG, ended_NG = (fact_R.view_as(reward_NG) for fact_R in facts_R3.unbind(-1))
        if (key_NG != key_NG[:, :1]).any():
            raise ValueError(
                f"rows {reward_NG.shape[1]} by {reward_NG.shape[1]} are not answers to one prompt: "
                "advantages and difficulty records would mix prompts"
            )
        verifiable_NG = verifiable_R.view_as(reward_NG)
        correct_NG, gradable_NG = verifiable_NG >= 1.0, ~verifiable_NG.isnan()
        if own_NG is not None:
            gradable_NG = gradable_NG & own_NG
        return self.difficulty.view(
            key_N=key_NG[:, 0],
            reward_NG=reward_NG,
            length_NG=length_NG,
            correct_NG=correct_NG,
            counted_NG=ended_NG.bool() & gradable_NG & ~reward_NG.isnan(),
        )
