"""Every logged name: its estimator and unit, and what to look for. README's table is made here.

A name that a run logs and that is not here fails a test.
"""

import re

GLOSSARY: dict[str, tuple[str, str]] = {
    "eval/rows": ("held-out rows answered", "count"),
    "eval/accuracy": (
        "share of rows whose greedy answer has the first reward's full mark (at least 1)",
        "higher is better",
    ),
    "eval/length": ("mean tokens of the greedy answers, end token included", "tokens"),
    "eval/truncated": ("share of greedy answers cut off by the length limit", "near 0"),
    "eval/reward/*": ("mean of that reward over the rows that it can grade", "its own unit"),
    "eval/reward/*/faults": (
        "held-out rows without a value because that reward's function failed; they are left out of"
        " every mean",
        "count; only where there were any",
    ),
    "eval/reward/*/faults/*": ("those of one kind (crashed, timeout, …)", "count"),
    "eval/reward/*/repeats": ("calls of that reward that failed and were made again", "count"),
    "train/loss": ("the loss of the step", "its sign means nothing; not comparable across losses"),
    "train/grad_norm": ("gradient norm before clipping", "steady; spikes announce trouble"),
    "train/learning_rate": ("learning rate of the step", ""),
    "train/epoch": ("passes over the training rows", "count"),
    "train/num_tokens": ("prompt and completion tokens seen so far, all ranks", "tokens"),
    "train/spent/generated_tokens": (
        "tokens that the student has generated so far in training, all ranks, those of rollouts"
        " that were thrown away too",
        "tokens",
    ),
    "train/spent/teacher_rows": (
        "texts that the teacher's network has read so far, all ranks, the check at the start too",
        "count; 0 without a teacher",
    ),
    "train/spent/teacher_tokens": (
        "positions that the teacher's network has computed so far: prompts, answers, padding",
        "tokens",
    ),
    "train/reward": (
        "weighted sum of the rewards, mean over gradable rollouts",
        "higher is better",
    ),
    "train/reward_std": ("standard deviation of that sum over all rollouts of the step", ""),
    "train/rewards/*/mean": ("mean of that reward over the rollouts it can grade", "its own unit"),
    "train/rewards/*/std": ("standard deviation of that reward", "its own unit"),
    "train/rewards/*/faults": (
        "rollouts of the step, all ranks, without a value because that reward's function failed",
        "count; 0, and past max_fault_share over 5 steps the run stops",
    ),
    "train/rewards/*/faults/*": (
        "those of one kind: crashed, timeout, wrong_count, not_a_number",
        "count; only where there were any",
    ),
    "train/rewards/*/repeats": (
        "calls of that reward that failed and were made again",
        "count; only where there were any",
    ),
    "train/rewards/left_out": (
        "share of rollouts that a reward (not optional) could not grade: no baseline, no gradient",
        "near 0",
    ),
    "train/reward_shaped": (
        "the same after the components shaped it (CEEH's length term): what the advantages are "
        "made of",
        "only with components",
    ),
    "train/accuracy": (
        "share of the gradable rollouts with the verifiable reward's full mark, truncated ones "
        "included",
        "higher is better",
    ),
    "train/frac_reward_zero_std": ("share of rollouts in groups without spread (TRL)", "low"),
    "train/groups/no_signal": (
        "share of groups whose rewards are all equal: no gradient, and no teacher signal in RLAD",
        "low; near 1 means too easy or too hard prompts",
    ),
    "train/sampling/kl": (
        "k3 estimate of KL(sampler ‖ trainer), mean over the tokens of each batch's first update",
        "nats per token; only with vLLM; about 0.001 in bfloat16, 0: the same kernels",
    ),
    "train/sampling/left_out": (
        "share of tokens to which the correction for the sampler gives a weight below 0.01",
        "near 0; only with generation.correction",
    ),
    "train/sampling/unscored": (
        "share of tokens of which the sampler gave no log-probability: their weight is 1",
        "0",
    ),
    "train/sampling/sampling_logp_difference/mean": (
        "|log π_trainer − log π_sampler| of the sampled tokens, mean (TRL)",
        "nats; only with generation.correction",
    ),
    "train/sampling/sampling_logp_difference/max": ("the largest of them (TRL)", "nats"),
    "train/sampling/importance_sampling_ratio/mean": (
        "π_trainer/π_sampler as the correction uses it, cut or masked, mean over answers "
        "(sequence_…) or tokens (token_…) (TRL)",
        "near 1; only with generation.correction",
    ),
    "train/sampling/importance_sampling_ratio/min": ("the smallest of them (TRL)", ""),
    "train/sampling/importance_sampling_ratio/max": ("the largest of them (TRL)", ""),
    "train/difficulty/threshold": (
        "mean historical pass rate over the training prompts, as it was before the step: CEEH calls"
        " prompts below it hard",
        "rises as the student learns",
    ),
    "train/difficulty/hard_set": ("share of the step's prompts that CEEH treats as hard (D_h)", ""),
    "train/difficulty/*/share": (
        "share of the step's prompts whose historical pass rate before the step was below 1/3 "
        "(hard), up to 2/3 (middle), above (easy), not known (new: first visit)",
        "hard empties and easy fills",
    ),
    "train/difficulty/*/accuracy": (
        "share of correct answers in that band; truncated and ungradable ones are left out",
        "higher is better",
    ),
    "train/difficulty/*/pass@*": (
        "probability that one of k answers is right, for k = G and G/2: unbiased, 1 − C(n−c, k)"
        " / C(n, k), mean over the band's groups of which at least k answers count",
        "falls where exploration dies",
    ),
    "train/difficulty/*/length": ("mean tokens of the counted answers of that band", "tokens"),
    "train/difficulty/*/entropy": ("mean entropy over the tokens of that band", "nats"),
    "train/difficulty/length_ratio/*": (
        "L / L_x of the correct answers to prompts with a length on record: deciles (p10, p50, "
        "p90) and share below 1, shorter than ever",
        "towards 1 where answers shorten",
    ),
    "train/ceeh/entropy_coefficient": ("CEEH-ME's λ, mean over tokens", "reward per nat"),
    "train/ceeh/gate_open": (
        "share of the step's prompts whose length counts: Acc(x) above Acc_h(x)",
        "0 on first visits",
    ),
    "train/ceeh/length_term": ("−β R_len, mean over the rollouts", "in units of reward"),
    "train/adaptive_entropy/coefficient": (
        "Skywork-OR1's α in force: 0 while the entropy is above the target",
        "reward per nat",
    ),
    "train/clip_cov/covariance": (
        "(log π − mean)(A − mean), mean over tokens: what a step takes from the entropy",
        "nats times advantage",
    ),
    "train/clip_cov/in_window": ("share of tokens that Clip-Cov may draw", "about 1e-3"),
    "train/kl_cov/covariance": ("as clip_cov/covariance", "nats times advantage"),
    "train/kl_cov/abs_log_ratio": (
        "|log π − log π_old|, mean over the tokens under KL-Cov's penalty",
        "nats; 0 at the first update on a batch",
    ),
    "train/high_entropy_tokens/kept": ("share of tokens that are learnt from", "its `share`"),
    "train/high_entropy_tokens/entropy": ("mean entropy of those tokens", "nats"),
    "train/dynamic_sampling/rounds": ("times that answers were sampled for the batch", "near 1"),
    "train/dynamic_sampling/groups": ("groups sampled for the batch, all rounds", "count"),
    "train/dynamic_sampling/left_out": (
        "those of them that are not trained on; they are not in the stored rollouts",
        "count",
    ),
    "train/dynamic_sampling/filled": (
        "groups without a signal in the batch, because the rounds or the prompts were over",
        "0",
    ),
    "train/dynamic_sampling/without_signal": (
        "share of the sampled groups that are all right or all wrong",
        "low; near 1 means too easy or too hard prompts",
    ),
    "train/dynamic_sampling/accuracy": (
        "share of correct answers among all that were sampled; train/accuracy and train/reward are "
        "of the groups that are trained on",
        "higher is better",
    ),
    "train/dynamic_sampling/tokens_left_out": (
        "tokens of the answers that are not trained on; train/num_tokens counts them too",
        "tokens",
    ),
    "train/schedule/phase": (
        "which of the config's algorithms is in force, from 1: `algorithm`, then those of `then`",
        "only with `then`",
    ),
    "train/schedule/*": (
        "value in force of a number that moves, by its field (of a component: CLASS.FIELD)",
        "only where one moves",
    ),
    "train/traces/share": (
        "share of the rollouts that the teacher wrote (traces); lengths, rewards, accuracy, entropy"
        " and difficulty are of the others, the student's own; groups/no_signal and"
        " frac_reward_zero_std are of whole groups; a batch of traces alone logs none of them",
        "only with data.traces",
    ),
    "train/traces/tokens": ("tokens of the traces of the step, all ranks", "tokens"),
    "train/traces/reward": ("weighted sum of the rewards, mean over the gradable traces", ""),
    "train/off_policy/logp": (
        "log π_S of the traces' tokens, mean, nats: minus their cross-entropy",
        "rises as the student learns to write as the teacher does",
    ),
    "train/completions/mean_length": ("mean tokens of the rollouts", "tokens"),
    "train/completions/min_length": ("shortest rollout", "tokens"),
    "train/completions/max_length": ("longest rollout", "tokens"),
    "train/completions/clipped_ratio": ("share of rollouts cut off by the length limit", "near 0"),
    "train/completions/mean_terminated_length": ("mean tokens of rollouts that ended", "tokens"),
    "train/completions/min_terminated_length": ("shortest rollout that ended", "tokens"),
    "train/completions/max_terminated_length": ("longest rollout that ended", "tokens"),
    "train/tools/call_frequency": (
        "tool calls per rollout; only with an environment, whose tokens no length counts",
        "count",
    ),
    "train/tools/failure_frequency": (
        "share of those calls that raised, or named no tool; TRL tells the model what was wrong",
        "near 0",
    ),
    "train/step_time": ("forward and backward of the step, sampling included", "seconds"),
    "train/time/step": (
        "a whole optimiser step, from log to log, without evaluations and checkpoints: the sum of"
        " the phases below. All times are means over the ranks; on a GPU by its own clock",
        "seconds",
    ),
    "train/time/generate": ("of that: sampling, tools and decoding included", "seconds"),
    "train/time/reward": ("of that: the rewards", "seconds"),
    "train/time/score": (
        "of that: the student's and the reference's own log-probs of the samples, where they are"
        " needed, advantages, and cutting the batch up",
        "seconds",
    ),
    "train/time/teacher": (
        "of that: the teacher's scores, or where it is asked ahead (teacher.overlap) the wait for"
        " what is not there yet when the rewards are",
        "seconds; only with a teacher",
    ),
    "train/overlap/teacher_seconds": (
        "what the teacher worked per step in all, beside other work too; mean over ranks, no part"
        " of train/time/step",
        "seconds; only with a teacher that is asked ahead",
    ),
    "train/overlap/hidden": (
        "share of that in which nothing waited for it",
        "0 to 1; near 1: the teacher costs no time",
    ),
    "train/overlap/begun_early": (
        "share of the answers whose scoring had begun while others were still being written; not in"
        " teacher_seconds",
        "0 to 1; 0 where the sampler gives whole batches (a vLLM server)",
    ),
    "train/time/forward": ("of that: the student's forward pass and the loss", "seconds"),
    "train/time/backward": (
        "of that: the backward pass, with what DDP or FSDP exchanges in it",
        "seconds; more where ranks wait for a slower one",
    ),
    "train/time/optimizer": ("of that: clipping and the optimiser's step", "seconds"),
    "train/time/sync": (
        "of that: other collectives (gathers, reductions, barriers), the wait for slower ranks"
        " included",
        "seconds; only with several processes; high where ranks have unequal work",
    ),
    "train/time/log": (
        "of that: recording rollouts, alarms, trackers, charts; what comes after a step's own log"
        " is in the next one",
        "seconds; small",
    ),
    "train/time/other": ("of that: what no phase claims (data, callbacks, scheduler)", "small"),
    "train/time/evaluation": (
        "evaluations since the last log, per step; no part of train/time/step",
        "seconds; only after one",
    ),
    "train/time/save": (
        "checkpoints since the last log, per step; no part of train/time/step",
        "seconds; only after one",
    ),
    "train/memory/resident": (
        "host memory that a process holds now, the highest of all ranks",
        "GiB; growth from step to step is a leak",
    ),
    "train/memory/device_peak": (
        "most GPU memory in tensors since the process began, the highest of all ranks",
        "GiB; only on a GPU",
    ),
    "train/memory/device_reserved": (
        "the same of what PyTorch's allocator holds, fragments included",
        "GiB; far above device_peak: fragmentation",
    ),
    "train/tracking/errors": (
        "batches of rollouts, all ranks, that could not be written to disk so far",
        "count; only where there were any",
    ),
    "train/entropy": (
        "exact entropy of the student's next-token distribution, mean over tokens",
        "nats; a fall to 0 is collapse",
    ),
    "train/kl": (
        "k3 estimate of KL(student ‖ reference), times π_S/π_old where kl_correction is on, mean "
        "over tokens",
        "nats per token; only with beta > 0",
    ),
    "train/aux_loss": ("load-balancing loss of a mixture of experts", ""),
    "train/clip_ratio/low_mean": ("share of tokens that the lower clip leaves no gradient", ""),
    "train/clip_ratio/high_mean": ("share of tokens that the upper clip leaves no gradient", ""),
    "train/clip_ratio/region_mean": ("the sum of the two", "low for GRPO"),
    "train/clip_ratio/of_good_tokens": ("share of the tokens with A > 0 that are clipped away", ""),
    "train/clip_ratio/of_bad_tokens": ("share of the tokens with A < 0 that are clipped away", ""),
    "train/clip_ratio/capped": (
        "CISPO: share of tokens whose importance weight is cut; they keep their gradient",
        "low",
    ),
    "train/first_update/clip_ratio/of_good_tokens": (
        "the same at the first update on each batch, where GRPO clips none: RLAD's selection",
        "share of tokens with A > 0",
    ),
    "train/first_update/clip_ratio/of_bad_tokens": (
        "the same at the first update on each batch, where GRPO clips none: RLAD's selection",
        "share of tokens with A < 0",
    ),
    "train/teacher/gap": (
        "log π_S − log π_T of the sampled tokens, mean: the k1 estimate of KL(student ‖ teacher)",
        "nats per token; falls as the student nears the teacher",
    ),
    "train/teacher/gap_at_eos": (
        "the same at the tokens that ended an answer",
        "nats; large where the two end answers differently",
    ),
    "train/teacher/divergence": (
        "what a distillation loss lowers: the divergence that its algorithm names between teacher "
        "and student over the whole vocabulary (or top k and tail), exact, mean over tokens",
        "nats per token; falls; not comparable across divergences",
    ),
    "train/minillm/return": (
        "MiniLLM's R: mean log π_T − log π_old of the tokens after a token, mean over tokens",
        "nats; rises towards 0",
    ),
    "train/teacher/beyond_clamp": (
        "share of tokens further from the teacher, either way, than the algorithm counts: "
        "log π_S − log π_T beyond RLAD's ±`clamp_bound`, log π_T − log π_old beyond the others' "
        "±`gap_bound`",
        "RLAD: high, the teacher's factor has no gradient there; the others: near 0",
    ),
    "train/teacher/masked_rows": (
        "answers of a batch, all ranks, whose scores cannot be right and which are left out whole;"
        " they are in bad_scores-rank*.jsonl",
        "count; 0; only with teacher.on_bad_scores mask",
    ),
    "train/teacher/single_share": (
        "another tokenizer: share of the tokens scored since the last log, the check at the start "
        "too, that stand alone in their span of text on both sides, where the score is exact; all "
        "ranks",
        "0 to 1; near 1; only with OtherTokenizer",
    ),
    "train/teacher/impossible_tokens": ("share of tokens to which the teacher gives −inf", "0"),
    "train/teacher/prefers_right": (
        "share of pairs of a right and a wrong answer to one prompt in which the teacher gives the "
        "right one the higher log-prob per token; of the last 512 rollouts, from 8 pairs on",
        "0 to 1; near 1; 0.5: it cannot tell; below: it prefers wrong answers",
    ),
    "train/teacher/pulls_to_right": (
        "the same of log π_T − log π_S per token: which of the two the teacher makes likelier",
        "0 to 1; above 0.5",
    ),
    "train/teacher/gap_of_right": (
        "log π_S − log π_T per token of right answers, mean over answers; from 8 of them on",
        "nats per token; small, or falling",
    ),
    "train/teacher/logp_std": (
        "standard deviation over rollouts of the teacher's log-prob per token",
        "nats per token; 0: it says the same of every answer",
    ),
    "train/teacher/agreement": (
        "correlation over rollouts of the teacher's and the student's log-prob per token",
        "−1 to 1; clearly above 0; near 0: the scores are not those of these answers",
    ),
    "train/updates/left_out": (
        "1 where the loss or the gradient was not finite and the update was left out",
        "only then; run.on_nan",
    ),
    "train/alarms/*": ("1 while that alarm is on; its words are in alarms.jsonl", "only then"),
}
"""Name (with * for a reward's name) -> (what it is, unit and what is good)."""


def explain(name: str) -> tuple[str, str] | None:
    """The entry of a logged name, or None."""
    if name in GLOSSARY:
        return GLOSSARY[name]
    for pattern, entry in GLOSSARY.items():
        if "*" in pattern and re.fullmatch(re.escape(pattern).replace(r"\*", "[^/]+"), name):
            return entry
    return None


def markdown() -> str:
    """The table of README.md."""
    lines = ["| name | what it is | unit, what is good |", "|---|---|---|"]
    lines += [f"| `{name}` | {what} | {unit} |" for name, (what, unit) in GLOSSARY.items()]
    return "\n".join(lines)
