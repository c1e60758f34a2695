"""A run: from a config to a folder with a trained model and everything that was seen on the way."""

import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PrinterCallback,
    enable_full_determinism,
    set_seed,
)
from transformers.utils.logging import disable_progress_bar

from rlkd import config as configs
from rlkd import folder as folders
from rlkd import resume as resuming
from rlkd import watching
from rlkd.config import ConfigError, RunConfig, check_trl_keys
from rlkd.config.teacher import build_teacher
from rlkd.data import Row, check_columns, check_enough, load_splits
from rlkd.door import build_rewards, check_at_door, check_prompts
from rlkd.environment import build_environment
from rlkd.evaluate import answer_greedily, score, summarise
from rlkd.geometry import Geometry, geometry
from rlkd.launch import Launch, read_launch
from rlkd.resume import Resumption
from rlkd.rewarding import ledger, rowcheck
from rlkd.rewarding.rowcheck import bad_rows
from rlkd.rewarding.setup import FaultStop, close, guard
from rlkd.stopping import StopSignals
from rlkd.teacher.base import TeacherError
from rlkd.tracking.best import BestWatch
from rlkd.tracking.callback import EvalCallback, StoreCallback
from rlkd.tracking.logger import RunLogger
from rlkd.tracking.store import RolloutStore
from rlkd.tracking.view import RunView
from rlkd.trainer import GRPOConfig, Trainer


def train(
    config: RunConfig, *, resume: bool = False, force_steps: bool = False
) -> list[dict[str, float]]:
    """Train as the config says; returns the evaluations (`step` and `eval/…` values).

    Args:
        config: the run.
        resume: go on from the newest whole checkpoint in the run's folder.
        force_steps: with `resume`: accept an `optim.steps` other than the run began with.

    Raises:
        ConfigError: something that the person wrote is wrong, the run cannot be resumed, or nothing
            can be learnt from the first batch; nothing was trained.
        TooManyFaults: a reward failed on too many rows; the state and the model were saved.
        Broken: the loss or the gradient was not finite, the update was left out, and the state and
            the model were saved; or the teacher gave what is no log-probability.
        Stopped: a signal stopped the run; the state was saved.
    """
    _quieten()
    launch = read_launch(config.run.processes)
    check_trl_keys(config.trl, set(GRPOConfig.__dataclass_fields__))
    check_at_door(config, launch.world_size, output=launch.is_main and not resume)
    resumption = None
    if resume:
        finished = resuming.check_config(config, force_steps)
        if finished is not None:
            print(f"{config.folder} is finished ({finished}): {config.folder}/model")
            return []
        if launch.is_main:
            resumption = resuming.choose(config, launch.world_size)
    sizes = geometry(config.batch, launch.world_size)
    functions = build_rewards(config)
    rows, heldout = load_splits(config.data)
    check_columns(functions, rows[0])
    check_prompts(config, rows)
    bad = bad_rows(config, functions, {"train": rows, "eval": heldout or []})
    if launch.is_main:
        rowcheck.report(bad, more=config.folder / rowcheck.FILE)
    check_enough(rows, sizes)
    if config.run.deterministic:
        enable_full_determinism(config.run.seed)
    rewards = guard(config, functions)
    every = config.tracking.rollouts_every
    store = RolloutStore(config.folder / "rollouts", launch.rank, every or 1)
    try:
        trainer = _build_trainer(config, sizes, store, rewards, rows)
        if resume:  # the main rank has chosen for all
            resumption = trainer.gather_rows([resumption])[0]
        if resumption is not None:
            store.attempt = resumption.attempt
        trainer.add_callback(StoreCallback(store, trainer.gather_rows))
        trainer.pieces.add("rollouts", store, per_rank=True)
        trainer.pieces.add("data", resuming.Rows(rows, heldout))
        if launch.is_main:
            rowcheck.save(bad, config.folder / rowcheck.FILE)
        return _train(trainer, config, launch, rewards, heldout, resumption, store)
    finally:
        close(rewards)
        store.close()


