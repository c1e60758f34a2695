"""Diversity: distinct n-grams, the Vendi score, distances, and the embedder that needs nothing."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rlkd.errors import ConfigError
from rlkd.evaluation.embedding import character_ngrams, similarity
from rlkd.objectives.diversity import (
    expectation_adjusted_distinct,
    mean_distance,
    vendi_score,
)
from tests.reference import evaluation as slow

TEXTS = st.lists(st.text("ab#1", max_size=6), min_size=1, max_size=7)


# distinct n-grams


@pytest.mark.parametrize(("vocabulary", "tokens"), [(3, 4), (2, 5), (5, 3)])
def test_unlikely_repeats_are_measured_against_chance(vocabulary, tokens):
    answers = [[0] * tokens]
    want = 1 / slow.expected_distinct(vocabulary, tokens)
    assert expectation_adjusted_distinct(answers, vocabulary, 1) == pytest.approx(want)


def test_ead_hand_worked():
    # Bigrams of 0 1 0 1 and 1 1: 01 10 01, 11: three of four; W = 2² = 4.
    want = 3 / (4 * (1 - 0.75**4))
    got = expectation_adjusted_distinct([[0, 1, 0, 1], [1, 1]], 2, 2)
    assert got == pytest.approx(want)


def test_length_alone_changes_little():
    """Uniform text of any length has 1, where distinct-1 falls to a tenth."""
    draw = torch.Generator().manual_seed(0)
    for tokens in (50, 500, 5000):
        text = torch.randint(500, (tokens,), generator=draw).tolist()
        assert expectation_adjusted_distinct([text], 500, 1) == pytest.approx(1, abs=0.06)
        assert len(set(text)) / tokens <= (1, 0.7, 0.11)[(50, 500, 5000).index(tokens)]


def test_ead_at_its_ends():
    assert math.isnan(expectation_adjusted_distinct([[1], []], 10, 2))
    assert expectation_adjusted_distinct([[1, 2]], 150_000, 1) == pytest.approx(1.0, abs=1e-4)
    assert expectation_adjusted_distinct([[1] * 400], 150_000, 200) == pytest.approx(1 / 201)
    assert expectation_adjusted_distinct([[0, 0]], 1, 1) == 1.0
    with pytest.raises(ValueError, match="both are at least 1"):
        expectation_adjusted_distinct([[1]], 0, 1)


# Vendi score


@given(TEXTS)
def test_vendi_is_the_twins_and_between_one_and_all(texts):
    near_GG = similarity(character_ngrams, texts)
    score = vendi_score(near_GG)
    assert score == pytest.approx(slow.vendi(near_GG.tolist()), rel=1e-6)
    assert 1 - 1e-9 <= score <= len(texts) + 1e-9


@given(st.text(max_size=20), st.integers(1, 6))
def test_copies_are_one_answer(text, times):
    near_GG = similarity(character_ngrams, [text] * times)
    assert vendi_score(near_GG) == pytest.approx(1.0, abs=1e-9)
    if times > 1:
        assert mean_distance(near_GG) == pytest.approx(0.0, abs=1e-12)


@given(TEXTS)
def test_vendi_of_everything_twice_is_the_same(texts):
    once = vendi_score(similarity(character_ngrams, texts))
    assert vendi_score(similarity(character_ngrams, texts * 2)) == pytest.approx(once, rel=1e-9)


def test_vendi_hand_worked():
    assert vendi_score(torch.eye(5)) == pytest.approx(5.0)
    # Eigenvalues of [[1, c], [c, 1]] / 2: (1 ± c) / 2; for c = 0.6: 0.8 and 0.2.
    near_GG = torch.tensor([[1.0, 0.6], [0.6, 1.0]])
    want = math.exp(-0.8 * math.log(0.8) - 0.2 * math.log(0.2))
    assert vendi_score(near_GG) == pytest.approx(want, rel=1e-6)
    assert mean_distance(near_GG) == pytest.approx(0.4, rel=1e-6)
    # Two of one kind, one of another: exp of the entropy of (2/3, 1/3).
    three_GG = torch.tensor([[1.0, 1, 0], [1, 1, 0], [0, 0, 1]])
    assert vendi_score(three_GG) == pytest.approx(3 / 2 ** (2 / 3), rel=1e-6)
    assert mean_distance(three_GG) == pytest.approx(2 / 3)
    assert math.isnan(mean_distance(torch.eye(1)))


@pytest.mark.parametrize(
    ("near_GG", "said"),
    [
        (torch.zeros(0, 0), "no .G, G"),
        (torch.ones(2, 3), r"\(2, 3\)"),
        (2 * torch.eye(2), "to itself is 2"),
        (torch.tensor([[1.0, math.nan], [math.nan, 1.0]]), "not finite"),
    ],
)
def test_what_is_no_similarity(near_GG, said):
    for measure in (vendi_score, mean_distance):
        with pytest.raises(ValueError, match=said):
            measure(near_GG)


# embedder


@given(TEXTS)
def test_every_text_has_a_direction_of_its_own_whatever_stands_beside_it(texts):
    vectors = character_ngrams(texts)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0)
    alone = np.concatenate([character_ngrams([text]) for text in texts])
    assert (vectors == alone).all()


def test_the_hash_is_the_same_everywhere():
    """Seven marks and characters: 7, 6 and 5 n-grams, of which none meet in a bucket. A trigram's
    share is 1/√5 of its five, times 1/√3 of the three lengths."""
    (vector,) = character_ngrams(["8,4#6"])
    places = {2994: -1, 3233: -1, 3337: 1, 3678: 1}  # four of the trigrams
    for place, sign in places.items():
        assert vector[place] == pytest.approx(sign / math.sqrt(15), abs=1e-12)
    assert (vector != 0).sum() == 7 + 6 + 5


def test_likeness_follows_spelling():
    near_GG = similarity(character_ngrams, ["3+5=8 so #8", "3+5=8 so #9", "xyz", ""])
    assert near_GG[0, 1] > 0.7 > 0.3 > near_GG[0, 2].abs()
    assert (near_GG.diagonal() == 1).all()
    order = similarity(character_ngrams, ["ab", "ba"])[0, 1]
    assert 0 < order < 0.9  # the same letters, not the same text


@pytest.mark.parametrize(
    ("embed", "said"),
    [
        (lambda texts: np.zeros((len(texts), 3)), "a vector is zero or not finite"),
        (lambda texts: np.full((len(texts), 3), np.inf), "a vector is zero or not finite"),
        (lambda texts: np.ones((1, 3)), r"2 texts were given an array of shape \(1, 3\)"),
        (lambda texts: np.ones(len(texts)), r"shape \(2,\)"),
    ],
)
def test_an_embedder_that_gives_no_directions(embed, said):
    with pytest.raises(ConfigError, match=said):
        similarity(embed, ["a", "b"])
