"""A config: what `rlkd train` checks at its door, the rows, the tokens of student and teacher."""

import json
import sys
import types
from pathlib import Path
from typing import Any

from rlkd.config import ConfigError, RunConfig, check_trl_keys
from rlkd.data import Row, check_enough
from rlkd.doctor import servers
from rlkd.doctor.finding import Finding
from rlkd.door import check_at_door, check_model_folder, check_prompts
from rlkd.errors import brief
from rlkd.geometry import geometry
from rlkd.planning import plan as planning
from rlkd.teacher.door import check_rows, check_teaching
from rlkd.teacher.template import difference_of_templates
from rlkd.teacher.tokens import describe_difference, end_token_ids

_SEEN_PROMPTS = 8


def look(config: RunConfig, world_size: int) -> list[Finding]:
    """Everything that can be known of a config without loading weights; leaves nothing behind."""
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        found = [*_door(config, world_size), *_trl(config)]
        student = _tokenizer(config.model.path, "model.path", found)
        teacher = None
        if config.local_teacher is not None:
            # What is wrong with it the door has said.
            teacher = _tokenizer(config.local_teacher.path, "teacher.path", [])
        train, heldout, complaints = _rows(config, world_size, readable=student is not None)
        found += complaints
        if student is not None:
            found += _ends(config, student, teacher)
            found += _lengths(config, student, [*train, *heldout])
        if student is not None and teacher is not None and config.local_teacher is not None:
            found += _tokens(student, teacher)
            found += _chats(config, student, teacher, train[:_SEEN_PROMPTS])
        if _can_teach(config):
            sound = student is not None and all(f.level != "problem" for f in complaints)
            found += _teacher(config, train, readable=sound)
        return [*found, *_format(config)]
    finally:
        sys.dont_write_bytecode = before


def bytes_written(config: RunConfig) -> int | None:
    """What the run's checkpoints and final model take, without rollouts and logs; None: the sizes
    cannot be read."""
    lora = config.model.lora.model_dump_json() if config.model.lora is not None else None
    try:
        net = planning.read_network(config.model.path, config.model.dtype, "model.path", lora)
    except ConfigError:
        return None
    saved = net.trained if net.rank else net.weights  # of adapters the base model is not written
    # One more than are kept: the new one is whole before the oldest goes; and the best.
    count = config.run.keep + 1 + (config.eval.best is not None)
    count = count if config.run.save_every or config.eval.best is not None else 1
    return saved + count * (saved + 2 * net.trained)


def _door(config: RunConfig, world_size: int) -> list[Finding]:
    try:
        check_at_door(config, world_size)
    except ConfigError as error:
        return [Finding("problem", message) for message in _apart(error)]
    return [Finding("ok", "the config, its references, folders, files and batch sizes")]


def _apart(error: ConfigError) -> list[str]:
    """The messages of an error that holds several under a heading."""
    heading, _, rest = str(error).partition("\n\n")
    return [part for part in rest.split("\n\n") if part] or [heading]


def _trl(config: RunConfig) -> list[Finding]:
    if not config.trl:
        return []
    from rlkd.trainer import GRPOConfig

    try:
        check_trl_keys(config.trl, set(GRPOConfig.__dataclass_fields__))
    except ConfigError as error:
        return [Finding("problem", message) for message in _apart(error)]
    return [Finding("ok", f"GRPOConfig knows trl's {', '.join(config.trl)}")]


def _rows(
    config: RunConfig, world_size: int, *, readable: bool
) -> tuple[list[Row], list[Row], list[Finding]]:
    """The rows for training and those held out, and what is wrong with them or, where it is
    `readable`, with the student's reading of them."""
    from rlkd.data import load_splits

    try:
        train, heldout = load_splits(config.data)
    except ConfigError as error:
        return [], [], [Finding("problem", str(error))]
    found = []
    try:
        check_enough(train, geometry(config.batch, world_size))
    except ConfigError as error:
        found.append(Finding("problem", str(error)))
    kind = "text" if isinstance(train[0]["prompt"], str) else "chats"
    try:
        if readable:
            check_prompts(config, train)
        found.append(Finding("ok", f"{len(train)} training rows, prompts are {kind}"))
    except ConfigError as error:
        found.append(Finding("problem", str(error)))
    return train, heldout or [], found


def _can_teach(config: RunConfig) -> bool:
    """What it is when it cannot the door has said."""
    try:
        check_teaching(config, check_model_folder)
    except ConfigError:
        return False
    return True


def _teacher(config: RunConfig, rows: list[Row], *, readable: bool) -> list[Finding]:
    """The teacher beside the rows for training, and its servers, beside the prompts where those
    are `readable`."""
    try:
        check_rows(config, rows)
    except ConfigError as error:
        return [Finding("problem", str(error)), *servers.look(config, [])]
    return servers.look(config, rows if readable else [])


