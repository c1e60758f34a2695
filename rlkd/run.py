"""A run: from a config to a folder with a trained model and everything that was seen on the way."""

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import torch
from datasets import Dataset
from transformers import PrinterCallback, enable_full_determinism

from rlkd import folder as folders
from rlkd import resume as resuming
from rlkd.config import ConfigError, RunConfig, check_trl_keys
from rlkd.config.teacher import build_teacher
from rlkd.data import Row, check_columns, check_enough, load_splits
from rlkd.door import build_rewards, check_at_door, check_prompts
from rlkd.environment import build_environment
from rlkd.evaluation.model import answer_and_score, evaluate_model
from rlkd.evaluation.scoring import summarise
from rlkd.evaluation.settings import settings_of
from rlkd.generation import warnings_of
from rlkd.geometry import Geometry, geometry
from rlkd.launch import Launch, read_launch
from rlkd.quiet import quieten
from rlkd.resume import Resumption
from rlkd.rewarding import ledger, rowcheck
from rlkd.rewarding.rowcheck import bad_rows
from rlkd.rewarding.setup import FaultStop, close, guard
from rlkd.teacher.base import TeacherError
from rlkd.teacher.door import check_rows
from rlkd.teacher.probe import check_servers
from rlkd.traces import source as trace_source
from rlkd.traces.book import Traces
from rlkd.tracking.best import BestWatch
from rlkd.tracking.callback import ArtifactCallback, EvalCallback, StoreCallback
from rlkd.tracking.logger import RunLogger
from rlkd.tracking.rollouts import Rollouts
from rlkd.tracking.store import RolloutStore
from rlkd.tracking.tables import EvalTables, RolloutTables
from rlkd.tracking.teacher_verdict import TeacherVerdict
from rlkd.tracking.trackers.opening import open_logger
from rlkd.tracking.view import RunView
from rlkd.trainer import GRPOConfig, Trainer
from rlkd.training import sharded, watching
from rlkd.training.speed import speed_of
from rlkd.training.stopping import StopSignals

