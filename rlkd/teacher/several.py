"""Several teachers: one for each kind of row, or all of them for every token."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rlkd.errors import nearest
from rlkd.teacher.base import Student, Teacher, TeacherError, TokenScores, Usage
from rlkd.teacher.columns import missing_column
from rlkd.teacher.scores import fault_of
from rlkd.teacher.threads import Threads


class Several(Teacher):
    """Abstract: several teachers with names of their own.

    Args:
        teachers: at least two, by name.
    """

    def __init__(self, teachers: Mapping[str, Teacher]) -> None:
        if len(teachers) < 2:
            raise ValueError(f"teachers names {', '.join(teachers) or 'nobody'}; give at least two")
        self.teachers = dict(teachers)
        able = [t.scores_at for t in self.teachers.values() if t.scores_at is not None]
        self.scores_at = frozenset.intersection(*able) if able else None
        self.temperature = _one(
            "temperature", {name: t.temperature for name, t in self.teachers.items()}
        )
        self.shares_student = any(t.shares_student for t in self.teachers.values())
        self.computes_here = any(t.computes_here for t in self.teachers.values())
        self.ends_last = any(t.ends_last for t in self.teachers.values())
        ends = {t.end_token_ids for t in self.teachers.values() if t.end_token_ids}
        self.end_token_ids = frozenset().union(*ends)

    @property
    def usage(self) -> Usage | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of all together; None where one of them does not count."""
        found = [teacher.usage for teacher in self.teachers.values()]
        counted = [usage for usage in found if usage is not None]
        if len(counted) < len(found):
            return None
        return Usage(sum(u.rows for u in counted), sum(u.tokens for u in counted))

    def meet(self, student: Student) -> None:
        for teacher in self.teachers.values():
            teacher.meet(student)

    def prepare(self, device: torch.device) -> None:
        for teacher in self.teachers.values():
            teacher.prepare(device)

    def check_tokenizer(self, tokenizer: object, model_vocab_size: int) -> None:
        for teacher in self.teachers.values():
            teacher.check_tokenizer(tokenizer, model_vocab_size)

    def after_update(self, step: int) -> None:
        for teacher in self.teachers.values():
            teacher.after_update(step)

    def check_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        for teacher in self.teachers.values():
            teacher.check_rows(rows)

    def learnt(self) -> Mapping[str, Any]:
        return {
            f"{place}_{word}": piece
            for place, teacher in enumerate(self.teachers.values())
            for word, piece in teacher.learnt().items()
        }

    def measures(self) -> Mapping[str, tuple[float, float]]:
        """Of one name, the sums over those that have it."""
        found: dict[str, tuple[float, float]] = {}
        for teacher in self.teachers.values():
            for name, (total, count) in teacher.measures().items():
                before = found.get(name, (0.0, 0.0))
                found[name] = (before[0] + total, before[1] + count)
        return found

    def readers(self) -> Mapping[str, Any]:
        each = (teacher.readers() for teacher in self.teachers.values())
        return {name: tokenizer for readers in each for name, tokenizer in readers.items()}

    def give_up(self) -> None:
        for teacher in self.teachers.values():
            teacher.give_up()

    def close(self) -> None:
        for teacher in self.teachers.values():
            teacher.close()

    def _ask_each(self, asked: Mapping[str, tuple]) -> dict[str, list[TokenScores]]:
        """What the teachers say to their `score_rows`; those that compute elsewhere work beside the
        others."""
        elsewhere = [name for name in asked if not self.teachers[name].computes_here]
        threads = Threads(len(elsewhere), "teacher-of-several")
        futures = {n: threads.submit(self.teachers[n].score_rows, *asked[n]) for n in elsewhere}
        threads.close()  # they end with what they are at
        try:
            found = {
                name: self.teachers[name].score_rows(*words)
                for name, words in asked.items()
                if name not in futures
            }
            return found | {name: future.result() for name, future in futures.items()}
        except BaseException:
            for name, future in futures.items():
                if not future.done():
                    self.teachers[name].give_up()
            raise

    def score(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        temperature: float,
    ) -> list[TokenScores]:
        return self.score_rows([{}] * len(prompt_ids), prompt_ids, completion_ids, temperature)


