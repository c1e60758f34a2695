"""A frozen model beside the student: scores sampled tokens in chunks, never a (B, T, V) tensor."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from rlkd.checkpoints.frozen_weights import FrozenWeights
from rlkd.objectives.chunked import Head
from rlkd.objectives.logprobs import sampled_logprobs
from rlkd.teacher import batches, loading
from rlkd.teacher.base import (
    DistributionTeacher,
    TeacherError,
    TokenScores,
    refuse_empty_prompts,
)
from rlkd.teacher.batches import Row
from rlkd.teacher.counting import Counting
from rlkd.teacher.heads import CheckedHead, head_settings
from rlkd.teacher.packed import PaddingFree
from rlkd.teacher.quantized import MOVES_BY_ITSELF
from rlkd.teacher.tokens import describe_difference, end_token_ids


class LocalTeacher(PaddingFree, CheckedHead, Counting, DistributionTeacher):
    """A frozen causal language model, in evaluation mode and in its own dtype.

    Rows are stripped of padding, sorted by length and packed into forwards of at most
    `max_tokens` tokens, padded on the right. A causal model never sees what stands to the right
    of a token, so the scores are those of each row alone, whatever its position encoding.

    Args:
        model: a loaded model; `from_pretrained` takes a path.
        tokenizer: the teacher's; None: loaded from where the model came from. Where there is
            none, only the vocabulary sizes can be compared.
        temperature: of the scores; None: the student's sampling temperature.
        max_tokens: tokens (with padding) of one forward of the backbone.
        chunk_tokens: positions whose logits exist at once: at most chunk_tokens · V · 6 bytes.
        offload: keep the weights in the machine's memory between passes.
        padding_free: the rows of a forward as one sequence without padding: `rlkd.packing`.
        shared_prompts: with padding_free: read equal prompts of a forward once, as in a group.
    """

    offload = False
    _placed = False
    _given_up = False
    _device: torch.device | None = None

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any | None = None,
        *,
        temperature: float | None = None,
        max_tokens: int = 16_384,
        chunk_tokens: int = 1_024,
        offload: bool = False,
        padding_free: bool = False,
        shared_prompts: bool = False,
    ) -> None:
        self._settle(temperature, max_tokens, chunk_tokens)
        if any(hasattr(weight, "ds_tensor") for weight in model.parameters()):
            raise TeacherError(
                "the teacher's weights are split among the processes (DeepSpeed ZeRO-3), as all "
                "that is loaded after the trainer's arguments are made. Pass its path, which "
                "LocalTeacher.from_pretrained loads whole, or load it before."
            )
        self.offload = offload
        self._start_packing(padding_free, shared_prompts)
        path = model.config._name_or_path
        self.name = f"teacher {path or type(model).__name__}"
        self._held_in = f"the teacher's folder {path}" if path else "what the teacher was made of"
        self.tokenizer = tokenizer if tokenizer is not None else loading.tokenizer_of(model)
        self.end_token_ids = end_token_ids(model, self.tokenizer)
        self._take(model.eval().requires_grad_(False))

    def _settle(self, temperature: float | None, max_tokens: int, chunk_tokens: int) -> None:
        if temperature is not None and temperature <= 0.0:
            raise ValueError(f"the teacher's temperature is {temperature}; it must be above 0")
        if max_tokens < 1 or chunk_tokens < 1:
            raise ValueError("max_tokens and chunk_tokens must be at least 1")
        self.temperature = temperature
        self.max_tokens = max_tokens
        self.chunk_tokens = chunk_tokens

    def _take(self, model: Any) -> None:
        """Score with this model from here on."""
        self.model = model
        # Under PEFT the backbone and the head sit one level deeper, adapters included.
        base: Any = model.get_base_model() if hasattr(model, "peft_config") else model
        self._backbone = base.base_model
        self._head = base.get_output_embeddings()
        if self.padding_free:
            self._use_spans(base)
        self._head_settings = head_settings(base.config.get_text_config())
        self._verified = False
        self._start_counting(self._backbone)

    @classmethod
    def from_pretrained(
        cls,
        path: str,
        dtype: torch.dtype | str = "auto",
        *,
        quantization: str | None = None,
        device_map: str | None = None,
        **settings: Any,
    ) -> "LocalTeacher":
        """Load model and tokenizer from a folder or a hub name.

        Args:
            dtype: of the weights, or of what is not quantised.
            quantization: see `rlkd.teacher.quantized.METHODS`; None: none.
            device_map: as transformers takes it; None: the model goes where `prepare` says.
            settings: as of the class.

        Raises:
            ImportError: the library that quantises is not installed; the message says which.
            ValueError: it does not work on this machine.
        """
        model, tokenizer = loading.load(path, dtype, quantization, device_map)
        made = cls(model, tokenizer, **settings)
        made._placed = device_map is not None or quantization in MOVES_BY_ITSELF
        return made

    def prepare(self, device: torch.device) -> None:
        self._device = device
        if not self._placed and not self.offload:
            self.model.to(device)  # type: ignore[arg-type]

    @contextmanager
    def _ready(self) -> Iterator[None]:
        """Inside it can score: the weights are on the device, and where they were afterwards."""
        if not self.offload or self._device is None:
            yield
            return
        self.model.to(self._device)
        try:
            yield
        finally:
            self.model.to("cpu")
            if self._device.type == "cuda":
                torch.cuda.empty_cache()

    def learnt(self) -> Mapping[str, Any]:
        return {"weights": FrozenWeights(self._held_in, lambda: self.model)}

    def check_tokenizer(self, tokenizer: Any, model_vocab_size: int) -> None:
        rows = self._head.weight.shape[0]
        if len(tokenizer) > rows:
            raise TeacherError(
                f"{self.name} knows {rows} tokens, the student's tokenizer has {len(tokenizer)}: "
                "the teacher cannot score what the student may write. Take a teacher of the same "
                "family."
            )
        if self.tokenizer is None:
            if model_vocab_size != rows:
                raise TeacherError(
                    f"{self.name} has no tokenizer to compare, and its head has {rows} rows where "
                    f"the student's has {model_vocab_size}. Pass "
                    "LocalTeacher(model, tokenizer=...)."
                )
            return
        difference = describe_difference(tokenizer.get_vocab(), self.tokenizer.get_vocab())
        if difference:
            raise TeacherError(
                f"{self.name} numbers its tokens differently from the student: {difference}. Its "
                "scores would be those of other words. Take a teacher of the same family."
            )

    def readers(self) -> Mapping[str, Any]:
        return {} if self.tokenizer is None else {self.name: self.tokenizer}

    def head(self) -> Head:
        return Head(
            weight_VH=self._head.weight.detach(),
            bias_V=None if self._head.bias is None else self._head.bias.detach(),
            **self._head_settings,
        )

    def score(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        temperature: float,
    ) -> list[TokenScores]:
        return self._score(prompt_ids, completion_ids, temperature, keep_hidden=False)

    def score_with_hidden(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        temperature: float,
    ) -> list[TokenScores]:
        return self._score(prompt_ids, completion_ids, temperature, keep_hidden=True)

    @torch.no_grad()
    def _score(
        self,
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        temperature: float,
        keep_hidden: bool,
    ) -> list[TokenScores]:
        refuse_empty_prompts(prompt_ids)
        pairs = zip(prompt_ids, completion_ids, strict=True)
        rows = [(list(prompt), list(completion)) for prompt, completion in pairs]
        self._given_up = False
        with self._ready():
            return self._score_packed(rows, temperature, keep_hidden)

    def give_up(self) -> None:
        self._given_up = True

    def _score_packed(
        self, rows: list[Row], temperature: float, keep_hidden: bool
    ) -> list[TokenScores]:
        if not self._verified and rows:
            self._verify_head(rows[0][0] + rows[0][1])
        scores: list[TokenScores | None] = [None] * len(rows)
        # Longest first: a forward that does not fit in memory fails at once, not after an hour.
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i][0]) - len(rows[i][1]))
        parts, forward = batches.cut(order, rows, self.max_tokens), self._forward
        if self.padding_free:
            self._verify_packing([*order[:2], *order[-1:]], rows)
            parts, forward = self._packs(order, rows), self._forward_packed
        for batch in parts:
            if self._given_up:
                raise TeacherError(f"{self.name} is not asked any longer")
            found = forward(batch, rows, temperature, keep_hidden)
            for index, scored in zip(batch, found, strict=True):
                scores[index] = scored
        return [scored for scored in scores if scored is not None]

    def _forward(
        self,
        batch: list[int],
        rows: list[Row],
        temperature: float,
        keep_hidden: bool,
    ) -> list[TokenScores]:
        device = self._head.weight.device
        # The last token of a row predicts nothing that was sampled.
        inputs = [(rows[i][0] + rows[i][1])[:-1] for i in batch]
        width = max(1, *(len(row) for row in inputs))
        ids_BL = torch.tensor([row + [0] * (width - len(row)) for row in inputs], device=device)
        hidden_BLH = self._backbone(input_ids=ids_BL, use_cache=False).last_hidden_state
        lengths = [len(rows[i][1]) for i in batch]
        hidden_NH = torch.cat(
            [
                hidden_BLH[b, len(rows[i][0]) - 1 : len(rows[i][0]) - 1 + lengths[b]]
                for b, i in enumerate(batch)
            ]
        )
        token_N = torch.tensor([t for i in batch for t in rows[i][1]], device=device).long()
        return self._scores(hidden_NH, token_N, lengths, temperature, keep_hidden)

    def _scores(
        self,
        hidden_NH: Tensor,
        token_N: Tensor,
        lengths: list[int],
        temperature: float,
        keep_hidden: bool,
    ) -> list[TokenScores]:
        logp_N = self._logprobs(hidden_NH, token_N, temperature)
        hidden = hidden_NH.split(lengths) if keep_hidden else [None] * len(lengths)
        parts = zip(token_N.split(lengths), logp_N.split(lengths), hidden, strict=True)
        return [TokenScores(token_ids, logp, hidden_TH) for token_ids, logp, hidden_TH in parts]

    def _logprobs(self, hidden_NH: Tensor, token_N: Tensor, temperature: float) -> Tensor:
        return sampled_logprobs(
            hidden_NH,
            self._head.weight,
            self._head.bias,
            token_N,
            temperature,
            self.chunk_tokens,
            **self._head_settings,
        )
