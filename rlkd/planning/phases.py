"""The moments of a training step, and what lives in each."""

from dataclasses import dataclass

from rlkd.planning import parts
from rlkd.planning.network import Network


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one process does."""

    prompt: int
    """Tokens of the longest prompt."""
    completion: int
    """Most tokens of an answer; all are assumed to be as long."""
    micro_batch: int
    """Rows of a forward and backward pass."""
    accumulation: int
    """Micro-batches of an optimiser step."""
    generated: int
    """Rows that are sampled at once."""
    evaluated: int = 0
    """Rows that are answered at once in evaluation; 0: no evaluation."""
    eval_completion: int = 0
    """Most tokens of an answer in evaluation."""
    chunk_tokens: int = 1024
    """Positions whose logits the teacher holds at once."""
    checkpointing: bool = False
    """Gradient checkpointing?"""
    sampler_copies: int = 3
    """Float32 copies of one position's logits in sampling: the copy, the probabilities, the noise;
    one more where a temperature divides them, five for top-p's sorting."""
    entropy_gradient: bool = False
    """Does a component ask for the entropy's gradient?"""
    reference: bool = False
    """Is there a reference model of its own (beta above 0, no adapters)?"""
    whole_vocabulary: bool = False
    """Does the loss compare whole distributions? Then the teacher's hidden states of a generation
    batch are kept until the next one's have taken their place."""
    scores_itself: bool = False
    """Does the student (or the reference) score a generation batch without gradients?"""
    processes: int = 1
    sharded: bool = False
    """Are weights, gradients and states spread over the processes (FSDP2)?"""
    triton: bool = False
    """Are TRL's Triton kernels used (CUDA)?"""
    answers_only: bool = False
    """Does the head read the answers' places alone without them too?"""

    @property
    def length(self) -> int:
        """Tokens of a row."""
        return self.prompt + self.completion


@dataclass(frozen=True)
class Part:
    """A number of bytes, and what they are."""

    name: str
    size: int


@dataclass(frozen=True)
class Phase:
    """A moment, and what lives in it."""

    name: str
    parts: tuple[Part, ...]

    @property
    def total(self) -> int:
        return sum(part.size for part in self.parts)


@dataclass(frozen=True)
class Estimate:
    """The memory of one process."""

    phases: tuple[Phase, ...]

    @property
    def peak(self) -> Phase:
        """The phase that needs most."""
        return max(self.phases, key=lambda phase: phase.total)

    @property
    def dominant(self) -> Part:
        """The largest part of the peak phase."""
        return max(self.peak.parts, key=lambda part: part.size)


def estimate(student: Network, teacher: Network | None, work: Work) -> Estimate:
    """The phases of a step after the first, which has made the optimiser's states."""
    resident = _resident(student, teacher, work)
    if teacher is not None and work.whole_vocabulary:
        resident = (*resident, _kept_hidden(teacher, work))
    phases = [_generate("generate", student, work, resident, work.generated, work.completion)]
    if work.evaluated:
        greedy = 1  # a copy in float32
        phases.append(
            _generate(
                "evaluate", student, work, resident, work.evaluated, work.eval_completion, greedy
            )
        )
    if teacher is not None or work.scores_itself:
        phases.append(_score(student, teacher, work, resident))
    phases += [_backward(student, teacher, work, resident), _update(student, work, resident)]
    return Estimate(tuple(phases))


