"""The seam to TRL, and the only module that knows it.

`Trainer` is TRL's GRPOTrainer with three things replaced: how rewards become advantages, what
the loss of a micro-batch is (both are the algorithm's), and that a teacher scores the sampled
tokens in between. Everything else, from generation to checkpoints, is TRL's, and with the
algorithm GRPO so is every number (tests/parity).
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor
from transformers import PreTrainedModel
from trl import GRPOConfig, GRPOTrainer

from rlkd.algorithms.base import Algorithm
from rlkd.algorithms.component import Component, Means
from rlkd.algorithms.schedule import Schedule, Staged, schedule_of
from rlkd.batch import TokenBatch
from rlkd.checkpoints.resumable import Resumable
from rlkd.difficulty import BANDS, Difficulty
from rlkd.launch import check_joined
from rlkd.objectives.advantages import has_signal, total_reward
from rlkd.rewarding import ledger
from rlkd.teacher.base import Teacher
from rlkd.traces.book import Traces
from rlkd.tracking.means import Means as MeansWindow
from rlkd.tracking.rollouts import Rollouts
from rlkd.training import handover, sharded
from rlkd.training.control import control_of
from rlkd.training.fast import Fast
from rlkd.training.finished import AsFinished
from rlkd.training.finite import FiniteUpdates
from rlkd.training.grouping import Grouping, correctness, row_facts
from rlkd.training.off_policy import OffPolicyRows
from rlkd.training.phases import in_phase
from rlkd.training.recording import Recording
from rlkd.training.resampling import Resampling
from rlkd.training.sampler import WholeAnswers, sampler_means
from rlkd.training.scheduling import ScheduleRun
from rlkd.training.speed import Speed
from rlkd.training.spending import Spending
from rlkd.training.teaching import Teaching
from rlkd.training.timed import Timed
from rlkd.training.vocabulary import WholeVocabulary

_FORWARD_KEYS = (
    "pixel_values", "image_grid_thw", "num_images", "pixel_attention_mask", "spatial_shapes",
    "num_tiles", "image_sizes", "token_type_ids", "mm_token_type_ids", "image_position_ids",
)  # fmt: skip


_TRL_DEFAULTS = {name: field.default for name, field in GRPOConfig.__dataclass_fields__.items()}


class Trainer(
    Timed, Recording, Teaching, Resumable, FiniteUpdates, Resampling, OffPolicyRows,
    WholeVocabulary, AsFinished, WholeAnswers, Fast, GRPOTrainer,
):  # fmt: skip
    """TRL's GRPOTrainer with an algorithm and a teacher.

    Args:
        model, reward_funcs, args, train_dataset, **trl: as GRPOTrainer takes them.
        algorithm: None: the GRPO that `args` describe, as TRL would run it. Otherwise it owns
            the objective, and `args` must leave the objective's fields alone. A Schedule is
            several of them, one after the other, or with coefficients that move.
        components: what the algorithm carries besides (CEEH, an entropy bonus, …), in this order.
        verifiable: name of the reward whose full mark, 1, counts as correct in the difficulty
            records; None: the first.
        teacher: a Teacher, a model, or the path of one.
        teacher_check: what a failed self-check on the first answers does: error, warn, off.
        teacher_overlap: is the teacher asked while rewards are computed: auto (where it computes
            elsewhere), on, off.
        on_bad_scores: what scores do that cannot be right: stop, or mask the answer.
        traces: answers that the teacher wrote, for an algorithm that learns from them.
        on_rollouts: called on every rank with each training batch of rollouts, when all its rows
            have been through the student once.
        token_rows: rollouts per batch and rank whose tokens are recorded one by one.
        speed: what is left out of the computation; None: `Speed()`, where the student can have it.

    Raises:
        ValueError: an argument that cannot be used, or that would be ignored; a launch (FSDP,
            DeepSpeed) that this run cannot work with.
        TeacherError: the teacher cannot score this student.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        reward_funcs: Any = None,
        args: GRPOConfig | None = None,
        train_dataset: Any = None,
        *,
        algorithm: Algorithm | Staged | Schedule | None = None,
        components: Sequence[Component] = (),
        verifiable: str | None = None,
        teacher: Teacher | PreTrainedModel | str | None = None,
        teacher_check: str = "error",
        teacher_overlap: str = "auto",
        on_bad_scores: str = "stop",
        traces: Traces | None = None,
        on_rollouts: Callable[[Rollouts], None] | None = None,
        token_rows: int = 0,
        speed: Speed | None = None,
        **trl: Any,
    ) -> None:
        args = copy.copy(args) if args is not None else GRPOConfig()
        check_joined(args.world_size)
        handover.refuse_what_would_be_ignored(args)
        schedule = schedule_of(algorithm if algorithm is not None else handover.algorithm_of(args))
        if algorithm is not None:
            handover.hand_over(args, schedule, _TRL_DEFAULTS)
        self.schedule = ScheduleRun(schedule, components, self.gather_rows)
        self.objective = self.schedule.objective
        handover.check_teacher(schedule, teacher, teacher_check, teacher_overlap, on_bad_scores)
        tools = trl.get("tools") or trl.get("environment_factory")
        self.sharding = sharded.sharding_of(args, schedule, teacher, tools)
        before = handover.weights_for_reference_check(model, schedule, trl.get("peft_config"))
        super().__init__(model, reward_funcs, args, train_dataset, **trl)
        sharded.check_in_force(self.sharding, self.accelerator)
        handover.check_reference(self.ref_model, before)
        self._args = cast(Any, self.args)
        self._start_speed(speed)
        self._start_teaching(teacher, teacher_check, teacher_overlap, on_bad_scores)
        self._check_distributions()
        self._start_recording(on_rollouts, token_rows)
        self._means = {"train": MeansWindow(), "eval": MeansWindow()}
        self._gathered_rewards: Tensor | None = None
        self._gathered_facts: Tensor | None = None
        self._verifiable = handover.place_of(verifiable, self.reward_func_names)
        self._grouping = Grouping(self.objective, self.training_prompts())
        self.entropy_control = control_of(self.objective.components, self._sum_over_ranks)
        if self.entropy_control is not None:
            self.add_callback(self.entropy_control)
        if schedule.moves:
            self.add_callback(self.schedule)
        self._sampled_ids: tuple[list[list[int]], list[list[int]]] = ([], [])
        self._tool_mask: list[list[int]] | None = None
        self._take_traces(traces)
        self._start_checkpoints()
        self._add_frozen()
        self._start_phases()
        self.spending = Spending(self.teacher)
        self.pieces.add("spending", self.spending, per_rank=True)
        self.pieces.add("difficulty", self.difficulty)
        if self.entropy_control is not None:
            self.pieces.add("entropy_control", self.entropy_control)
        if schedule.moves:
            self.pieces.add("schedule", self.schedule)
        self._start_resampling([phase.algorithm for phase in schedule.phases])
        self._add_teaching()

    @property
    def algorithm(self) -> Algorithm:
        """That of the present step."""
        return self.objective.algorithm

    def _follow_schedule(self, *, drawing: bool) -> None:
        if not self.schedule.schedule.moves:
            return
        state = self.state
        self.objective = self.schedule.follow(state.global_step, state.max_steps, drawing=drawing)
        self._grouping.objective = self.objective
        self.beta = self.schedule.beta  # 0: TRL asks the reference for nothing

    @property
    def difficulty(self) -> Difficulty:
        """What is remembered of each prompt; the same on every rank."""
        return self._grouping.difficulty

    def training_prompts(self) -> list[Any]:
        """All training prompts, as the data has them; none where they are streamed."""
        data = self.train_dataset
        return list(data["prompt"]) if isinstance(data, Dataset) else []

    # -- rollouts -----------------------------------------------------------------------------

    @in_phase("generate")
    def _generate(self, prompts: list[Any]) -> Any:
        generated = super()._generate(prompts)
        # Prompt and completion ids, unpadded; the latter with what tools wrote, whose mask is 0.
        self._sampled_ids, self._tool_mask = (generated[0], generated[1]), generated[2]
        if self._mode() == "train":
            written = self._tool_mask if self._tool_mask is not None else generated[1]
            count = sum if self._tool_mask is not None else len
            if self.traces is not None:  # what the teacher wrote was not generated
                plan = zip(written, self._plan, strict=True)
                written = [row for row, trace in plan if trace is None]
            self.spending.generated_tokens += sum(count(row) for row in written)
        self._ask_ahead(*self._sampled_ids)
        return generated

    @in_phase("reward")
    def _calculate_rewards(
        self, inputs: Any, prompts: Any, completions: Any, completion_ids_list: list[list[int]]
    ) -> Tensor:
        # Already gathered over all ranks, in prompt order: groups may straddle ranks.
        rewards_RF = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        self._gathered_rewards = rewards_RF
        if self._mode() == "train":
            self._gathered_facts = self.gathered_facts(inputs, completion_ids_list)
        self._count_faults()
        return rewards_RF

    def gathered_facts(
        self, inputs: list[dict[str, Any]], completion_ids_list: list[list[int]]
    ) -> Tensor:
        """`row_facts` of this rank's answers, gathered over all ranks."""
        cut = [self._is_cut(ids) for ids in completion_ids_list]
        lengths = [len(ids) for ids in completion_ids_list]
        if self._tool_mask is not None:  # 0 on what tools wrote
            lengths = [sum(mask) for mask in self._tool_mask]
        facts_R3 = row_facts((row["prompt"] for row in inputs), lengths, cut)
        return cast(Tensor, self.accelerator.gather(facts_R3.to(self.accelerator.device)))

    def total_of(self, rewards_RF: Tensor) -> Tensor:
        """(R,) weighted sums of the rewards, NaN where a row cannot be graded."""
        optional_F = torch.tensor([bool(getattr(f, "optional", False)) for f in self.reward_funcs])
        device = rewards_RF.device
        return total_reward(rewards_RF, self.reward_weights.to(device), optional_F.to(device))

    def verifiable_of(self, rewards_RF: Tensor) -> Tensor:
        """(R,) the reward whose full mark is a correct answer."""
        return rewards_RF[:, self._verifiable]

    on_faults: Callable[[ledger.Counts], None] | None = None
    """Called on every rank with what the guarded rewards counted on a training batch, over all
    ranks."""

    def _count_faults(self) -> None:
        mode = self._mode()
        named = dict(zip(self.reward_func_names, self.reward_funcs, strict=True))
        taken = ledger.take_all(named)
        if not taken:
            return
        counts = ledger.add_up(self.gather_rows([taken]))
        for name, value in ledger.metrics(counts, "rewards").items():
            self._metrics[mode][name].append(value)
        if mode == "train" and self.on_faults is not None:
            self.on_faults(counts)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        mode = self._mode()
        if mode == "train":
            self.flush_rollouts()
            self._follow_schedule(drawing=True)
        # Dynamic sampling puts other rows in their places.
        self._inputs = inputs = list(inputs)
        with self._teacher_at_work():
            output = super()._generate_and_score_completions(inputs)
            rows = output["completion_ids"].shape[0]
            output |= self._advantages(mode, rows)
            if mode == "train":  # before the teacher, who may refuse them
                self._record(inputs, output)
            self._ask_teacher(output)
        # TRL shuffles the batch before it splits it; the number finds the way back.
        output["row_id"] = torch.arange(rows, device=output["completion_ids"].device)
        return output

    def _advantages(self, mode: str, rows: int) -> dict[str, Tensor]:
        """This rank's share of what groups over all ranks give: advantages, and in training what
        is known of the prompts."""
        rewards_RF = cast(Tensor, self._gathered_rewards)
        group = cast(int, self.num_generations if mode == "train" else self.num_generations_eval)
        total_R = self.total_of(rewards_RF)
        left_out_R = total_R.isnan()
        self._metrics[mode]["rewards/left_out"].append(left_out_R.float().mean().item())
        if left_out_R.any():  # TRL's own mean counts them, with what the other rewards say
            self._metrics[mode]["reward"][-1] = total_R.nanmean().item()
        reward_NG, verifiable_R = total_R.view(-1, group), self.verifiable_of(rewards_RF)
        known = correctness(verifiable_R.view_as(reward_NG))
        if mode == "train":
            shaped = self._grouping.shape(
                reward_NG, verifiable_R, cast(Tensor, self._gathered_facts), self._own_R
            )
            reward_NG, known = shaped.reward_NG, dict(shaped.known)
            for name, value in shaped.metrics.items():
                self._metrics[mode][name].append(value)
            if self._own_R is not None:
                known["off_policy"] = ~self._own_R
            if self.left_out is not None:  # the records see every answer, after they were read
                rest_RF, facts_R3 = self.left_out
                rest_NG = self.total_of(rest_RF).view(-1, group)
                self._grouping.learn(rest_NG, self.verifiable_of(rest_RF), facts_R3)
        known["total"] = total_R
        advantages = self.algorithm.advantages(reward_NG).view(-1)
        self._metrics[mode]["groups/no_signal"].append(
            1.0 - has_signal(reward_NG).float().mean().item()
        )
        if mode == "train":
            self._note_rewards(rewards_RF, total_R)
        logged = self._logs["advantages"]
        for _ in range(min(len(logged), advantages.numel())):
            logged.pop()
        logged.extend(advantages.tolist())
        start = self.accelerator.process_index * rows
        known["advantages"] = advantages
        return {name: value_R[start : start + rows] for name, value_R in known.items()}

    def _is_cut(self, completion_ids: list[int]) -> bool:
        """Did the length limit come before an end token?"""
        return not completion_ids or completion_ids[-1] not in self.eos_token_ids

    # -- the loss -----------------------------------------------------------------------------

    @in_phase("forward")
    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        mode = self._mode()
        if mode == "train":
            self._follow_schedule(drawing=False)
            for name, value in self.schedule.measures().items():
                self._metrics[mode][name].append(value)
        with self._kept_hidden(model) as kept:
            logp_BT, entropy_BT, aux_loss = self._get_per_token_logps_and_entropies(
                model,
                torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1),
                torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
                inputs["completion_ids"].shape[1],
                compute_entropy=True,
                compute_aux_loss=self.aux_loss_enabled,
                **{key: inputs.get(key) for key in _FORWARD_KEYS},
            )
        batch = self._token_batch(inputs, logp_BT, entropy_BT, mode)
        batch = self._with_distributions(batch, kept, model, inputs)
        # Components speak of training batches: of held-out prompts nothing is remembered.
        output = (self.objective if mode == "train" else self.algorithm).loss(batch)
        loss, means = output.loss, output.means
        if self.aux_loss_enabled:
            loss = loss + self.router_aux_loss_coef * aux_loss / batch.accumulation
            one = torch.ones_like(aux_loss)
            means = means | {"aux_loss": (aux_loss.detach(), one)}
        if mode == "train" and self._is_first_update():
            means = means | {
                f"first_update/{name}": pair
                for name, pair in means.items()
                if name.startswith("clip_ratio/of_")
            }
            means = means | sampler_means(batch, inputs)
        if mode == "train":
            means = means | self._note_batch(batch, inputs)
        self._means[mode].add(means)
        return loss

    @in_phase("log")
    def _note_batch(self, batch: TokenBatch, inputs: dict[str, Any]) -> Means:
        """Tell those who watch of a training micro-batch; returns the entropy of each band."""
        if self.entropy_control is not None:
            own_BT = batch.on_policy_BT()
            self.entropy_control.observe(*batch.token_sum(batch.entropy_BT, own_BT))
        self._note_tokens(batch, inputs)
        if "band" not in inputs:
            return {}
        band_B1, off_B1 = inputs["band"].unsqueeze(1), batch.off_policy_B1
        if off_B1 is not None:
            band_B1 = band_B1.masked_fill(off_B1, -1)
        return {
            f"difficulty/{band}/entropy": batch.token_sum(batch.entropy_BT, band_B1 == place)
            for place, band in enumerate(BANDS)
        }

    def _mode(self) -> str:
        return "train" if cast(torch.nn.Module, self.model).training else "eval"

    def _is_first_update(self) -> bool:
        """Is the student still the one that sampled the batch?"""
        return self._microbatches_since_sampling() < self.current_gradient_accumulation_steps

    def _is_first_pass(self) -> bool:
        """Is this the first time that these rows are learnt from?"""
        return self._microbatches_since_sampling() < self._args.steps_per_generation

    def _microbatches_since_sampling(self) -> int:
        return self._step % (self._args.steps_per_generation * self.num_iterations)

    def _token_batch(
        self, inputs: dict[str, Any], logp_BT: Tensor, entropy_BT: Tensor, mode: str
    ) -> TokenBatch:
        mask_BT = inputs["completion_mask"]
        if "tool_mask" in inputs:
            mask_BT = mask_BT * inputs["tool_mask"]
        # Where TRL gives no old log-probs this is the first update on what was just sampled: the
        # old policy is this one, and its log-probs are those of this pass.
        old_BT = inputs.get("old_per_token_logps")
        old_BT = logp_BT.detach() if old_BT is None else old_BT
        self._keep_old(inputs, logp_BT, mode)
        advantage = inputs["advantages"]
        advantage_BT = advantage.unsqueeze(1) if advantage.dim() == 1 else advantage
        accumulation, tokens = 1.0, inputs["num_items_in_batch"] / self.accelerator.num_processes
        if mode == "train":
            steps = self.current_gradient_accumulation_steps
            accumulation = self._accumulation(len(mask_BT))
            # num_items_in_batch spans the generation batch: one optimiser step's share of it.
            tokens = tokens * steps / self._args.steps_per_generation
        return TokenBatch(
            logp_BT=logp_BT,
            old_logp_BT=old_BT,
            entropy_BT=entropy_BT,
            mask_BT=mask_BT,
            advantage_BT=advantage_BT,
            teacher_logp_BT=inputs.get("teacher_per_token_logps"),
            ref_logp_BT=inputs.get("ref_per_token_logps"),
            is_eos_BT=self._is_eos(inputs["completion_ids"], inputs["completion_mask"]),
            weight_BT=self._weights(inputs, logp_BT.detach(), old_BT, advantage_BT, mask_BT),
            accumulation=accumulation,
            step_tokens_per_rank=tokens,
            max_completion_length=self.max_completion_length,
            **{
                f"{name}_B1": inputs[name].unsqueeze(1)
                for name in ("hard", "correct", "group_accuracy", "off_policy")
                if name in inputs
            },
            progress=self.state.global_step / max(1, self.state.max_steps),
            entropy_coefficient=self.entropy_control.coefficient if self.entropy_control else 0.0,
        )

    def _is_eos(self, completion_ids: Tensor, completion_mask: Tensor) -> Tensor:
        ends = torch.tensor(self.eos_token_ids, device=completion_ids.device)
        last_BT = torch.zeros_like(completion_mask, dtype=torch.bool)
        last_BT.scatter_(1, (completion_mask.sum(-1, keepdim=True) - 1).clamp(min=0), True)
        return last_BT & completion_mask.bool() & torch.isin(completion_ids, ends)

    def _weights(
        self,
        inputs: dict[str, Any],
        logp_BT: Tensor,
        old_BT: Tensor,
        advantage_BT: Tensor,
        mask_BT: Tensor,
    ) -> Tensor | None:
        """TRL's off-policy mask and its correction for a sampler that is not the trainer's model.
        Both rest on π_S/π_old, never on the teacher."""
        weight = None
        if self.off_policy_mask_threshold is not None:
            weight = self.get_off_policy_mask(
                advantages=advantage_BT,
                per_token_logps=logp_BT,
                sampling_per_token_logps=inputs.get("sampling_per_token_logps", old_BT),
                mask=mask_BT,
                off_policy_threshold=self.off_policy_mask_threshold,
            )
        if self.use_vllm and self.vllm_importance_sampling_correction:
            correction = inputs["importance_sampling_ratio"]
            weight = correction if weight is None else weight * correction
        return weight

    @in_phase("log")
    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        mode = self._mode()
        for name, value in self._means[mode].pop(self._sum_over_ranks).items():
            self._metrics[mode][name].append(value)
        if mode == "train":
            steps = max(1, self.state.global_step - self._logged_at)
            found = self.spending.metrics(self._sum_over_ranks) | self._overlap_measures(steps)
            found |= self._teacher_measures()
            for name, value in found.items():
                self._metrics[mode][name].append(value)
        super().log(logs, start_time)

    def gather_rows(self, rows: list[Any]) -> list[Any]:
        """The rows of all ranks, on every rank; any picklable rows."""
        if self.accelerator.num_processes == 1:
            return rows
        return gather_object(rows)

    def _sum_over_ranks(self, totals: Tensor) -> Tensor:
        return cast(Tensor, self.accelerator.reduce(totals, reduction="sum"))
