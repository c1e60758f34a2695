"""Before any training: is every gold answer one that the reward can tell from a wrong one?"""

import functools
import inspect
import json
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rlkd.config import ConfigError, RunConfig
from rlkd.data import Row, check_columns, load_rows, prepare
from rlkd.door import build_rewards, check_model_folder
from rlkd.rewarding.reward import GuardedReward
from rlkd.rewarding.setup import close, guard

MARK = "GOLD"
WRAPPINGS = (
    "GOLD", "\\boxed{GOLD}", "#### GOLD", "#GOLD", "<answer>GOLD</answer>", "The answer is GOLD."
)  # fmt: skip
"""How a model may write an answer; `GOLD` stands for it."""
GOLD_COLUMNS = ("answer", "gold", "solution", "target", "ground_truth", "label")
_CHUNK = 256
_SHOWN = 60
_PLAIN_NUMBER = re.compile(r"\s*[+-]?[0-9][0-9,]*(?:\.[0-9]+)?\s*", re.ASCII)


@dataclass
class Problem:
    """One thing that is wrong, and the rows (split, index) that have it."""

    title: str
    why: str
    rows: list[tuple[str, int]] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    matters: bool = True

    def add(self, split: str, row: int, example: str) -> None:
        """One more row; the first three are kept as examples."""
        self.rows.append((split, row))
        if len(self.examples) < 3:
            self.examples.append(f"{split} row {row}: {example}")


@dataclass
class Report:
    """What an audit found."""

    splits: dict[str, list[Row]]
    gold_column: str
    reward: str
    limit: int | None
    """Most tokens of a prompt; None: not known."""
    verified: dict[str, int] = field(default_factory=dict)
    """Wrapping -> how many golds get full marks in it."""
    problems: list[Problem] = field(default_factory=list)

    @property
    def wrong(self) -> bool:
        """Did it find anything that matters?"""
        return any(problem.rows and problem.matters for problem in self.problems)

    def lines(self) -> list[str]:
        """The report for people."""
        rows = sum(map(len, self.splits.values()))
        sizes = ", ".join(f"{len(part)} {name}" for name, part in self.splits.items())
        limit = "no limit known" if self.limit is None else f"at most {self.limit} prompt tokens"
        lines = [
            f"rows: {sizes}; gold: column {self.gold_column!r}; reward: {self.reward}; {limit}",
            "",
            f"{'a gold written as':<24}full marks",
        ]
        lines += [f"{wrap:<24}{count} of {rows}" for wrap, count in self.verified.items()]
        names = list(self.splits)
        lines += ["", f"{'problem':<24}" + "".join(f"{name:>8}" for name in names)]
        for problem in self.problems:
            counts = [sum(split == name for split, _ in problem.rows) for name in names]
            lines.append(f"{problem.title:<24}" + "".join(f"{count:>8}" for count in counts))
        for problem in self.problems:
            if problem.rows:
                allowed = "" if problem.matters else " (data.allow_overlap accepts it)"
                lines += ["", f"{problem.title}{allowed}: {problem.why}"]
                lines += [f"  {example}" for example in problem.examples]
        if not any(self.verified.values()):
            columns = ", ".join(next(iter(self.splits.values()))[0])
            lines += [
                "",
                "No gold passes at all. Perhaps another column is the gold (--gold COLUMN; there"
                f" are {columns}),",
                "or the answer is written in another way (--wrap TEXT, GOLD for the gold).",
            ]
        return lines


