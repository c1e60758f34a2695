"""What every block of a run's YAML shares."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Dtype = Literal["float32", "bfloat16", "float16"]


class Block(BaseModel):
    """Abstract: the settings that every block shares."""

    model_config = ConfigDict(
        extra="forbid", use_attribute_docstrings=True, frozen=True, allow_inf_nan=False
    )


class SettingsBlock(Block):
    """Abstract: a dataclass and a visible departure from its defaults per key."""

    model_config = ConfigDict(extra="allow")

    use: str
    """The class, as module:name."""

    @property
    def settings(self) -> dict[str, Any]:
        """The fields of the class, as written."""
        return dict(self.model_extra or {})