class Routed(Several):
    """Each row is scored by the teacher that a column of the data names.

    Args:
        teachers: by the values of that column.
        column: its name.
    """

    def __init__(self, teachers: Mapping[str, Teacher], column: str) -> None:
        super().__init__(teachers)
        self.column = column
        self.name = f"teachers {', '.join(self.teachers)} by {column!r}"

    def check_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:
        if rows and self.column not in rows[0]:
            why = "it says which teacher scores a row"
            raise TeacherError(missing_column("column", self.column, rows[0], why))
        members: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            members.setdefault(str(row[self.column]), []).append(row)
        unknown = [name for name in members if name not in self.teachers]
        if unknown:
            count = sum(len(members[name]) for name in unknown)
            near = nearest(unknown[0], self.teachers)
            raise TeacherError(
                f"{count} of {len(rows)} rows name a teacher that is not there.\n"
                f"  found: in the column {self.column!r} {', '.join(map(repr, unknown[:5]))}"
                f"{' and others' * (len(unknown) > 5)}; the teachers are "
                f"{', '.join(self.teachers)}\n"
                f"  did you mean: {near} for {unknown[0]!r}\n"
                "  do: name a teacher for each value of the column under `teachers`, or leave "
                "those rows out"
            )
        for name, group in members.items():
            self.teachers[name].check_rows(group)

    def score_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        temperature: float,
    ) -> list[TokenScores]:
        members: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            name = str(row.get(self.column))
            if name not in self.teachers:
                raise TeacherError(
                    f"row {place} names teacher {row.get(self.column)!r} in column "
                    f"{self.column!r}; the teachers are {', '.join(self.teachers)}"
                )
            members.setdefault(name, []).append(place)

        def of(values: Sequence[Any], places: list[int]) -> list[Any]:
            return [values[place] for place in places]

        said = self._ask_each(
            {
                name: (
                    *(of(each, places) for each in (rows, prompt_ids, completion_ids)),
                    temperature,
                )
                for name, places in members.items()
            }
        )
        found: dict[int, TokenScores] = {}
        for name, places in members.items():
            _check_number(name, said[name], len(places))
            found |= dict(zip(places, said[name], strict=True))
        return [found[place] for place in range(len(rows))]


class Mixed(Several):
    """All teachers score every token; their distributions are mixed, π_T = Σ_k w_k π_k.

    Args:
        teachers: by name.
        weights: w_k by the same names, above 0; they are divided by their sum. None: equal.
    """

    def __init__(
        self, teachers: Mapping[str, Teacher], weights: Mapping[str, float] | None = None
    ) -> None:
        super().__init__(teachers)
        weights = dict.fromkeys(self.teachers, 1.0) if weights is None else dict(weights)
        if weights.keys() != self.teachers.keys():
            raise ValueError(
                f"weights are for {', '.join(weights)}, teachers are {', '.join(self.teachers)}; "
                "give each teacher a weight, by the same names"
            )
        if not all(w > 0.0 and math.isfinite(w) for w in weights.values()):
            raise ValueError(
                f"weights are {weights}; each must be above 0 (a teacher without weight would be "
                "asked for nothing: leave it out)"
            )
        total = sum(weights.values())
        self.weights = {name: weights[name] / total for name in self.teachers}
        self.name = "teachers " + " + ".join(f"{w:.3g} {n}" for n, w in self.weights.items())

        self.begins = any(teacher.begins for teacher in self.teachers.values())

    def begin(
        self, prompt_ids: Sequence[int], completion_ids: Sequence[int], temperature: float
    ) -> bool:
        return any(
            [t.begin(prompt_ids, completion_ids, temperature) for t in self.teachers.values()]
        )

    def score_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        temperature: float,
    ) -> list[TokenScores]:
        words = (rows, prompt_ids, completion_ids, temperature)
        said = self._ask_each(dict.fromkeys(self.teachers, words))
        for name, scores in said.items():
            _check_number(name, scores, len(completion_ids))
        return [
            self._mixture(row, sent, {name: scores[row] for name, scores in said.items()})
            for row, sent in enumerate(completion_ids)
        ]

    def _mixture(
        self, row: int, sent: Sequence[int], said: Mapping[str, TokenScores]
    ) -> TokenScores:
        parts = []
        for name, scored in said.items():
            fault = fault_of(name, scored, sent, f"in row {row}")
            if fault is not None:  # of one of them: the mixture is not known
                return TokenScores.faulty(sent, fault)
            parts.append(scored.logp.float().cpu() + math.log(self.weights[name]))
        token_ids = torch.tensor(list(sent), dtype=torch.int64)
        return TokenScores(token_ids, torch.logsumexp(torch.stack(parts), 0))


def _check_number(name: str, scores: Sequence[TokenScores], asked: int) -> None:
    if len(scores) != asked:
        raise TeacherError(f"{name} was asked for {asked} and scored {len(scores)}")


def _one(what: str, values: Mapping[str, Any]) -> Any:
    if len(set(values.values())) > 1:
        said = ", ".join(f"{name}: {value}" for name, value in values.items())
        raise ValueError(f"the teachers differ in {what} ({said}); give all the same")
    return next(iter(values.values()))