Takers = list[Callable[[Rollouts], None]]
"""Who is handed each batch of rollouts; on every rank."""


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
        PeerFailed: another rank failed first; what was saved stays.
    """
    quieten()
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
    check_rows(config, rows)
    check_servers(config, rows)
    bad = bad_rows(config, functions, {"train": rows, "eval": heldout or []})
    if launch.is_main:
        for text in warnings_of(config):
            print(f"warning: {text}", file=sys.stderr)
        rowcheck.report(bad, more=config.folder / rowcheck.FILE)
    if config.run.deterministic:
        enable_full_determinism(config.run.seed)
    rewards = guard(config, functions)
    every = config.tracking.rollouts_every
    store = RolloutStore(config.folder / "rollouts", launch.rank, every or 1)
    takers: Takers = [store.write] if every else []
    try:
        traces, rows, made = trace_source.obtain(config, rows, rewards, launch, resume)
        check_enough(rows, sizes)
        trainer = _build_trainer(config, sizes, takers, rewards, rows, traces)
        if resume:  # the main rank has chosen for all
            resumption = trainer.gather_rows([resumption])[0]
        if resumption is not None:
            store.attempt = resumption.attempt
        trainer.add_callback(StoreCallback(store, trainer.gather_rows))
        trainer.pieces.add("rollouts", store, per_rank=True)
        trainer.pieces.add("data", resuming.Rows(rows, heldout))
        if traces is not None:
            trainer.pieces.add("traces", trace_source.Same(traces))
        if launch.is_main:
            if made is not None:
                trace_source.keep(made, config.folder / trace_source.FILE)
            rowcheck.save(bad, config.folder / rowcheck.FILE)
        return _train(trainer, config, launch, rewards, heldout, resumption, store, takers)
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
    takers: Takers,
) -> list[dict[str, float]]:
    logger = _open_folder(config, launch, resumption)
    try:
        trainer.pieces.add("metrics", logger.file if logger is not None else None)
        tables = RolloutTables(logger, trainer.gather_rows, **_tables(config, launch))
        takers.append(tables.see)
        trainer.add_callback(tables)
        if trainer.teacher is not None:
            verdict = TeacherVerdict(trainer.gather_rows, config.rewards[0].label)
            takers.append(verdict.see)
            trainer.add_callback(verdict)  # before the alarms, which read what it adds
            trainer.pieces.add("teacher_verdict", verdict)
        unsound = watching.watch(trainer, config, launch, logger, resumption, store)
        faults = FaultStop(config)
        trainer.on_faults = faults.add
        trainer.add_callback(faults)
        trainer.pieces.add("faults", faults)
        alive = watching.alive(trainer, config, launch)
        signals = StopSignals(lambda code: max(trainer.gather_rows([code])), alive.is_lost)
        stops = watching.Stops(faults, signals, unsound)
        answered = EvalTables(logger, trainer.gather_rows, **_tables(config, launch))
        evaluations = _add_evaluation(trainer, config, rewards, heldout, logger, stops, answered)
        trainer.add_callback(signals)
        if logger is not None:
            records, prompts = trainer.difficulty, trainer.training_prompts
            trainer.add_callback(RunView(config.folder, logger, records, prompts))
            if config.tracking.artifact == "checkpoints":
                trainer.add_callback(ArtifactCallback(logger))
        if resumption is not None:
            resuming.announce(trainer, config, resumption)
        with alive, signals:
            watching.run(trainer, resumption, unsound)
            if not signals.exit_code:
                folders.save_model(trainer, config.folder)
                if logger is not None and config.tracking.artifact != "none":
                    logger.log_folder(trainer.state.global_step, "model", config.folder / "model")
            if launch.is_main:
                why = watching.why_ended(trainer, stops)
                folders.end(config.folder, why, trainer.state.global_step)
    finally:
        if trainer.teacher is not None:
            trainer.teacher.close()
        if logger is not None:
            logger.close()
    signals.raise_if_stopped(config.folder)
    faults.raise_if_stopped()
    unsound.raise_if_stopped()
    return evaluations.history if evaluations is not None else []


def evaluate(model: Path, config: RunConfig) -> dict[str, float]:
    """Greedy evaluation of a model's folder on the config's held-out rows, as in training."""
    return evaluate_model(model, config).summary


def _build_trainer(
    config: RunConfig,
    sizes: Geometry,
    takers: Takers,
    rewards: dict[str, Any],
    rows: list[Row],
    traces: Traces | None = None,
) -> Trainer:
    algorithm, tools = config.build_algorithm(), config.environment
    scores = algorithm.needs_teacher or traces is None
    try:
        trainer = Trainer(
            config.model.path,
            list(rewards.values()),
            _arguments(config, sizes),
            Dataset.from_list(rows),
            algorithm=algorithm,
            components=config.build_components(),
            # The teacher of a run with traces may be there to write them alone.
            teacher=build_teacher(config.teacher) if config.teacher and scores else None,
            teacher_check=config.teacher.check if config.teacher else "error",
            teacher_overlap=config.teacher.overlap if config.teacher else "auto",
            on_bad_scores=config.teacher.on_bad_scores if config.teacher else "stop",
            traces=traces,
            on_rollouts=functools.partial(_hand_out, takers),
            token_rows=config.tracking.token_rows,
            peft_config=_lora(config),
            environment_factory=build_environment(tools) if tools else None,
            speed=speed_of(config.speed),
        )
    except TeacherError as error:
        raise ConfigError(f"teacher: {error}") from error
    except ValueError as error:
        if tools is None or "chat template" not in str(error):
            raise
        # It knows by heart how the templates of some families write a call.
        raise ConfigError(f"environment: TRL refuses the student's tokenizer: {error}") from error
    trainer.remove_callback(PrinterCallback)
    trainer.bad_scores.folder = config.folder
    return trainer


def _hand_out(takers: Takers, rollouts: Rollouts) -> None:
    for take in takers:
        take(rollouts)


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
    return GRPOConfig(**(settings | config.generation.for_trl() | config.trl))


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
    answered: EvalTables,
) -> EvalCallback | None:
    if heldout is None:
        return None
    accelerator, tokenizer = trainer.accelerator, cast(Any, trainer.processing_class)
    # Each rank answers every world-size-th row; sums meet below.
    share = heldout[accelerator.process_index :: accelerator.num_processes]
    splits = trainer.sharding is not None and trainer.sharding.splits_weights
    besides = sharded.fill(share, heldout, accelerator.num_processes) if splits else []

    @trainer.phases("evaluation")
    def run(step: int) -> dict[str, float]:
        if stops.faults.complaint is not None:
            return {}  # of a reward that fails there is nothing to learn
        model = accelerator.unwrap_model(trainer.model)
        answers, scored = answer_and_score(
            model, tokenizer, share, rewards, config, settings_of(config), besides
        )
        answered.see(step, share, lambda i: tokenizer.decode(answers.ids[i]), scored)
        gathered = trainer.gather_rows(scored)
        summary = summarise(gathered, config.rewards[0].label)
        values = {f"eval/{key}": value for key, value in summary.items()}
        counts = ledger.add_up(trainer.gather_rows([ledger.take_all(rewards)]))
        values |= {k: v for k, v in ledger.metrics(counts, "eval/reward").items() if v}
        if logger is not None:
            logger.log(step, values)
            shown = "  ".join(f"{key} {value:.3f}" for key, value in summary.items())
            print(f"eval at step {step}: {shown}", file=sys.stderr, flush=True)
        trainer.schedule.see(step, values)
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
    if resumption is None:
        return open_logger(config, about, attempt=1, step=0)
    return open_logger(config, about, resumption.attempt, resumption.step)


def _tables(config: RunConfig, launch: Launch) -> dict[str, int]:
    tracking = config.tracking
    return {"world_size": launch.world_size, "rows": tracking.table_rows,
            "most": tracking.tables, "steps": config.optim.steps}  # fmt: skip
