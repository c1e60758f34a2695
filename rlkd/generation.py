"""The `generation:` block at the door: is what shall write the answers here, and does it fit?"""

import time
from importlib.util import find_spec
from typing import Any

import httpx

from rlkd.config import RunConfig
from rlkd.config.schema import Generation
from rlkd.errors import ConfigError

_PAUSE_S = 1.0
_WANTED = "processed_logprobs"


def check_generation(config: RunConfig, world_size: int) -> None:
    """What can be known of the sampler before weights are loaded; a server is asked whether it is
    there.

    Args:
        config: the run.
        world_size: its number of processes.

    Raises:
        ConfigError: vLLM is not installed; no GPU for a colocated one, or processes that do not
            divide; a server that does not answer, lacks what TRL needs of it, or reads too few
            tokens; sampling settings that the correction cannot allow for.
    """
    block = config.generation
    if not block.by_vllm:
        return
    problems = [*_uncorrectable(config), *_missing(block, world_size)]
    if not problems and block.backend == "vllm_server":
        problems = _server(config)
    if problems:
        raise ConfigError("\n\n".join(problems))


def warnings_of(config: RunConfig) -> list[str]:
    """What works, and should be known."""
    block, found = config.generation, []
    if block.by_vllm and block.correction == "none":
        found.append(
            "generation.correction is none: vLLM samples with other kernels than the trainer's, so"
            " that its answers are slightly off-policy, and nothing allows for it;"
            " train/sampling/kl and the alarm sampler_mismatch say by how much"
        )
    return found


def _uncorrectable(config: RunConfig) -> list[str]:
    """A truncated sampler gives log-probs of what was left, renormalised; the trainer's are of all.
    Their ratio is the kept mass at each token, below 1 throughout, and shrinks with the length."""
    if not config.generation.corrects:
        return []
    sampling, trl = config.sampling, config.trl
    changed = {
        "sampling.top_p": (sampling.top_p, 1.0),
        "sampling.top_k": (sampling.top_k, 0),
        "trl.min_p": (trl.get("min_p") or 0.0, 0.0),
        "trl.repetition_penalty": (trl.get("repetition_penalty", 1.0), 1.0),
    }
    return [
        f"{name} is {value} and generation.correction is {config.generation.correction}.\n"
        "  why: vLLM then gives log-probabilities of the changed distribution and the trainer of"
        " the whole one; the correction would take the difference for the sampler's error, and"
        " weigh down long answers most\n"
        f"  do: set {name} to {plain:g}, or generation.correction to none"
        for name, (value, plain) in changed.items()
        if value != plain
    ]


def _missing(block: Generation, world_size: int) -> list[str]:
    if find_spec("vllm") is None:
        return [
            f"generation.backend is {block.backend} and vllm is not installed here.\n"
            "  why: TRL imports it also where it only talks to a server (it sends the weights)\n"
            "  do: pip install 'trl[vllm]' (it chooses its own torch: best in a new environment),"
            " or set generation.backend to continuous_batching"
        ]
    if not _has_gpu():
        what = (
            "the engine shares the GPU that trains"
            if block.backend == "vllm_colocate"
            else "TRL sends the student's weights to the server from GPU to GPU (NCCL)"
        )
        return [
            f"generation.backend is {block.backend} and this machine has no GPU.\n"
            f"  why: {what}\n"
            "  do: set generation.backend to continuous_batching or transformers; both also run on"
            " a CPU"
        ]
    if block.backend == "vllm_colocate" and world_size % block.tensor_parallel:
        return [
            f"generation.tensor_parallel is {block.tensor_parallel} and the run has {world_size}"
            f" process{'es' * (world_size != 1)}.\n"
            "  why: each engine is shared by that many processes, and all must have one\n"
            "  do: choose a divisor of the number of processes"
        ]
    return []


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


# -- a server ----------------------------------------------------------------------------------

_COMMAND = (
    'VLLM_SERVER_DEV_MODE=1 vllm serve MODEL --weight-transfer-config \'{"backend": "nccl"}\''
    f" --logprobs-mode {_WANTED}"
)


def _server(config: RunConfig) -> list[str]:
    block = config.generation
    url = str(block.server_url).rstrip("/")
    unreachable = _wait_for(url, block.server_wait_s)
    if unreachable is not None:
        waited = f" for {block.server_wait_s:g} seconds" if block.server_wait_s else ""
        return [
            f"generation.server_url: {url} did not answer{waited}.\n"
            f"  found: {unreachable}\n"
            f"  do: start it ({_COMMAND}), mend the address, or raise generation.server_wait_s"
        ]
    info = _get(url, "/server_info?config_format=json")
    if info is None:
        return [
            f"generation.server_url: {url} answers, but not what TRL asks a sampler.\n"
            "  found: no /server_info; it runs without vLLM's development endpoints, over which the"
            " weights are sent\n"
            f"  do: start it like this: {_COMMAND}"
        ]
    problems = []
    model = info.get("vllm_config", {}).get("model_config", {})
    mode = model.get("logprobs_mode")
    if block.corrects and mode != _WANTED:
        problems.append(
            f"generation.server_url: {url} gives log-probabilities of another distribution than it"
            f" samples from.\n  found: --logprobs-mode {mode}\n"
            "  why: the correction compares them with the trainer's, which are at the sampling"
            " temperature\n"
            f"  do: start it with --logprobs-mode {_WANTED}, or set generation.correction to none"
        )
    longest, answer = model.get("max_model_len"), config.sampling.max_completion_length
    if isinstance(longest, int) and longest <= answer:
        problems.append(
            f"sampling.max_completion_length is {answer}, and the server at {url} reads {longest}"
            " tokens of prompt and answer together.\n"
            "  do: start it with a larger --max-model-len, or shorten the answers"
        )
    return problems


def _wait_for(url: str, seconds: float) -> str | None:
    """What went wrong last; None: it is up."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            reply = httpx.get(f"{url}/health", timeout=10.0)
            if reply.status_code == 200:
                return None
            found = f"HTTP {reply.status_code}"
        except httpx.HTTPError as error:
            found = f"{type(error).__name__} {error}".strip()
        if time.monotonic() >= deadline:
            return found
        time.sleep(min(_PAUSE_S, max(0.0, deadline - time.monotonic())))


def _get(url: str, path: str) -> dict[str, Any] | None:
    try:
        reply = httpx.get(url + path, timeout=30.0)
        found = reply.json() if reply.status_code == 200 else None
    except (httpx.HTTPError, ValueError):
        return None
    return found if isinstance(found, dict) else None
