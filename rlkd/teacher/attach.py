"""How a teacher meets its student: made, compared token by token, moved to the device."""

import logging
from typing import Any

import torch
from transformers import PreTrainedModel

from rlkd.teacher.base import Teacher
from rlkd.teacher.local import LocalTeacher

logger = logging.getLogger(__name__)


def attach(
    teacher: Teacher | PreTrainedModel | str,
    tokenizer: Any,
    student_head_rows: int,
    end_token_ids: frozenset[int],
    device: torch.device,
) -> Teacher:
    """A teacher that can score this student, ready on `device`.

    Warns where teacher and student end an answer with different tokens.

    Args:
        teacher: a Teacher, a model, or the path of one.
        tokenizer, student_head_rows, end_token_ids: the student's.

    Raises:
        TeacherError: the teacher numbers tokens differently.
    """
    if isinstance(teacher, str):
        teacher = LocalTeacher.from_pretrained(teacher)
    elif not isinstance(teacher, Teacher):
        teacher = LocalTeacher(teacher)
    teacher.check_tokenizer(tokenizer, student_head_rows)
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
    return teacher
