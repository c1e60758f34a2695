"""`rlkd export`: a run's model as a plain Hugging Face folder, adapters merged."""

import shutil
import sys
from pathlib import Path
from typing import Any

from rlkd.checkpoints import manifest
from rlkd.config import ConfigError, RunConfig
from rlkd.door import check_model_folder


def source(run: Path, wanted: str | None) -> Path:
    """The folder with the weights to export.

    Args:
        run: the run's folder.
        wanted: a step, `best`, or None: the final model, or the newest whole checkpoint while
            there is none.

    Raises:
        ConfigError: there is no such checkpoint, or it is not whole.
    """
    checkpoints = run / "checkpoints"
    if wanted is None:
        return newest_model(run, "rlkd export")
    if wanted == "best":
        newest = manifest.newest(checkpoints, _warn)
        if newest is None or newest.manifest.best is None:
            raise ConfigError(
                f"rlkd export: no checkpoint of {run} is the best.\n"
                "  why: checkpoints are compared where eval.best names a metric"
            )
        wanted = str(newest.manifest.best.step)
    found = manifest.candidates(checkpoints)
    if not wanted.isdecimal() or int(wanted) not in found:
        steps = ", ".join(map(str, sorted(found))) or "none"
        raise ConfigError(
            f"rlkd export: {run} has no checkpoint {wanted}.\n"
            f"  found: {steps}\n  expected: one of these steps, or best"
        )
    return manifest.verify(found[int(wanted)]).path


def newest_model(run: Path, command: str) -> Path:
    """A run's final model, or its newest whole checkpoint while there is none.

    Raises:
        ConfigError: it has neither.
    """
    if (run / "model").is_dir():
        return run / "model"
    newest = manifest.newest(run / "checkpoints", _warn)
    if newest is None:
        raise ConfigError(f"{command}: the run {run} has neither a model/ nor a whole checkpoint")
    return newest.path


def export(weights: Path, config: RunConfig, out: Path) -> None:
    """Write the model in `weights` to `out`: merged, with tokenizer and generation config.

    Tied weights stay tied and the number format is the run's. The folder appears whole.

    Args:
        weights: a model or adapters, as a run saves them.
        config: of the run: its base model and number format.
        out: must not exist, or be empty.

    Raises:
        ConfigError: `out` is in use; the base model of the adapters is not there.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"rlkd export: {out} is in use; give a folder that is new or empty")
    from transformers import AutoTokenizer

    model = _load(weights, config)
    unfinished = out.with_name(f"{out.name}.unfinished")
    if unfinished.exists():
        shutil.rmtree(unfinished)
    model.save_pretrained(unfinished)
    AutoTokenizer.from_pretrained(weights).save_pretrained(unfinished)
    if out.exists():
        out.rmdir()
    unfinished.rename(out)


def _load(weights: Path, config: RunConfig) -> Any:
    from transformers import AutoModelForCausalLM

    if not (weights / "adapter_config.json").is_file():
        return AutoModelForCausalLM.from_pretrained(weights, dtype=config.model.dtype)
    from peft import PeftModel

    check_model_folder(config.model.path, "model.path")
    base = AutoModelForCausalLM.from_pretrained(config.model.path, dtype=config.model.dtype)
    model: Any = PeftModel.from_pretrained(base, str(weights))
    return model.merge_and_unload()


def _warn(text: str) -> None:
    print(f"warning: {text}", file=sys.stderr)