def _train(
    trainer: Trainer,
    config: RunConfig,
    launch: Launch,
    rewards: dict[str, Any],
    heldout: list[Row] | None,
    resumption: Resumption | None,
    store: RolloutStore,
) -> list[dict[str, float]]:
    logger = _open_folder(config, launch, resumption)
    try:
        trainer.pieces.add("metrics", logger)
        unsound = watching.watch(trainer, config, launch, logger, resumption, store)
        faults = FaultStop(config)
        trainer.on_faults = faults.add
        trainer.add_callback(faults)
        trainer.pieces.add("faults", faults)
        signals = StopSignals(lambda code: max(trainer.gather_rows([code])))
        stops = watching.Stops(faults, signals, unsound)
        evaluations = _add_evaluation(trainer, config, rewards, heldout, logger, stops)
        trainer.add_callback(signals)
        if logger is not None:
            records, prompts = trainer.difficulty, trainer.training_prompts
            trainer.add_callback(RunView(config.folder, logger, records, prompts))
        if resumption is not None:
            resuming.announce(trainer, config, resumption)
        with signals:
            watching.run(trainer, resumption, unsound)
            if not signals.exit_code:
                folders.save_model(trainer, config.folder)
            if launch.is_main:
                why = watching.why_ended(trainer, stops)
                folders.end(config.folder, why, trainer.state.global_step)
    finally:
        if logger is not None:
            logger.close()
    signals.raise_if_stopped(config.folder)
    faults.raise_if_stopped()
    unsound.raise_if_stopped()
    return evaluations.history if evaluations is not None else []


def evaluate(model: Path, config: RunConfig) -> dict[str, float]:
    """Greedy evaluation of a model's folder on the config's held-out rows."""
    _quieten()
    check_at_door(config, 1, output=False)
    functions = build_rewards(config)
    _, heldout = load_splits(config.data)
    rows = heldout or []
    check_columns(functions, rows[0])
    check_prompts(config, rows)
    rowcheck.report(bad_rows(config, functions, {"eval": rows}))
    set_seed(config.run.seed)
    tokenizer = AutoTokenizer.from_pretrained(model)
    network: Any = AutoModelForCausalLM.from_pretrained(model, dtype=config.model.dtype)
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    rewards = guard(config, functions)
    try:
        scored = _score_rows(network, tokenizer, rows, rewards, config)
        faults = ledger.metrics(ledger.take_all(rewards), "reward")
    finally:
        close(rewards)
    return summarise(scored, config.rewards[0].label) | {k: v for k, v in faults.items() if v}


def _quieten() -> None:
    """Keep what libraries say about their own loading and future out of a run's terminal."""
    disable_progress_bar()
    message = ".*gradient_checkpointing.*deprecated.*"  # TRL sets the field, whatever we say
    warnings.filterwarnings("ignore", message=message, category=FutureWarning)
    # The range of TRL that this is tested with is pinned; rlkd.environment checks what it needs.
    warnings.filterwarnings("ignore", message=".*'environment_factory'.*experimental")


def _score_rows(
    model: Any, tokenizer: Any, rows: list[Row], rewards: dict[str, Any], config: RunConfig
) -> list[dict[str, float | None]]:
    limit = config.eval.max_completion_length or config.sampling.max_completion_length
    answers = answer_greedily(
        model, tokenizer, rows, limit, config.eval.batch_size, config.model.chat_template_kwargs
    )
    return score(answers, tokenizer, rows, rewards)


def _build_trainer(
    config: RunConfig,
    sizes: Geometry,
    store: RolloutStore,
    rewards: dict[str, Any],
    rows: list[Row],
) -> Trainer:
    tools = config.environment
    try:
        trainer = Trainer(
            config.model.path,
            list(rewards.values()),
            _arguments(config, sizes),
            Dataset.from_list(rows),
            algorithm=config.build_algorithm(),
            components=config.build_components(),
            teacher=build_teacher(config.teacher) if config.teacher else None,
            teacher_check=config.teacher.check if config.teacher else "error",
            on_rollouts=store.write if config.tracking.rollouts_every else None,
            token_rows=config.tracking.token_rows,
            peft_config=_lora(config),
            environment_factory=build_environment(tools) if tools else None,
        )
    except TeacherError as error:
        raise ConfigError(f"teacher: {error}") from error
    except ValueError as error:
        if tools is None or "chat template" not in str(error):
            raise
        # It knows by heart how the templates of some families write a call.
        raise ConfigError(f"environment: TRL refuses the student's tokenizer: {error}") from error
    trainer.remove_callback(PrinterCallback)
    return trainer


