"""Stand-ins for teachers whose weights are not loaded yet: what they would say no to without them
can be asked at the door."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer
from transformers.utils import cached_file

from rlkd.config.schema import OtherTeacher
from rlkd.config.schema import Teacher as Block
from rlkd.config.teacher import build_teacher, made, teacher_class
from rlkd.errors import ConfigError, brief
from rlkd.teacher.base import Teacher, TokenScores, declared
from rlkd.teacher.local import LocalTeacher
from rlkd.teacher.server import ServerTeacher


class Outline(LocalTeacher):
    """A local teacher as its folder describes it: its tokenizer and the size of its head. It
    compares tokens, and scores nothing.

    Args:
        block: its block; the folder is there.
        place: of the block.

    Raises:
        ConfigError: its config.json or its tokenizer cannot be read.
    """

    def __init__(self, block: Block, place: str) -> None:
        self._settle(block.temperature, 1, block.chunk_tokens)
        self.name, self.offload = f"teacher {block.path}", block.offload
        self.end_token_ids = frozenset()
        rows = head_rows(block.path, f"{place}.path")
        self.tokenizer = read_tokenizer(block.path, f"{place}.path")
        rows = rows if rows is not None else len(self.tokenizer)
        self._head = torch.nn.Linear(1, rows, bias=False, device="meta")


class Unmade(Teacher):
    """A teacher of a class that is not rlkd's: what making it would load is not known."""

    def __init__(self, kind: type[Teacher], settings: Mapping[str, Any]) -> None:
        self.name = f"teacher {kind.__name__}"
        given = settings.get("temperature", declared(kind, "temperature"))
        self.temperature = given if isinstance(given, int | float) else None
        self.scores_at = declared(kind, "scores_at")
        self.shares_student = declared(kind, "shares_student")
        self.computes_here = declared(kind, "computes_here")

    def prepare(self, device: torch.device) -> None:
        raise NotImplementedError

    def check_tokenizer(self, tokenizer: object, model_vocab_size: int) -> None:
        raise NotImplementedError

    def score(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        temperature: float,
    ) -> list[TokenScores]:
        raise NotImplementedError


class Outlines:
    """A teacher as its block describes it, and those inside it, without weights.

    Everything else is made as for a run, by the classes themselves, which refuse what they refuse;
    of them none loads weights, asks a server or writes when it is made. Use it as a context: what
    they hold open is closed at the end.

    Args:
        block: what `check_teacher` has let pass.

    Raises:
        ConfigError: an argument's value cannot be used, or a local teacher's files.
    """

    def __init__(self, block: Block | OtherTeacher) -> None:
        self.by_place: dict[str, Teacher] = {}
        """All of them by their dotted places, the inner ones first."""
        self.blocks: dict[str, Block | OtherTeacher] = {}
        """The blocks that they were made from."""
        try:
            self.teacher = build_teacher(block, make=self._make)
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> "Outlines":
        return self

    def __exit__(self, *error: object) -> None:
        for teacher in self.by_place.values():
            teacher.close()

    def _make(
        self, block: Block | OtherTeacher, place: str, arguments: Mapping[str, Any]
    ) -> Teacher:
        self.blocks[place] = block
        self.by_place[place] = self._made(block, place, arguments)
        return self.by_place[place]

    def _made(
        self, block: Block | OtherTeacher, place: str, arguments: Mapping[str, Any]
    ) -> Teacher:
        if isinstance(block, Block):
            return Outline(block, place)
        kind = teacher_class(block.use, place)
        if not kind.__module__.startswith("rlkd.teacher."):
            return Unmade(kind, block.settings)
        if issubclass(kind, ServerTeacher) and arguments.get("tokenizer") is not None:
            at = f"{place}.tokenizer"
            read_tokenizer(arguments["tokenizer"], at)
            arguments = {**arguments, "tokenizer": tokenizer_folder(arguments["tokenizer"], at)}
        try:
            return made(block, place, arguments)
        except ConfigError:
            inner = [*arguments.values()]
            inner += [v for value in inner if isinstance(value, dict) for v in value.values()]
            if any(isinstance(value, Unmade) for value in inner):
                return Unmade(kind, block.settings)  # it may be right about what it stands in for
            raise


def read_tokenizer(path: str, place: str) -> Any:
    """The tokenizer in a folder, or one in this machine's cache, by its model's name on the hub.
    The hub is not asked.

    Raises:
        ConfigError: there is no such folder, or it cannot be loaded.
    """
    folder = tokenizer_folder(path, place)
    try:
        return AutoTokenizer.from_pretrained(folder)
    except Exception as error:  # what a format's reader breaks with is its own
        raise ConfigError(
            f"{place}: the tokenizer in {path} cannot be loaded.\n  found: {brief(error)}\n"
            "  why: teacher and student must number their tokens alike, which it is compared for\n"
            "  do: put the tokenizer's files (tokenizer.json, tokenizer_config.json) beside"
            " config.json, and install what they need"
        ) from error


def tokenizer_folder(path: str, place: str) -> str:
    """Where `read_tokenizer` reads it.

    Raises:
        ConfigError: there is no such folder.
    """
    if Path(path).is_dir():
        return path
    for file in ("tokenizer_config.json", "tokenizer.json"):
        try:  # else transformers would ask the hub for it, for a minute
            found = cached_file(path, file, local_files_only=True)
        except (OSError, ValueError):  # not there; or no name that the hub could have
            continue
        if found is not None:
            return str(Path(found).parent)
    raise ConfigError(
        f"{place}: there is no folder {path}.\n"
        f"  found: the working directory is {Path.cwd()}\n"
        "  do: fix the path; a model on the hub must be downloaded first:"
        " hf download NAME --local-dir FOLDER"
    )


def head_rows(path: str, place: str) -> int | None:
    """Rows of the head of the model in a folder, as its config.json says; None: it does not.

    Raises:
        ConfigError: that is not JSON.
    """
    file = Path(path) / "config.json"
    if not file.is_file():
        return None
    try:
        about = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{place}: {file} is not JSON: {error}\n  do: copy it anew") from error
    about = about.get("text_config") or about
    return about.get("vocab_size")
