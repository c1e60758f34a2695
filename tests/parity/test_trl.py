"""With the algorithm GRPO, rlkd's trainer is TRL's: loss, gradient, whole training steps."""

import pytest
import torch
from trl import GRPOConfig, GRPOTrainer

from rlkd import CISPO, DAPO, GRPO, GSPO, DrGRPO, Trainer

LOSSES = {
    "grpo": {"loss_type": "grpo"},
    "bnpo": {"loss_type": "bnpo"},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "dr_grpo": {"loss_type": "dr_grpo", "scale_rewards": "none"},
    "gspo": {"loss_type": "grpo", "importance_sampling_level": "sequence", "epsilon": 3e-4},
    "dual_clip": {"loss_type": "grpo", "delta": 1.5},
    "uncorrected_kl": {"loss_type": "grpo", "use_bias_correction_kl": False},
    "off_policy_mask": {"loss_type": "grpo", "off_policy_mask_threshold": 0.01},
}

# Each class, and TRL's arguments for it. The epsilon_high of TRL's cispo is the whole bound.
CLASSES = {
    "dr_grpo": (DrGRPO(), LOSSES["dr_grpo"]),
    "dapo": (DAPO(), LOSSES["dapo"]),
    "gspo": (GSPO(), LOSSES["gspo"] | {"epsilon_high": 4e-4}),
    "cispo": (CISPO(clip_high=0.25), {"loss_type": "cispo", "epsilon_high": 1.25}),
    "cispo with reference": (
        CISPO(beta=0.1, clip_high=0.25),
        {"loss_type": "cispo", "epsilon_high": 1.25, "beta": 0.1},
    ),
}


def reward(completions, **_):
    """Spread, cheap, and a function of the text alone."""
    return [(sum(map(ord, text)) % 7) / 7 for text in completions]


def arguments(tmp_path, **more) -> GRPOConfig:
    settings = {
        "output_dir": str(tmp_path), "per_device_train_batch_size": 8, "num_generations": 4,
        "gradient_accumulation_steps": 2, "max_completion_length": 12, "max_steps": 2,
        "learning_rate": 1e-2, "bf16": False, "report_to": "none", "logging_steps": 1,
        "gradient_checkpointing": False, "use_cpu": True, "save_strategy": "no", "seed": 3,
        "disable_tqdm": True,
    }  # fmt: skip
    return GRPOConfig(**(settings | more))


def one_loss(trainer, inputs):
    """Loss and gradient of one micro-batch, from equal weights."""
    trainer.model.train()
    trainer.model.zero_grad()
    trainer.current_gradient_accumulation_steps = 2
    loss = trainer._compute_loss(trainer.model, inputs)
    loss.backward()
    grads = {n: p.grad.clone() for n, p in trainer.model.named_parameters() if p.grad is not None}
    return loss.detach(), grads


def off_policy(inputs):
    """As the second pass over a batch sees it: the old policy is not the present one."""
    generator = torch.Generator().manual_seed(0)
    return 0.3 * torch.randn(inputs["completion_ids"].shape, generator=generator)


@pytest.mark.parametrize("beta", [0.0, 0.1])
@pytest.mark.parametrize("name", LOSSES)
def test_loss_and_gradient_equal_trl(name, beta, student, prompts, tmp_path):
    args = arguments(tmp_path, beta=beta, **LOSSES[name])
    theirs = GRPOTrainer(student, reward, args, prompts)
    equal_losses(theirs, Trainer(student, reward, args, prompts), prompts, beta)


@pytest.mark.parametrize("name", CLASSES)
def test_the_class_of_a_paper_equals_trls_loss_type(name, student, prompts, tmp_path):
    algorithm, theirs = CLASSES[name]
    ours = Trainer(student, reward, arguments(tmp_path), prompts, algorithm=algorithm)
    theirs = GRPOTrainer(student, reward, arguments(tmp_path, **theirs), prompts)
    equal_losses(theirs, ours, prompts, algorithm.beta)


