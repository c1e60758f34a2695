"""How a teacher meets its student: made, compared token by token, moved to the device."""

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, TrainerCallback

from rlkd.errors import brief
from rlkd.teacher.base import Student, Teacher, TeacherError
from rlkd.teacher.local import LocalTeacher
from rlkd.teacher.template import difference_of_templates

logger = logging.getLogger(__name__)


def attach(
    teacher: Teacher | PreTrainedModel | str,
    student: Student,
    end_token_ids: frozenset[int],
    device: torch.device,
) -> Teacher:
    """A teacher that can score this student, ready on `device`.

    Warns where teacher and student end an answer with different tokens, or write chats in
    different formats.

    Args:
        teacher: a Teacher, a model, or the path of one.
        student: whom it is to teach.
        end_token_ids: that end the student's answers.

    Raises:
        TeacherError: the teacher numbers tokens differently; it is a class; there is no such path.
    """
    if isinstance(teacher, type):
        raise TeacherError(
            f"teacher is the class {teacher.__name__}; make one of it: {teacher.__name__}(...)"
        )
    if isinstance(teacher, str):
        teacher = _loaded(teacher)
    elif not isinstance(teacher, Teacher):
        teacher = LocalTeacher(teacher)
    teacher.meet(student)
    tokenizer = student.tokenizer
    teacher.check_tokenizer(tokenizer, student.model.get_output_embeddings().weight.shape[0])
    teacher.prepare(device)
    if teacher.end_token_ids and teacher.end_token_ids != end_token_ids:
        known = sorted(number for number in teacher.end_token_ids if number < len(tokenizer))
        logger.warning(
            "The student ends an answer with %s, %s with %s: the teacher will misjudge where "
            "answers end. The gap there is logged as teacher/gap_at_eos; RLAD(eos='old_policy') "
            "leaves the teacher out at that token, and so does eos='drop' of the others.",
            tokenizer.convert_ids_to_tokens(sorted(end_token_ids)),
            teacher.name,
            tokenizer.convert_ids_to_tokens(known),
        )
    for name, own in teacher.readers().items():
        difference = difference_of_templates(
            tokenizer, own, student.prompts, student.chat_template_kwargs
        )
        if difference:
            logger.warning(
                "The prompts are chats, and %s has a chat template other than the student's: %s. "
                "It is sent what the student's writes, in a format that it was not trained on, and "
                "may misjudge the answers. Give the student the teacher's template from the start, "
                "or take rlkd.teacher.other_tokenizer:OtherTokenizer, which writes prompts with "
                "the teacher's own.",
                name, difference,
            )  # fmt: skip
    return teacher


def _loaded(path: str) -> LocalTeacher:
    try:
        return LocalTeacher.from_pretrained(path)
    except (OSError, ValueError) as error:
        if Path(path).is_dir():
            raise
        raise TeacherError(
            f"teacher is {path!r}: there is no such folder (the working directory is {Path.cwd()}),"
            f" and no such model in the hub's cache or on it ({brief(error)})"
        ) from error


class FollowsStudent(TrainerCallback):
    """Tells the teacher of every optimiser step."""

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._teacher.after_update(state.global_step)
