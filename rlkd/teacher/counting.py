"""What a local teacher's network does, counted."""

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rlkd.teacher.base import Usage


class Counting:
    """Mixin of LocalTeacher: counts the forwards of its backbone."""

    usage: Usage | None

    def _start_counting(self, backbone: Any) -> None:
        self.usage = Usage()
        backbone.register_forward_pre_hook(self._count, with_kwargs=True)

    def _count(self, module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        ids = kwargs.get("input_ids", args[0] if args else None)
        if self.usage is not None and ids is not None:
            self.usage.tokens += ids.numel()
            # One position a row continues a text that was read before.
            self.usage.rows += ids.shape[0] if ids.shape[-1] > 1 else 0
            self.usage.rows += self._further_rows(kwargs)

    def _further_rows(self, inputs: dict[str, Any]) -> int:
        """Rows of a forward beside those that its shape shows."""
        return 0

    @contextmanager
    def _uncounted(self) -> Iterator[None]:
        """What is computed inside has cost nothing: a process looks at it once, so that a resumed
        run would have spent more than one that was not."""
        spent = dataclasses.replace(self.usage) if self.usage is not None else None
        try:
            yield
        finally:
            self.usage = spent