def _arguments(config: RunConfig, sizes: Geometry) -> GRPOConfig:
    optim, sampling = config.optim, config.sampling
    schedule = optim.schedule
    if schedule == "constant" and optim.warmup_steps:
        schedule = "constant_with_warmup"
    settings: dict[str, Any] = {
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "disable_tqdm": True,
        "output_dir": str(config.folder / "checkpoints"),
        "run_name": config.run.name,
        "report_to": "none",
        "seed": config.run.seed,
        "use_cpu": not torch.cuda.is_available(),
        "bf16": config.model.dtype == "bfloat16",
        "fp16": config.model.dtype == "float16",
        "model_init_kwargs": {"dtype": config.model.dtype},
        "chat_template_kwargs": config.model.chat_template_kwargs,
        "per_device_train_batch_size": sizes.micro_batch_size,
        "gradient_accumulation_steps": sizes.accumulation_steps,
        "steps_per_generation": sizes.steps_per_generation,
        "num_generations": sizes.group_size,
        "num_iterations": sizes.num_iterations,
        "max_completion_length": sampling.max_completion_length,
        "max_tool_calling_iterations": config.environment and config.environment.max_rounds,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "max_steps": optim.steps,
        "learning_rate": optim.learning_rate,
        "lr_scheduler_type": schedule,
        "warmup_steps": optim.warmup_steps,
        "weight_decay": optim.weight_decay,
        "max_grad_norm": optim.max_grad_norm,
        "adam_beta1": optim.betas[0],
        "adam_beta2": optim.betas[1],
        "reward_weights": [reward.weight for reward in config.rewards],
        "save_strategy": "steps" if config.run.save_every else "no",
        "save_steps": config.run.save_every or 500,
        "save_total_limit": config.run.keep,
    }
    return GRPOConfig(**(settings | config.trl))


def _lora(config: RunConfig) -> Any:
    if config.model.lora is None:
        return None
    from peft import LoraConfig

    lora = config.model.lora
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=lora.target_modules,
        task_type="CAUSAL_LM",
    )


def _add_evaluation(
    trainer: Trainer,
    config: RunConfig,
    rewards: dict[str, Any],
    heldout: list[Row] | None,
    logger: RunLogger | None,
    stops: watching.Stops,
) -> EvalCallback | None:
    if heldout is None:
        return None
    accelerator = trainer.accelerator
    # Each rank answers every world-size-th row; sums meet below.
    share = heldout[accelerator.process_index :: accelerator.num_processes]

    def run(step: int) -> dict[str, float]:
        if stops.faults.complaint is not None:
            return {}  # of a reward that fails there is nothing to learn
        model = accelerator.unwrap_model(trainer.model)
        scored = _score_rows(model, trainer.processing_class, share, rewards, config)
        gathered = trainer.gather_rows(scored)
        summary = summarise(gathered, config.rewards[0].label)
        values = {f"eval/{key}": value for key, value in summary.items()}
        counts = ledger.add_up(trainer.gather_rows([ledger.take_all(rewards)]))
        values |= {k: v for k, v in ledger.metrics(counts, "eval/reward").items() if v}
        if logger is not None:
            logger.log(step, values)
            shown = "  ".join(f"{key} {value:.3f}" for key, value in summary.items())
            print(f"eval at step {step}: {shown}", file=sys.stderr, flush=True)
        return values

    watch = None
    if config.eval.best is not None:
        highest = config.eval.best_is == "highest"
        watch = BestWatch(f"eval/{config.eval.best}", highest, config.eval.patience)
        trainer.checkpoints.best = lambda: watch.best
    callback = EvalCallback(
        run, config.eval.every, config.eval.at_start,
        skip=lambda: stops.signals.exit_code != 0, watch=watch,
    )  # fmt: skip
    trainer.add_callback(callback)
    trainer.pieces.add("evaluations", callback)
    trainer.has_ended = lambda checkpoint: callback.has_ended(
        trainer.pieces.read(checkpoint, "evaluations", accelerator.process_index)
    )
    return callback


def _open_folder(
    config: RunConfig, launch: Launch, resumption: Resumption | None
) -> RunLogger | None:
    """Write what is known before the first step; only the main process, which gets a logger."""
    if not launch.is_main:
        return None
    if resumption is None:
        about = folders.start(config, launch)
    else:
        about = folders.go_on(config, launch, resumption.step)
    return RunLogger(
        config.folder,
        config.run.name,
        config.tracking.project,
        configs.resolved(config).model_dump(mode="json"),
        config.tracking.wandb,
        run_id=about["wandb_id"],
        attempt=resumption.attempt if resumption is not None else 1,
    )
