"""Dynamic sampling: prompts without a signal are replaced by others before the update.

DAPO, arXiv 2503.14476, §3.2: a group of G answers is kept if 0 < number of correct answers < G. The
trainer draws as many fresh prompts as are missing, and again, until the batch is full or the
algorithm's `max_sampling_rounds` are over.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from rlkd.difficulty import prompt_key


class FreshPrompts:
    """An endless order of the training rows, shuffled anew for each pass, beside the one that the
    trainer walks. The same on every rank; a piece of a checkpoint.

    Args:
        prompts: of all training rows.
        seed: of the order.
    """

    def __init__(self, prompts: Sequence[Any], seed: int) -> None:
        self._keys = [prompt_key(prompt) for prompt in prompts]
        self._seed = seed
        self._pass, self._place = 0, 0
        self._order = self._shuffled()

    def _shuffled(self) -> list[int]:
        generator = torch.Generator().manual_seed(self._seed + 7919 * (self._pass + 1))
        return torch.randperm(len(self._keys), generator=generator).tolist()

    def take(self, number: int, taken: set[int]) -> list[int]:
        """The next rows whose prompts are not among the keys `taken`, which grows by theirs; fewer
        than `number` where no others are left."""
        found: list[int] = []
        for _ in range(len(self._keys)):
            if len(found) == number:
                break
            if self._place == len(self._order):
                self._pass, self._place = self._pass + 1, 0
                self._order = self._shuffled()
            row = self._order[self._place]
            self._place += 1
            if self._keys[row] not in taken:
                taken.add(self._keys[row])
                found.append(row)
        return found

    def state(self) -> dict[str, Any]:
        """See rlkd.checkpoints.pieces.Piece."""
        return {"pass": self._pass, "place": self._place}

    def restore(self, state: dict[str, Any]) -> str:
        """See rlkd.checkpoints.pieces.Piece."""
        self._pass, self._place = state["pass"], state["place"]
        self._order = self._shuffled()
        return f"row {self._place} of the order's pass {self._pass + 1}"


@dataclass
class Round:
    """The answers of one round of sampling."""

    rows: list[dict[str, Any]]
    """This rank's: input, prompt, ids, text, what the rewards said beside their value."""
    reward_RF: Tensor
    """Of all ranks, as the facts are."""
    facts_R3: Tensor
    """See `rlkd.training.grouping.row_facts`."""
    correct_N: list[int] = field(default_factory=list)
    """Correct answers of each group, over all ranks."""
    signal_N: list[bool] = field(default_factory=list)
    """Is the group kept?"""


def has_both(verifiable_NG: Tensor, total_NG: Tensor) -> tuple[Tensor, Tensor]:
    """DAPO's constraint, Eq. 8: has a group a correct answer and one that is not?

    Args:
        verifiable_NG: the verifiable reward; 1 and more is correct.
        total_NG: what the advantages are made of; a row with NaN counts for nothing.

    Returns:
        (N,) whether it has, and (N,) the number of correct answers.
    """
    counted_NG = ~(verifiable_NG.isnan() | total_NG.isnan())
    correct_N = ((verifiable_NG >= 1.0) & counted_NG).sum(-1)
    return (correct_N > 0) & (correct_N < counted_NG.sum(-1)), correct_N


