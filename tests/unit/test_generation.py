"""Who writes the answers in training: what a config may say of it, and what the door refuses."""

import dataclasses
from typing import get_args

import pytest

from rlkd import generation
from rlkd.config import ConfigError, RunConfig, dump, load
from rlkd.config.schema import Generation
from rlkd.config.schema.generation import _OF
from rlkd.config.trl_keys import OWNED
from rlkd.generation import check_generation, warnings_of
from tests.unit.test_config import minimal, refusal
from tests.vllm_sampler_double import SamplerDouble

pytestmark = pytest.mark.usefixtures("project")

BACKENDS = get_args(Generation.model_fields["backend"].annotation)
URL = "--generation.server_url=http://localhost:8000"


@pytest.fixture
def vllm(monkeypatch):
    """A machine with vLLM and a GPU, as far as the door looks."""
    monkeypatch.setattr(generation, "find_spec", lambda name: name)
    monkeypatch.setattr(generation, "_has_gpu", lambda: True)


def with_backend(backend: str, *more: str) -> RunConfig:
    url = (URL,) if backend == "vllm_server" and not any("server_url" in m for m in more) else ()
    return minimal("--generation.backend", backend, *url, *more)


# what a config says


def test_without_the_block_trl_is_told_nothing():
    config = minimal()
    assert config.generation.backend == "transformers"
    assert config.generation.for_trl() == {}
    assert not config.generation.corrects
    check_generation(config, 1)
    assert warnings_of(config) == []


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_trl_is_told_are_its_own_fields_and_a_config_may_not_set_them_twice(backend):
    import trl

    known = {field.name for field in dataclasses.fields(trl.GRPOConfig)}
    said = with_backend(backend).generation.for_trl()
    assert set(said) <= known
    assert set(said) <= OWNED.keys()
    for name in said:
        text = refusal(minimal, f"--trl.{name}", "1")
        assert f"trl.{name}: this is set at generation." in text


def test_every_field_reaches_trl():
    server = with_backend(
        "vllm_server", "--generation.server_wait_s", "90", "--generation.group_port", "4000",
        "--generation.correction", "token_truncate", "--generation.correction_max", "2.0",
        "--generation.correction_min", "0.5",
    ).generation.for_trl()  # fmt: skip
    assert server == {
        "use_vllm": True, "vllm_mode": "server", "vllm_importance_sampling_correction": True,
        "vllm_importance_sampling_mode": "token_truncate",
        "vllm_importance_sampling_clip_max": 2.0, "vllm_importance_sampling_clip_min": 0.5,
        "vllm_server_base_url": "http://localhost:8000", "vllm_server_timeout": 90.0,
        "vllm_group_port": 4000,
    }  # fmt: skip
    colocated = with_backend(
        "vllm_colocate", "--generation.memory_share", "0.4", "--generation.tensor_parallel", "2",
        "--generation.max_model_length", "300", "--generation.sleep", "true",
        "--generation.correction", "none",
    ).generation.for_trl()  # fmt: skip
    assert colocated == {
        "use_vllm": True, "vllm_mode": "colocate", "vllm_importance_sampling_correction": False,
        "vllm_gpu_memory_utilization": 0.4, "vllm_tensor_parallel_size": 2,
        "vllm_max_model_length": 300, "vllm_enable_sleep_mode": True,
    }  # fmt: skip
    batching = with_backend("continuous_batching", "--generation.memory_share", "0.2").generation
    assert batching.for_trl() == {
        "use_transformers_continuous_batching": True,
        "transformers_continuous_batching_config": {"max_memory_percent": 0.2},
    }


def test_trls_defaults_are_what_the_texts_say():
    import trl

    fields = {field.name: field.default for field in dataclasses.fields(trl.GRPOConfig)}
    assert fields["vllm_gpu_memory_utilization"] == 0.3
    for backend in ("vllm_colocate", "vllm_server"):
        for name, value in with_backend(backend).generation.for_trl().items():
            if name not in ("use_vllm", "vllm_mode", "vllm_server_base_url", "vllm_server_timeout"):
                assert value == fields[name], name


def test_a_config_with_the_block_survives_being_written_down(project):
    config = with_backend("vllm_colocate", "--generation.tensor_parallel", "2")
    (project / "again.yaml").write_text(dump(config))
    assert load("again.yaml") == config


