"""What the trainer does with its teacher: meets it, and judges what it says before a loss does."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel

from rlkd.teacher.attach import FollowsStudent, attach
from rlkd.teacher.base import DistributionTeacher, Student, Teacher, TeacherError, TokenScores
from rlkd.teacher.scores import faults_of, pad_hidden, pad_scores
from rlkd.training.asking import Asking, Request
from rlkd.training.bad_scores import BadScores, raise_too_many
from rlkd.training.phases import in_phase

logger = logging.getLogger(__name__)

_SEEN_PROMPTS = 8
"""That a teacher sees of the data before it scores any."""


class Teaching(Asking):
    """Mixin before TRL's trainer: its teacher, and what its scores become."""

    def _start_teaching(
        self,
        teacher: Teacher | PreTrainedModel | str | None,
        check: str,
        overlap: str,
        on_bad_scores: str,
    ) -> None:
        """In the trainer's own __init__, after TRL's.

        Raises:
            TeacherError: the teacher cannot score this student or answers to some of the data's
                rows, or not while others work.
        """
        for name, given, known in (
            ("teacher_overlap", overlap, ("auto", "on", "off")),
            ("on_bad_scores", on_bad_scores, ("stop", "mask")),
        ):
            if given not in known:
                raise ValueError(f"{name} is {given!r}; it is {', '.join(known)}")
        self.teacher = self._attach(teacher)
        self._teacher_check, self._masks_bad = check, on_bad_scores == "mask"
        self._overlaps = self.teacher is not None and self._is_ahead(self.teacher, overlap)

    def _add_teaching(self) -> None:
        """In the trainer's own __init__, when it has `pieces`."""
        this = self._this
        folder = Path(this.args.output_dir)
        self.bad_scores = BadScores(folder, this.accelerator.process_index)
        # Without a teacher too: a run may go on with the algorithm of a later phase alone.
        this.pieces.add("bad_scores", self.bad_scores)
        if self.teacher is None:
            this.pieces.do_without("teacher_")
            return
        this.add_callback(FollowsStudent(self.teacher))
        for name, piece in self.teacher.learnt().items():
            each = getattr(piece, "per_rank", False)
            this.pieces.add(f"teacher_{name}", piece, per_rank=each)

    def _attach(self, teacher: Teacher | PreTrainedModel | str | None) -> Teacher | None:
        if teacher is None:
            return None
        this = self._this
        if this._is_vlm:
            raise TeacherError("a teacher scores text only; this student also reads images")
        model = this.accelerator.unwrap_model(this.model)
        data = this.train_dataset
        prompts = data[:_SEEN_PROMPTS]["prompt"] if isinstance(data, Dataset) else []
        student = Student(model, this._tokenizer, this.chat_template_kwargs, prompts)
        attached = attach(teacher, student, frozenset(this.eos_token_ids), this.accelerator.device)
        attached.temperature_at(this.temperature)
        if isinstance(data, Dataset) and type(attached).check_rows is not Teacher.check_rows:
            attached.check_rows(data.to_list())
        return attached

    # -- what comes of it ---------------------------------------------------------------------

    @in_phase("teacher")
    def _ask_teacher(self, output: dict[str, Any]) -> None:
        """Put the scores of this rank's answers into TRL's batch; none where the algorithm in force
        has no use for them. The check at the start of the run comes first in any case: a teacher
        that a later phase will need fails now or never."""
        if self._asked is None:
            return
        request, future = self._asked
        scores = self._wait_for(future) if future is not None else self._score(request)
        self._asked = None
        self._teacher_check = "off"
        if scores is None:
            return
        like_BT, bad = output["completion_ids"], self._find_bad(request, scores)
        if self._masks_bad:
            self._mask(output, bad, sum(map(bool, request.answers)))
        teacher = cast(Teacher, self.teacher)
        output["teacher_per_token_logps"] = pad_scores(
            teacher, scores, request.answers, like_BT, left_out=bad
        )
        if request.hidden:
            output["teacher_hidden_BTH"] = pad_hidden(
                scores, request.answers, like_BT, cast(DistributionTeacher, teacher).head(), bad
            )

    def _find_bad(self, request: Request, scores: Sequence[TokenScores]) -> dict[int, str]:
        """What is wrong, by row; kept in a file.

        Raises:
            TeacherError: something is, and that ends the run.
        """
        teacher = cast(Teacher, self.teacher)
        head = cast(DistributionTeacher, teacher).head() if request.hidden else None
        faults = faults_of(teacher.name, scores, request.answers, head=head)
        bad = {row: reason for row, reason in faults.items() if request.answers[row]}
        if not bad:
            return {}
        where = self._keep_bad(bad, request.rows, request.answers, scores)
        logger.warning(
            "step %d: %d of %d answers are left out, their scores cannot be right (all in %s);"
            " the first: %s",
            self._this.state.global_step + 1, len(bad), len(request.answers), where,
            next(iter(bad.values())),
        )  # fmt: skip
        return bad

    def _judge_check(
        self,
        request: Request,
        bad: Mapping[int, str],
        sent: Mapping[int, Sequence[int]],
        said: Mapping[int, TokenScores],
    ) -> str:
        """The check's `rlkd.teacher.check.Judge`; where overlap is on, on the teacher's thread."""
        every = range(len(request.answers))
        answers, scores = [sent.get(row, ()) for row in every], [said.get(row) for row in every]
        where = self._keep_bad(bad, request.rows, answers, scores, in_check=True)
        logger.warning(
            "teacher check: %d of %d answers are left out of it, their scores cannot be right (all"
            " in %s); the first: %s", len(bad), len(sent), where, next(iter(bad.values())),
        )  # fmt: skip
        return where

    def _keep_bad(
        self,
        bad: Mapping[int, str],
        rows: Sequence[Mapping[str, Any]],
        answers: Sequence[Sequence[int]],
        scores: Sequence[TokenScores | None],
        in_check: bool = False,
    ) -> str:
        """Write the bad ones of these answers down; where, in words.

        Raises:
            TeacherError: they end the run.
        """
        this = self._this
        texts = this._tokenizer.batch_decode(answers, skip_special_tokens=False)
        step = this.state.global_step + 1
        where = self.bad_scores.keep(step, bad, rows, answers, texts, scores, in_check)
        if not self._masks_bad:
            reason = next(iter(bad.values()))
            raise TeacherError(f"{reason} (the answer and its scores: {where})")
        return where

    def _mask(self, output: dict[str, Any], bad: Mapping[int, str], rows: int) -> None:
        """Take the rows out of the loss and of every mean over tokens, whole, as TRL takes
        truncated ones. Their rewards stay in their groups' baselines. Every rank calls.

        Raises:
            TeacherError: they are too many, over all ranks.
        """
        this = self._this
        mode, device = this._mode(), output["completion_mask"].device
        counts = torch.tensor([len(bad), rows], device=device)
        everywhere, asked = (int(x) for x in this._sum_over_ranks(counts).tolist())
        this._metrics[mode]["teacher/masked_rows"].append(float(everywhere))
        if mode == "train":
            # Of any rank: all of them count alike, and end with the same words.
            first = this.gather_rows(list(bad.values())[:1]) if everywhere else []
            why = self.bad_scores.count(everywhere, asked, *first[:1])
            if why is not None:
                raise_too_many(cast(Teacher, self.teacher).name, why, self.bad_scores)
        if not everywhere:
            return
        for name in ("completion_mask", "tool_mask"):
            if bad and name in output:
                output[name][list(bad)] = 0
        mask_BT: Tensor = output["completion_mask"]
        if "tool_mask" in output:
            mask_BT = mask_BT * output["tool_mask"]
        output["num_items_in_batch"] = this.accelerator.gather(mask_BT.sum()).sum()

    def _teacher_measures(self) -> dict[str, float]:
        """What the teacher says of itself, over the ranks. Every rank calls."""
        this, own = self._this, self.teacher.measures() if self.teacher is not None else {}
        if not own:
            return {}
        pairs = torch.tensor(list(own.values()), device=this.accelerator.device)
        totals = this._sum_over_ranks(pairs).tolist()
        return {
            f"teacher/{name}": total / count
            for name, (total, count) in zip(own, totals, strict=True)
            if count
        }
