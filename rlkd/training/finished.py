"""Answers that are finished while others of their batch are still being written."""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor
from transformers import StoppingCriteria, StoppingCriteriaList

EVERY = 8
"""Tokens between two looks at what `generate` has written: on a GPU each look waits for it."""

Tell = Callable[[Sequence[int], Sequence[int]], None]
"""Is called with the ids of a prompt and of its answer, both without padding."""


class AsFinished:
    """Mixin before TRL's trainer: a teacher that works elsewhere begins with an answer as soon as
    that is finished, where whoever samples tells of single answers: transformers does, with and
    without continuous batching, and a vLLM engine in this process; a vLLM server does not."""

    _begun_early = 0

    def _generate_single_turn(self, prompt_ids: list[list[int]], *how: Any, **more: Any) -> Any:
        with self._telling(prompt_ids):
            return cast(Any, super())._generate_single_turn(prompt_ids, *how, **more)

    def _take_begun(self) -> int:
        """Answers that the teacher began with, since the last call."""
        begun, self._begun_early = self._begun_early, 0
        return begun

    def _telling(self, prompt_ids: list[list[int]]) -> AbstractContextManager[None]:
        this: Any = self
        # With tools an answer goes on after its end token.
        if not this._may_begin_early() or this.tools or this._is_vlm:
            return nullcontext()
        ends, teacher = set(this.eos_token_ids), this.teacher
        temperature = teacher.temperature_at(this.temperature)

        def tell(prompt: Sequence[int], answer: Sequence[int]) -> None:
            self._begun_early += teacher.begin(list(prompt), list(answer), temperature)

        if this.use_vllm:
            engine = this.vllm_generation
            if this.vllm_mode != "colocate" or engine.tensor_parallel_size > 1:
                return nullcontext()  # one engine of several processes is told of all their prompts
            return engine_tells(engine.llm.llm_engine, ends, tell)
        model = this.accelerator.unwrap_model(this.model_wrapped)
        if this.use_transformers_continuous_batching:
            return generate_batch_tells(model, ends, tell)
        return generate_tells(model, prompt_ids, ends, tell)


class _Looks(StoppingCriteria):
    """Stops nothing; tells of each row of `generate` that has come to its end token."""

    def __init__(self, prompts: Sequence[list[int]], ends: Collection[int], tell: Tell) -> None:
        self._prompts, self._ends, self._tell = prompts, sorted(ends), tell
        self._start: int | None = None
        self._seen = 0
        self._open = set(range(len(prompts)))

    def __call__(self, input_ids: Tensor, scores: Any, **_: Any) -> Tensor:
        if self._start is None:  # the first call comes with the first token
            self._start = self._seen = input_ids.shape[1] - 1
        if input_ids.shape[1] - self._seen >= EVERY and self._open:
            new_BK = input_ids[:, self._seen :]
            ended_B = torch.isin(new_BK, torch.tensor(self._ends, device=new_BK.device)).any(1)
            self._seen = input_ids.shape[1]
            for row in self._open.intersection(ended_B.nonzero().flatten().tolist()):
                self._open.remove(row)
                self._tell(self._prompts[row], self._answer(input_ids[row, self._start :]))
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def _answer(self, written: Tensor) -> list[int]:
        ids = written.tolist()
        return ids[: 1 + next(place for place, token in enumerate(ids) if token in self._ends)]


@contextmanager
def generate_tells(
    model: Any, prompts: Sequence[list[int]], ends: Collection[int], tell: Tell
) -> Iterator[None]:
    """Inside, the model's `generate`, given these prompts, tells of finished answers.

    Args:
        ends: the ids of the tokens that end an answer.
    """
    plain = model.generate

    def generate(*words: Any, **named: Any) -> Any:
        looks = StoppingCriteriaList([_Looks(prompts, ends, tell)])
        return plain(*words, stopping_criteria=looks, **named)

    with _instead(model, "generate", generate):
        yield


@contextmanager
def generate_batch_tells(model: Any, ends: Collection[int], tell: Tell) -> Iterator[None]:
    """Inside, the model's `generate_batch`, transformers' continuous batching, tells of them."""
    plain = model.continuous_batching_context_manager
    owner = plain.__self__  # PEFT hands the calls through to the model inside it

    @contextmanager
    def managed(*words: Any, **named: Any) -> Iterator[Any]:
        with plain(*words, **named) as manager:
            get_result = manager.get_result

            def told(*words: Any, **named: Any) -> Any:
                result = get_result(*words, **named)
                if result is not None and result.is_finished():
                    _tell_whole(result.prompt_ids, result.generated_tokens, ends, tell)
                return result

            with _instead(manager, "get_result", told):
                yield manager

    with _instead(owner, "continuous_batching_context_manager", managed):
        yield


@contextmanager
def engine_tells(engine: Any, ends: Collection[int], tell: Tell) -> Iterator[None]:
    """Inside, a vLLM engine of this process (`LLM.llm_engine`) tells of them."""
    plain = engine.step

    def step(*words: Any, **named: Any) -> Any:
        outputs = plain(*words, **named)
        for output in outputs:
            if output.finished:
                for answer in output.outputs:
                    _tell_whole(output.prompt_token_ids, answer.token_ids, ends, tell)
        return outputs

    with _instead(engine, "step", step):
        yield


def _tell_whole(
    prompt: Sequence[int], answer: Sequence[int], ends: Collection[int], tell: Tell
) -> None:
    if len(answer) and answer[-1] in ends:
        tell(prompt, answer)


@contextmanager
def _instead(thing: Any, name: str, function: Any) -> Iterator[None]:
    """The object has another method inside; its class keeps its own."""
    own = vars(thing).get(name)
    setattr(thing, name, function)
    try:
        yield
    finally:
        if own is None:
            delattr(thing, name)
        else:
            setattr(thing, name, own)