def equal_losses(theirs, ours, prompts, beta):
    """Loss and gradient on one batch, as it was sampled and as a second pass over it sees it."""
    theirs.model.train()
    batch = [prompts[i // 4] for i in range(16)]
    inputs = theirs._generate_and_score_completions(batch)
    with torch.no_grad():
        logp, _, _ = theirs._get_per_token_logps_and_entropies(
            theirs.model,
            torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], 1),
            torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], 1),
            inputs["completion_ids"].shape[1],
        )
    for stale in (False, True):
        if stale:
            noise = off_policy(inputs)
            inputs["old_per_token_logps"] = logp + noise * inputs["completion_mask"]
            if beta:
                inputs["ref_per_token_logps"] = logp - noise * inputs["completion_mask"]
        want, want_grads = one_loss(theirs, inputs)
        got, got_grads = one_loss(ours, inputs)
        torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-7)
        assert want_grads.keys() == got_grads.keys()
        for key, grad in want_grads.items():
            torch.testing.assert_close(got_grads[key], grad, rtol=1e-5, atol=1e-7)
        assert any(grad.abs().max() > 1e-6 for grad in want_grads.values())


@pytest.mark.parametrize("given", ["args", "algorithm"])
@pytest.mark.parametrize(
    "more",
    [
        {"loss_type": "dapo"},
        {"loss_type": "grpo", "beta": 0.05},
        {"loss_type": "dapo", "num_iterations": 2, "max_steps": 4},
        {"loss_type": "bnpo", "steps_per_generation": 4, "max_steps": 4},
    ],
    ids=["dapo", "grpo_beta", "two_passes", "two_steps_a_batch"],
)
def test_whole_training_steps_equal_trl(more, given, student, prompts, tmp_path):
    # Plain gradient descent: Adam turns the last bit of a gradient near 0 into a whole step.
    more = more | {"optim": "sgd", "learning_rate": 0.1}

    def weights(make):
        trainer = make()
        trainer.train()
        return trainer, dict(trainer.model.state_dict())

    def ours():
        if given == "args":
            return Trainer(student, reward, arguments(tmp_path, **more), prompts)
        rest = {k: v for k, v in more.items() if k not in ("loss_type", "beta")}
        algorithm = GRPO(beta=more.get("beta", 0.0), reduction=more["loss_type"])
        return Trainer(student, reward, arguments(tmp_path, **rest), prompts, algorithm=algorithm)

    theirs, want = weights(
        lambda: GRPOTrainer(student, reward, arguments(tmp_path, **more), prompts)
    )
    mine, got = weights(ours)
    for key, value in want.items():
        torch.testing.assert_close(got[key], value, rtol=0, atol=2e-7)
    same_logs(theirs, mine, "loss", "grad_norm", "reward", "completions/mean_length")


def same_logs(theirs, ours, *keys):
    for want, got in zip(theirs.state.log_history, ours.state.log_history, strict=True):
        for key in set(keys) & set(want):
            assert got[key] == pytest.approx(want[key], rel=1e-4, abs=1e-6), key


def test_metrics_of_one_microbatch_equal_trl(student, prompts, tmp_path):
    """With several micro-batches they differ on purpose: ours is the mean over all tokens, TRL's
    the mean of the micro-batches' means."""
    more = {"beta": 0.05, "gradient_accumulation_steps": 1, "per_device_train_batch_size": 16}
    more |= {"num_iterations": 2, "learning_rate": 5e-2}
    theirs = GRPOTrainer(student, reward, arguments(tmp_path, **more), prompts)
    theirs.train()
    # Made only now: making a trainer seeds the generators that training draws from.
    ours = Trainer(student, reward, arguments(tmp_path, **more), prompts)
    ours.train()
    shares = ("clip_ratio/low_mean", "clip_ratio/high_mean", "clip_ratio/region_mean")
    assert max(row.get("clip_ratio/region_mean", 0.0) for row in ours.state.log_history) > 0.0
    same_logs(theirs, ours, "loss", "grad_norm", "entropy", "kl", *shares)