def _share(size: int, work: Work) -> int:
    """Of a process, of what is spread over all."""
    return -(-size // work.processes)


def _resident(student: Network, teacher: Network | None, work: Work) -> tuple[Part, ...]:
    weights, states, reference = student.weights, parts.adam_states(student), student.weights
    if work.sharded:
        trained = parts.trained_apart(student)
        weights = _share(student.weights - student.trained + trained, work)
        states, reference = _share(2 * trained, work), _share(student.weights, work)
    found = [Part("student's weights", weights), Part("AdamW's states", states)]
    if work.sharded:
        found.append(Part("layers gathered", parts.gathered(student)))
    if work.reference:
        found.append(Part("reference's weights", reference))
    if teacher is not None:
        found.append(Part("teacher's weights", teacher.weights))
    if work.processes > 1 and not work.sharded:
        # torch's DistributedDataParallel without gradient_as_bucket_view, its default.
        found.append(Part("DDP's buckets", student.trained))
    return tuple(found)


def _generate(
    name: str,
    student: Network,
    work: Work,
    resident: tuple[Part, ...],
    rows: int,
    completion: int,
    copies: int | None = None,
) -> Phase:
    length = work.prompt + completion
    copies = work.sampler_copies if copies is None else copies
    reading = (
        Part("keys and values", parts.kv_cache(student, rows, work.prompt)),
        Part("reading the prompts", parts.layer_forward(student, rows, work.prompt)),
    )
    writing = (
        Part("keys and values", parts.kv_cache(student, rows, length)),
        Part("one token's step", parts.decoding(student, rows, length, copies)),
    )
    larger = max(reading, writing, key=lambda pair: sum(part.size for part in pair))
    return Phase(name, (*resident, *larger))


def _score(
    student: Network, teacher: Network | None, work: Work, resident: tuple[Part, ...]
) -> Phase:
    found = []
    if teacher is not None:
        size = parts.teacher_forward(
            teacher, work.generated, work.length, work.completion, work.chunk_tokens
        )
        if work.whole_vocabulary:  # row by row while it reads, then once more, padded
            size = _kept_hidden(teacher, work).size + max(size, _kept_hidden(teacher, work).size)
        found.append(Part("the teacher's pass", size))
    if work.scores_itself:
        scored = _scored(work)
        size = max(
            parts.layer_forward(student, work.micro_batch, work.length),
            parts.head_forward(student, scored, work.triton),
        )
        if work.sharded and work.reference:  # TRL spreads it as one piece
            size += student.weights
        found.append(Part("the student's own scoring", size))
    return Phase("score", (*resident, max(found, key=lambda part: part.size)))


def _kept_hidden(teacher: Network, work: Work) -> Part:
    size = parts.hidden_states(teacher, work.generated, work.completion)
    return Part("teacher's hidden states", size)


def _backward(
    student: Network, teacher: Network | None, work: Work, resident: tuple[Part, ...]
) -> Phase:
    """Where the backward pass begins: everything is kept, and the head is first. Of a step's first
    micro-batch no gradients are there yet; FSDP2 keeps those of the others whole, and spreads them
    with the last one's (accelerate's `no_sync`)."""
    gradients = student.trained if work.accumulation > 1 else 0
    kept = parts.activations(student, work.micro_batch, work.length, work.checkpointing)
    head = parts.head_backward(student, _scored(work), work.triton, work.entropy_gradient)
    if teacher is not None and work.whole_vocabulary:
        compared = work.micro_batch * work.completion
        head = max(head, parts.divergence_backward(student, teacher, compared))
    layer = parts.layer_backward(student, work.micro_batch, work.length)
    return Phase(
        "backward",
        (
            *resident,
            Part("gradients", gradients),
            Part("activations", kept),
            Part("the head's gradient" if head > layer else "a layer's gradient", max(head, layer)),
        ),
    )


def _update(student: Network, work: Work, resident: tuple[Part, ...]) -> Phase:
    """Where the backward pass ends: all gradients, and what the embedding's arrives in: one more
    of its size; where the head is tied to it, the two and their sum. After a single micro-batch one
    of them is the gradient itself."""
    arriving = 0
    if student.head_trained:
        copies = (3 if student.tied else 1) - (work.accumulation == 1)
        arriving = copies * student.head_size * student.width
    gradients = student.trained
    if work.sharded and work.accumulation == 1:
        gradients = _share(parts.trained_apart(student), work)
    found = (Part("gradients", gradients), Part("gradients on their way", arriving))
    return Phase("update", (*resident, *found))


def _scored(work: Work) -> int:
    """Positions that go through the fused head."""
    answers = work.triton or work.answers_only
    return work.micro_batch * (work.completion if answers else work.length - 1)
