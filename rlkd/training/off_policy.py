"""What TRL's trainer does otherwise when answers of its batches are the teacher's: traces.

Mixed in before TRL's trainer (rlkd/trainer.py). It puts traces in the place of answers before
anything is generated, so that the student writes nothing that is thrown away, and takes them out of
the numbers that speak of the student's own answers: lengths, rewards, accuracy, difficulty records.
Advantages stay those of the joint group.
"""

import math
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor

from rlkd.difficulty import prompt_key
from rlkd.traces.book import Trace, Traces

_OF_OWN_ANSWERS = ("mean", "min", "max")
_OF_A_BATCH_OF_TRACES = ("reward_std", "frac_reward_zero_std", "groups/no_signal", "accuracy")


class OffPolicyRows:
    """Traces as members of groups. Which ones is a function of seed, batch and prompt, so that a
    resumed run takes the same."""

    traces: Traces | None = None
    _plan: Sequence[Trace | None] = ()
    """Of the batch in work, this rank's rows: the trace that stands there, None: its own answer."""
    _own_R: Tensor | None = None
    """Of the batch in work, all ranks' rows: did the student write it? None: all of them."""

    @property
    def _trainer(self) -> Any:
        return self

    def _take_traces(self, traces: Traces | None) -> None:
        """At the end of __init__. Raises ValueError where they are missing, or would be ignored."""
        this = self._trainer
        schedule = this.schedule.schedule
        title, needed = schedule.title, schedule.needs_traces(this.num_generations)
        if needed and traces is None:
            raise ValueError(
                f"{title} learns from answers that the teacher wrote and none were given; pass "
                "traces= (rlkd.traces.book.Traces), in a config data.traces"
            )
        if traces is not None and not needed:
            raise ValueError(
                f"{title} has no use for traces, and would ignore them. Leave traces= out (in a "
                "config data.traces), or choose an algorithm that learns from them"
            )
        if traces is not None and (this._is_vlm or this.tools):
            raise ValueError(
                "traces are answers of one turn and text only; this run has tools or images"
            )
        self.traces = traces

    # -- which rows ---------------------------------------------------------------------------

    def _plan_of(self, prompts: Sequence[Any]) -> list[Trace | None]:
        this = self._trainer
        if self.traces is None or this._mode() != "train":
            return [None] * len(prompts)
        group = this.num_generations
        batch = this._step // (this.args.steps_per_generation * this.num_iterations)
        taught = rows_of_batch(this.algorithm, group, batch)
        first = this.accelerator.process_index * len(prompts)  # groups may straddle ranks
        plan: list[Trace | None] = []
        for row, prompt in enumerate(prompts, start=first):
            place = row % group - (group - taught)  # the last ones of each group
            seed = (this.args.seed, batch)
            plan.append(self.traces.pick(prompt_key(prompt), seed, place) if place >= 0 else None)
        return plan

    # -- what TRL asks ------------------------------------------------------------------------

    def _generate(self, prompts: list[Any]) -> Any:
        self._plan = self._plan_of(prompts)
        generated = cast(Any, super())._generate(prompts)
        self._own_R = None
        if self.traces is not None and self._trainer._mode() == "train":
            self._note_lengths(generated[1])
        return generated

    def _generate_single_turn(self, prompt_ids: list[list[int]], *how: Any, **more: Any) -> Any:
        plan, base = self._plan, cast(Any, super())
        own = [row for row, trace in enumerate(plan) if trace is None]
        if len(own) == len(plan):
            return base._generate_single_turn(prompt_ids, *how, **more)
        answers: list[list[int]] = [list(trace.ids) if trace else [] for trace in plan]
        # NaN: TRL takes the ratio of a token whose sampler's log-probability is not known for 1.
        logprobs: list[Any] = [[math.nan] * len(ids) for ids in answers]
        wanted = self._rows_to_generate(own)
        found = None
        if wanted:
            asked = [prompt_ids[row] for row in wanted]
            written, found = base._generate_single_turn(asked, *how, **more)
            for place, row in enumerate(wanted):
                if plan[row] is None:
                    answers[row] = written[place]
                    logprobs[row] = found[place] if found is not None else None
        given = found is not None or (self._trainer.use_vllm and not wanted)
        return answers, logprobs if given else None

    def _rows_to_generate(self, own: list[int]) -> list[int]:
        """The rows that the student answers. Where generation is an act of all ranks together,
        or of whole groups (vLLM), a rank answers all its rows as soon as any has one to answer."""
        this = self._trainer
        together = this.use_vllm or this.is_deepspeed_enabled or this.is_fsdp_enabled
        if not together:
            return own
        any_R = this.accelerator.gather(torch.tensor([len(own)], device=this.accelerator.device))
        return list(range(len(self._plan))) if any_R.any() else []

    # -- what is said of the student's own answers --------------------------------------------

    def _note_lengths(self, completion_ids: list[list[int]]) -> None:
        """TRL's lengths once more, of the student's own answers."""
        this = self._trainer
        ends = {*this.eos_token_ids, this._tokenizer.pad_token_id}
        facts = [
            (trace is None, len(ids), ids[-1] not in ends)
            for trace, ids in zip(self._plan, completion_ids, strict=True)
        ]
        facts_R3 = this.accelerator.gather(torch.tensor(facts, device=this.accelerator.device))
        self._own_R = own_R = facts_R3[:, 0].bool()
        length_R, cut_R = facts_R3[:, 1].float(), facts_R3[:, 2].bool()
        ended = length_R[own_R & ~cut_R]
        ended = ended if len(ended) else torch.zeros(1)
        if own_R.any():
            for what in _OF_OWN_ANSWERS:
                self._relog(f"completions/{what}_length", _of(length_R[own_R], what))
                self._relog(f"completions/{what}_terminated_length", _of(ended, what))
            self._relog("completions/clipped_ratio", cut_R[own_R].float().mean().item())
        else:
            for what in _OF_OWN_ANSWERS:
                self._relog(f"completions/{what}_length", None)
                self._relog(f"completions/{what}_terminated_length", None)
            self._relog("completions/clipped_ratio", None)
        metrics = this._metrics["train"]
        metrics["traces/share"].append((~own_R).float().mean().item())
        metrics["traces/tokens"].append(length_R[~own_R].sum().item())

    def _note_rewards(self, rewards_RF: Tensor, total_R: Tensor) -> None:
        """TRL's rewards once more, of the student's own answers; a batch of traces says nothing of
        groups either. `reward_std`'s siblings in a mixed batch stay those of joint groups."""
        own_R, this = self._own_R, self._trainer
        if own_R is None:
            return
        some = bool(own_R.any())
        for number, name in enumerate(this.reward_func_names):
            value = rewards_RF[own_R, number]
            self._relog(f"rewards/{name}/mean", value.nanmean().item() if some else None)
            self._relog(f"rewards/{name}/std", _std(value) if some else None)
        self._relog("reward", total_R[own_R].nanmean().item() if some else None)
        if some:
            self._relog("reward_std", _std(total_R[own_R]))
        else:
            for name in _OF_A_BATCH_OF_TRACES:
                self._relog(name, None)
        if not own_R.all():
            taught = total_R[~own_R].nanmean().item()
            this._metrics["train"]["traces/reward"].append(taught)

    def _relog(self, name: str, value: float | None) -> None:
        """Another value in place of the one that was logged last; None: none."""
        metrics = self._trainer._metrics["train"]
        if not metrics.get(name):
            return
        metrics[name].pop()
        if value is not None:
            metrics[name].append(value)
        elif not metrics[name]:
            del metrics[name]


def rows_of_batch(algorithm: Any, group_size: int, batch: int) -> int:
    """How many answers of each group of generation batch `batch` (from 0) are traces.

    A share s of whole batches is spread evenly: batch b is one of them where ⌊(b + 1) s⌋ is above
    ⌊b s⌋. So it is exact, and needs no random number.
    """
    share = algorithm.off_policy_share()
    if math.floor((batch + 1) * share + 1e-9) > math.floor(batch * share + 1e-9):
        return group_size
    return algorithm.off_policy_rows(group_size)


def _of(value: Tensor, what: str) -> float:
    return getattr(value, what)().item()


def _std(value: Tensor) -> float:
    """The sample's, of what is not NaN; NaN of fewer than two."""
    known = value[~value.isnan()]
    return known.std().item() if len(known) > 1 else math.nan
