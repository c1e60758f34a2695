"""Where the answer stands in a completion; the formats; the reward that sees only the answer."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rewards.answer_span import answer_span
from rewards.completion import after_thinking, answer_of, boxes, last_box, tagged, text_of
from rewards.format import answer_tags, box, thinking
from rlkd.grading.extract import extract


@pytest.mark.parametrize(
    ("completion", "text"),
    [
        ("a", "a"),
        ([{"role": "assistant", "content": "a"}], "a"),
        ([{"content": "a"}, {"content": "b"}], "b"),
        ([{"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}], "ab"),
        ([{"content": [{"type": "image"}, "x", {"text": 3}]}], ""),
        ([{"role": "assistant", "tool_calls": []}], ""),
        ([{"role": "assistant", "content": "a"}, {"role": "tool", "content": "b"}], ""),
        ([], ""),
        (None, ""),
        (3, ""),
    ],
)
def test_the_text_of_a_completion(completion, text):
    assert text_of(completion) == text


@pytest.mark.parametrize(
    ("text", "after"),
    [
        ("5", "5"),
        ("<think>4</think> 5", " 5"),
        ("4</think>5", "5"),
        ("<think>4", None),
        ("<think>4</think>5<think>6", None),
        ("<think>a<think>b</think>5", "5"),
        ("<think>4</think>5</think>6", "6"),
        ("<reasoning>4</reasoning>5", "5"),
        ("<thinking>4</thinking>5", "5"),
        ("<thought>4</thought>5", "5"),
        ("<thought>4", None),
        ("<thinking>4", None),
        ("<reasoning>4", None),
        ("</think>", ""),
    ],
)
def test_what_follows_the_thinking(text, after):
    assert after_thinking(text) == after


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{5}", "5"),
        (r"\boxed{5} and \boxed{ 6 }", "6"),
        (r"\fbox {a{b}c}", "a{b}c"),
        (r"\boxed{\{1\}}", r"\{1\}"),
        (r"\boxed{5} \boxed{6", None),
        (r"\boxed 5", None),
        (r"\boxes{5}", None),
        ("5", None),
    ],
)
def test_the_last_box(text, content):
    assert last_box(text) == content


def test_all_boxes_and_none_if_one_is_cut_off():
    assert boxes(r"\boxed{1} \fbox{\boxed{2}}") == ["1", r"\boxed{2}"]
    assert boxes(r"\boxed{1} \boxed{") is None
    assert boxes("1") == []


def test_the_last_tag():
    assert tagged("<answer>1</answer> <answer> 2 </answer>") == "2"
    assert tagged("<answer>1</answer> <answer>2") is None
    assert tagged("</answer> 1") is None


@pytest.mark.parametrize(
    ("completion", "answer"),
    [
        (" 5 ", "5"),
        ("<think>4</think>5", "5"),
        ("<think>5", ""),
        (r"so \boxed{5}.", "5"),
        ("so <answer>5</answer>.", "5"),
        (r"<answer>it is \boxed{5}</answer> \boxed{6}", "5"),
        ("<answer>5", ""),
        (r"5 \boxed{", ""),
        (r"<think>\boxed{4}</think>5", "5"),
    ],
)
def test_the_answer(completion, answer):
    assert answer_of(completion) == answer


marks = "<think> </think> <thinking> </thinking> <thought> </reasoning> word".split()


@given(st.lists(st.sampled_from(marks), max_size=6))
def test_thinking_ends_where_the_grader_says(parts):
    text = " ".join(parts) + r" \boxed{7}"
    assert (after_thinking(text) is None) == (extract(text).rule == "unclosed thinking block")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<think>a</think>b", 1.0),
        (" \n<think>a\n</think>\nb", 1.0),
        ("<think> </think>b", 0.0),
        ("<think>a</think> ", 0.0),
        ("x<think>a</think>b", 0.0),
        ("a</think>b", 0.0),
        ("<think>a", 0.0),
        ("</think>a<think>b", 0.0),
        ("<think>a</think>b</think>c", 0.0),
        ("<think><think>a</think>b", 0.0),
        ("<think>a</think>b<think>", 0.0),
        ("", 0.0),
    ],
)
def test_one_thinking_block_and_an_answer(text, value):
    assert thinking([text, [{"role": "assistant", "content": text}]]) == [value, value]


def test_thinking_that_the_prompt_opened():
    texts = ["a</think>b", "<think>a</think>b", "a", "</think>b"]
    assert thinking(texts, prompt_opens=True) == [1.0, 0.0, 0.0, 0.0]


def test_other_tags_and_impossible_ones():
    assert thinking(["[a]b", "<think>a</think>b"], opening="[", closing="]") == [1.0, 0.0]
    with pytest.raises(ValueError, match="need two different tags, not '' and '</think>'"):
        thinking(["a"], opening="")
    with pytest.raises(ValueError, match="need two different tags"):
        thinking(["a"], opening="|", closing="|")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("<think>a</think><answer>b</answer>", 1.0),
        ("\n<think>a</think>\n <answer>b</answer>\n", 1.0),
        ("<think>a</think><answer> </answer>", 0.0),
        ("<think></think><answer>b</answer>", 0.0),
        ("<think>a</think>x<answer>b</answer>", 0.0),
        ("x<think>a</think><answer>b</answer>", 0.0),
        ("<think>a</think><answer>b</answer>x", 0.0),
        ("<answer>b</answer><think>a</think>", 0.0),
        ("<think>a</think><answer>b</answer><answer>b</answer>", 0.0),
        ("<think>a<answer>b</answer></think>", 0.0),
    ],
)
def test_thinking_and_answer_tags(text, value):
    assert answer_tags([text]) == [value]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"so \boxed{5}.", 1.0),
        (r"\boxed{\boxed{5}}", 1.0),
        (r"<think>\boxed{1} \boxed{</think>\boxed{5}", 1.0),
        (r"\boxed{5} \boxed{5}", 0.0),
        (r"\boxed{5} \boxed{", 0.0),
        (r"\boxed{ }", 0.0),
        (r"\box{5}", 0.0),
        (r"<think>\boxed{5}", 0.0),
        ("5", 0.0),
    ],
)
def test_one_box(text, value):
    assert box([text]) == [value]


OF = {"of": "rewards.exact:text"}


def test_only_what_follows_the_thinking_is_scored():
    texts = ["<think>7</think> 5", "<think>5</think> 7", "<think>5", "5", "4</think>5"]
    span = {"of": "rewards.choice:accuracy"}
    assert answer_span(texts, answer=["5"] * 5, **OF) == [1.0, 0.0, 0.0, 1.0, 1.0]
    assert answer_span(texts, answer=["5"] * 5, must_think=True, **OF) == [1.0, 0.0, 0.0, 0.0, 1.0]
    assert answer_span(["<think>x</think>The answer is C"], answer=["C"], **span) == [1.0]


def test_the_wrapped_reward_sees_the_cut_completions_and_all_columns(project):
    (project / "spies.py").write_text(
        "seen = {}\n"
        "def spy(completions, *, size=1, **columns):\n"
        "    seen.update(columns, completions=completions)\n"
        "    return [size] * len(completions)\n"
        "def short(completions, **columns):\n    return [1.0]\n"
        "def nan(completions, **columns):\n    return [float('nan'), 1]\n"
    )
    chat = [
        {"role": "user", "content": "hm"},
        {"role": "assistant", "content": "<think>a</think>b"},
    ]
    given = {"prompts": ["p", "q"], "completion_ids": [[1], [2]], "answer": ["x", "y"]}
    values = answer_span([chat, "a</think>b"], of="spies:spy", of_kwargs={"size": 3}, **given)
    from spies import seen  # pyright: ignore[reportMissingImports]

    assert values == [3.0, 3.0]
    assert seen == {"completions": [[chat[0], {"role": "assistant", "content": "b"}], "b"], **given}
    assert chat[1]["content"] == "<think>a</think>b"
    assert answer_span(["a", "b"], of="spies:nan") == [None, 1.0]
    with pytest.raises(ValueError, match="spies:short gave 1 values for 2 completions"):
        answer_span(["a", "b"], of="spies:short")
    with pytest.raises(ValueError, match="missing"):
        answer_span(["a"], of="spies:missing")


@given(st.text(max_size=40), st.sampled_from(["#5", " #7", "5", "", "#5#"]))
@example("#5", "#5")
def test_what_was_thought_never_changes_the_value(thought, answer):
    # rewards.arithmetic reads whole texts: a # in the thought would spoil the answer.
    texts = [f"<think>{t.replace('think', '')}</think>{answer}" for t in (thought, "")]
    first, second = answer_span(texts, of="rewards.arithmetic:accuracy", answer=["5"] * 2)
    assert first == second == float(answer == "#5")
