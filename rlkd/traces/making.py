"""Rejection sampling: the teacher answers, the run's own rewards judge, full marks are kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rlkd.difficulty import prompt_key
from rlkd.evaluation.answers import sample_answers
from rlkd.evaluation.scoring import score
from rlkd.teacher.tokens import describe_difference, end_token_ids
from rlkd.traces.file import Line, encode, fingerprint


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How the teacher is asked."""

    samples: int
    """Answers to each prompt."""
    temperature: float = 1.0
    top_p: float = 1.0
    max_completion_length: int
    """Most tokens of an answer; one that is cut off is not kept."""
    batch_size: int = 64
    """Answers per generation pass."""
    seed: int = 0


@dataclass(frozen=True)
class Made:
    """What came of it."""

    lines: list[Line]
    """The answers that were kept, as the file has them."""
    prompts: int
    answers: int
    generated_tokens: int
    """Of all answers, those that were thrown away too."""
    without: int
    """Prompts of which no answer was kept."""

    def __str__(self) -> str:
        kept = len(self.lines)
        return (
            f"traces: {kept} of {self.answers} answers to {self.prompts} prompts kept"
            f" ({kept / max(1, self.answers):.1%}), {self.without} prompts have none;"
            f" the teacher wrote {self.generated_tokens} tokens"
        )


def make(
    teacher: Any,
    teacher_tokenizer: Any,
    student_tokenizer: Any,
    rows: Sequence[dict[str, Any]],
    rewards: Mapping[str, Any],
    verifiable: str,
    asked: Asked,
    *,
    name: str = "",
    chat_template_kwargs: Mapping[str, Any] | None = None,
) -> Made:
    """Let the teacher answer the rows, and keep the answers that ended and have the full mark.

    The end token of a kept answer is the student's. Where the two tokenizers number tokens alike
    the teacher's own tokens are kept; otherwise its text, which is then encoded by the student's.

    Args:
        teacher: a causal language model of transformers, on its device.
        rewards: name -> function, as evaluation calls them.
        verifiable: the reward whose full mark, 1, keeps an answer.
        name: the teacher's, for the file.
    """
    answers = sample_answers(
        teacher, teacher_tokenizer, rows, asked.samples, asked.max_completion_length,
        asked.batch_size, asked.seed, asked.temperature, asked.top_p,
        chat_template_kwargs=chat_template_kwargs,
    )  # fmt: skip
    repeated = [row for row in rows for _ in range(asked.samples)]
    scored = score(answers, teacher_tokenizer, repeated, rewards)
    ends = end_token_ids(teacher, teacher_tokenizer)
    alike = not describe_difference(student_tokenizer.get_vocab(), teacher_tokenizer.get_vocab())
    how = {
        "teacher": name, "temperature": asked.temperature, "top_p": asked.top_p,
        "max_completion_length": asked.max_completion_length, "seed": asked.seed,
    }  # fmt: skip
    mine, lines = fingerprint(student_tokenizer), []
    judged = zip(repeated, answers.ids, answers.truncated, scored, strict=True)
    for row, ids, truncated, marks in judged:
        mark = marks[f"reward/{verifiable}"]
        if truncated or mark is None or mark < 1.0:
            continue
        inner = [token for token in ids if token not in ends]
        text = teacher_tokenizer.decode(inner, skip_special_tokens=False)
        known = alike and all(token < len(student_tokenizer) for token in inner)
        tokens = (
            [*inner, student_tokenizer.eos_token_id]
            if known
            else list(encode(text, student_tokenizer).ids)
        )
        if len(tokens) > asked.max_completion_length:  # in the student's tokens it may be longer
            continue
        line = {"prompt": row["prompt"], "text": text, "token_ids": tokens, "tokenizer": mine}
        line |= {key: value for key, value in marks.items() if key.startswith("reward/")}
        lines.append(line | {"sampling": how})
    return Made(
        lines,
        prompts=len(rows),
        answers=len(repeated),
        generated_tokens=sum(map(len, answers.ids)),
        without=len(rows) - len({prompt_key(line["prompt"]) for line in lines}),
    )
