"""The measures of an evaluation, out of n answers to each of N rows.

| name | what it is |
|---|---|
| `pass@k` | probability that one of k answers is correct, unbiased (`rlkd.objectives.pass_at_k`) |
| `mean@n` | share of correct ones among all graded answers |
| `maj@k` | expected correctness of the answer that most of k give (`objectives.majority`) |
| `length`, `length/correct`, `length/wrong` | mean tokens of an answer, end token included |
| `truncated` | share of answers cut off by the length limit |
| `correct_per_1k_tokens` | correct answers per thousand generated tokens |
| `reward/NAME` | mean of that reward over the answers that it can grade |
| `ead/*` | expectation-adjusted distinct n-grams of tokens, mean over n = 1 … 5 |
| `vendi/*` | Vendi score: effective number of different answers, at most their number |
| `distance/*` | mean cosine distance between two answers |
| `answers/distinct` | distinct final answers, as the reward reads them |

The last four groups are of the answers to one row, mean over rows: `/all` of all its answers,
`/correct` of the correct ones among them, over the rows that have at least two (as arXiv
2604.16027 does). A row has fewer correct answers than answers, and `vendi` grows with their number;
`distance` does not. Every standard error is clustered by prompt (`objectives.clustered`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from rlkd.evaluation.embedding import Embedder, similarity
from rlkd.evaluation.result import Measure
from rlkd.evaluation.votes import count
from rlkd.objectives.clustered import ratio_of_sums, sums_by_cluster
from rlkd.objectives.diversity import (
    expectation_adjusted_distinct,
    mean_distance,
    vendi_score,
)
from rlkd.objectives.majority import maj_at_k
from rlkd.objectives.pass_at_k import pass_at_k

NGRAMS = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Graded:
    """G answers to each of N rows, and what the verifiable reward says of them."""

    right_NG: Tensor
    """1.0 where it gives its full mark, else 0.0; NaN where it cannot grade."""
    tokens_NG: Tensor
    truncated_NG: Tensor
    prompt_N: Tensor
    """int64: rows with the same prompt have the same number, 0, 1, …"""

    @property
    def counts_NG(self) -> Tensor:
        """Which answers could be graded."""
        return ~self.right_NG.isnan()


def correctness(graded: Graded, ks: Sequence[int]) -> dict[str, Measure]:
    """pass@k, mean@n and the correct answers per thousand tokens."""
    counted_N = graded.counts_NG.sum(-1)
    correct_N = graded.right_NG.nansum(-1)
    found = {f"pass@{k}": per_row(pass_at_k(counted_N, correct_N, k), graded.prompt_N) for k in ks}
    found[f"mean@{graded.right_NG.shape[1]}"] = per_answer(graded.right_NG, graded.prompt_N)
    spent_N = graded.tokens_NG.where(graded.counts_NG, 0).sum(-1)
    rate, se = ratio_of_sums(
        1000.0 * sums_by_cluster(correct_N, graded.prompt_N),
        sums_by_cluster(spent_N, graded.prompt_N),
    )
    found["correct_per_1k_tokens"] = Measure(rate, se, int((counted_N > 0).sum()))
    return found


def lengths(graded: Graded) -> dict[str, Measure]:
    """Tokens of all, of correct and of wrong answers, and the share that was cut off."""
    tokens_NG, right_NG = graded.tokens_NG.double(), graded.right_NG
    return {
        "length": per_answer(tokens_NG, graded.prompt_N),
        "length/correct": per_answer(
            tokens_NG.masked_fill(right_NG != 1.0, math.nan), graded.prompt_N
        ),
        "length/wrong": per_answer(
            tokens_NG.masked_fill(right_NG != 0.0, math.nan), graded.prompt_N
        ),
        "truncated": per_answer(graded.truncated_NG.double(), graded.prompt_N),
    }


def votes(
    graded: Graded, label_NG: Sequence[Sequence[object]], ks: Sequence[int]
) -> tuple[dict[str, Measure], list[float | None], int]:
    """maj@k for k > 1, and the number of distinct answers.

    Args:
        label_NG: what each answer says (`rlkd.evaluation.votes.labels`).

    Returns:
        The measures; maj@n of each row, n its graded answers (None: none graded); and in how many
        rows the reward did not treat equal answers alike.
    """
    value_NK = torch.full((len(label_NG), len(ks)), math.nan, dtype=torch.float64)
    distinct_N = torch.full((len(label_NG),), math.nan, dtype=torch.float64)
    majority: list[float | None] = []
    odd = 0
    for i, (label_G, right_G, counts_G) in enumerate(
        zip(label_NG, graded.right_NG.tolist(), graded.counts_NG.tolist(), strict=True)
    ):
        graded_G = [(a, r) for a, r, known in zip(label_G, right_G, counts_G, strict=True) if known]
        sizes, right, silent, agrees = count([a for a, _ in graded_G], [r for _, r in graded_G])
        odd += not agrees
        distinct_N[i] = float(len(sizes)) if graded_G else math.nan
        for j, k in enumerate(ks):
            if k <= len(graded_G):
                value_NK[i, j] = maj_at_k(sizes, right, silent, k)
        n = len(graded_G)
        majority.append(maj_at_k(sizes, right, silent, n) if n else None)
    found = {
        f"maj@{k}": per_row(value_NK[:, j], graded.prompt_N) for j, k in enumerate(ks) if k > 1
    }
    found["answers/distinct"] = per_row(distinct_N, graded.prompt_N)
    return found, majority, odd


def diversity(
    graded: Graded,
    text_NG: Sequence[Sequence[str]],
    token_NG: Sequence[Sequence[Sequence[int]]],
    vocabulary: int,
    embed: Embedder,
) -> dict[str, Measure]:
    """EAD, Vendi score and distance, of all answers to a row and of its correct ones.

    Args:
        token_NG: token ids of each answer, without its end token.
        vocabulary: tokens that the tokenizer knows.
    """
    names = [f"{kind}/{which}" for which in ("all", "correct") for kind in _KINDS]
    values: dict[str, list[float]] = {name: [] for name in names}
    for texts, tokens, right in zip(text_NG, token_NG, graded.right_NG == 1.0, strict=True):
        near_GG = similarity(embed, texts)
        for which, chosen in (("all", torch.ones_like(right)), ("correct", right)):
            index = chosen.nonzero().flatten()
            row = [math.nan] * len(_KINDS)
            if len(index) >= 2:
                part = near_GG[index][:, index]
                row = [
                    mean_ead([tokens[i] for i in index.tolist()], vocabulary),
                    vendi_score(part),
                    mean_distance(part),
                ]
            for kind, value in zip(_KINDS, row, strict=True):
                values[f"{kind}/{which}"].append(value)
    return {
        name: per_row(torch.tensor(values[name], dtype=torch.float64), graded.prompt_N)
        for name in sorted(names)
    }


_KINDS = ("ead", "vendi", "distance")


def mean_ead(answers: Sequence[Sequence[int]], vocabulary: int) -> float:
    """EAD, mean over n = 1 … 5 as in arXiv 2604.16027, leaving out an n that no answer has."""
    found = [expectation_adjusted_distinct(answers, vocabulary, n) for n in NGRAMS]
    known = [value for value in found if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def rewards(value_NG: Mapping[str, Tensor], prompt_N: Tensor) -> dict[str, Measure]:
    """Means of rewards by their names; NaN where one cannot grade."""
    return {f"reward/{name}": per_answer(value, prompt_N) for name, value in value_NG.items()}


def per_row(value_N: Tensor, prompt_N: Tensor) -> Measure:
    """The mean over rows; NaN does not count."""
    return per_answer(value_N[:, None], prompt_N)


def per_answer(value_NG: Tensor, prompt_N: Tensor) -> Measure:
    """The mean over all answers of all rows; NaN does not count."""
    known_NG = ~value_NG.isnan()
    value, se = ratio_of_sums(
        sums_by_cluster(value_NG.double().nansum(-1), prompt_N),
        sums_by_cluster(known_NG.sum(-1), prompt_N),
    )
    return Measure(value, se, int(known_NG.any(-1).sum()))
