"""The slow twin of the difficulty records and of CEEH's rewards: one prompt and one answer at a
time, in plain Python floats and dictionaries. CEEH arXiv 2602.22642, Eq. 9, 10, 13 to 16, and what
its official code does otherwise. None stands for "not known"."""

import math
from dataclasses import dataclass, field


@dataclass
class Answer:
    length: int
    correct: bool
    counted: bool = True


@dataclass
class Record:
    pass_rate: float | None = None
    shortest: float | None = None
    visits: int = 0


@dataclass
class Records:
    """`rules` has the fields of `rlkd.difficulty.Rules`."""

    rules: dict
    of: dict[int, Record] = field(default_factory=dict)

    def threshold(self) -> float | None:
        rates = []
        for record in self.of.values():
            if record.pass_rate is not None:
                rates.append(record.pass_rate)
            elif self.rules["unvisited"] == "minus_one":
                rates.append(-1.0)
        return math.fsum(rates) / len(rates) if rates else None

    def judged_rate(self, key: int, answers: list[Answer]) -> float | None:
        """The pass rate that makes the prompt hard or not."""
        return self.of[key].pass_rate if self.rules["hard_from"] == "history" else acc(answers)

    def is_hard(self, key: int, answers: list[Answer]) -> bool:
        rate, bound = self.judged_rate(key, answers), self.threshold()
        if rate is None or bound is None:
            return False
        return rate < bound if self.rules["hard_bound"] == "below" else rate <= bound

    def learn(self, groups: list[tuple[int, list[Answer]]]) -> None:
        together: dict[int, list[Answer]] = {}
        for key, answers in groups:
            together.setdefault(key, []).extend(answers)
        for key, answers in together.items():
            self._visit(self.of[key], answers)

    def _visit(self, record: Record, answers: list[Answer]) -> None:
        now = acc(answers)
        if now is None:
            return
        record.visits += 1
        old = record.pass_rate
        if old is None or (self.rules["restart_at_zero"] and old <= 0):
            record.pass_rate = now
        else:
            eta = self.rules["rate_up"] if old < now else self.rules["rate_down"]
            record.pass_rate = (1 - eta) * old + eta * now
        lengths = [a.length for a in answers if a.correct and a.counted]
        if not lengths:
            return
        shortest = float(min(lengths))
        if record.shortest is None:
            record.shortest = shortest
        elif self.rules["shortest"] == "minimum":
            record.shortest = min(record.shortest, shortest)
        else:
            a = 0.2 if shortest < record.shortest else 0.05
            record.shortest = a * shortest + (1 - a) * record.shortest


def acc(answers: list[Answer]) -> float | None:
    counted = [a for a in answers if a.counted]
    return sum(a.correct for a in counted) / len(counted) if counted else None


def gate_open(record: Record, answers: list[Answer], gate: str) -> bool:
    now = acc(answers)
    if now is None or record.pass_rate is None:
        return False
    return now > record.pass_rate if gate == "above" else now >= record.pass_rate


def length_term(
    record: Record, answers: list[Answer], beta: float, floor: float, floored: str, gate: str
) -> list[float]:
    """−β R_len of each answer."""
    added = []
    for answer in answers:
        counts = answer.correct and answer.counted and gate_open(record, answers, gate)
        if not counts or record.shortest is None:
            added.append(0.0)
            continue
        term = (record.shortest - answer.length) / record.shortest
        added.append(beta * max(floor, term) if floored == "term" else max(floor, beta * term))
    return added