@pytest.mark.parametrize("name", _OF)
def test_a_setting_of_another_backend_is_refused(name):
    assert set(_OF[name]) <= set(BACKENDS)
    info = Generation.model_fields[name]
    value = {
        "server_url": "http://a:1", "sleep": "true", "correction": "none", "memory_share": "0.2",
        "correction_min": "0.5",
    }.get(name, "7")  # fmt: skip
    assert value != str(info.default)
    for backend in BACKENDS:
        if backend in _OF[name]:
            with_backend(backend, f"--generation.{name}={value}")
            continue
        text = refusal(minimal, "--generation.backend", backend, f"--generation.{name}={value}")
        assert f"and backend is {backend}, which does not read it" in text


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--generation.correction_max", "null", "--generation.correction", "token_truncate"],
         "there is nothing to cut at"),
        (["--generation.correction_min", "3.0"], "no ratio lies between"),
        (["--generation.server_url", "null"], "no server is named"),
        (["--generation.server_url", "http://me:secret@host"],
         "holds a user name or a password"),
        (["--generation.server_url", "localhost:8000"],
         "must be like http://localhost:8000"),
        (["--generation.server_url", "http://host:8000/v1/"],
         "give the address alone, http://host:8000"),
    ],
)  # fmt: skip
def test_what_cannot_be_meant(words, message):
    text = refusal(minimal, "--generation.backend", "vllm_server", URL, *words)
    assert message in text
    assert "secret" not in text


# what the door refuses


@pytest.mark.parametrize("backend", ["vllm_colocate", "vllm_server"])
def test_vllm_that_is_not_installed(backend, monkeypatch):
    monkeypatch.setattr(generation, "find_spec", lambda name: None)
    text = refusal(check_generation, with_backend(backend), 1)
    assert f"generation.backend is {backend} and vllm is not installed here" in text
    assert "pip install 'trl[vllm]'" in text


@pytest.mark.parametrize(
    ("backend", "why"), [("vllm_colocate", "shares the GPU"), ("vllm_server", "from GPU to GPU")]
)
def test_a_machine_without_a_gpu(backend, why, vllm, monkeypatch):
    monkeypatch.setattr(generation, "_has_gpu", lambda: False)
    text = refusal(check_generation, with_backend(backend), 1)
    assert "this machine has no GPU" in text
    assert why in text


def test_engines_must_divide_the_processes(vllm):
    config = with_backend("vllm_colocate", "--generation.tensor_parallel", "2")
    check_generation(config, 4)
    text = refusal(check_generation, config, 3)
    assert "generation.tensor_parallel is 2 and the run has 3 processes" in text


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--sampling.top_p", "0.9"], "sampling.top_p is 0.9"),
        (["--sampling.top_k", "20"], "sampling.top_k is 20"),
        (["--trl.min_p", "0.1"], "trl.min_p is 0.1"),
        (["--trl.repetition_penalty", "1.2"], "trl.repetition_penalty is 1.2"),
    ],
)
def test_a_truncated_sampler_cannot_be_corrected_for(words, name, vllm):
    text = refusal(check_generation, with_backend("vllm_colocate", *words), 1)
    assert f"{name} and generation.correction is sequence_mask" in text
    check_generation(with_backend("vllm_colocate", *words, "--generation.correction", "none"), 1)
    check_generation(with_backend("continuous_batching", *words), 1)


def test_no_correction_is_possible_and_told():
    (text,) = warnings_of(with_backend("vllm_server", "--generation.correction", "none"))
    assert "generation.correction is none" in text
    assert "train/sampling/kl" in text
    assert warnings_of(with_backend("vllm_server")) == []


def test_a_server_that_is_not_there(vllm):
    config = with_backend("vllm_server", "--generation.server_url", "http://127.0.0.1:9")
    text = refusal(check_generation, config, 1)
    assert (
        "generation.server_url: http://127.0.0.1:9 did not answer.\n  found: ConnectError" in text
    )
    assert "--weight-transfer-config" in text


def test_a_server_that_is_still_starting(vllm, monkeypatch):
    monkeypatch.setattr(generation, "_PAUSE_S", 0.01)
    with SamplerDouble(busy=3) as server:
        url = f"--generation.server_url={server.url}"
        text = refusal(check_generation, with_backend("vllm_server", url), 1)
        assert "did not answer.\n  found: HTTP 503" in text
        check_generation(with_backend("vllm_server", url, "--generation.server_wait_s", "20"), 1)


@pytest.mark.parametrize(
    ("server", "message"),
    [
        ({"developing": False}, "no /server_info"),
        ({"logprobs_mode": "raw_logprobs"}, "found: --logprobs-mode raw_logprobs"),
        ({"max_model_len": 8}, "reads 8 tokens of prompt and answer together"),
    ],
)
def test_a_server_that_does_not_fit(server, message, vllm):
    with SamplerDouble(**server) as double:
        config = with_backend("vllm_server", f"--generation.server_url={double.url}")
        assert message in refusal(check_generation, config, 1)


def test_raw_logprobs_matter_only_to_the_correction(vllm):
    with SamplerDouble(logprobs_mode="raw_logprobs") as double:
        url = f"--generation.server_url={double.url}"
        check_generation(with_backend("vllm_server", url, "--generation.correction", "none"), 1)


def test_the_door_of_a_run_looks_at_the_sampler(project):
    from rlkd.door import check_at_door

    with pytest.raises(ConfigError, match="vllm is not installed here"):
        check_at_door(with_backend("vllm_colocate"), 1)