def audit(
    config: RunConfig,
    *,
    gold_column: str | None = None,
    wrap: str | None = None,
    limit: int | None = None,
    lengths: bool = True,
) -> Report:
    """Checks the rows of a config through its first reward, without a model.

    A gold must get full marks (at least 1) in one of the wrappings, and in that wrapping a changed
    gold must not. Reads the student's tokenizer.

    Args:
        gold_column: the column with the gold; None: the one that the reward asks for.
        wrap: a way to write an answer, `GOLD` for the answer; None: `WRAPPINGS` are tried.
        limit: most tokens of a prompt; None: what the student's context leaves beside
            sampling.max_completion_length.
        lengths: look at the lengths of prompts.

    Raises:
        ConfigError: the config or the data cannot be used, or no column is the gold.
    """
    if wrap is not None and MARK not in wrap:
        raise ConfigError(f"rlkd audit: --wrap {wrap!r} has no {MARK} where the answer goes")
    splits = {"train": prepare(load_rows(config.data.train, "train"), config.data, "train")}
    if config.data.eval is not None:
        splits["eval"] = prepare(load_rows(config.data.eval, "eval"), config.data, "eval")
    functions = build_rewards(config)
    check_columns(functions, splits["train"][0])
    name = config.rewards[0].label
    column = _gold_column(gold_column, functions[name], list(splits["train"][0]))
    folder = check_model_folder(config.model.path, "model.path") if lengths else Path()
    if lengths and limit is None:
        limit = _context(folder, config.sampling.max_completion_length)
    report = Report(splits, column, name, limit)
    first = config.model_copy(update={"rewards": config.rewards[:1]})
    rewards = guard(first, functions)
    try:
        _audit_golds(report, rewards[name], [wrap] if wrap is not None else list(WRAPPINGS))
    finally:
        close(rewards)
    _audit_prompts(report, config.data.allow_overlap)
    if lengths and limit is not None:
        _audit_lengths(report, folder, limit, config.model.chat_template_kwargs)
    return report


def changed(gold: str, others: Sequence[str]) -> list[str]:
    """Answers that are wrong where `gold` is right, in the same shape.

    Its first digit that is not 0 differs by one (large enough for any tolerance); a plain number
    other than 0 also has its sign turned; a gold without digits is replaced by another row's.
    """
    digit = re.search(r"[1-9]", gold) or re.search(r"0", gold)
    if digit is None:
        other = (text for text in others if _key(text) != _key(gold))
        return [text for text in [next(other, None)] if text is not None]
    number = int(digit.group())
    new = number + 1 if number < 9 else 8
    answers = [f"{gold[: digit.start()]}{new}{gold[digit.end() :]}"]
    if number and _PLAIN_NUMBER.fullmatch(gold):
        bare = gold.strip()
        answers.append(bare[1:] if bare[0] == "-" else f"-{bare.lstrip('+')}")
    return answers


def _audit_golds(report: Report, reward: GuardedReward, wrappings: list[str]) -> None:
    bad = Problem("bad gold", "it gets no full marks itself, however it is written")
    loose = Problem("loose gold", "a changed answer gets full marks too")
    failed = Problem("reward fails", "the function fails on the gold itself (see the warnings)")
    report.problems += [bad, loose, failed]
    report.verified = dict.fromkeys(wrappings, 0)
    for split, rows in report.splits.items():
        golds = [_text(row[report.gold_column]) for row in rows]
        accepted: list[list[str]] = [[] for _ in rows]
        got: list[list[float | None]] = [[] for _ in rows]
        for wrap in wrappings:
            values, failures = _values(reward, rows, [wrap.replace(MARK, g) for g in golds])
            for i, value in enumerate(values):
                got[i].append(value)
                if value is not None and value >= 1:
                    accepted[i].append(wrap)
                    report.verified[wrap] += 1
            for i in failures:
                if (split, i) not in failed.rows:
                    failed.add(split, i, _cut(golds[i]))
        for i, wraps in enumerate(accepted):
            if not wraps:
                silent = all(value is None for value in got[i])
                said = "cannot be graded (None)" if silent else f"gets {_best(got[i]):g}"
                bad.add(split, i, f"{_cut(golds[i])} {said}")
        _try_changed(loose, split, reward, rows, golds, accepted)


def _try_changed(
    loose: Problem,
    split: str,
    reward: GuardedReward,
    rows: list[Row],
    golds: list[str],
    accepted: list[list[str]],
) -> None:
    distinct = list(dict.fromkeys(golds))[:50]
    tries = [
        (i, answer, wraps[0].replace(MARK, answer))
        for i, wraps in enumerate(accepted)
        if wraps
        for answer in changed(golds[i], distinct)
    ]
    values, _ = _values(reward, [rows[i] for i, _, _ in tries], [text for _, _, text in tries])
    for (i, answer, _), value in zip(tries, values, strict=True):
        if value is not None and value >= 1 and (split, i) not in loose.rows:
            loose.add(split, i, f"{_cut(answer)} passes for {_cut(golds[i])}")


