"""Answers that look right and are not: each was called right by some version of this grader."""

import pytest

from rlkd.grading import grade

STATEMENTS = [
    "The answer is more than 3.", "The answer is at least 3.", "The answer is twice 3.",
    "The answer is 3 or more.", "The answer is 3 times the area.", "The answer is the square of 3.",
    "The answer is question 3.", "The answer is found in step 3.", "So the answer cannot be 3.",
    "Therefore the answer is larger than 3.", "Therefore, we have used theorem 3.",
    "Therefore, the 3 cases give different answers.", "So we need to check $3$ cases.",
    "So, we consider case 3.", "Thus none of the 3 options works.", "Therefore, x is not $3$.",
    "So the answer is at least $3$.", "So it cannot be $3$.", "Thus $x=3$ is impossible.",
    "Thus $x=3$ does not work.", "Therefore, $x=3$ is extraneous.", "So there are at most 3.",
    "The answer is $3$ times larger.", "\\boxed{3...}",
]  # fmt: skip
STATED = [
    "Hence the least value of $x$ is $3$.", "Hence the sum of the digits is 3.",
    "So the smallest number of steps is 3.", "Therefore, there are exactly 3 such integers.",
    "Therefore, John has 3 marbles left.", "Final answer: John walked 3 miles.", "So $f(2) = 3$.",
    "Hence, $3$ is the answer.", "Thus, the value of $x$ is $3$.", "The answer is, of course, 3.",
    "Therefore, $x=3$ is the only solution.", "The answer is $3$ miles.",
]  # fmt: skip
WRONG = [
    ("\\frac{abc}{4R}", "\\frac{abc}{2R}"), ("b^2-4ac", "b^2+4ac"), ("abc", "2abc"), ("a+c", "a-c"),
    ("x-c", "x+c+y"), ("\\frac{K}{s}", "\\frac{2K}{s}"), ("nC", "2nC"), ("C", "A"),
    ("x^2+C", "x^2+Cx"), ("y=Ce^x", "y=Ae^{2x}"), ("x^2+C", "x^2+y"),
    ("n!", "n!+(n-1)(n-2)(n-3)(n-4)(n-5)(n-6)(n-7)(n-8)"),
    ("red", "der"), ("dog", "god"), ("no", "on"), ("cat", "act"),
    ("\\{1,\\{2\\}\\}", "\\{1,2\\}"), ("\\{\\{1\\},\\{2\\}\\}", "\\{1,2\\}"),
    ("k\\pi,k\\in\\mathbb{Z}", "k\\pi,k\\in\\mathbb{N}"),
    ("3k,k\\in\\mathbb{Z}", "3k,k\\in\\mathbb{R}"),
    ("(1,\\infty)", "\\{n\\in\\mathbb{Z}: n>1\\}"), ("\\{n\\in\\mathbb{Z}: n>1\\}", "x>1"),
    ("(0,1)", "\\{x\\in\\mathbb{Q}\\mid 0<x<1\\}"), ("\\{2,-2\\}", "\\{x\\in\\mathbb{N}: x^2=4\\}"),
    ("(1,\\infty)", "\\{x\\in(0,4)\\mid x>1\\}"), ("(-1,1)", "\\{x\\in\\mathbb{C}: |x|<1\\}"),
    ("0^\\circ C", "0^\\circ F"), ("5", "5\\text{th root}"), ("5", "5=\\text{wrong}"),
    ("\\infty", "\\lim_{x\\to0}\\frac{1}{x}"), ("4:30\\text{ p.m.}", "4:30\\text{ a.m.}"),
]  # fmt: skip
RIGHT = [
    ("abc", "cba"), ("2ab", "2ba"), ("red", "\\text{Red}"), ("x^2+C", "C+x^2"),
    ("x^2+C", "x^2+K"),
    ("y=Ce^x", "y=Ae^x"), ("y=C_1\\cos x+C_2\\sin x", "y=A\\cos x+B\\sin x"), ("9", "9^{th}"),
    ("4:30\\text{ p.m.}", "4:30 PM"), ("6\\text{ p.m.}", "6:00 pm"),
    ("25^\\circ C", "25^\\circ\\text{C}"), ("(1,4)", "\\{x\\in(0,4)\\mid x>1\\}"),
    ("(0,1)", "\\{x\\in\\mathbb{R}: 0<x<1\\}"), ("\\{2,-2\\}", "\\{x\\in\\mathbb{R}\\mid x^2=4\\}"),
]  # fmt: skip


@pytest.mark.parametrize("completion", STATEMENTS)
def test_a_number_in_a_sentence_is_not_its_answer(completion):
    assert grade(completion, "3").score == 0.0


@pytest.mark.parametrize("completion", STATED)
def test_a_number_that_is_stated_is(completion):
    assert grade(completion, "3").score == 1.0


@pytest.mark.parametrize(("gold", "answer"), WRONG)
def test_a_near_miss_is_wrong(gold, answer):
    assert grade(f"\\boxed{{{answer}}}", gold, deadline_s=5.0).score == 0.0


@pytest.mark.parametrize(("gold", "answer"), RIGHT)
def test_and_what_is_equal_stays_right(gold, answer):
    assert grade(f"\\boxed{{{answer}}}", gold).score == 1.0
