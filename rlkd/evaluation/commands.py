"""`rlkd eval`: its options, and what it does. What is heavy loads when used."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rlkd import config as configs
from rlkd.config import ConfigError
from rlkd.datafiles import KINDS
from rlkd.export import newest_model


def evaluate(arguments: argparse.Namespace, overrides: list[str]) -> int:
    """Print what the model does on the held-out rows and keep it as JSON."""
    short = {
        "--data.eval.size": arguments.size,
        "--eval.max_completion_length": arguments.max_completion_length,
        "--eval.batch_size": arguments.batch_size,
    }
    if arguments.data is not None:
        source = _source(arguments.data, arguments.size)
        overrides = [f"--data.eval={json.dumps(source)}", *overrides]
    for place, value in short.items():
        if value is not None:
            overrides = [*overrides, f"{place}={value}"]
    model, path = locate(Path(arguments.target), arguments.config)
    config = configs.load(path, overrides)
    if config.data.eval is None:
        raise ConfigError(
            f"data.eval: {path} has no held-out rows (null); set data.eval to evaluate"
        )
    from rlkd.evaluation import table
    from rlkd.evaluation.model import evaluate_model

    found = evaluate_model(
        model,
        config,
        samples=arguments.samples,
        temperature=arguments.temperature,
        top_p=arguments.top_p,
        top_k=arguments.top_k,
        seed=arguments.seed,
        ks=arguments.k,
        answers=arguments.answers,
        against_training=arguments.data is None,
        **({"embedder": arguments.embedder} if arguments.embedder else {}),
    )
    if found.settings.greedy:
        print("\n".join(table.lines(found)))
    else:
        table.show(found)
    out = _out(arguments, found.file_name)
    if out is not None:
        found.save(out)
        print(f"results: {out}", file=sys.stderr)
    return 0


def locate(target: Path, config: Path | None) -> tuple[Path, Path]:
    """The model folder and the config file that `rlkd eval TARGET --config CONFIG` means.

    A run's folder gives its final model, or its newest whole checkpoint while there is none, and
    its own resolved config; a model's folder needs a config.

    Raises:
        ConfigError: neither a run nor a model; a run without a model; a model without a config.
    """
    if not target.is_dir():
        raise ConfigError(
            f"rlkd eval: there is no folder {target}; give a run's folder or a model's"
        )
    if (target / "config.yaml").is_file():
        return newest_model(target, "rlkd eval"), config or target / "config.yaml"
    if not (target / "config.json").is_file() and not (target / "adapter_config.json").is_file():
        raise ConfigError(
            f"rlkd eval: {target} is neither a run nor a model.\n"
            "  expected: config.yaml (a run) or config.json (a model) in it"
        )
    if config is None:
        raise ConfigError(
            f"rlkd eval: {target} is a model; which held-out rows and rewards?\n"
            "  do: add --config configs/NAME.yaml"
        )
    return target, config


def _source(data: str, size: int | None) -> dict[str, Any]:
    """The block `data.eval` that --data names: a file of rows, or an environment's function."""
    if Path(data).suffix in KINDS:
        return {"path": data} | ({"size": size} if size is not None else {})
    if ":" not in data:
        raise ConfigError(
            f"rlkd eval: --data is {data!r}, neither a file of rows nor a function.\n"
            f"  expected: a file ({', '.join(KINDS)}), or module:name, like envs.arithmetic:rows"
        )
    if size is None:
        raise ConfigError(
            f"rlkd eval: --data {data} is a function; how many rows?\n  do: add --size 1000"
        )
    return {"use": data, "size": size}


def _out(arguments: argparse.Namespace, name: str) -> Path | None:
    """Where the JSON goes; None where a model that is no run's was not given an --out."""
    if arguments.out is not None:
        return arguments.out
    run = Path(arguments.target)
    if not (run / "config.yaml").is_file():
        return None
    from rlkd.evaluation.result import FOLDER

    return run / FOLDER / name


def _ks(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no list of whole numbers, like 1,4,16"
        ) from None


def eval_options(parser: argparse.ArgumentParser) -> set[str]:
    """Define them; returns their names."""
    add = parser.add_argument
    add("target", metavar="RUN_OR_MODEL", help="folder of a run, or of a model")
    add("--config", type=Path, help="YAML with the rows (default: the run's own)")
    add("--size", type=int, help="held-out rows (data.eval.size)")
    add(
        "--data",
        metavar="FILE|MODULE:NAME",
        help="other rows than data.eval: a file, or an environment with --size; their columns are"
        " named by --data.prompt_column and --data.columns. Not compared with the training rows",
    )
    add(
        "--max-completion-length",
        type=int,
        help="most tokens of an answer (eval.max_completion_length)",
    )
    add("--batch-size", type=int, help="answers per pass (eval.batch_size)")
    sampled = parser.add_argument_group("sampling (without --samples: one greedy answer to a row)")
    add = sampled.add_argument
    add("--samples", type=int, metavar="N", help="sampled answers to each row")
    add("--temperature", type=float, help="default: the config's, as in training")
    add("--top-p", type=float, help="default: the config's")
    add("--top-k", type=int, help="default: the config's; 0: all tokens")
    add("--seed", type=int, help="default: run.seed")
    add("--k", type=_ks, metavar="K,K", help="for pass@k and maj@k (default: 1, 2, 4, …, N)")
    add(
        "--answers",
        metavar="MODULE:NAME",
        help="says which answers are the same vote (default: the first reward's own `answers`)",
    )
    add(
        "--embedder",
        metavar="MODULE:NAME",
        help="texts to vectors, for the Vendi score (default: hashed character n-grams)",
    )
    parser.add_argument(
        "--out", metavar="FILE", type=Path, help="JSON (a run: RUN/evaluations/…, else none)"
    )
    return {
        "--help", "--config", "--size", "--data", "--max-completion-length", "--batch-size",
        "--samples", "--temperature", "--top-p", "--top-k", "--seed", "--k", "--answers",
        "--embedder", "--out",
    }  # fmt: skip
