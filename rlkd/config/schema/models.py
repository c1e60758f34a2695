"""The blocks of the student and of its teacher."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from rlkd.config.schema.base import Block, Dtype, SettingsBlock


class Lora(Block):
    """Low-rank adapters (peft) instead of training every weight."""

    r: int = Field(gt=0)
    """Rank of the adapters."""
    alpha: float = Field(gt=0)
    """Scale of the adapters: their output is multiplied by alpha / r."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Dropout inside the adapters; 0 keeps on-policy updates exactly on-policy."""
    target_modules: list[str] | Literal["all-linear"] = "all-linear"
    """Names of the layers that get an adapter, or `all-linear`."""


class Model(Block):
    """The student, which learns."""

    path: str = Field(min_length=1)
    """Folder of the model and its tokenizer, relative to the working directory."""
    dtype: Dtype = "float32"
    """Number format of the weights."""
    lora: Lora | None = None
    """Train low-rank adapters only; null trains every weight."""
    chat_template_kwargs: dict[str, Any] = Field(default={})
    """Handed to the tokenizer's chat template (`enable_thinking: false`)."""


class FrozenModel(Block):
    """Abstract: a model and how its weights are held."""

    path: str = Field(min_length=1)
    """Folder of the model and its tokenizer, which must number tokens as the student's does."""
    dtype: Dtype = "float32"
    """Number format of the weights."""
    temperature: float | None = Field(default=None, gt=0)
    """Temperature at which the teacher scores; null: the student's sampling temperature."""
    chunk_tokens: int = Field(default=1024, gt=0)
    """Tokens whose logits exist at once (memory: chunk_tokens x vocabulary x 4 bytes)."""
    quantization: Literal["bitsandbytes_8bit", "bitsandbytes_4bit", "torchao_int8"] | None = None
    """Hold the weights in fewer bits (`pip install 'rlkd[quantized]'`): bitsandbytes on a GPU (its
    8 bits also on a CPU), torchao on either; null: no."""
    device_map: str | None = None
    """Spread the teacher over devices (`auto`: what accelerate finds); null: on the rank's own."""
    offload: bool = False
    """Keep the weights in the machine's memory, on the device only while they score."""
    padding_free: bool = False
    """Score the answers of a forward as one sequence, each attending to itself alone; needs the
    attention sdpa or a flash attention."""
    shared_prompts: bool = False
    """With padding_free: read the prompt of a group's answers once. Pays where prompts are long."""


class Asked(Block):
    """Abstract: how a run's teacher is asked, wherever it lives."""

    check: Literal["error", "warn", "off"] = "error"
    """What a failed check of the teacher at the start of the run does."""
    overlap: Literal["auto", "on", "off"] = "auto"
    """When the teacher scores: `on`, while the rewards are computed, on a thread of its own; `off`,
    after them; `auto`, `on` where it takes no processor time here (a server). A teacher on this
    machine shares the cores with the rewards then, and needs its memory beside the student's. The
    numbers are the same."""
    on_bad_scores: Literal["stop", "mask"] = "stop"
    """What scores do that cannot be right: NaN, above 0, -inf for a whole answer, missing, of other
    tokens, or an answer that a server refuses (too long for it). `stop` ends the run; `mask` takes
    such answers whole out of the loss, but for a batch without a good one, or more than a quarter
    of the answers of 5 batches. Either way they are kept in bad_scores-rank*.jsonl in the run's
    folder."""


class Teacher(Asked, FrozenModel):
    """A frozen model of its own beside the student."""

    @model_validator(mode="after")
    def _one_place(self) -> "Teacher":
        if self.shared_prompts and not self.padding_free:
            raise ValueError(
                "shared_prompts is true and padding_free is false: a prompt is shared inside of "
                "one sequence; set padding_free to true"
            )
        if self.offload and (self.device_map is not None or self.quantization is not None):
            name = "device_map" if self.device_map is not None else "quantization"
            raise ValueError(
                f"offload is true and {name} is {getattr(self, name)!r}: weights that are "
                f"{'spread' if name == 'device_map' else 'quantised'} stay where they are; keep one"
            )
        return self


class OtherTeacher(Asked, SettingsBlock):
    """A teacher that lives elsewhere, or is made of others."""

    use: str
    """A class of rlkd.teacher or your own, as module:name (`rlkd.teacher.inner:AdapterOff`). Its
    arguments are the further keys; one that is a teacher is a block like this one or with path."""


def _kind_of_teacher(value: Any) -> str | None:
    if not isinstance(value, dict):
        return "<elsewhere>" if isinstance(value, OtherTeacher) else "<model>"
    if "use" in value:
        return "<elsewhere>"
    # Of a block that is none of a model's, nobody knows what its other keys are for.
    return "<model>" if "path" in value or value.keys() <= Teacher.model_fields.keys() else None


AnyTeacher = Annotated[
    Annotated[Teacher, Tag("<model>")] | Annotated[OtherTeacher, Tag("<elsewhere>")],
    Discriminator(
        _kind_of_teacher,
        custom_error_type="source",
        custom_error_message="a block with `path` (a model's folder), or with `use` (a class, like"
        " rlkd.teacher.server:ServerTeacher) and its arguments",
    ),
]
