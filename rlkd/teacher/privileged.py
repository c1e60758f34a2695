"""A teacher that is shown more than the student: a hint, a reference solution, the answer. The
setting of arXiv 2602.04942 with the student as its own teacher (`SelfTeacher` inside)."""

import string
from collections.abc import Mapping, Sequence
from typing import Any

from rlkd.teacher.base import Student, Teacher, TeacherError, TokenScores
from rlkd.teacher.columns import missing_column
from rlkd.teacher.wrapping import Wrapping

_NOTHING = (None, "", [])
_WHY = "the teacher is to read it in its prompt"


class Privileged(Wrapping):
    """The inner teacher with another prompt before the same answer.

    A text prompt becomes the filled template; of a chat, the content of the last message does, and
    where that is a list of parts, the last text among them: the other parts stay. It is then made
    into tokens as training makes its prompts: the student's chat template, with the turn of the
    assistant opened.

    Args:
        inner: who scores.
        template: text with `{prompt}`, once, and the names of the data's columns in braces:
            ``"{prompt}\\nThe answer is {answer}."``. ``{{`` and ``}}`` stand for braces.

    Raises:
        ValueError: the template has no `{prompt}`, names no column, or is no template.
    """

    def __init__(self, inner: Teacher, template: str) -> None:
        super().__init__(inner)
        self.template, self.columns = template, _columns(template)
        self.name = f"{inner.name}, shown {', '.join(self.columns)}"

    def check_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for name in self.columns if rows else ():
            if name not in rows[0]:
                raise TeacherError(missing_column("template", name, rows[0], _WHY))
            empty = [place for place, row in enumerate(rows) if row[name] in _NOTHING]
            if empty:
                raise TeacherError(
                    f"{len(empty)} of {len(rows)} rows have nothing in the column {name!r}, which "
                    f"the template shows to the teacher.\n  found: the first is row {empty[0]}\n"
                    "  why: the run would stop at the first of them\n"
                    "  do: fill the column, leave the rows out, or change the template"
                )
        for place, row in enumerate(rows):
            try:
                self._shown(row.get("prompt") or "", row)
            except (ValueError, TypeError, TeacherError) as error:
                raise TeacherError(
                    f"template is {self.template!r}, which row {place} cannot fill: {error}"
                ) from error
        self.inner.check_rows(rows)

    def meet(self, student: Student) -> None:
        super().meet(student)
        self._student = student

    def score_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        temperature: float,
    ) -> list[TokenScores]:
        shown = [self.prompt_ids(row) for row in rows]
        return self.inner.score_rows(rows, shown, completion_ids, temperature)

    def prompt_ids(self, row: Mapping[str, Any]) -> list[int]:
        """The tokens of the prompt that the teacher reads for this row.

        Raises:
            TeacherError: the row lacks a column that the template names, or it is empty there; the
            last message of its chat has no text.
        """
        missing = [name for name in ("prompt", *self.columns) if row.get(name) in _NOTHING]
        if missing:
            raise TeacherError(
                f"{self.name}: a row has nothing in column {missing[0]!r}, which the template "
                f"shows to the teacher (the row has {', '.join(sorted(row)) or 'no columns'}). "
                "Fill the column, leave the row out, or change the template."
            )
        shown, tokenizer = self._shown(row["prompt"], row), self._student.tokenizer
        if isinstance(shown, str):
            return tokenizer(shown)["input_ids"]
        return tokenizer.apply_chat_template(
            shown,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            **self._student.chat_template_kwargs,
        )["input_ids"]

    def _shown(self, prompt: Any, row: Mapping[str, Any]) -> Any:
        """The prompt, a text or a chat, with the template in it."""
        if isinstance(prompt, str):
            return self._filled(prompt, row)
        *before, last = prompt
        content = last.get("content")
        if isinstance(content, str):
            return [*before, {**last, "content": self._filled(content, row)}]
        parts: list[Any] = list(content or ())
        texts = [place for place, part in enumerate(parts) if _is_text(part)]
        if not texts:
            raise TeacherError(
                f"{self.name}: the last message of a chat has no text, which the template is to "
                f"show to the teacher (its content is {content!r})"
            )
        last_text = parts[texts[-1]]
        parts[texts[-1]] = {**last_text, "text": self._filled(last_text["text"], row)}
        return [*before, {**last, "content": parts}]

    def _filled(self, prompt: str, row: Mapping[str, Any]) -> str:
        return self.template.format(prompt=prompt, **{name: row[name] for name in self.columns})


def _is_text(part: Any) -> bool:
    """Of the content of a chat's message."""
    return isinstance(part, Mapping) and part.get("type") == "text" and bool(part.get("text"))


def _columns(template: str) -> tuple[str, ...]:
    """The columns that a template names, besides the prompt, in their order."""
    try:
        names = [name for _, name, _, _ in string.Formatter().parse(template) if name is not None]
    except ValueError as error:
        raise ValueError(f"template is {template!r}, which is no template: {error}") from error
    if names.count("prompt") != 1:
        raise ValueError(
            f"template is {template!r}; it must hold {{prompt}} once, where the prompt goes"
        )
    columns = tuple(dict.fromkeys(name for name in names if name != "prompt"))
    bad = [name for name in columns if not name.isidentifier()]
    if bad or not columns:
        found = f"{{{bad[0]}}}" if bad else "no column"
        raise ValueError(
            f"template is {template!r} and names {found}; it shows the teacher columns of the "
            "data, as in '{prompt} The answer is {answer}.'"
        )
    return columns
