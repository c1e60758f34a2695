"""The columns of stored rollouts: what each is, and its type. Read without torch.

A file holds one generation batch of one rank; a reader takes columns that a file lacks as null.
"""

import pyarrow as pa

MANIFEST = "manifest.jsonl"
"""Beside the step files: one line per finished file (step, rank, attempt, rows, file)."""

_NUMBER, _TOKENS = pa.float64(), pa.list_(pa.float32())
COLUMNS: dict[str, tuple[pa.DataType, str]] = {
    "step": (pa.int64(), "the optimiser step that first learnt from it, counted from 1"),
    "rank": (pa.int64(), "the process that sampled it"),
    "attempt": (pa.int64(), "1, and one more each time the run was resumed"),
    "policy_version": (pa.int64(), "optimiser steps that the weights which sampled it had seen"),
    "source": (
        pa.string(),
        "who wrote it: student, or teacher (a trace); only where a run has traces",
    ),
    "prompt": (pa.string(), "text, or chat messages as JSON"),
    "completion": (pa.string(), "what the model wrote, special tokens included"),
    "tokens": (pa.int64(), "tokens of the completion, the end token included"),
    "tool_tokens": (pa.int64(), "those of them that tools wrote; only in an environment of tools"),
    "truncated": (pa.bool_(), "did the length limit come before an end token?"),
    "advantage": (_NUMBER, ""),
    "band": (pa.string(), "difficulty band of the prompt before the step"),
    "reward": (_NUMBER, "weighted sum of the rewards before any shaping; null: not gradable"),
    "entropy": (
        _NUMBER,
        "mean over the tokens that the student wrote, nats, when first learnt from",
    ),
    "entropy_max": (_NUMBER, "the largest of them"),
    "teacher_logp": (_NUMBER, "log π_T, mean over them, nats"),
    "teacher_gap": (_NUMBER, "log π_S − log π_T, mean over them, nats"),
    "teacher_gap_min": (_NUMBER, "at the token that the teacher likes best beside the student"),
    "teacher_gap_max": (_NUMBER, "at the token that the teacher likes least beside the student"),
    "token_text": (pa.list_(pa.string()), "its tokens as text; only for tracking.token_rows"),
    "token_teacher_log_ratio": (
        _TOKENS,
        "log π_T − log π_S of each, nats; null: masked, a tool's for example",
    ),
    "token_entropy": (_TOKENS, "entropy of π_S before each, nats"),
}
"""Column -> its type and what it is. Besides: `reward/NAME` (null: not gradable; `reward/shaped`:
the sum after the components had their say) and `status/NAME` (ok, or the fault: crashed, timeout,
wrong_count, not_a_number; null: that reward does not say)."""


def type_of(column: str) -> pa.DataType | None:
    """The type that a column has in every file, however many of its values are null; None: as the
    values say."""
    if column in COLUMNS:
        return COLUMNS[column][0]
    return {"reward": _NUMBER, "status": pa.string()}.get(column.partition("/")[0])
