"""How the answers of an evaluation are drawn. Read without torch."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from rlkd.config import ConfigError, RunConfig


@dataclass(frozen=True)
class Settings:
    """All that decides which answers an evaluation is of, the model and the rows aside.

    Raises:
        ConfigError: one of them is out of range; they are checked as they are made.
    """

    samples: int | None = None
    """Sampled answers to each row, at least 1; None: one greedy answer."""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    """Sample among the k likeliest tokens; 0: all."""
    seed: int = 0
    max_completion_length: int = 256
    """Most tokens of an answer."""
    batch_size: int = 64
    """Answers per pass; with the seed it decides what is drawn."""
    ks: tuple[int, ...] = field(default=())
    """For which k pass@k and maj@k are given, at most `samples`; (): the powers of two up to
    `samples`, and `samples`."""

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ConfigError(f"evaluation: {problem}")
        if not self.ks:
            powers = {2**i for i in range(self.answers.bit_length())}
            object.__setattr__(self, "ks", tuple(sorted(powers | {self.answers})))

    @property
    def greedy(self) -> bool:
        """Is it the likeliest token at each position, and no sampling?"""
        return self.samples is None

    @property
    def answers(self) -> int:
        """Answers to each row."""
        return 1 if self.samples is None else self.samples

    def _problem(self) -> str:
        if self.samples is not None and self.samples < 1:
            return f"samples is {self.samples}; at least one answer to each row is needed"
        if not self.temperature > 0:
            return (
                f"temperature is {self.temperature}; it is above 0.\n"
                "  do: leave samples out for greedy answers"
            )
        if not 0 < self.top_p <= 1:
            return f"top_p is {self.top_p}; it is in (0, 1]"
        if self.top_k < 0:
            return f"top_k is {self.top_k}; it is at least 0 (0: all tokens)"
        if self.max_completion_length < 1 or self.batch_size < 1:
            return (
                f"max_completion_length is {self.max_completion_length} and batch_size is"
                f" {self.batch_size}; both are at least 1"
            )
        wrong = [k for k in self.ks if not 1 <= k <= self.answers]
        if wrong:
            return (
                f"k is {wrong[0]}, and there are {self.answers} answers to each row.\n"
                "  why: pass@k and maj@k of fewer than k answers cannot be estimated\n"
                f"  do: take k from 1 to {self.answers}, or draw more samples"
            )
        return ""


def settings_of(
    config: RunConfig,
    samples: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    seed: int | None = None,
    ks: Sequence[int] | None = None,
) -> Settings:
    """The settings of an evaluation; what is None is the config's: `sampling` as in training,
    `run.seed`, lengths and batch as in `eval`.

    Raises:
        ConfigError: one is out of range, or is for sampling where nothing is sampled.
    """
    sampling = config.sampling
    given = {"temperature": temperature, "top_p": top_p, "top_k": top_k, "seed": seed, "k": ks}
    if samples is None:
        for name, value in given.items():
            if value is not None:
                raise ConfigError(
                    f"evaluation: {name} is {value}, and nothing is sampled.\n"
                    "  why: without a number of samples the one answer to each row is greedy\n"
                    "  do: say how many samples (--samples 16)"
                )
    return Settings(
        samples=samples,
        temperature=sampling.temperature if temperature is None else temperature,
        top_p=sampling.top_p if top_p is None else top_p,
        top_k=sampling.top_k if top_k is None else top_k,
        seed=config.run.seed if seed is None else seed,
        max_completion_length=(config.eval.max_completion_length or sampling.max_completion_length),
        batch_size=config.eval.batch_size,
        ks=tuple(sorted(set(ks or ()))),
    )
