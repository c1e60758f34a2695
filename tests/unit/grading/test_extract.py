"""Where the answer stands in a completion, and where there is none."""

import time

import pytest

from rlkd.grading import grade
from rlkd.grading.extract import extract

FOUND = [
    ("The answer is 42.", "42"),
    ("The answer is \\boxed{41}. Wait, that is wrong: \\boxed{42}", "42"),
    ("<think>\\boxed{1}</think>So \\boxed{2}", "2"),
    ("<think>a</think>The answer is $42$.", "42"),
    ("x</think>\\boxed{8}", "8"),
    ("\\fbox{42}", "42"),
    ("\\boxed 9", "9"),
    ("\\boxed{\\frac{1}{2}}", "\\frac{1}{2}"),
    ("\\boxed{\\{1, 2\\}}", "\\{1, 2\\}"),
    ("\\boxed{5} and \\boxed{7}", "5, 7"),
    ("First: \\boxed{5}.\n\nSecond part: \\boxed{7}", "7"),
    ("\\boxed{3}, \\boxed{3}", "3"),
    ("\\boxed{3}<|im_end|>", "3"),
    ("\\boxed{3}</s></s>", "3"),
    ("\\boxed{40}\\%", "40\\%"),
    ("Write it in \\boxed{} please. \\boxed{6}", "6"),
    ("The correct option is B, since 4 > 3.", "B"),
    ("Answer: **B**", "B"),
    ("#### -5", "-5"),
    ("<answer> 3/4 </answer>", "3/4"),
    ("Thus, the total is 47.", "47"),
    ("Thus we get 5 + 6 = 11.", "11"),
    ("**Final Answer**\n\n42", "42"),
    ("The answer is 7.\nThe answer is 8.", "8"),
    ("The answer is: \\[ \\frac{3}{4} \\]", "\\frac{3}{4}"),
    ("The answer is not 4. The answer is 5.", "5"),
]
ABSENT = [
    ("", "no_answer"),
    ("So the total is 12 + 30 = 42", "truncated"),
    ("<think>\\boxed{42}</think>", "no_answer"),
    ("<think>\\boxed{42}", "no_answer"),
    ("<think>a</think>b<think>\\boxed{42}", "no_answer"),
    ("\\boxed{42", "truncated"),
    ("\\boxed{1} then \\boxed{42", "truncated"),
    ("<answer>3/4", "truncated"),
    ("The answer is", "truncated"),
    ("We used 2 * 17 = 34 above and 5 below.", "no_answer"),
    ("The answer is $5$, or maybe $7$.", "hedged"),
    ("The answer is probably 5", "hedged"),
    ("The answer is 5, I think", "hedged"),
    ("$\\boxed{5}$ (or maybe $\\boxed{7}$)", "hedged"),
    ("\\boxed{5} or 6", "hedged"),
    ("Either \\boxed{4}, or maybe \\boxed{6}.", "hedged"),
    ("\\boxed{7} is wrong", "no_answer"),
    ("The answer is not $\\boxed{7}$", "no_answer"),
]


@pytest.mark.parametrize(("completion", "answer"), FOUND)
def test_the_answer_is_found(completion, answer):
    found = extract(completion)
    assert (found.text.strip(), found.status) == (answer, "ok")


@pytest.mark.parametrize(("completion", "status"), ABSENT)
def test_what_is_no_answer_says_why(completion, status):
    found = extract(completion)
    assert found.status == status
    assert found.rule
    verdict = grade(completion, "42")
    assert (verdict.score, verdict.status, verdict.method) == (0.0, status, "extract")


def test_the_last_number_of_a_text_is_never_taken():
    text = "First 3, then 4, at last 42"
    assert grade(text, "42").score == 0.0
    assert grade(text + "!", "42").score == 0.0


@pytest.mark.parametrize(
    "unit",
    [
        "\\boxed{1} ",
        "$",
        "the answer is ",
        "<think>",
        "</think>",
        "#### ",
        "\\[ ",
        "is = ",
        "{",
        "**",
        "Therefore, ",
        "1,000 ",
        "\\boxed{",
        "<answer>",
        "\n\n",
        "so. ",
        "\\text{",
    ],
)
def test_time_is_linear_in_the_length(unit):
    def seconds(size):
        text = "x" + unit * (size // len(unit))
        return min(_timed(text) for _ in range(3))

    small, large = seconds(60_000), seconds(960_000)
    assert large < 0.1 or large < 60 * small, (small, large)
    assert large < 1.5


def _timed(text):
    start = time.process_time()
    extract(text)
    return time.process_time() - start


def test_five_megabytes_of_prose_are_read_quickly():
    text = "Let us see; 2 + 2 = 4, so the answer is near. " * 110_000 + "\\boxed{42}"
    assert len(text) > 5_000_000
    assert _timed(text) < 1.0
    assert extract(text).text == "42"
