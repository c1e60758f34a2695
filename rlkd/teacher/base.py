"""What a teacher is: something that scores tokens which the student sampled."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rlkd.objectives.chunked import Head


class TeacherError(RuntimeError):
    """The teacher cannot be used, or said something that cannot be right."""


@dataclass(frozen=True)
class TokenScores:
    """One answer's scores. `token_ids` echoes what was scored: whoever asked compares it with
    what was sent, so that scores of other tokens never reach a loss."""

    token_ids: Tensor
    """(T,) int64."""
    logp: Tensor
    """(T,) float32, nats, at the temperature asked for. −inf where the teacher rules it out."""
    hidden_TH: Tensor | None = None
    """(T, H), the teacher's dtype, on its device: the hidden states that its head made these scores
    of; only from `DistributionTeacher.score_with_hidden`."""
    fault: str | None = None
    """Why these are no scores of the answer, where the teacher knows it by itself; then the rest
    means nothing."""

    @classmethod
    def faulty(cls, sent: Sequence[int], fault: str) -> "TokenScores":
        """No scores of this answer, and why."""
        token_ids = torch.tensor(list(sent), dtype=torch.int64)
        return cls(token_ids, torch.zeros(len(token_ids)), fault=fault)


@dataclass
class Usage:
    """What a teacher's network has done so far, on this rank."""

    rows: int = 0
    """Texts read, scored or to be continued."""
    tokens: int = 0
    """Positions computed: prompts, answers and padding."""


@dataclass(frozen=True)
class Student:
    """What a teacher may need of the student before it can score: see `Teacher.meet`."""

    model: Any
    """The model itself, out of its wrappers, adapters included."""
    tokenizer: Any
    """A transformers tokenizer."""
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)
    """As training hands them to the chat template."""
    prompts: Sequence[Any] = ()
    """The first of the training data, texts or chats; none where they are streamed."""


class Teacher(ABC):
    """Abstract. Scores answers token by token; never generates."""

    name: str = "teacher"
    temperature: float | None = None
    """Temperature of the scores; None: the temperature at which the student samples."""
    end_token_ids: frozenset[int] = frozenset()
    """The tokens that end this teacher's own answers; empty where unknown."""
    usage: Usage | None = None
    """What it has cost so far; None: it does not count."""
    scores_at: frozenset[float] | None = None
    """The only temperatures that it can score at; None: any."""
    shares_student: bool = False
    """Does it score with the student's own weights, so that its passes must wait for theirs?"""
    computes_here: bool = True
    """Does it take processor time of this machine to score? A server's does not: its time can be
    spent on rewards."""
    begins: bool = False
    """Does `begin` begin anything?"""
    ends_last: bool = False
    """Can it read an end token only where that closes the answer?"""

    def meet(self, student: Student) -> None:  # noqa: B027
        """Look at the student, once, before `check_tokenizer` and `prepare`."""

    def after_update(self, step: int) -> None:  # noqa: B027
        """Called on every rank when the student has made optimiser step number `step`."""

    def check_rows(self, rows: Sequence[Mapping[str, Any]]) -> None:  # noqa: B027
        """Raise TeacherError where it cannot score answers to these rows of the data. The trainer
        calls it with all rows for training, unless they are streamed; a run does so before weights
        are loaded too, of the classes of rlkd.teacher."""

    def learnt(self) -> Mapping[str, Any]:
        """What a checkpoint must hold of it, by a word each: `rlkd.checkpoints.pieces.Piece`s. The
        main rank's holds for all, unless the piece has a `per_rank` that is true."""
        return {}

    def readers(self) -> Mapping[str, Any]:
        """Tokenizers, by a name each, of the models that read prompts as the student's template
        writes them, where they are known. Asked for after `check_tokenizer`."""
        return {}

    def begin(
        self, prompt_ids: Sequence[int], completion_ids: Sequence[int], temperature: float
    ) -> bool:
        """Called with one finished answer while others of its batch are still being written: a
        teacher that computes elsewhere may begin to score it, and returns at once. The `score` of
        the batch will ask for it; where it does not, nobody wants it any more.

        Returns:
            Has it begun?
        """
        return False

    def measures(self) -> Mapping[str, tuple[float, float]]:
        """What it logs of itself since this was last asked: by name, a sum and how many it is of.
        Their quotient over all ranks is logged as teacher/<name>; the names are the same on all."""
        return {}

    def give_up(self) -> None:  # noqa: B027
        """Called from another thread while it scores: end soon, by whatever error; nobody waits for
        the scores any more. It may be asked for others later."""

    def close(self) -> None:  # noqa: B027
        """Let go of connections, files and threads. May be called twice."""

    def temperature_at(self, sampling: float) -> float:
        """The temperature to score at where the student samples at `sampling`.

        Raises:
            TeacherError: this teacher cannot score at it, and no other was set on purpose.
        """
        wanted = self.temperature or sampling
        if self.scores_at is not None and wanted not in self.scores_at:
            able = " and ".join(f"{t:g}" for t in sorted(self.scores_at))
            raise TeacherError(
                f"{self.name} scores at temperature {able} only, and the student samples at "
                f"{sampling:g}: the two log-probabilities would be of differently sharpened "
                f"distributions. Sample at {able}, take a local teacher, or accept the mismatch by "
                f"setting the teacher's temperature to {able}."
            )
        return wanted

    def score_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        temperature: float,
    ) -> list[TokenScores]:
        """As `score`, with the rows of the data behind the prompts, for a teacher that reads their
        columns."""
        return self.score(prompt_ids, completion_ids, temperature)

    @abstractmethod
    def prepare(self, device: torch.device) -> None:
        """Get ready on this rank, once, before the first score."""

    @abstractmethod
    def check_tokenizer(self, tokenizer: object, model_vocab_size: int) -> None:
        """Raise TeacherError where a token id means another token to the teacher.

        Args:
            tokenizer: the student's (a transformers tokenizer).
            model_vocab_size: rows of the student's head; no larger id can be sampled.
        """

    @abstractmethod
    def score(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        temperature: float,
    ) -> list[TokenScores]:
        """log π_T(y_t | prompt, y_<t) of every completion token, row by row, on the CPU or on
        the prepared device. An empty completion gives empty tensors; an empty prompt is an
        error (nothing predicts its first token)."""


def declared(kind: type[Teacher], name: str) -> Any:
    """What a class says of its teachers before one is made: the value of an attribute; the base's
    where the class computes it (a property)."""
    value = inspect.getattr_static(kind, name)
    return getattr(Teacher, name) if hasattr(type(value), "__get__") else value


class DistributionTeacher(Teacher, ABC):
    """Abstract: a teacher whose whole next-token distributions can be had on this machine."""

    @abstractmethod
    def head(self) -> Head:
        """What makes logits of the hidden states."""

    @abstractmethod
    def score_with_hidden(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        temperature: float,
    ) -> list[TokenScores]:
        """As `score`, with `hidden_TH` beside each row's scores, of the same forward pass."""


def refuse_empty_prompts(prompt_ids: Sequence[Sequence[int]]) -> None:
    """Raises:
    TeacherError: nothing predicts the first token of an answer.
    """
    for number, prompt in enumerate(prompt_ids):
        if len(prompt) == 0:
            raise TeacherError(
                f"row {number} has an empty prompt: nothing predicts the first token of its answer."
                " Give the tokenizer a BOS token, or the row a prompt."
            )
