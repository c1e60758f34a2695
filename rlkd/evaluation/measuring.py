"""From what the rewards say of answers to the measures, the numbers of each row, and notes."""

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rlkd.data import Row
from rlkd.errors import ConfigError
from rlkd.evaluation import measures
from rlkd.evaluation.answers import Answers
from rlkd.evaluation.embedding import Embedder
from rlkd.evaluation.result import Measure
from rlkd.evaluation.scoring import as_completions
from rlkd.evaluation.settings import Settings
from rlkd.evaluation.votes import Voter, labels


@dataclass(frozen=True)
class Measured:
    """The parts of an `Evaluation` that its answers decide."""

    measures: dict[str, Measure]
    rows: list[dict[str, Any]]
    notes: list[str]


def measure(
    rows: Sequence[Row],
    written: Answers,
    scored: Sequence[dict[str, float | None]],
    reward: str,
    settings: Settings,
    tokenizer: Any,
    voter: Voter | None,
    embed: Embedder,
) -> Measured:
    """The measures of `settings.answers` answers to each row; votes and diversity for two or more.

    Args:
        written: the answers to row i stand at n·i … n·i + n − 1.
        scored: one per answer, as `rlkd.evaluation.scoring.score` gives them.
        reward: the name of the verifiable one.
        voter: None: maj@k is left out, and a note says why.

    Raises:
        ConfigError: the reward could grade none of the answers; the voter or the embedder fails.
    """
    n = settings.answers
    digests = [digest(row["prompt"]) for row in rows]
    graded = _graded(digests, scored, reward, n)
    others = measures.lengths(graded)
    others |= measures.rewards(
        {
            name.removeprefix("reward/"): _column(scored, name, n)
            for name in scored[0]
            if name.startswith("reward/")
        },
        graded.prompt_N,
    )
    found = measures.correctness(graded, settings.ks)
    notes: list[str] = []
    majority: list[float | None] = [None] * len(rows)
    if n > 1:
        texts = tokenizer.batch_decode(written.ids, skip_special_tokens=True)
        text_NG = [texts[i : i + n] for i in range(0, len(texts), n)]
        said = _labels(rows, text_NG, voter)
        if said is None:
            notes.append(_no_votes(reward))
        else:
            more, majority, odd = measures.votes(graded, said, settings.ks)
            found |= more
            notes += [_odd_votes(odd, reward)] * bool(odd)
        others |= measures.diversity(graded, text_NG, _bodies(written, n), len(tokenizer), embed)
    return Measured(found | others, _per_row(digests, graded, majority), notes)


def digest(prompt: Any) -> str:
    """12 hex digits that are the same for the same prompt, whatever else its row holds."""
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _graded(
    digests: list[str], scored: Sequence[dict[str, float | None]], reward: str, n: int
) -> measures.Graded:
    number = {prompt: i for i, prompt in enumerate(dict.fromkeys(digests))}
    mark_NG = _column(scored, f"reward/{reward}", n)
    if mark_NG.isnan().all():
        raise ConfigError(
            f"evaluation: reward {reward!r} could grade none of the {mark_NG.numel()} answers.\n"
            "  why: there is nothing to measure\n"
            "  do: look at the gold answers (rlkd audit) and at the warnings above"
        )
    return measures.Graded(
        (mark_NG >= 1.0).double().masked_fill(mark_NG.isnan(), math.nan),
        _column(scored, "length", n),
        _column(scored, "truncated", n),
        torch.tensor([number[prompt] for prompt in digests]),
    )


def _column(scored: Sequence[dict[str, float | None]], name: str, n: int) -> Tensor:
    """(N, G) float64; NaN for None."""
    values = [math.nan if (value := row[name]) is None else value for row in scored]
    return torch.tensor(values, dtype=torch.float64).view(-1, n)


def _labels(
    rows: Sequence[Row], text_NG: list[list[str]], voter: Voter | None
) -> list[list[Any]] | None:
    """What each answer says; None where nothing says which are the same."""
    if voter is None:
        return None
    said = []
    for row, text_G in zip(rows, text_NG, strict=True):
        label_G = labels(voter, row, as_completions(row, text_G))
        if label_G is None:
            return None
        said.append(label_G)
    return said


def _bodies(written: Answers, n: int) -> list[list[list[int]]]:
    """The tokens of each answer without the one that ended it."""
    bodies = [
        ids if cut else ids[:-1] for ids, cut in zip(written.ids, written.truncated, strict=True)
    ]
    return [bodies[i : i + n] for i in range(0, len(bodies), n)]


def _per_row(
    digests: list[str], graded: measures.Graded, majority: list[float | None]
) -> list[dict[str, Any]]:
    columns = (
        digests,
        graded.counts_NG.sum(-1).tolist(),
        graded.right_NG.nansum(-1).long().tolist(),
        graded.tokens_NG.sum(-1).long().tolist(),
        majority,
    )
    names = ("prompt", "counted", "correct", "tokens", "majority")
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _no_votes(reward: str) -> str:
    return (
        f"no maj@k: reward {reward!r} does not say which answers are the same; name a function"
        " that does (--answers module:name), or give the reward an attribute `answers`"
    )


def _odd_votes(rows: int, reward: str) -> str:
    return (
        f"in {rows} rows reward {reward!r} marks answers differently that count as the same vote"
        " (or marks one without a vote as correct); there the vote's correctness is the mean over"
        " those who gave the answer"
    )
