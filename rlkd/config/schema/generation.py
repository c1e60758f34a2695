"""The block of what writes the answers in training."""

from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from rlkd.config.schema.base import Block

Correction = Literal[
    "sequence_mask", "sequence_truncate", "token_mask", "token_truncate", "none"
]  # fmt: skip
_ALL_VLLM = ("vllm_colocate", "vllm_server")
_OF = {
    "server_url": ("vllm_server",),
    "server_wait_s": ("vllm_server",),
    "group_port": ("vllm_server",),
    "memory_share": ("continuous_batching", "vllm_colocate"),
    "tensor_parallel": ("vllm_colocate",),
    "max_model_length": ("vllm_colocate",),
    "sleep": ("vllm_colocate",),
    "correction": _ALL_VLLM,
    "correction_max": _ALL_VLLM,
    "correction_min": _ALL_VLLM,
}
"""Field -> the back ends that read it."""


class Generation(Block):
    """What writes the student's answers in training. Evaluation always uses transformers."""

    backend: Literal["transformers", "continuous_batching", "vllm_colocate", "vllm_server"] = (
        "transformers"
    )
    """`transformers`: its generate, all rows at once; `continuous_batching`: its engine with a
    paged cache, where a row that ends makes room; `vllm_colocate`: vLLM on the GPUs that train;
    `vllm_server`: a vLLM server on others (README shows its command)."""
    server_url: str | None = None
    """vllm_server: where it is, like `http://localhost:8000`."""
    server_wait_s: float = Field(default=0.0, ge=0)
    """vllm_server: seconds to wait at the start for a server that does not answer yet; 0: asked
    once."""
    group_port: int = Field(default=51216, gt=0, lt=65536)
    """vllm_server: port over which it is sent the weights."""
    memory_share: float | None = Field(default=None, gt=0, lt=1)
    """continuous_batching, vllm_colocate: share of the device's memory for the engine, its copy of
    the weights (vLLM) and its cache; null: 0.5 and 0.3, TRL's."""
    tensor_parallel: int = Field(default=1, gt=0)
    """vllm_colocate: processes that share one engine; must divide their number."""
    max_model_length: int | None = Field(default=None, gt=0)
    """vllm_colocate: most tokens of prompt and answer together; null: the model's own limit."""
    sleep: bool = False
    """vllm_colocate: the engine frees its memory while the student learns; waking up takes time."""
    correction: Correction = "sequence_mask"
    """vLLM: how the update allows for a sampler that is not quite the trainer's model, by the ratio
    of trainer to sampler, of each token or of the whole answer. `…_truncate` weighs by the ratio
    cut at the limits, `…_mask` gives 0 beyond them; `none`: as if they were the same."""
    correction_max: float | None = Field(default=3.0, gt=0)
    """vLLM: upper limit of the ratio; null: none."""
    correction_min: float | None = Field(default=None, gt=0)
    """vLLM: lower limit of the ratio; null: none."""

    @property
    def by_vllm(self) -> bool:
        return self.backend in _ALL_VLLM

    @property
    def corrects(self) -> bool:
        """Is the update corrected for the sampler?"""
        return self.by_vllm and self.correction != "none"

    @model_validator(mode="after")
    def _of_this_backend(self) -> "Generation":
        for name, backends in _OF.items():
            value = getattr(self, name)
            if self.backend not in backends and value != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is {value!r} and backend is {self.backend}, which does not read it; it"
                    f" is for {' and '.join(backends)}: leave {name} out, or set backend"
                )
        if self.backend == "vllm_server" and self.server_url is None:
            raise ValueError(
                "backend is vllm_server but server_url is null: no server is named; set it, like"
                " http://localhost:8000"
            )
        if self.server_url is not None:
            _check_url(self.server_url)
        if not self.corrects:
            return self
        low, high = self.correction_min, self.correction_max
        if low is None and high is None and self.correction.endswith("_truncate"):
            raise ValueError(
                f"correction is {self.correction} and neither correction_max nor correction_min is"
                " set: there is nothing to cut at; set one"
            )
        if low is not None and high is not None and low >= high:
            raise ValueError(
                f"correction_min is {low:g} and correction_max {high:g}: no ratio lies between"
            )
        return self

    def for_trl(self) -> dict[str, Any]:
        """The fields of TRL's GRPOConfig that say the same."""
        if self.backend == "transformers":
            return {}
        if self.backend == "continuous_batching":
            share = {} if self.memory_share is None else {"max_memory_percent": self.memory_share}
            return {
                "use_transformers_continuous_batching": True,
                "transformers_continuous_batching_config": share or None,
            }
        said: dict[str, Any] = {
            "use_vllm": True,
            "vllm_mode": self.backend.removeprefix("vllm_"),
            "vllm_importance_sampling_correction": self.corrects,
        }
        if self.corrects:
            said["vllm_importance_sampling_mode"] = self.correction
            said["vllm_importance_sampling_clip_max"] = self.correction_max
            said["vllm_importance_sampling_clip_min"] = self.correction_min
        if self.backend == "vllm_server":
            said["vllm_server_base_url"] = self.server_url
            # The door has waited for it; this is a second look.
            said["vllm_server_timeout"] = max(self.server_wait_s, 30.0)
            said["vllm_group_port"] = self.group_port
            return said
        said["vllm_tensor_parallel_size"] = self.tensor_parallel
        said["vllm_max_model_length"] = self.max_model_length
        said["vllm_enable_sleep_mode"] = self.sleep
        if self.memory_share is not None:
            said["vllm_gpu_memory_utilization"] = self.memory_share
        return said


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ValueError(
            "server_url holds a user name or a password, which would end up in config.yaml and in"
            " logs; TRL's client has no other way to send one: leave it out, and let only the"
            " trainer's machines reach the server"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"server_url is {url!r}; it must be like http://localhost:8000")
    if parts.path.rstrip("/").endswith(("/v1", "/completions", "/models", "/generate")):
        raise ValueError(
            f"server_url is {url!r}, which is one of the server's endpoints; they are put behind"
            f" it: give the address alone, {parts.scheme}://{parts.netloc}"
        )
