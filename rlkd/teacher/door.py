"""What can be known of a run's teacher before weights are loaded."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rlkd.config import ConfigError, RunConfig
from rlkd.config.schema import OtherTeacher
from rlkd.config.teacher import check_teacher, teacher_classes

CheckFolder = Callable[[str, str], Path]


def check_teaching(config: RunConfig, check_folder: CheckFolder) -> None:
    """A teacher where the algorithm learns from one, and only there, and one that can teach this
    student. Data are not read, servers not asked.

    Args:
        config: the run.
        check_folder: see `rlkd.config.teacher.check_teacher`.

    Raises:
        ConfigError: the block cannot be used; nothing learns from the teacher; it cannot give what
            the algorithm reads, or not at the sampling temperature; it is the student itself; it
            numbers tokens otherwise.
    """
    if config.teacher is None:
        return  # where one is needed, `build_algorithm` says so
    check_teacher(config.teacher, check_folder)
    check_wanted(config)
    if scores(config):
        _check_outlines(config)


def scores(config: RunConfig) -> bool:
    """Is the teacher asked for scores, or is it there to write traces alone?"""
    from rlkd.algorithms.schedule import schedule_of  # imports torch

    return schedule_of(config.build_algorithm()).needs_teacher


def check_wanted(config: RunConfig) -> None:
    """What the blocks alone say: the algorithm has a use for the teacher, the teacher can give what
    it reads, and it is not the student itself.

    Raises:
        ConfigError: one of these does not hold.
    """
    if config.teacher is None:
        return
    if not scores(config):
        if config.data.traces is None and not _wants_traces(config):
            raise ConfigError(_unused(config))
        return
    _check_distribution(config)
    _check_overlap(config)
    for kind in teacher_classes(config.teacher):
        _check_adapters(config, kind)
    _check_itself(config)


def _wants_traces(config: RunConfig) -> bool:
    """Is the teacher there to write traces, or would it be? What is wrong with them
    `rlkd.traces.door` says."""
    from rlkd.algorithms.schedule import schedule_of

    try:
        return schedule_of(config.build_algorithm()).needs_traces(config.batch.group_size)
    except ValueError:  # a setting of the algorithm's that has to do with them
        return True


def _unused(config: RunConfig) -> str:
    uses = ", then ".join(block.use for block in (config.algorithm, *config.then))
    none = f"none of {uses} has a" if config.then else f"{uses} has no"
    return (
        f"teacher: {none} use for a teacher.\n"
        f"  found: {_named(config)}\n"
        "  why: its scores would cost a pass over every answer, and nothing would read them\n"
        "  do: set teacher to null (--teacher=null), or use an algorithm that learns from one"
        " (rlkd.algorithms.rlad:RLAD)"
    )


def _named(config: RunConfig) -> str:
    block = config.teacher
    if isinstance(block, OtherTeacher):
        return f"teacher.use {block.use}"
    return f"teacher.path {block.path}" if block is not None else "nothing"


def _phases(config: RunConfig) -> list[Any]:
    from rlkd.algorithms.schedule import schedule_of

    return [phase.algorithm for phase in schedule_of(config.build_algorithm()).phases]


def _check_distribution(config: RunConfig) -> None:
    from rlkd.teacher.base import DistributionTeacher, declared

    titles = [type(a).__name__ for a in _phases(config) if a.needs_distribution]
    if not titles or config.teacher is None:
        return
    kind, problem = teacher_classes(config.teacher)[0], None
    if not issubclass(kind, DistributionTeacher):
        problem = f"{kind.__name__} gives log-probabilities of sampled tokens only"
    elif declared(kind, "shares_student"):
        problem = f"the head of {kind.__name__} moves with the student"
    elif config.local_teacher is not None and config.local_teacher.offload:
        problem = "teacher.offload is true: its head is not on the device by then"
    if problem is not None:
        raise ConfigError(
            f"teacher: {titles[0]} compares student and teacher over the whole vocabulary, and"
            " this teacher cannot be read so.\n"
            f"  found: {problem}\n"
            "  why: the loss reads the teacher's head when it is computed\n"
            "  do: take a local teacher (teacher.path) that is not offloaded, or an algorithm that"
            " reads the sampled tokens alone (rlkd.algorithms.rlad:RLAD)"
        )


def _check_overlap(config: RunConfig) -> None:
    if config.teacher is None or config.teacher.overlap != "on":
        return
    for algorithm in _phases(config):
        if getattr(algorithm, "dynamic_sampling", False):
            raise ConfigError(
                f"teacher.overlap is on, and {type(algorithm).__name__} samples dynamically.\n"
                "  why: the rewards come first there: they say which answers are learnt from\n"
                "  do: set teacher.overlap to auto or off, or dynamic_sampling to false"
            )


def _check_adapters(config: RunConfig, kind: type) -> None:
    from rlkd.teacher.inner import AdapterOff

    if issubclass(kind, AdapterOff) and config.model.lora is None:
        raise ConfigError(
            f"teacher: {kind.__name__} is the student without its adapters, and this student has"
            " none.\n"
            "  found: model.lora is null: every weight is trained\n"
            "  why: with nothing to switch off the student would be its own teacher\n"
            "  do: train adapters (--model.lora='{r: 16, alpha: 32}'), or name the model that the"
            f" student begins as (teacher.path {config.model.path})"
        )


def _check_itself(config: RunConfig) -> None:
    """The present student, shown what the student is shown."""
    from rlkd.teacher.inner import SelfTeacher

    block, at = config.teacher, config.sampling.temperature
    if not isinstance(block, OtherTeacher) or teacher_classes(block) != [SelfTeacher]:
        return
    said = {"decay": 0.0, "every": 1, "temperature": None} | block.settings
    if said["decay"] == 0.0 and said["every"] == 1 and said["temperature"] in (None, at):
        raise ConfigError(
            "teacher: SelfTeacher is the student of this very step here.\n"
            f"  found: decay {said['decay']}, every {said['every']}\n"
            "  why: it would find every token as likely as the student does, and teach nothing\n"
            "  do: let it lag (decay: 0.99, or every: 50 steps), or show it more than the student:"
            " make it the inner one of rlkd.teacher.privileged:Privileged"
        )


def _check_outlines(config: RunConfig) -> None:
    """What the classes themselves refuse, their weights left out."""
    from rlkd.teacher.base import TeacherError
    from rlkd.teacher.outline import Outlines

    assert config.teacher is not None
    with Outlines(config.teacher) as outlines:
        try:
            outlines.teacher.temperature_at(config.sampling.temperature)
        except TeacherError as error:
            raise ConfigError(f"teacher.temperature: {error}") from error
        _check_tokens(config, outlines.by_place)


def _check_tokens(config: RunConfig, teachers: Mapping[str, Any]) -> None:
    """Those that are compared with the student token by token. A student whose tokenizer cannot be
    loaded (an adapter's folder has none) is left to those who load it."""
    from rlkd.teacher.base import TeacherError
    from rlkd.teacher.other_tokenizer import OtherTokenizer
    from rlkd.teacher.outline import Outline, Unmade, head_rows, read_tokenizer
    from rlkd.teacher.server import ServerTeacher

    # A class that is not rlkd's may align them too: once made, it says so itself.
    aligned = [p for p, made in teachers.items() if isinstance(made, OtherTokenizer | Unmade)]
    compared = {
        place: made
        for place, made in teachers.items()
        if isinstance(made, Outline | ServerTeacher)
        and not any(place.startswith(f"{outer}.") for outer in aligned)
    }
    if not compared:
        return
    try:
        student = read_tokenizer(config.model.path, "model.path")
        rows = head_rows(config.model.path, "model.path") or len(student)
    except ConfigError:
        return
    for place, made in compared.items():
        try:
            made.check_tokenizer(student, rows)
        except TeacherError as error:
            raise ConfigError(
                f"{place}: {error}\n  do: take a teacher of the student's family; of a local one of"
                " another family rlkd.teacher.other_tokenizer:OtherTokenizer aligns the text"
            ) from error


def check_rows(config: RunConfig, rows: Sequence[Mapping[str, Any]]) -> None:
    """The teacher can score answers to these rows: they have the columns that it reads.

    Args:
        config: what `check_teaching` has let pass.
        rows: for training.

    Raises:
        ConfigError: a column is missing, has nothing in some rows, or names a teacher that is not
            there.
    """
    if not isinstance(config.teacher, OtherTeacher) or not scores(config):
        return  # a local one reads no columns
    from rlkd.teacher.base import TeacherError
    from rlkd.teacher.outline import Outlines

    with Outlines(config.teacher) as outlines:
        try:
            outlines.teacher.check_rows(rows)
        except TeacherError as error:
            raise ConfigError(f"teacher: {error}") from error
