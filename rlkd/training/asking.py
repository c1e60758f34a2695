"""How the trainer asks its teacher: on a thread of its own beside other work, or in its turn."""

import dataclasses
import functools
import logging
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import Any, cast

import torch

from rlkd.teacher.base import Teacher, TeacherError, TokenScores
from rlkd.teacher.check import Doubtful, check_alignment
from rlkd.teacher.threads import Threads, result_of

logger = logging.getLogger(__name__)

LOOK_S = 1.0
"""Seconds between two looks whether a teacher that is waited for gets on."""
END_S = 10.0
"""Seconds in which a teacher whose scores nobody wants any more should have ended."""


@dataclasses.dataclass(frozen=True)
class Request:
    """What a teacher is asked of this rank's answers."""

    rows: Sequence[Mapping[str, Any]]
    prompts: list[list[int]]
    answers: list[list[int]]
    """Empty where TRL masks the row whole (mask_truncated_completions): it needs no score."""
    temperature: float
    checked: bool
    """First of all comes the check at the start of the run."""
    scored: bool
    """False: the algorithm in force has no use for scores, and the check is all."""
    hidden: bool
    """The algorithm compares whole distributions."""


class Asking:
    """Mixin before TRL's trainer: asks the teacher for the scores of a batch.

    They are asked for when the answers are known, on a thread of its own, so that the teacher works
    while rewards and the student's own log-probs are computed, and waited for when these are there,
    before TRL shuffles the batch and cuts it into micro-batches. What is asked is the same without
    the thread, and so are all numbers.
    """

    teacher: Teacher | None = None
    _teacher_check = "off"
    """What a failed check does; off: it is over, or never was to be."""
    _asked: tuple[Request, Future | None] | None = None
    """Of the batch in work; the Future where the teacher is at it already."""
    _overlaps = False
    _worked_s = 0.0
    _waited_s = 0.0
    _answers = 0
    """That it was asked for since the last log."""

    @property
    def _this(self) -> Any:
        return self

    def _is_ahead(self, teacher: Teacher, overlap: str) -> bool:
        """Is it asked while rewards are computed?

        `auto`: where it computes elsewhere. On this machine its pass and the rewards would share
        the cores, and its memory would be needed beside the student's.

        Raises:
            TeacherError: it was wanted and cannot be.
        """
        this, why = self._this, None
        phases = this.schedule.schedule.phases
        if teacher.shares_student:
            why = "it scores with the student's own weights, so its passes wait for the student's"
        elif any(getattr(phase.algorithm, "dynamic_sampling", False) for phase in phases):
            why = (
                "with dynamic_sampling the rewards come first: they say which answers are learnt "
                "from"
            )
        elif this.rollout_func is not None:
            why = "rollout_func adds columns, which it may read, to rows when they are answered"
        if overlap == "on" and why is not None:
            raise TeacherError(
                f"overlap is on, and {teacher.name} cannot score while other work goes on: {why}. "
                "Set it to auto or off"
            )
        if overlap == "auto":
            return why is None and not teacher.computes_here
        return overlap == "on"

    def _may_begin_early(self) -> bool:
        """Would the teacher begin with single answers, and will their scores be wanted?"""
        algorithm = self._this.algorithm
        return (
            self._overlaps
            and cast(Teacher, self.teacher).begins
            and self._teacher_check == "off"  # it comes first
            and algorithm.needs_teacher
            and not algorithm.needs_distribution
        )

    # -- asking -------------------------------------------------------------------------------

    @contextmanager
    def _teacher_at_work(self) -> Iterator[None]:
        """Around a batch, from its answers to its scores: whatever fails inside, the teacher is not
        left at work behind it."""
        self._asked = None
        try:
            yield
        finally:
            asked, self._asked = self._asked, None
            if asked is not None and asked[1] is not None:
                self._leave_alone(asked[1])

    def _leave_alone(self, future: Future) -> None:
        """Have the teacher end what nobody waits for any more."""
        if future.done() or future.cancel():
            return
        cast(Teacher, self.teacher).give_up()
        with suppress(Exception):  # another failure is on its way up
            future.result(END_S)
        if not future.done():
            logger.warning(
                "%s does not end what it was asked for; it is not waited for any longer",
                cast(Teacher, self.teacher).name,
            )

    def _ask_ahead(self, prompts: list[list[int]], completions: list[list[int]]) -> None:
        """When the answers are known."""
        if self.teacher is None:
            return
        this = self._this
        # The rows are the caller's, and rewards are shown them at the same time.
        rows = [dict(row) for row in this._inputs] if self._overlaps else this._inputs
        request = Request(
            rows=rows,
            prompts=prompts,
            answers=self._counted(completions),
            temperature=self.teacher.temperature_at(this.temperature),
            checked=self._teacher_check != "off",
            scored=this.algorithm.needs_teacher,
            hidden=this.algorithm.needs_distribution,
        )
        future = None
        if self._overlaps and (request.checked or request.scored):
            thread = Threads(1, "teacher")
            future = thread.submit(self._work, request)
            thread.close()  # it ends with the batch
        self._asked = (request, future)
        self._answers += sum(map(bool, request.answers))

    def _counted(self, completions: list[list[int]]) -> list[list[int]]:
        """The answers, empty where TRL masks them whole."""
        this = self._this
        if not this.mask_truncated_completions:
            return completions
        ends = {*this.eos_token_ids, this._tokenizer.pad_token_id}
        return [ids if ids and ids[-1] in ends else [] for ids in completions]

    def _work(self, request: Request) -> tuple[list[TokenScores] | None, float]:
        """On the teacher's thread: what it says, and the seconds it took."""
        device = self._this.accelerator.device
        if device.type == "cuda":
            torch.cuda.set_device(device)  # each thread has its own
        started = time.perf_counter()
        scores = self._score(request)
        if device.type == "cuda":
            torch.cuda.current_stream().synchronize()  # kernels run after the calls
        return scores, time.perf_counter() - started

    def _score(self, request: Request) -> list[TokenScores] | None:
        """What the teacher says; None: nothing was asked but the check.

        Raises:
            TeacherError: whatever went wrong.
        """
        teacher = cast(Teacher, self.teacher)
        asked = (request.prompts, request.answers, request.temperature)
        try:
            if request.checked:
                self._check_teacher(teacher, request)
            if not request.scored:
                return None
            if request.hidden:
                found = cast(Any, teacher).score_with_hidden(*asked)
            else:
                found = teacher.score_rows(request.rows, *asked)
            if not isinstance(found, Sequence):
                raise TypeError(f"its scores are {type(found).__name__}, not a list of TokenScores")
            return list(found)
        except TeacherError:
            raise
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            raise TeacherError(
                f"{teacher.name} failed with {type(error).__name__}: {error} ({frame.filename}, "
                f"line {frame.lineno})"
            ) from error

    def _check_teacher(self, teacher: Teacher, request: Request) -> None:
        judge = functools.partial(self._this._judge_check, request)
        asked = (request.prompts, request.answers, request.temperature)
        try:
            report = check_alignment(teacher, *asked, rows=request.rows, judge=judge)
            short = "teacher check: no answer with sound scores was long enough to be moved about"
            logger.info("%s", report or short)
        except Doubtful as error:
            if self._teacher_check == "error":
                advice = "To go on regardless, set the teacher's check to warn."
                raise TeacherError(f"{error} {advice}") from error
            logger.warning("%s", error)

    def _wait_for(self, future: Future) -> list[TokenScores] | None:
        """The scores; as long as it counts more of its work, the process gets on."""
        usage = cast(Teacher, self.teacher)
        seen: list[Any] = [None]

        def look() -> None:
            now = dataclasses.astuple(usage.usage) if usage.usage is not None else None
            if now != seen[0]:
                seen[0] = now
                self._this.phases.beat()

        started = time.perf_counter()
        scores, worked = result_of(future, look, LOOK_S)
        self._waited_s += time.perf_counter() - started
        self._worked_s += worked
        return scores

    # -- what it took -------------------------------------------------------------------------

    def _overlap_measures(self, steps: int) -> dict[str, float]:
        """Per optimiser step, mean over the ranks; nothing where the teacher is not asked ahead."""
        if not self._overlaps:
            return {}
        this = self._this
        mine = [self._worked_s, self._waited_s, this._take_begun(), self._answers]
        self._worked_s, self._waited_s, self._answers = 0.0, 0.0, 0
        sums = this._sum_over_ranks(torch.tensor(mine, device=this.accelerator.device))
        worked, waited, begun, answers = sums.tolist()
        if not worked:
            return {}
        return {
            "overlap/teacher_seconds": worked / steps / this.accelerator.num_processes,
            "overlap/hidden": max(0.0, 1.0 - waited / worked),
            "overlap/begun_early": begun / max(1.0, answers),
        }
