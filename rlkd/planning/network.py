"""The sizes of a model, from its config.json: built on the meta device, no weight is loaded."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from rlkd.config.schema import Lora
from rlkd.errors import ConfigError

ROLES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a decoder layer for which the formulas of `parts` are exact."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """What the formulas need to know of a model."""

    name: str
    weights: int
    """Bytes of all weights, adapters included."""
    trained: int
    """Bytes of the weights that get a gradient; AdamW keeps two more numbers for each."""
    width: int
    """Bytes of one number of the model (of its activations)."""
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    """Width of the MLP that a token goes through (a mixture: of all experts that it is sent to)."""
    vocabulary: int
    """Rows of the head."""
    qk_norm: bool = False
    """Are queries and keys normalised per head (Qwen3)?"""
    rank: int = 0
    """Rank of the adapters; 0: all weights are trained."""
    adapted: frozenset[str] = frozenset()
    """The linear layers of a decoder layer that have an adapter."""
    head_trained: bool = True
    """Does the head's weight get a gradient?"""
    tied: bool = True
    """Is the head's weight the embedding's?"""
    known: bool = True
    """Is it a decoder of the kind whose activations the formulas count tensor by tensor?"""

    @property
    def q_width(self) -> int:
        """Q: numbers of a token's queries."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """K: numbers of a token's keys (and of its values)."""
        return self.kv_heads * self.head_dim

    @property
    def head_size(self) -> int:
        """Numbers of the head's weight, V x H."""
        return self.vocabulary * self.hidden


def read_network(path: str, dtype: str, place: str, lora: str | None = None) -> Network:
    """The sizes of the model in a folder.

    Args:
        path: the model's folder.
        dtype: number format in which it will be loaded.
        place: of the path in the config, for the message.
        lora: the config's `model.lora` as JSON; None: no adapters.

    Raises:
        ConfigError: there is no config.json, or transformers cannot build a causal language model
            from it.
    """
    file = Path(path).resolve() / "config.json"
    if not file.is_file():
        raise ConfigError(
            f"{place}: {path} has no config.json, from which the sizes would be read.\n"
            "  do: name the folder of a whole model (of an adapter: its base model's)"
        )
    try:
        return _built(file.parent, file.stat().st_mtime_ns, dtype, lora)
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(
            f"{place}: transformers builds no causal language model from {path}/config.json.\n"
            f"  found: {error}"
        ) from error


@functools.lru_cache(maxsize=32)  # a plan looks at many changes of one config
def _built(folder: Path, changed: int, dtype: str, lora: str | None) -> Network:
    """The sizes of the model in a folder whose config.json was last changed at `changed`."""
    from transformers import AutoConfig, AutoModelForCausalLM

    about = AutoConfig.from_pretrained(folder)
    with torch.device("meta"):
        model: Any = AutoModelForCausalLM.from_config(about, dtype=getattr(torch, dtype))
    head = model.get_output_embeddings().weight
    settings = Lora(**json.loads(lora)) if lora is not None else None
    if settings is not None:
        model = _adapt(model, settings)
    return _measure(model, about.get_text_config(), head, folder.name, settings)


def _adapt(model: Any, lora: Lora) -> Any:
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=lora.r, target_modules=lora.target_modules, task_type="CAUSAL_LM")
    try:
        with torch.device("meta"):
            return get_peft_model(model, settings)
    except ValueError as error:
        raise ConfigError(f"model.lora: peft refuses it: {error}") from error


def _measure(model: Any, about: Any, head: Any, name: str, lora: Lora | None) -> Network:
    weights = list(model.parameters())  # tied ones once
    names = [place for place, _ in model.named_modules()]
    last = {place.rpartition(".")[2] for place in names}
    adapted = {place.split(".")[-2] for place in names if place.endswith(".lora_A")}
    experts = getattr(about, "num_experts_per_tok", None)
    inner = getattr(about, "intermediate_size", None) or 4 * about.hidden_size
    if experts:
        inner = experts * (getattr(about, "moe_intermediate_size", None) or inner)
    heads = about.num_attention_heads
    return Network(
        name=name,
        weights=sum(w.numel() * w.element_size() for w in weights),
        trained=sum(w.numel() * w.element_size() for w in weights if w.requires_grad),
        width=head.element_size(),
        hidden=about.hidden_size,
        layers=about.num_hidden_layers,
        heads=heads,
        kv_heads=getattr(about, "num_key_value_heads", None) or heads,
        head_dim=getattr(about, "head_dim", None) or about.hidden_size // heads,
        intermediate=inner,
        vocabulary=head.shape[0],
        qk_norm="q_norm" in last,
        rank=lora.r if lora is not None else 0,
        adapted=frozenset(adapted),
        head_trained=head.requires_grad,
        tied=head is model.get_input_embeddings().weight,
        known=last.issuperset(ROLES) and not experts and not adapted - set(ROLES),
    )