def _audit_prompts(report: Report, allow_overlap: bool) -> None:
    twice = Problem("duplicate prompt", "the same prompt stands in the same split before")
    unlike = Problem("two golds", "the same prompt has another gold before")
    shared = Problem("train/held-out overlap", "a held-out prompt is also a training prompt")
    shared.matters = not allow_overlap
    report.problems += [twice, unlike, shared]
    seen: dict[str, dict[str, tuple[int, str]]] = defaultdict(dict)
    for split, rows in report.splits.items():
        for i, row in enumerate(rows):
            key, gold = _key(row["prompt"]), _text(row[report.gold_column])
            before = seen[split].setdefault(key, (i, gold))
            if before[0] != i:
                twice.add(split, i, f"as row {before[0]}: {_cut(row['prompt'])}")
            earlier = [part[key] for part in seen.values() if key in part]
            if any(other != gold for _, other in earlier):
                unlike.add(split, i, f"{_cut(gold)}, not {_cut(earlier[0][1])}")
            if split == "eval" and key in seen["train"]:
                shared.add(split, i, f"as train row {seen['train'][key][0]}: {_cut(row['prompt'])}")


def _audit_lengths(report: Report, folder: Path, limit: int, template: dict[str, Any]) -> None:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    long = Problem("long prompt", f"more than {limit} tokens of the student's tokenizer")
    report.problems.append(long)
    for split, rows in report.splits.items():
        for i, row in enumerate(rows):
            prompt = row["prompt"]
            if not isinstance(prompt, str):
                prompt = tokenizer.apply_chat_template(
                    prompt, add_generation_prompt=True, tokenize=False, **template
                )
            tokens = len(tokenizer(prompt)["input_ids"])
            if tokens > limit:
                long.add(split, i, f"{tokens} tokens: {_cut(prompt)}")


def _values(
    reward: GuardedReward, rows: list[Row], texts: list[str]
) -> tuple[list[float | None], list[int]]:
    """What the reward says of one completion per row, and the rows on which it failed."""
    values: list[float | None] = []
    failures: list[int] = []
    for start in range(0, len(rows), _CHUNK):
        part, said = rows[start : start + _CHUNK], texts[start : start + _CHUNK]
        chat = not isinstance(part[0]["prompt"], str)
        completions = [[{"role": "assistant", "content": t}] for t in said] if chat else said
        given = reward(
            prompts=[row["prompt"] for row in part],
            completions=completions,
            completion_ids=[[] for _ in part],
            trainer_state=None,
            log_extra=_drop,
            log_metric=_drop,
            **{key: [row[key] for row in part] for key in part[0] if key != "prompt"},
        )
        values += given
        failures += [start + row for row in reward.last_faults]
    return values, failures


def _gold_column(wanted: str | None, function: Any, columns: list[str]) -> str:
    if wanted is not None:
        if wanted not in columns:
            raise ConfigError(
                f"rlkd audit: --gold {wanted}: there is no such column.\n"
                f"  found: {', '.join(columns)}"
            )
        return wanted
    fixed = function.keywords if isinstance(function, functools.partial) else {}
    asked = [name for name in inspect.signature(function).parameters if name not in fixed]
    asked = [name for name in asked if name in columns and name != "prompt"]
    likely = [name for name in GOLD_COLUMNS if name in (asked or columns)]
    found = asked if len(asked) == 1 else likely
    if not found:
        raise ConfigError(
            "rlkd audit: which column is the gold answer?\n"
            f"  found: {', '.join(columns)}\n  do: add --gold COLUMN"
        )
    return found[0]


def _context(folder: Path, completion: int) -> int | None:
    """Tokens that the student's positions leave for a prompt; None where it names no limit."""
    path = folder / "config.json"
    if not path.is_file():
        return None
    about = json.loads(path.read_text(encoding="utf-8"))
    positions = (about.get("text_config") or about).get("max_position_embeddings")
    return positions - completion if isinstance(positions, int) else None


def _text(gold: Any) -> str:
    return gold if isinstance(gold, str) else json.dumps(gold, ensure_ascii=False, default=str)


def _key(prompt: Any) -> str:
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=str)
    return " ".join(text.split())


def _best(values: list[float | None]) -> float:
    return max(value for value in values if value is not None)


def _cut(text: Any) -> str:
    shown = repr(text)
    return shown if len(shown) <= _SHOWN else f"{shown[:_SHOWN]}…"


def _drop(*_: Any) -> None:
    """TRL's log helpers, with nothing to log to."""
