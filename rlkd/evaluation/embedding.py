"""Texts as vectors, so that their likeness can be measured. Needs no model and no download.

An embedder is a function `embed(texts) -> (n, d)` array; another one is named as `module:name`. It
must give the same vectors for the same texts, and a vector that is not all zeros for each.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rlkd.errors import ConfigError

Embedder = Callable[[Sequence[str]], Any]

DEFAULT = "rlkd.evaluation.embedding:character_ngrams"
DIMENSIONS = 4096
LENGTHS = (1, 2, 3)
_MIX = np.uint64(0x9E3779B97F4A7C15)


def character_ngrams(texts: Sequence[str]) -> np.ndarray:
    """How often each character n-gram occurs, n = 1, 2, 3, hashed into 4,096 signed buckets
    (Weinberger et al. 2009, arXiv 0902.2206) and scaled to length 1 for each n.

    It sees spelling, not meaning: two answers are alike where they are written alike. A mark at
    both ends keeps the empty text a text. The hash is fixed: the same on every machine.

    Returns:
        (n, 4096) float64; the rows have length 1.
    """
    found = np.zeros((len(texts), DIMENSIONS))
    known: dict[str, np.ndarray] = {}
    for row, text in enumerate(texts):
        if text not in known:
            known[text] = _hashed(text)
        found[row] = known[text]
    return found


def similarity(embed: Embedder, texts: Sequence[str], place: str = "embedder") -> Tensor:
    """Cosines of the texts' vectors.

    Args:
        place: where the embedder is named; opens the error message.

    Returns:
        (n, n) float64 with ones on the diagonal.

    Raises:
        ConfigError: the embedder's answer is not one finite vector, other than 0, per text.
    """
    given = embed(texts)
    vectors_GD = torch.as_tensor(np.asarray(given, dtype=np.float64))
    if vectors_GD.ndim != 2 or len(vectors_GD) != len(texts):
        raise ConfigError(
            f"{place}: {len(texts)} texts were given an array of shape {tuple(vectors_GD.shape)}.\n"
            "  expected: (texts, dimensions)"
        )
    length_G = vectors_GD.norm(dim=-1)
    if not vectors_GD.isfinite().all() or (length_G == 0).any():
        raise ConfigError(
            f"{place}: a vector is zero or not finite.\n"
            "  why: its cosine with another would be no number"
        )
    unit_GD = vectors_GD / length_G[:, None]
    similarity_GG = unit_GD @ unit_GD.T
    similarity_GG.fill_diagonal_(1.0)
    return similarity_GG


def _hashed(text: str) -> np.ndarray:
    # A character is its code point, shifted past the two marks.
    codes = np.array([1, *(ord(letter) + 3 for letter in text), 2], dtype=np.uint64)
    vector = np.zeros(DIMENSIONS)
    for n in LENGTHS:
        if len(codes) < n:
            continue
        mixed = np.full(len(codes) - n + 1, n, dtype=np.uint64)
        for i in range(n):
            mixed = _mixed(mixed ^ codes[i : len(codes) - n + 1 + i])
        bucket = (mixed & np.uint64(DIMENSIONS - 1)).astype(np.int64)
        sign = np.where(mixed >> np.uint64(63), 1.0, -1.0)
        part = np.bincount(bucket, sign, DIMENSIONS)
        length = np.linalg.norm(part)
        if length > 0:
            vector += part / length
    return vector / np.linalg.norm(vector)


def _mixed(value: np.ndarray) -> np.ndarray:
    """A bijection of 64 bits after which every bit hangs on every other (splitmix64)."""
    value = value + _MIX
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return value ^ (value >> np.uint64(31))