class Resampling:
    """Mixed in before TRL's trainer (rlkd/trainer.py). TRL's step asks for answers, then for their
    rewards; both come from all rounds, and what TRL does with a batch it does with the kept rows
    only: old and reference log-probabilities, padding, the loss's token count. So does the teacher.

    Several ranks: each answers an equal share of every round, and the kept rows are dealt out in
    the order in which they were drawn. Where all groups of the first round are kept, nothing is
    drawn, gathered or dealt: the step is the plain one, bit for bit.
    """

    fresh_prompts: FreshPrompts | None = None
    """None: no phase of the run samples dynamically."""
    left_out: tuple[Tensor, Tensor] | None = None
    """Rewards and facts of the groups that the batch leaves out, all ranks: to be remembered of
    their prompts. None: none."""
    _known: Tensor | None = None
    _inputs: list[dict[str, Any]]

    def _start_resampling(self, algorithms: Sequence[Any]) -> None:
        """The last thing but one of the trainer's own __init__.

        Raises:
            ValueError: this trainer cannot draw prompts by itself.
        """
        wanting = [a for a in algorithms if getattr(a, "dynamic_sampling", False)]
        if not wanting:
            return
        this, title = self._this, type(wanting[0]).__name__
        why = None
        if getattr(this, "environment_factories", None) is not None or this.tools:
            why = "an environment's tools are bound to the rows of a batch before it is drawn"
        elif this._is_vlm:
            why = "the student reads images, and rows with images cannot be dealt out anew"
        elif this.rollout_func is not None:
            why = "rollout_func may return columns that no other prompt has"
        elif wanting[0].needs_traces(this.num_generations):
            why = "traces stand at fixed places of the batch that the trainer draws"
        prompts = this.training_prompts()
        if not prompts:
            why = "the training rows are streamed, and fresh prompts are picked by their number"
        if why is not None:
            raise ValueError(
                f"dynamic_sampling of {title} is on and cannot work here: {why}. Set it to false"
            )
        self.fresh_prompts = FreshPrompts(prompts, this.args.seed)
        this.pieces.add("fresh_prompts", self.fresh_prompts)

    @property
    def _this(self) -> Any:
        return self

    # -- TRL's two questions ------------------------------------------------------------------

    def _generate(self, prompts: list[Any]) -> Any:
        this = self._this
        generated = self._of_trl()._generate(prompts)
        self.left_out = None
        wanted = this._mode() == "train" and getattr(this.algorithm, "dynamic_sampling", False)
        if not wanted:
            return generated
        rounds = [self._judge(self._inputs, prompts, generated)]
        number, group = len(rounds[0].signal_N), this.num_generations
        taken = set(rounds[0].facts_R3[:, 0].tolist())
        most = getattr(this.algorithm, "max_sampling_rounds", 10)
        while len(rounds) < most:
            missing = number - sum(sum(each.signal_N) for each in rounds)
            inputs = self._fresh_inputs(missing, group, taken) if missing > 0 else []
            if not inputs:
                break
            more = [row["prompt"] for row in inputs]
            rounds.append(self._judge(inputs, more, self._of_trl()._generate(more)))
        chosen = _choose(rounds, number)
        self._count(rounds, chosen)
        if len(rounds) == 1:  # all as it was drawn
            self._known = rounds[0].reward_RF
            return generated
        self._known, rows = self._deal(rounds, chosen, group)
        return self._as_batch(rows, prompts, generated)

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> Tensor:
        if self._known is None:
            return self._of_trl()._calculate_rewards(*args, **kwargs)
        known, self._known = self._known, None
        return known

    def _of_trl(self) -> Any:
        return super()

    # -- one round ----------------------------------------------------------------------------

    def _fresh_inputs(self, missing: int, group: int, taken: set[int]) -> list[dict[str, Any]]:
        """This rank's rows of the next round: at least `missing` groups, in equal shares."""
        this, fresh = self._this, self.fresh_prompts
        assert fresh is not None  # made at the door
        ranks = this.accelerator.num_processes
        # Groups may straddle ranks; rows must divide.
        number = next(n for n in range(missing, missing + ranks) if n * group % ranks == 0)
        picked = fresh.take(number, taken)
        while len(picked) * group % ranks:
            picked.pop()
        share = len(picked) * group // ranks
        start = this.accelerator.process_index * share
        rows = [picked[place // group] for place in range(start, start + share)]
        return [dict(this.train_dataset[row]) for row in rows]

    def _judge(self, inputs: list[dict[str, Any]], prompts: list[Any], generated: Any) -> Round:
        """Score a round's answers, and find the groups with a signal."""
        this = self._this
        prompt_ids, completion_ids, _, completions, logps, _, _, _ = generated
        this._pending_extra_logs.clear()
        reward_RF = self._of_trl()._calculate_rewards(inputs, prompts, completions, completion_ids)
        statuses = {
            place: list(function.last_statuses)
            for place, function in enumerate(this.reward_funcs)
            if len(getattr(function, "last_statuses", None) or ()) == len(inputs)
        }
        extras = {name: list(values) for name, values in this._pending_extra_logs.items()}
        rows = [
            {
                "input": inputs[i],
                "prompt": prompts[i],
                "prompt_ids": prompt_ids[i],
                "ids": completion_ids[i],
                "completion": completions[i],
                "logps": logps[i] if logps is not None else None,
                "statuses": {place: values[i] for place, values in statuses.items()},
                "extras": {name: v[i] for name, v in extras.items() if len(v) == len(inputs)},
            }
            for i in range(len(inputs))
        ]
        facts_R3 = this.gathered_facts(inputs, completion_ids)
        group = this.num_generations
        signal_N, correct_N = has_both(
            this.verifiable_of(reward_RF).view(-1, group), this.total_of(reward_RF).view(-1, group)
        )
        return Round(rows, reward_RF, facts_R3, correct_N.tolist(), signal_N.tolist())

    # -- one batch of all rounds --------------------------------------------------------------

    def _deal(
        self, rounds: list[Round], chosen: list[tuple[int, int]], group: int
    ) -> tuple[Tensor, list[dict[str, Any]]]:
        """The rewards of the chosen groups, all ranks, and this rank's share of their rows."""
        this, rank = self._this, self._this.accelerator.process_index
        mine = {}
        for number, each in enumerate(rounds):
            first = rank * len(each.rows)
            for place, row in enumerate(each.rows):
                if (number, (first + place) // group) in chosen:
                    mine[number, first + place] = row
        whole = dict(this.gather_rows(list(mine.items())))
        order = [(number, n * group + g) for number, n in chosen for g in range(group)]
        share = len(order) // this.accelerator.num_processes
        rewards = torch.stack([rounds[number].reward_RF[row] for number, row in order])
        rest = [
            (each, n * group + g)
            for number, each in enumerate(rounds)
            for n in range(len(each.signal_N))
            if (number, n) not in chosen
            for g in range(group)
        ]
        if rest:
            self.left_out = (
                torch.stack([each.reward_RF[row] for each, row in rest]),
                torch.stack([each.facts_R3[row] for each, row in rest]),
            )
        return rewards, [whole[place] for place in order[rank * share : (rank + 1) * share]]

    def _as_batch(self, rows: list[dict[str, Any]], prompts: list[Any], generated: Any) -> Any:
        """What TRL's `_generate` gives, of these rows; the lists that TRL holds become theirs."""
        this = self._this
        prompts[:] = [row["prompt"] for row in rows]
        self._inputs[:] = [row["input"] for row in rows]
        for place, function in enumerate(this.reward_funcs):
            if rows and place in rows[0]["statuses"]:
                function.last_statuses = [row["statuses"][place] for row in rows]
        this._pending_extra_logs.clear()
        for name in rows[0]["extras"]:
            this._pending_extra_logs[name] = [row["extras"].get(name) for row in rows]
        logps = None if generated[4] is None else [row["logps"] for row in rows]
        return (
            [row["prompt_ids"] for row in rows], [row["ids"] for row in rows], None,
            [row["completion"] for row in rows], logps, *generated[5:],
        )  # fmt: skip

    def _count(self, rounds: list[Round], chosen: list[tuple[int, int]]) -> None:
        """What it took; the same on every rank."""
        this, group = self._this, self._this.num_generations
        sampled = sum(len(each.signal_N) for each in rounds)
        pairs = [
            (correct, signal)
            for each in rounds
            for correct, signal in zip(each.correct_N, each.signal_N, strict=True)
        ]
        tokens = sum(
            int(each.facts_R3[n * group : (n + 1) * group, 1].sum())
            for number, each in enumerate(rounds)
            for n in range(len(each.signal_N))
            if (number, n) not in chosen
        )
        values = {
            "rounds": len(rounds),
            "groups": sampled,
            "left_out": sampled - len(chosen),
            "filled": sum(not rounds[number].signal_N[n] for number, n in chosen),
            "without_signal": sum(not signal for _, signal in pairs) / sampled,
            "accuracy": sum(correct for correct, _ in pairs) / (sampled * group),
            "tokens_left_out": tokens,
        }
        for name, value in values.items():
            this._metrics["train"][f"dynamic_sampling/{name}"].append(float(value))


def _choose(rounds: list[Round], number: int) -> list[tuple[int, int]]:
    """(round, group) of the batch: the first `number` with a signal; where they are too few, then
    the first without one."""
    every = [(r, n) for r, each in enumerate(rounds) for n in range(len(each.signal_N))]
    # A stable sort: those with a signal first, otherwise as they were drawn.
    return sorted(every, key=lambda place: not rounds[place[0]].signal_N[place[1]])[:number]