def _tokenizer(path: str, place: str, found: list[Finding]) -> Any | None:
    """The tokenizer in a folder. Where it cannot be used the finding is added."""
    if not (Path(path) / "config.json").is_file():
        return None  # the door has said so, or it is an adapter
    for name in ("config.json", "generation_config.json"):
        try:
            _read(Path(path) / name)
        except ValueError as error:
            found.append(
                Finding("problem", f"{place}: {path}/{name} is not JSON: {error}", "copy it anew")
            )
            return None
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(path)
    except Exception as error:  # what a format's reader breaks with is its own
        found.append(
            Finding(
                "problem",
                f"{place}: the tokenizer in {path} cannot be loaded: {brief(error)}",
                "put the tokenizer's files beside config.json, and install what they need",
            )
        )
        return None


def _tokens(student: Any, teacher: Any) -> list[Finding]:
    """That they mean the same; where they do not the door has said so."""
    if describe_difference(student.get_vocab(), teacher.get_vocab()):
        return []
    return [Finding("ok", f"student and teacher number all {len(student)} tokens alike")]


def _ends(config: RunConfig, student: Any, teacher: Any | None) -> list[Finding]:
    """Which tokens end an answer."""
    own = _end_tokens(config.model.path, student)
    if not own:
        return [
            Finding(
                "problem",
                f"model.path: neither tokenizer nor model in {config.model.path} names an end"
                " token: every answer would be cut off",
                "set eos_token in tokenizer_config.json, or eos_token_id in generation_config.json",
            )
        ]
    words = student.convert_ids_to_tokens(sorted(own))
    found = [Finding("ok", f"the student ends an answer with {', '.join(map(repr, words))}")]
    if teacher is None or config.local_teacher is None:
        return found
    other = _end_tokens(config.local_teacher.path, teacher)
    if other and other != own:
        names = ", ".join(map(repr, teacher.convert_ids_to_tokens(sorted(other))))
        found.append(
            Finding(
                "warning",
                f"the teacher ends an answer with {names}: it will misjudge where answers end"
                " (metric teacher/gap_at_eos)",
                "with RLAD: --algorithm.eos old_policy leaves it out at that token (others: drop)",
            )
        )
    return found


def _chats(config: RunConfig, student: Any, teacher: Any, rows: list[Row]) -> list[Finding]:
    """Are chats written as the teacher was trained to read them?"""
    prompts, settings = [row["prompt"] for row in rows], config.model.chat_template_kwargs
    difference = difference_of_templates(student, teacher, prompts, settings)
    if not difference:
        return []
    text = f"the teacher's chat template is not the student's: {difference}"
    return [Finding("warning", text, "a student with the teacher's template, from the start")]


def _end_tokens(path: str, tokenizer: Any) -> frozenset[int]:
    """As the loaded model would declare them: generation_config.json, else config.json."""
    declared = _read(Path(path) / "generation_config.json").get("eos_token_id")
    if declared is None:
        declared = _declared(path).get("eos_token_id")
    about = types.SimpleNamespace(eos_token_id=declared)
    return end_token_ids(types.SimpleNamespace(generation_config=about), tokenizer)


def _lengths(config: RunConfig, tokenizer: Any, rows: list[Row]) -> list[Finding]:
    """Does the longest prompt leave room for the longest answer?"""
    positions = _declared(config.model.path).get("max_position_embeddings")
    chats_unread = bool(rows) and not isinstance(rows[0]["prompt"], str)
    if positions is None or not rows or (chats_unread and tokenizer.chat_template is None):
        return []
    longest = planning.longest_prompt(tokenizer, rows, config.model.chat_template_kwargs)
    answer = config.sampling.max_completion_length
    text = f"prompts of up to {longest} tokens and answers of up to {answer}"
    if longest + answer > positions:
        return [
            Finding(
                "problem",
                f"{text}, but the student was made for {positions} positions",
                "shorter prompts, or a smaller sampling.max_completion_length",
            )
        ]
    return [Finding("ok", f"{text} fit into the student's {positions} positions")]


def _format(config: RunConfig) -> list[Finding]:
    """Can the device compute in the model's number format?"""
    import torch

    dtype = config.model.dtype
    if dtype == "float16" and config.model.lora is None:
        return [
            Finding(
                "problem",
                "model.dtype is float16: torch's gradient scaler refuses the gradients of float16"
                " weights (Attempting to unscale FP16 gradients)",
                "bfloat16 or float32; or LoRA, whose adapters are float32",
            )
        ]
    if dtype == "float32" or not torch.cuda.is_available():
        return []
    if torch.cuda.get_device_capability(0) < (8, 0):
        text = "model.dtype is bfloat16, which this GPU emulates slowly"
        return [Finding("warning", text, "float32")]
    return []


def _declared(path: str) -> dict[str, Any]:
    about = _read(Path(path) / "config.json")
    return about.get("text_config") or about


def _read(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    said = json.loads(file.read_text(encoding="utf-8"))
    return said if isinstance(said, dict) else {}
