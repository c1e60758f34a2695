"""What is remembered of each prompt: how often it is solved, and in how few tokens.

Learnt from the raw verifiable reward of groups gathered over all ranks, so that every rank holds
the same records; saved with the checkpoint. Formulas: `rlkd.objectives.difficulty`.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from rlkd.batch import Groups
from rlkd.objectives import difficulty as formulas

BANDS = ("hard", "middle", "easy", "new")
"""Where a prompt stands by its historical pass rate before the batch: below 1/3, up to 2/3, above;
`new`: on its first visit. Fixed, so that a band means the same all through a run; CEEH's own
mask compares with a threshold that moves."""


@dataclass(frozen=True, kw_only=True)
class Rules:
    """How the records are kept and read; the defaults are CEEH's, as its paper has it. What each
    field means stands at the field of the same name in `rlkd.algorithms.ceeh.CEEH`."""

    rate_up: float = 0.2
    rate_down: float = 0.05
    restart_at_zero: bool = False
    shortest: Literal["minimum", "moving_average"] = "minimum"
    unvisited: Literal["left_out", "minus_one"] = "left_out"
    hard_from: Literal["history", "group"] = "history"
    hard_bound: Literal["below", "at_most"] = "below"


def prompt_key(prompt: Any) -> int:
    """The key of a prompt (text or chat messages): 64 bits of a hash of its content, the same in
    every process, on every machine and in every run.

    Raises:
        TypeError: it holds something whose text is not its content, such as an image.
    """
    kind, text = "text", prompt
    if not isinstance(prompt, str):
        kind = "json"
        try:
            text = json.dumps(prompt, sort_keys=True)
        except TypeError as error:
            raise TypeError(
                f"a prompt cannot be told from others by its content ({error}), and the difficulty "
                "records are kept by it; let prompts be text, or chat messages of text"
            ) from error
    digest = hashlib.blake2b(f"{kind}:{text}".encode(errors="surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little", signed=True)


class Difficulty:
    """The records of all prompts. 28 bytes a prompt.

    Args:
        keys: of every training prompt (`prompt_key`), so that the threshold knows how many there
            are; a key that turns up later is added.
    """

    def __init__(self, keys: Iterable[int] = (), rules: Rules | None = None) -> None:
        self.rules = rules or Rules()
        self._key_D = torch.tensor(sorted(set(keys)), dtype=torch.int64)
        size = len(self._key_D)
        self._pass_rate_D = torch.full((size,), torch.nan, dtype=torch.float64)
        self._shortest_D = torch.full((size,), torch.nan, dtype=torch.float64)
        self._visits_D = torch.zeros(size, dtype=torch.int32)

    def __len__(self) -> int:
        return len(self._key_D)

    def threshold(self) -> float:
        """The historical pass rate below which a prompt is hard; NaN before the first visit."""
        return formulas.threshold(self._pass_rate_D, self.rules.unvisited).item()

    def view(
        self,
        key_N: Tensor,
        reward_NG: Tensor,
        length_NG: Tensor,
        correct_NG: Tensor,
        counted_NG: Tensor,
    ) -> Groups:
        """A batch of groups beside what the records say of their prompts, before it is learnt.

        Acc(x) is each group's own, also where a batch holds several groups of one prompt: it is
        what the K answers of one group say (CEEH Eq. 9), and their advantages are the group's
        too. `learn` takes such groups together, so that their order is irrelevant.

        Args:
            key_N: keys of the prompts, int64.
            reward_NG: rewards, NaN where a row cannot be graded.
            length_NG: tokens of the answers, end token included.
            correct_NG: has the answer the verifiable reward's full mark?
            counted_NG: does the answer count? Truncated and ungradable ones do not.
        """
        at_N = self._places(key_N)
        device = reward_NG.device
        history_N = self._pass_rate_D[at_N]
        rate_N = formulas.pass_rate(correct_NG, counted_NG)
        judged_N = history_N if self.rules.hard_from == "history" else rate_N.cpu()
        bound = formulas.threshold(self._pass_rate_D, self.rules.unvisited)
        return Groups(
            key_N=key_N,
            reward_NG=reward_NG,
            length_NG=length_NG,
            correct_NG=correct_NG,
            counted_NG=counted_NG,
            pass_rate_N=rate_N,
            history_N=history_N.to(device),
            shortest_N=self._shortest_D[at_N].to(device),
            hard_N=formulas.is_hard(judged_N, bound, self.rules.hard_bound).to(device),
        )

    def learn(self, groups: Groups) -> None:
        """One visit of each prompt. Groups of one prompt count as one group; one without a counted
        answer as no visit."""
        key_U, owner_N = groups.key_N.cpu().unique(return_inverse=True)
        right_N = (groups.correct_NG & groups.counted_NG).sum(-1).cpu().double()
        counted_N = groups.counted_NG.sum(-1).cpu().double()
        zero_U = torch.zeros(len(key_U), dtype=torch.float64)
        counted_U = zero_U.index_add(0, owner_N, counted_N)
        current_U = zero_U.index_add(0, owner_N, right_N) / counted_U  # NaN where none counts
        low_N = formulas.shortest_correct(groups.length_NG, groups.correct_NG, groups.counted_NG)
        low_U = torch.full_like(zero_U, torch.inf).scatter_reduce(
            0, owner_N, low_N.cpu().nan_to_num(nan=torch.inf), "amin"
        )
        low_U = low_U.masked_fill(low_U.isinf(), torch.nan)
        at_U, rules = self._places(key_U), self.rules
        self._pass_rate_D[at_U] = formulas.moving_pass_rate(
            self._pass_rate_D[at_U],
            current_U,
            rules.rate_up,
            rules.rate_down,
            rules.restart_at_zero,
        )
        self._shortest_D[at_U] = formulas.shortest_on_record(
            self._shortest_D[at_U], low_U, rules.shortest
        )
        self._visits_D[at_U] += (counted_U > 0).int()

    def _places(self, key_N: Tensor) -> Tensor:
        """Where the keys stand in the records; unknown ones are added."""
        key_N = key_N.cpu().contiguous()
        at_N = torch.searchsorted(self._key_D, key_N)
        known_N = at_N < len(self)
        known_N[known_N.clone()] = self._key_D[at_N[known_N]] == key_N[known_N]
        if known_N.all():
            return at_N
        self._add(key_N[~known_N].unique())
        return torch.searchsorted(self._key_D, key_N)

    def _add(self, key_U: Tensor) -> None:
        """Make room for new keys, given in order, each once."""
        fresh = Difficulty(key_U.tolist(), self.rules)
        new_U = torch.searchsorted(self._key_D, key_U) + torch.arange(len(key_U))
        old_D = torch.ones(len(self) + len(fresh), dtype=torch.bool).index_fill(0, new_U, False)
        old_D = old_D.nonzero().squeeze(-1)
        for name in ("_key_D", "_pass_rate_D", "_shortest_D", "_visits_D"):
            mine, theirs = getattr(self, name), getattr(fresh, name)
            joined = mine.new_empty(len(old_D) + len(new_U))
            setattr(self, name, joined.index_copy_(0, old_D, mine).index_copy_(0, new_U, theirs))

    def table(self) -> dict[str, Tensor]:
        """The records as columns, in the order of the keys: key, pass_rate (NaN: not visited),
        shortest (tokens; NaN: never solved), visits."""
        return {
            "key": self._key_D,
            "pass_rate": self._pass_rate_D,
            "shortest": self._shortest_D,
            "visits": self._visits_D,
        }

    def state(self) -> dict[str, Any]:
        """All there is to save."""
        rules = {name: getattr(self.rules, name) for name in self.rules.__dataclass_fields__}
        return {"rules": rules, **{key: value.clone() for key, value in self.table().items()}}

    def restore(self, state: dict[str, Any]) -> str:
        """Take the records of a checkpoint in place of these; returns what they are in words.

        Raises:
            ValueError: they were kept by other rules.
        """
        if Rules(**state["rules"]) != self.rules:
            raise ValueError(
                f"the difficulty records were kept by {state['rules']}, and this run keeps them by "
                f"{self.rules}: their numbers do not mean the same. Resume with the run's own "
                "settings, or start anew"
            )
        self._key_D = state["key"].clone()
        self._pass_rate_D = state["pass_rate"].clone()
        self._shortest_D = state["shortest"].clone()
        self._visits_D = state["visits"].clone()
        visited = int((self._visits_D > 0).sum())
        return f"{len(self)} prompts, {visited} of them visited"
