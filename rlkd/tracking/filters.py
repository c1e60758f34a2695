"""Which rollouts a person wants to see: the words of the command line as a filter over columns."""

import operator
import re
from collections.abc import Callable, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from rlkd.errors import ConfigError, nearest
from rlkd.rewarding.calling import FAULTS
from rlkd.tracking.reading import RolloutFiles

STATUSES = ("correct", "wrong", "ungraded", "truncated", *FAULTS)
"""correct: the first reward's full mark, 1; wrong: less; ungraded: it gave none; truncated: cut off
by the length limit, whatever the reward; the others: that fault of any reward."""
SORTS = {
    "length": "tokens",
    "reward": "reward",
    "advantage": "advantage",
    "gap": "teacher_gap",
    "entropy": "entropy",
    "step": "step",
}
_COMPARISON = re.compile(r"\s*([\w/.-]+?)\s*(<=|>=|!=|==|=|<|>)\s*(.+?)\s*")
_COMPARE: dict[str, Callable] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "=": operator.eq, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip


def steps(text: str) -> tuple[int, int]:
    """`40` or `10:20` (either end may be missing) as the first and the last step."""
    match = re.fullmatch(r"(\d*)(:?)(\d*)", text)
    if match is None or text in ("", ":"):
        raise ConfigError(f"--step {text}: a step, or a range like 10:20, 10: or :20")
    low, colon, high = match.groups()
    first = int(low or 0)
    return first, first if not colon else int(high) if high else 2**62


def status(name: str, run: RolloutFiles) -> pc.Expression:
    """The rows of a status; see `STATUSES`."""
    if name == "truncated":
        return pc.field(_column("truncated", run)) == True  # noqa: E712 (builds an expression)
    if name in FAULTS:
        columns = [c for c in run.schema.names if c.startswith("status/")]
        if not columns:
            raise ConfigError(f"--status {name}: this run did not store the rewards' statuses")
        return _any([pc.field(column) == name for column in columns])
    if name not in STATUSES:
        raise ConfigError(
            f"--status {name}: there is no such status.\n  expected: {', '.join(STATUSES)}\n"
            f"  did you mean: {nearest(name, STATUSES)}"
        )
    if not run.rewards:
        raise ConfigError(f"--status {name}: no reward is stored")
    mark = pc.field(f"reward/{run.rewards[0]}")
    return {"correct": mark >= 1.0, "wrong": mark < 1.0, "ungraded": mark.is_null()}[name]


def comparison(text: str, run: RolloutFiles) -> pc.Expression:
    """`reward/accuracy<0.5`, `tokens >= 100`, `band=hard`, `truncated=false`, `reward=null`."""
    match = _COMPARISON.fullmatch(text)
    if match is None:
        raise ConfigError(f"--where {text}: expected COLUMN, one of < <= > >= = !=, and a value")
    name, sign, value = match.groups()
    column = pc.field(_column(name, run))
    if value == "null" and sign in ("=", "==", "!="):
        return ~column.is_null() if sign == "!=" else column.is_null()
    kind = run.schema.field(name).type
    try:
        return _COMPARE[sign](column, _value(value, kind))
    except (ValueError, pa.ArrowInvalid):
        raise ConfigError(f"--where {text}: {name} is {kind}, and {value!r} is not") from None


def contains(text: str) -> pc.Expression:
    """Rows whose prompt or completion holds the text, upper and lower case alike."""
    # pyarrow makes its functions when it is imported, which a type checker does not see.
    match = pc.match_substring  # pyright: ignore[reportAttributeAccessIssue]
    columns = ("prompt", "completion")
    return _any([match(pc.field(column), text, ignore_case=True) for column in columns])


def together(parts: Sequence[pc.Expression]) -> pc.Expression | None:
    """All of them; None: no filter."""
    whole = None
    for part in parts:
        whole = part if whole is None else whole & part
    return whole


def _any(parts: Sequence[pc.Expression]) -> pc.Expression:
    whole = parts[0]
    for part in parts[1:]:
        whole = whole | part
    return whole


def _column(name: str, run: RolloutFiles) -> str:
    if name not in run.schema.names or pa.types.is_list(run.schema.field(name).type):
        plain = [f.name for f in run.schema if not pa.types.is_list(f.type)]
        raise ConfigError(
            f"the rollouts of this run have no column {name}.\n"
            f"  did you mean: {nearest(name, plain)}\n  found: {', '.join(plain)}"
        )
    return name


def _value(text: str, kind: pa.DataType) -> object:
    if pa.types.is_boolean(kind):
        if text.lower() not in ("true", "false"):
            raise ValueError(text)
        return text.lower() == "true"
    return text if pa.types.is_string(kind) else float(text)
