"""The traces of a run by their prompts, and which of them a group gets."""

import hashlib
import random
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Trace:
    """One answer, as the student's tokens, its end token included."""

    ids: tuple[int, ...]


@dataclass(frozen=True)
class Traces:
    """Answers that the teacher wrote, by the keys of their prompts (`rlkd.difficulty.prompt_key`).

    Args:
        of: key -> the prompt's traces, at least one, in an order that does not change.
    """

    of: dict[int, tuple[Trace, ...]] = field(repr=False)

    @classmethod
    def gather(cls, pairs: Iterable[tuple[int, Trace]]) -> "Traces":
        """From (key, trace) pairs, in their order."""
        found: dict[int, list[Trace]] = {}
        for key, trace in pairs:
            found.setdefault(key, []).append(trace)
        return cls({key: tuple(traces) for key, traces in found.items()})

    def __len__(self) -> int:
        return sum(map(len, self.of.values()))

    def __contains__(self, key: int) -> bool:
        return key in self.of

    @property
    def longest(self) -> int:
        """Tokens of the longest trace; 0 where there is none."""
        return max((len(t.ids) for traces in self.of.values() for t in traces), default=0)

    def pick(self, key: int, seed: tuple[int, int], place: int) -> Trace | None:
        """The trace of the prompt that stands at `place` among those of a group; None: it has none.

        The places of a group get different traces, in an order that `seed` and the prompt draw; a
        prompt with fewer traces than places begins anew.

        Args:
            seed: of the run, and the number of the generation batch.
            place: from 0.
        """
        traces = self.of.get(key)
        if not traces:
            return None
        order = random.Random(f"{seed[0]}/{seed[1]}/{key}").sample(range(len(traces)), len(traces))
        return traces[order[place % len(order)]]

    def digest(self) -> str:
        """The same for the same traces, whatever the order of the prompts."""
        hashed = hashlib.sha256()
        for key in sorted(self.of):
            hashed.update(repr((key, [trace.ids for trace in self.of[key]])).encode())
        return hashed.hexdigest()
