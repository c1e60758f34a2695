"""Teachers that live in the student: no further model, at most a copy of what is trained.

They score with the student's own network, in its number format, with other weights put in for the
time of the pass, so their passes wait for the student's (`shares_student`).
"""

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

from rlkd.checkpoints.manifest import CheckpointError
from rlkd.teacher.base import Student, TeacherError
from rlkd.teacher.local import LocalTeacher


class InnerTeacher(LocalTeacher):
    """Abstract: a teacher inside the student. A subclass says which weights it scores with.

    Args:
        temperature, max_tokens, chunk_tokens: as of LocalTeacher.
    """

    shares_student = True
    _scoring = False

    def __init__(
        self,
        *,
        temperature: float | None = None,
        max_tokens: int = 16_384,
        chunk_tokens: int = 1_024,
    ) -> None:
        self._settle(temperature, max_tokens, chunk_tokens)
        self.tokenizer = None

    def meet(self, student: Student) -> None:
        shards = [name for name, p in student.model.named_parameters() if hasattr(p, "full_tensor")]
        if shards:
            raise TeacherError(
                f"{self.name} scores with the student's weights, and these are spread over the "
                f"processes ({shards[0]}, FSDP): each process has another number of passes, and "
                "they would wait for each other for ever. Take a local teacher, or DDP."
            )
        self._take(student.model)
        self.tokenizer = student.tokenizer

    def prepare(self, device: torch.device) -> None:
        return None  # the student is where it must be

    @contextmanager
    def _ready(self) -> Iterator[None]:
        training = self.model.training
        self.model.eval()
        self._scoring = True
        try:
            with self._weights():
                yield
        finally:
            self._scoring = False
            self.model.train(training)

    def learnt(self) -> Mapping[str, Any]:
        return {}  # the student is in the checkpoint, what its adapters stand on is looked at there

    def _count(self, module: Any, args: tuple, kwargs: dict[str, Any]) -> None:
        if self._scoring:  # the backbone is the student's, whose own passes are none of these
            super()._count(module, args, kwargs)

    @abstractmethod
    def _weights(self) -> AbstractContextManager[None]:
        """Inside it the student has the teacher's weights."""


class AdapterOff(InnerTeacher):
    """The model that the student's adapters (LoRA) were put on: the adapters are switched off while
    it scores. It costs no memory but its pass."""

    name = "teacher adapter-off"

    def meet(self, student: Student) -> None:
        if not hasattr(student.model, "disable_adapter"):
            raise TeacherError(
                f"{self.name} is the student without its adapters, and this student has none: it "
                "would be its own teacher. Set model.lora, or take a local teacher."
            )
        super().meet(student)

    def _weights(self) -> AbstractContextManager[None]:
        return self.model.disable_adapter()


class SelfTeacher(InnerTeacher):
    """The student as it was: a moving average of its trained weights, or a copy of them from some
    steps ago::

        every `every` optimiser steps:  θ_T ← decay θ_T + (1 − decay) θ_S,   θ_T = θ_S at the start

    With decay 0 it is the student of the last multiple of `every` steps, and with `every` 1 too the
    present one, of which no copy is kept. Only what is trained is copied (under LoRA: the
    adapters), in float32. The average is part of the checkpoint.

    Args:
        decay: weight of the old average, in [0, 1); 0.99 forgets half of it in 69 updates.
        every: optimiser steps between two updates.
        temperature, max_tokens, chunk_tokens: as of LocalTeacher.
    """

    name = "teacher self"

    def __init__(
        self,
        *,
        decay: float = 0.0,
        every: int = 1,
        temperature: float | None = None,
        max_tokens: int = 16_384,
        chunk_tokens: int = 1_024,
    ) -> None:
        if not 0.0 <= decay < 1.0:
            raise ValueError(f"decay is {decay}; it is the old average's weight, in [0, 1)")
        if every < 1:
            raise ValueError(f"every is {every}; it counts optimiser steps, at least 1")
        super().__init__(temperature=temperature, max_tokens=max_tokens, chunk_tokens=chunk_tokens)
        self.decay, self.every = decay, every
        self._averages: dict[str, Tensor] = {}

    @property
    def _keeps_copy(self) -> bool:
        return self.decay > 0.0 or self.every > 1

    def meet(self, student: Student) -> None:
        super().meet(student)
        if self._keeps_copy:
            self._averages = {name: w.detach().float().clone() for name, w in self._trained()}

    def _trained(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        return ((name, w) for name, w in self.model.named_parameters() if w.requires_grad)

    @torch.no_grad()
    def after_update(self, step: int) -> None:
        if not self._keeps_copy or step % self.every:
            return
        for name, weight in self._trained():
            average = self._averages[name].to(weight.device)
            self._averages[name] = average.lerp_(weight.float(), 1.0 - self.decay)

    def _weights(self) -> AbstractContextManager[None]:
        return self._swapped() if self._keeps_copy else nullcontext()

    @contextmanager
    def _swapped(self) -> Iterator[None]:
        own = {name: w.data for name, w in self._trained()}
        try:
            for name, weight in self._trained():
                weight.data = self._averages[name].to(weight.device, weight.dtype)
            yield
        finally:
            for name, weight in self._trained():
                weight.data = own[name]

    def learnt(self) -> Mapping[str, Any]:
        return {"self": self}

    def state(self) -> dict[str, Any]:
        """The averages, for a checkpoint."""
        return {"decay": self.decay, "every": self.every, "averages": self._averages}

    def restore(self, state: Mapping[str, Any]) -> str:
        """Raises:
        CheckpointError: the state is of another teacher, or of other weights.
        """
        theirs = {name: tuple(w.shape) for name, w in state["averages"].items()}
        ours = {name: tuple(w.shape) for name, w in self._averages.items()}
        if (state["decay"], state["every"], theirs) != (self.decay, self.every, ours):
            raise CheckpointError(
                f"the self-teacher in the checkpoint (decay {state['decay']}, every "
                f"{state['every']}, {len(theirs)} weights) is not this run's (decay {self.decay}, "
                f"every {self.every}, {len(ours)} weights)"
            )
        self._averages = {name: w.clone() for name, w in state["averages"].items()}
        return f"the average of {len(ours)} weights" if ours else "the student itself"
