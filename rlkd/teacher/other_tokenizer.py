"""A teacher that cuts text into other tokens than the student: scores meet on spans of text."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from rlkd.teacher.base import Student, TokenScores
from rlkd.teacher.local import LocalTeacher
from rlkd.teacher.scores import fault_of
from rlkd.teacher.wrapping import Wrapping


class OtherTokenizer(Wrapping):
    """Lets a local teacher of another family judge the student's answers by their text.

    Prompt and answer go to the teacher as text, in its own tokens (of a chat, through its own chat
    template). Answers are cut at every place where both families have a boundary between tokens.
    The teacher's log-probability of such a span, the sum over its tokens there, is shared out
    evenly among the student's tokens of the span; the end token is compared with the teacher's.

    Where a span is one token of each, as everywhere between equal tokenizers, this is exact.
    Elsewhere two errors remain. The teacher's mass for the same text cut otherwise is not counted,
    so that a span scores too low, by what the teacher gives other cuts. And the share of a single
    token within a span is a convention: sums over spans are meant, not single tokens. The share of
    tokens that stand alone in their span is `single_share`.

    An answer with a special token in its middle is no text: it has a fault, and no scores.

    Args:
        inner: a local teacher with its tokenizer.

    Raises:
        ValueError: the inner teacher is no local one, or has no tokenizer.
    """

    def __init__(self, inner: LocalTeacher) -> None:
        if not isinstance(inner, LocalTeacher) or inner.tokenizer is None:
            raise ValueError(
                f"inner is {inner.name} ({type(inner).__name__}); only a local teacher with its "
                "own tokenizer (a block with path) can be aligned by text: the answers are cut "
                "into that tokenizer's tokens here. Name its folder, or a teacher of the student's "
                "family"
            )
        if inner.tokenizer.eos_token_id is None:
            raise ValueError(f"{inner.name} has no end token: nothing matches the student's")
        super().__init__(inner)
        self._own = inner.tokenizer
        self.ends_last = True
        self.name = f"{inner.name}, aligned by text"
        self.end_token_ids = frozenset()  # matched with the student's, whatever its number
        self._single, self._tokens = 0, 0
        self._told = (0, 0)
        """Of both, what `measures` has given before."""

    @property
    def single_share(self) -> float:
        """Share of the tokens scored so far that stood alone in their span, on both sides."""
        return self._single / max(1, self._tokens)

    def measures(self) -> Mapping[str, tuple[float, float]]:
        before, self._told = self._told, (self._single, self._tokens)
        own = (self._single - before[0], self._tokens - before[1])
        return {**self.inner.measures(), "single_share": own}

    def meet(self, student: Student) -> None:
        super().meet(student)
        self._theirs = student.tokenizer

    def check_tokenizer(self, tokenizer: object, model_vocab_size: int) -> None:
        """Any will do: that is what this class is for."""

    def readers(self) -> Mapping[str, Any]:
        return {}  # it reads what its own template writes

    def score_rows(
        self,
        rows: Sequence[Mapping[str, Any]],
        prompt_ids: Sequence[Sequence[int]],
        completion_ids: Sequence[Sequence[int]],
        temperature: float,
    ) -> list[TokenScores]:
        faults = [self._unreadable(sent) for sent in completion_ids]
        prompts, answers, spans = [], [], []
        for number, (row, prompt) in enumerate(zip(rows, prompt_ids, strict=True)):
            # What it cannot read goes to the inner teacher as an answer without a token.
            text, ends, bounds = self._read(completion_ids[number] if not faults[number] else [])
            own = self._own(text, add_special_tokens=False, return_offsets_mapping=True)
            own_ids = list(own["input_ids"])
            own_bounds = [0, *(end for _, end in own["offset_mapping"])]
            prompts.append(self._prompt(row, prompt))
            answers.append([*own_ids, self._own.eos_token_id] if ends else own_ids)
            spans.append((_spans(bounds, own_bounds), ends))
        scores = self.inner.score_rows(rows, prompts, answers, temperature)
        found = []
        for row, (sent, (cut, ends)) in enumerate(zip(completion_ids, spans, strict=True)):
            fault = faults[row] or fault_of(
                self.inner.name, scores[row], answers[row], f"in row {row}"
            )
            if fault is not None:
                found.append(TokenScores.faulty(sent, fault))
            else:
                found.append(self._shared_out(sent, cut, ends, scores[row].logp.float().cpu()))
        return found

    def _prompt(self, row: Mapping[str, Any], prompt: Sequence[int]) -> list[int]:
        written = row.get("prompt")
        if isinstance(written, list):
            return self._own.apply_chat_template(
                written, add_generation_prompt=True, tokenize=True, return_dict=True
            )["input_ids"]
        if not isinstance(written, str):
            written = self._theirs.decode(list(prompt), skip_special_tokens=True)
        return self._own(written)["input_ids"]

    def _without_end(self, sent: Sequence[int]) -> tuple[bool, list[int]]:
        """Does an end token close the answer, and its other tokens."""
        ends = bool(len(sent)) and sent[-1] in self._theirs.all_special_ids
        return ends, list(sent[:-1] if ends else sent)

    def _unreadable(self, sent: Sequence[int]) -> str | None:
        """Why an answer is no text; None: it is."""
        _, ids = self._without_end(sent)
        if not set(self._theirs.all_special_ids).intersection(ids):
            return None
        return (
            f"{self.name}: an answer holds a special token of the student's in its middle "
            f"({self._theirs.convert_ids_to_tokens(ids)[:16]}…), which is no text"
        )

    def _read(self, sent: Sequence[int]) -> tuple[str, bool, list[int]]:
        """The text of an answer, whether an end token closes it, and where, in characters, its
        other tokens meet: -1 where a token ends within a character."""
        ends, ids = self._without_end(sent)

        def decode(part: list[int]) -> str:
            return self._theirs.decode(part, clean_up_tokenization_spaces=False)

        text, bounds = decode(ids), [0]
        pieces = [decode([token]) for token in ids]
        if "".join(pieces) == text and "\ufffd" not in text:
            for piece in pieces:
                bounds.append(bounds[-1] + len(piece))
            return text, ends, bounds
        for count in range(1, len(ids) + 1):
            before = decode(ids[:count])
            bounds.append(len(before) if text.startswith(before) else -1)
        bounds[-1] = len(text)
        return text, ends, bounds

    def _shared_out(
        self,
        sent: Sequence[int],
        spans: list[tuple[int, int, int, int]],
        ends: bool,
        logp: torch.Tensor,
    ) -> TokenScores:
        shared = torch.zeros(len(sent))
        for start, stop, own_start, own_stop in spans:
            # No token of the teacher's: the student's are empty text, which costs it nothing.
            shared[start:stop] = logp[own_start:own_stop].sum() / max(1, stop - start)
            self._single += (stop - start == 1) and (own_stop - own_start == 1)
        if ends:
            shared[-1] = logp[-1]
            self._single += 1
        self._tokens += len(sent)
        return TokenScores(torch.tensor(list(sent), dtype=torch.int64), shared)


def _spans(bounds: Sequence[int], own: Sequence[int]) -> list[tuple[int, int, int, int]]:
    """The smallest spans that begin and end at a boundary of both: (start, stop, own start, own
    stop) in tokens, in order, covering both sides whole."""
    last_of = {place: count for count, place in enumerate(own)}
    found, start, own_start = [], 0, 0
    for count, place in enumerate(bounds[1:], start=1):
        meets = place >= 0 and place in last_of and last_of[place] >= own_start
        if count == len(bounds) - 1:
            found.append((start, count, own_start, len(own) - 1))
        elif meets and (place > bounds[start] or bounds[start] < 0):
            found.append((start, count, own_start, last_of[place]))
            start, own_start = count, last_of[place]
    return found
