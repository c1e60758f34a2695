"""The `trl:` block: GRPOConfig fields that pass through, and those that are set elsewhere.

Nothing is settable in two places. A reader who knows TRL finds here where a field went.
"""

from collections.abc import Iterable

from rlkd.errors import ConfigError, nearest, together

OWNED = {
    "learning_rate": "optim.learning_rate",
    "max_steps": "optim.steps",
    "num_train_epochs": "optim.steps",
    "lr_scheduler_type": "optim.schedule",
    "warmup_steps": "optim.warmup_steps",
    "weight_decay": "optim.weight_decay",
    "max_grad_norm": "optim.max_grad_norm",
    "adam_beta1": "optim.betas",
    "adam_beta2": "optim.betas",
    "per_device_train_batch_size": "batch.micro_batch_size",
    "gradient_accumulation_steps": "batch.prompts_per_step",
    "generation_batch_size": "batch.prompts_per_step",
    "steps_per_generation": "batch.steps_per_rollout",
    "num_generations": "batch.group_size",
    "num_iterations": "batch.iterations",
    "max_completion_length": "sampling.max_completion_length",
    "max_tool_calling_iterations": "environment.max_rounds",
    "temperature": "sampling.temperature",
    "top_p": "sampling.top_p",
    "top_k": "sampling.top_k",
    "use_vllm": "generation.backend",
    "vllm_mode": "generation.backend",
    "use_transformers_continuous_batching": "generation.backend",
    "use_transformers_paged": "generation.backend",
    "transformers_continuous_batching_config": "generation.memory_share",
    "vllm_gpu_memory_utilization": "generation.memory_share",
    "vllm_server_base_url": "generation.server_url",
    "vllm_server_host": "generation.server_url",
    "vllm_server_port": "generation.server_url",
    "vllm_server_timeout": "generation.server_wait_s",
    "vllm_group_port": "generation.group_port",
    "vllm_tensor_parallel_size": "generation.tensor_parallel",
    "vllm_max_model_length": "generation.max_model_length",
    "vllm_enable_sleep_mode": "generation.sleep",
    "vllm_importance_sampling_correction": "generation.correction",
    "vllm_importance_sampling_mode": "generation.correction",
    "vllm_importance_sampling_clip_max": "generation.correction_max",
    "vllm_importance_sampling_clip_min": "generation.correction_min",
    "vllm_importance_sampling_cap": "generation.correction_max",
    "eval_strategy": "eval.every",
    "eval_steps": "eval.every",
    "eval_on_start": "eval.at_start",
    "do_eval": "data.eval",
    "per_device_eval_batch_size": "eval.batch_size",
    "output_dir": "run.dir",
    "run_name": "run.name",
    "seed": "run.seed",
    "data_seed": "run.seed",
    "save_strategy": "run.save_every",
    "save_steps": "run.save_every",
    "save_total_limit": "run.keep",
    "full_determinism": "run.deterministic",
    "report_to": "tracking.wandb",
    "project": "tracking.project",
    "log_completions": "tracking.rollouts_every",
    "bf16": "model.dtype",
    "fp16": "model.dtype",
    "bf16_full_eval": "model.dtype",
    "fp16_full_eval": "model.dtype",
    "model_init_kwargs": "model.dtype",
    "chat_template_kwargs": "model.chat_template_kwargs",
    "reward_weights": "rewards.0.weight",
    "beta": "algorithm.beta",
    "epsilon": "algorithm.clip_low",
    "epsilon_high": "algorithm.clip_high",
    "delta": "algorithm.dual_clip",
    "scale_rewards": "algorithm.advantage_scale",
    "loss_type": "algorithm.reduction",
    "importance_sampling_level": "algorithm.ratio_level",
    "use_bias_correction_kl": "algorithm.kl_correction",
}
"""GRPOConfig field -> the dotted place of this config that sets it."""

_LOSS = "it belongs to TRL's own loss, which the algorithm replaces: it would have no effect"
_LAUNCH = (
    "the launch decides it (accelerate launch --config_file configs/accelerate/fsdp2.yaml, …), and"
    " what cannot work there is checked by what the launch says"
)
_EVAL = "evaluation is greedy, one answer per prompt"

REFUSED = {
    "sapo_temperature_neg": _LOSS,
    "sapo_temperature_pos": _LOSS,
    "vespo_k_pos": _LOSS,
    "vespo_k_neg": _LOSS,
    "vespo_lambda_pos": _LOSS,
    "vespo_lambda_neg": _LOSS,
    "top_entropy_quantile": _LOSS,
    "entropy_coef": _LOSS,
    "use_adaptive_entropy": _LOSS,
    "entropy_coef_min": _LOSS,
    "entropy_coef_max": _LOSS,
    "entropy_coef_delta": _LOSS,
    "entropy_target": _LOSS,
    "off_policy_mask_threshold": _LOSS,
    "label_smoothing_factor": _LOSS,
    "use_liger_kernel": "its fused loss is TRL's GRPO loss, not the algorithm's",
    "fsdp": _LAUNCH,
    "fsdp_config": _LAUNCH,
    "deepspeed": _LAUNCH,
    "parallelism_config": "tensor and context parallelism were never tried",
    "auto_find_batch_size": "it changes the batch behind your back; set batch.micro_batch_size",
    "remove_unused_columns": "the rewards need the data's columns, so it is always false",
    "num_generations_eval": _EVAL,
    "load_best_model_at_end": "no metric of TRL's evaluation exists to choose by",
    "save_only_model": "a run could not be resumed from its checkpoints",
    "ignore_data_skip": "a resumed run would begin its data anew",
    "resume_from_checkpoint": "it would have no effect; do: rlkd train RUN --resume",
}
"""GRPOConfig field -> why no run may set it."""


def check_trl_keys(keys: Iterable[str], known: set[str]) -> None:
    """Check the keys of the `trl:` block.

    Args:
        keys: the block's keys.
        known: the names of GRPOConfig's fields (from the one module that may import trl).

    Raises:
        ConfigError: a key that is set elsewhere or has no effect (saying where, or why), or one
            that GRPOConfig does not have (naming the nearest).
    """
    keys = list(keys)
    problems = [_refusal(key) for key in keys if key in OWNED or key in REFUSED]
    problems += [
        _unknown(key, known) for key in keys if key not in known | set(OWNED) | set(REFUSED)
    ]
    if problems:
        raise together(problems, "trl")


def refuse_owned(keys: Iterable[str]) -> None:
    """The part of `check_trl_keys` that needs no trl.

    Raises:
        ConfigError: a key that is set elsewhere or has no effect.
    """
    problems = [_refusal(key) for key in keys if key in OWNED or key in REFUSED]
    if problems:
        raise ConfigError("\n\n".join(problems))


def _refusal(key: str) -> str:
    if key in OWNED:
        return (
            f"trl.{key}: this is set at {OWNED[key]}.\n"
            "  why: nothing is settable in two places\n"
            f"  do: remove it here and set {OWNED[key]}"
        )
    return f"trl.{key}: this cannot be set.\n  why: {REFUSED[key]}\n  do: remove it"


def _unknown(key: str, known: set[str]) -> str:
    near = nearest(key, known)
    if near in OWNED:
        hint = f"did you mean {near}? it is set at {OWNED[near]}"
    else:
        hint = f"did you mean: trl.{near}"
    return f"trl.{key}: GRPOConfig has no such field.\n  {hint}"
