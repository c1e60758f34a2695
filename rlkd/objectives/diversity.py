"""How different the answers to one prompt are."""

import math
from collections.abc import Hashable, Sequence

import torch
from torch import Tensor


def expectation_adjusted_distinct(
    answers: Sequence[Sequence[Hashable]], vocabulary: int, n: int
) -> float:
    """EAD_n = D / E[D], E[D] = W (1 − (1 − 1/W)^C): the distinct n-grams D among the C of all
    answers together, over the number that C independent draws from W equally likely n-grams would
    hold. Plain distinct-n, D / C, falls with length whatever the text; this does not where the
    expectation holds. (Liu et al. 2022, arXiv 2202.13587, Eq. 3; per prompt as in arXiv
    2604.16027.)

    W is V^n, the number of n-grams over the vocabulary. The code of 2604.16027 keeps W = V for
    every n and clips at 1, which a small vocabulary reaches at once. Real text is not uniform, so
    the value still falls slowly with length: compare answers of like length.

    Args:
        answers: tokens of each answer.
        vocabulary: V, tokens that there are, at least 1.
        n: length of an n-gram, at least 1.

    Returns:
        At least 0 (seldom a little above 1); NaN where no answer has n tokens.
    """
    if vocabulary < 1 or n < 1:
        raise ValueError(f"vocabulary is {vocabulary} and n is {n}; both are at least 1")
    ngrams = [tuple(tokens[i : i + n]) for tokens in answers for i in range(len(tokens) - n + 1)]
    if not ngrams:
        return math.nan
    if vocabulary == 1:
        return 1.0
    possible = float(vocabulary) ** min(n, 300 / math.log10(vocabulary))
    expected = -possible * math.expm1(len(ngrams) * math.log1p(-1.0 / possible))
    return len(set(ngrams)) / expected


def vendi_score(similarity_GG: Tensor) -> float:
    """VS = exp(−Σ_i λ_i log λ_i), λ the eigenvalues of K/G: the effective number of different
    answers, from 1 (all alike) to G (none like another). (Friedman and Dieng 2023, arXiv
    2210.02410, Definition 3.1.)

    Args:
        similarity_GG: K, positive semi-definite with ones on its diagonal.

    Raises:
        ValueError: it is empty, not square, not finite, or its diagonal is not 1.
    """
    _check_similarity(similarity_GG)
    eigenvalue_G = torch.linalg.eigvalsh(similarity_GG.double() / len(similarity_GG))
    # Rounding gives −1e−17 where there is 0, whose term is 0.
    return math.exp(torch.special.entr(eigenvalue_G.clamp(min=0.0)).sum().item())


def mean_distance(similarity_GG: Tensor) -> float:
    """1 − the mean of K over pairs of different answers: the SBERT diversity of arXiv 2604.16027
    with another embedder. Unlike the Vendi score it does not grow with the number of answers, so
    all answers and the right ones among them can be compared.

    Args:
        similarity_GG: K, symmetric with ones on its diagonal.

    Returns:
        NaN for one answer alone.
    """
    _check_similarity(similarity_GG)
    size = len(similarity_GG)
    if size == 1:
        return math.nan
    off = similarity_GG.double().sum().item() - size
    return 1.0 - off / (size * (size - 1))


def _check_similarity(similarity_GG: Tensor) -> None:
    size = len(similarity_GG)
    if size == 0 or similarity_GG.shape != (size, size):
        raise ValueError(f"a similarity of shape {tuple(similarity_GG.shape)} is no (G, G), G ≥ 1")
    if not similarity_GG.isfinite().all():
        raise ValueError("the similarity is not finite")
    if (similarity_GG.diagonal().double() - 1.0).abs().max() > 1e-4:
        raise ValueError(
            f"an answer's similarity to itself is {similarity_GG.diagonal().min().item():g}, not 1"
        )
