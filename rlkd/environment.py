"""A tool environment: a class whose methods the student may call while it answers.

The protocol is TRL's `environment_factory`: one instance per rollout, `reset(**row)` before it (a
text that it gives is put after the prompt), and every other public method is a tool, of which the
model is told the name, the docstring and the types. What TRL needs of the class, the data and the
student's chat template is checked here, before weights are read.
"""

import functools
import inspect
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rlkd.config.judging import Environment
from rlkd.errors import ConfigError, nearest
from rlkd.refs import check_arguments, resolve

_NAME, _KEY, _VALUE, _RESULT = "tool_a8f3", "argument_b9d4", "value_d6e7", "result_c4f9"
"""Words that a template must show when it is given a tool's call and its result."""


def build_environment(block: Environment) -> Callable[[], Any]:
    """What makes an environment for each rollout. Makes one, to look at it.

    Raises:
        ConfigError: the reference is no class, its arguments do not fit, it fails, it has no reset,
            no tools, a tool without docstring or types, or a reward of its own.
    """
    place = "environment"
    made = resolve(block.use, place=f"{place}.use", want_callable=True)
    if not inspect.isclass(made):
        raise ConfigError(
            f"{place}.use: {block.use} is a {type(made).__name__}.\n"
            "  expected: a class, of which each rollout gets its own instance"
        )
    check_arguments(made, {}, block.kwargs, place)
    try:
        instance = made(**block.kwargs)
    except Exception as error:
        raise ConfigError(f"{place}: {block.use} fails: {type(error).__name__}: {error}") from error
    methods = dict(inspect.getmembers(made, predicate=inspect.isfunction))
    if "reset" not in methods:
        public = [name for name in methods if not name.startswith("_")]
        raise ConfigError(
            f"{place}.use: {made.__name__} has no method reset.\n"
            f"  found: {', '.join(public) or 'no methods'} (nearest: {nearest('reset', public)})\n"
            "  why: it is called with the row before each rollout: def reset(self, **row)"
        )
    if "get_reward" in methods:
        raise ConfigError(
            f"{place}.use: {made.__name__} has a reward of its own (get_reward).\n"
            "  why: it would stand beside `rewards`, without a name, a weight or a guard\n"
            "  do: make it a reward function that reads `environments`, with in_process: true"
        )
    tools = [name for name in methods if not name.startswith("_") and name != "reset"]
    if not tools:
        raise ConfigError(f"{place}.use: {made.__name__} has no public method to use as a tool")
    for name in tools:
        _describe(getattr(instance, name), f"{made.__name__}.{name}", place)
    return functools.partial(made, **block.kwargs)


def check_rows(block: Environment, rows: Iterable[dict[str, Any]]) -> None:
    """Check that rows can begin a rollout with tools.

    Raises:
        ConfigError: the prompts are no chats; reset cannot be called with the rows' columns.
    """
    first = next(iter(rows))
    if isinstance(first["prompt"], str):
        raise ConfigError(
            "data.train: the prompts are text, and an environment needs chats.\n"
            "  why: calls and results are messages of a chat\n"
            '  do: give prompts like [{"role": "user", "content": "..."}] (the shelf: kwargs:'
            " {chat: true}), or remove the block environment"
        )
    reset = resolve(block.use).reset
    parameters = list(inspect.signature(reset).parameters.values())[1:]
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        needed = {
            p.name for p in parameters if p.default is p.empty and p.kind is not p.VAR_KEYWORD
        }
        missing, surplus = sorted(needed - first.keys()), []
    else:
        missing = sorted({p.name for p in parameters if p.default is p.empty} - first.keys())
        surplus = sorted(first.keys() - {p.name for p in parameters})
    if missing or surplus:
        problem = f"needs {', '.join(missing)}" if missing else f"takes no {', '.join(surplus)}"
        raise ConfigError(
            f"environment.use: reset {problem}.\n"
            f"  found: it is called with the row's columns: {', '.join(first)}\n"
            "  do: def reset(self, **row)"
        )


def check_template(folder: Path) -> None:
    """Check that the student's chat template can show a tool's call and its result.

    Raises:
        ConfigError: there is no template, or it leaves out a part.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    call = {"type": "function", "function": {"name": _NAME, "arguments": {_KEY: _VALUE}}}
    chat = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": _NAME, "content": _RESULT},
    ]
    if tokenizer.chat_template is None:
        problem = "no chat template"
    else:
        try:
            shown = tokenizer.apply_chat_template(chat, tokenize=False)
            left_out = {_NAME: "the tool's name", _KEY: "its arguments", _VALUE: "its arguments",
                        _RESULT: "its result"}  # fmt: skip
            lost = dict.fromkeys(what for word, what in left_out.items() if word not in shown)
            problem = f"a chat template that leaves out {', '.join(lost)}" if lost else None
        except Exception as error:
            problem = (
                f"a chat template that fails on a tool's call: {type(error).__name__}: {error}"
            )
    if problem is not None:
        raise ConfigError(
            f"model.path: the student in {folder} cannot use the environment's tools.\n"
            f"  found: {problem}\n"
            "  do: train a model whose chat template knows tools (Qwen 2.5 and 3, Llama 3.1, …), or"
            " remove the block environment"
        )


def _describe(tool: Callable[..., Any], title: str, place: str) -> None:
    from transformers.utils import get_json_schema

    try:
        get_json_schema(tool)
    except Exception as error:
        raise ConfigError(
            f"{place}.use: the model cannot be told how to call {title}.\n  found: {error}\n"
            "  do: give it types and a docstring that says what it does and, under `Args:`, what"
            " each argument is; other helpers begin with an underscore"
        ) from error
