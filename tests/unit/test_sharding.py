"""The files of configs/accelerate, what accelerate makes of them, and what rlkd refuses there."""

import json
from types import SimpleNamespace
from typing import ClassVar

import pytest
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import launch_command_parser
from accelerate.utils import DeepSpeedPlugin, DistributedType, FullyShardedDataParallelPlugin
from transformers import AutoModelForCausalLM
from transformers.integrations import deepspeed

from rlkd import GRPO, RLAD, Trainer, cli
from rlkd.config import load
from rlkd.door import check_at_door
from rlkd.errors import ConfigError
from rlkd.sharding import Sharding, read_sharding
from rlkd.teacher.base import TeacherError
from rlkd.teacher.inner import SelfTeacher
from rlkd.teacher.local import LocalTeacher
from rlkd.training.finite import FiniteUpdates
from rlkd.training.sharded import fill
from rlkd.training.stopped import Broken
from tests.accelerate_launch import FOLDER, environment, read
from tests.parity.test_trl import arguments, reward

TYPES = {
    "single": DistributedType.NO,
    "ddp": DistributedType.MULTI_GPU,
    "fsdp2": DistributedType.FSDP,
    "deepspeed_zero2": DistributedType.DEEPSPEED,
    "deepspeed_zero3": DistributedType.DEEPSPEED,
}


@pytest.fixture
def launched(monkeypatch):
    """Puts this process where `accelerate launch` with a file would have put it."""

    def enter(name: str, **changes: str) -> None:
        for variable, value in (environment(name) | changes).items():
            monkeypatch.setenv(variable, value)
        # accelerate.utils.FullyShardedDataParallelPlugin writes it, and monkeypatch takes it back
        monkeypatch.setenv("FSDP_CPU_RAM_EFFICIENT_LOADING", "false")

    return enter


def door(*words: str) -> str:
    """What the door of the quickstart says with these overrides; nothing: it lets it pass."""
    try:
        check_at_door(load("configs/quickstart.yaml", ["--batch.micro_batch_size=64", *words]), 2)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True)
def _somewhere(monkeypatch, tmp_path):
    monkeypatch.chdir(FOLDER.parents[1])
    for name in ("ACCELERATE_MIXED_PRECISION", "ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        monkeypatch.delenv(name, raising=False)


# -- the files ----------------------------------------------------------------------------------


def test_every_file_is_known_here():
    assert {path.stem for path in FOLDER.glob("*.yaml")} == TYPES.keys()


@pytest.mark.parametrize("name", TYPES)
def test_accelerate_takes_the_file(name):
    said = load_config_from_file(str(FOLDER / f"{name}.yaml"))
    assert isinstance(said, ClusterConfig)
    assert said.distributed_type == TYPES[name]
    assert said.mixed_precision == "no"
    # It takes whatever stands in the inner blocks; that a key means something is known here only.
    options = vars(launch_command_parser().parse_args(["x.py"]))
    assert (said.fsdp_config | said.deepspeed_config).keys() <= options.keys()


@pytest.mark.parametrize("name", TYPES)
def test_its_first_comment_is_the_command(name):
    first, second, *rest = (FOLDER / f"{name}.yaml").read_text().splitlines()
    assert first.startswith(
        f"# .venv/bin/accelerate launch --config_file configs/accelerate/{name}.yaml "
    )
    assert second == "#"
    comment = "".join(rest[: [line.startswith("#") for line in rest].index(False)])
    assert "Tested" in comment
    assert "ever" in comment  # what was not


@pytest.mark.parametrize("name", TYPES)
def test_its_command_passes_the_door(name, launched, monkeypatch, capsys):
    monkeypatch.setattr("rlkd.sharding.find_spec", lambda name: name)  # as if deepspeed were there
    command = (FOLDER / f"{name}.yaml").read_text().splitlines()[0].split("scripts/train.py ")[1]
    launched(name)
    assert cli.main(["train", *command.split(), "--dry-run"]) == 0, capsys.readouterr().err


def test_what_the_launch_says_is_read():
    assert read_sharding(environment("single")) is None
    assert read_sharding(environment("ddp")) is None
    assert read_sharding(environment("fsdp2")) == Sharding("FSDP2")
    assert read_sharding({}) is None


@pytest.mark.parametrize(("name", "stage"), [("deepspeed_zero2", 2), ("deepspeed_zero3", 3)])
def test_accelerate_makes_that_deepspeed_of_the_file(name, stage, launched):
    launched(name)
    made = DeepSpeedPlugin()
    assert made.zero_stage == made.deepspeed_config["zero_optimization"]["stage"] == stage
    assert read_sharding() == Sharding(f"ZeRO-{stage}")  # type: ignore[arg-type]


def test_accelerate_makes_fsdp2_of_the_file(launched):
    launched("fsdp2")
    made = FullyShardedDataParallelPlugin()
    assert made.fsdp_version == 2
    assert made.reshard_after_forward is True
    assert "FULL" in str(made.state_dict_type)


def test_a_deepspeed_configuration_of_ones_own(tmp_path):
    file = tmp_path / "ds.json"
    env = environment("deepspeed_zero2") | {"ACCELERATE_DEEPSPEED_CONFIG_FILE": str(file)}
    gathering = "stage3_gather_16bit_weights_on_model_save"
    for said, want in (
        ({"stage": 0}, None),
        ({"stage": 1}, Sharding("ZeRO-1")),
        ({"stage": 3}, Sharding("ZeRO-3", writes_model=False)),
        ({"stage": 3, gathering: True}, Sharding("ZeRO-3")),
    ):
        file.write_text(json.dumps({"zero_optimization": said}))
        assert read_sharding(env) == want
    file.write_text("{}")
    with pytest.raises(ConfigError, match="does not say its ZeRO stage"):
        read_sharding(env)


# -- the door -----------------------------------------------------------------------------------

GKD = "--algorithm={use: 'rlkd.algorithms.gkd:GKD'}"
INNER = "rlkd.teacher.inner"
SELF = f"--teacher={{use: '{INNER}:SelfTeacher', decay: 0.9}}"
SHOWN = (
    "--teacher={use: 'rlkd.teacher.privileged:Privileged', template: '{prompt}{answer}=',"
    f" inner: {{use: '{INNER}:AdapterOff'}}}}"
)
SERVER = "--teacher={use: 'rlkd.teacher.server:ServerTeacher', url: 'http://127.0.0.1:1'}"
BATCHING = "--generation.backend=continuous_batching"
TOOLS = [
    "--environment={use: 'envs.calculator:Calculator'}", "--data.eval=null", "--eval.every=0",
    "--data.train={use: 'envs.calculator:rows', size: 40}",
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "words", "said"),
    [
        ("fsdp2", [GKD], "GKD under FSDP2: this cannot work"),
        ("fsdp2", [SELF], "teacher SelfTeacher under FSDP2: this cannot work"),
        ("fsdp2", [SHOWN], "teacher AdapterOff under FSDP2: this cannot work"),
        ("fsdp2", TOOLS, "environment under FSDP2: this cannot work"),
        ("fsdp2", [BATCHING], "generation.backend: continuous_batching under FSDP2"),
        ("deepspeed_zero2", [GKD], "GKD under ZeRO-2: this cannot work"),
        ("deepspeed_zero2", ["--run.on_nan=warn"], "run.on_nan: warn under ZeRO-2"),
        ("deepspeed_zero3", [SELF], "teacher SelfTeacher under ZeRO-3: this cannot work"),
        ("deepspeed_zero3", TOOLS, "environment under ZeRO-3: this cannot work"),
        ("deepspeed_zero2", [], "the package deepspeed is missing"),
    ],
)
def test_what_cannot_work_is_refused(name, words, said, launched, monkeypatch):
    launched(name)
    assert said in door(*words)
    for variable in ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"):
        monkeypatch.delenv(variable, raising=False)
    assert "under" not in door(*words)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fsdp2", []),
        ("fsdp2", [SERVER]),
        ("fsdp2", ["--run.on_nan=warn"]),
        ("fsdp2", ["--components=[{use: 'rlkd.algorithms.ceeh:CEEH'}]"]),
        ("deepspeed_zero2", []),
        ("deepspeed_zero2", [SELF]),
        ("deepspeed_zero3", []),
        ("deepspeed_zero3", [SERVER]),
        ("ddp", [GKD]),
        ("ddp", [SELF]),
    ],
)
def test_what_can_work_passes(name, words, launched, monkeypatch):
    monkeypatch.setattr("rlkd.sharding.find_spec", lambda name: name)  # as if it were installed
    launched(name)
    assert door(*words) == ""


def test_a_later_phase_counts_too(launched):
    launched("fsdp2")
    said = door("--algorithm.until=0.5", "--then=[{use: 'rlkd.algorithms.gkd:GKD'}]")
    assert "GKD under FSDP2" in said


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("fsdp2", {"FSDP_VERSION": "1"}, "only FSDP2 was tried"),
        ("fsdp2", {"FSDP_STATE_DICT_TYPE": "SHARDED_STATE_DICT"}, "no model/ would be written"),
        ("deepspeed_zero3", {"ACCELERATE_DEEPSPEED_ZERO3_SAVE_16BIT_MODEL": "false"},
         "zero3_save_16bit_model: true"),
        ("ddp", {"ACCELERATE_MIXED_PRECISION": "bf16"},
         "accelerate was told mixed precision bf16, and model.dtype is float32"),
    ],
)  # fmt: skip
def test_a_launch_that_no_run_can_have(name, changes, said, launched):
    launched(name, **changes)
    assert said in door(SERVER)


def test_mixed_precision_that_the_run_has_too(launched):
    launched("ddp", ACCELERATE_MIXED_PRECISION="bf16")
    assert door("--model.dtype=bfloat16") == ""


def test_the_command_says_it(launched, capsys):
    launched("fsdp2")
    assert cli.main(["train", "configs/quickstart.yaml", SELF, "--dry-run"]) == 2
    assert "launch: 1 problem\n\nteacher SelfTeacher under FSDP2" in capsys.readouterr().err


def test_keys_of_the_launch_are_not_the_runs():
    for key in ("fsdp", "deepspeed"):
        assert "the launch decides it" in door(f"--trl={{{key}: true}}")


# -- from Python --------------------------------------------------------------------------------


def test_a_trainer_refuses_it_before_it_loads_the_student(launched, prompts, tmp_path):
    args = arguments(tmp_path)
    launched("deepspeed_zero3")
    with pytest.raises(ConfigError, match="teacher SelfTeacher under ZeRO-3"):
        Trainer("never loaded", reward, args, prompts, algorithm=RLAD(), teacher=SelfTeacher())


def test_a_launch_that_accelerate_takes_no_notice_of(launched, student, prompts, tmp_path):
    args = arguments(tmp_path)
    launched("fsdp2")
    with pytest.raises(ConfigError, match=r"FSDP2 was asked for, and accelerate made NO of 1"):
        Trainer(student, reward, args, prompts, algorithm=GRPO(beta=0.0))


# -- parts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "ranks"), [(33, 4), (32, 4), (31, 2), (3, 4)])
def test_all_ranks_answer_as_many_rows(rows, ranks):
    every = list(range(rows))
    filled = [[*share, *fill(share, every, ranks)] for share in (every[r::ranks] for r in range(4))]
    assert len({len(share) for share in filled[:ranks]}) == 1


class Zero3:
    """What transformers asks before it loads a model."""

    config: ClassVar[dict] = {}

    def is_zero3(self) -> bool:
        return True


def test_a_local_teacher_is_loaded_whole_under_zero_3(teacher, monkeypatch):
    asked, seen = Zero3(), []
    real = AutoModelForCausalLM.from_pretrained

    def from_pretrained(*args, **kwargs):
        seen.append(deepspeed.is_deepspeed_zero3_enabled())
        return real(*args, **kwargs)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", from_pretrained)
    deepspeed.set_hf_deepspeed_config(asked)
    try:
        LocalTeacher.from_pretrained(teacher)
        assert seen == [False]
        assert deepspeed.is_deepspeed_zero3_enabled()
    finally:
        deepspeed.unset_hf_deepspeed_config()


def test_a_teacher_in_parts_is_refused(teacher):
    model = AutoModelForCausalLM.from_pretrained(teacher)
    next(model.parameters()).ds_tensor = None
    with pytest.raises(TeacherError, match="split among the processes"):
        LocalTeacher(model)


class Base:
    accelerator = SimpleNamespace(
        distributed_type=DistributedType.DEEPSPEED, device="cpu", reduce=lambda x, reduction: x
    )
    state = SimpleNamespace(global_step=6)

    def __init__(self):
        self._metrics = {"train": {"updates/left_out": []}}

    def _get_grad_norm(self, model, grad_norm=None):
        return grad_norm


class Updates(FiniteUpdates, Base):
    pass


def test_an_update_that_deepspeed_has_made_ends_the_training():
    told, trainer = [], Updates()
    trainer.on_not_finite = told.append
    model = SimpleNamespace()  # DeepSpeed's engine has another zero_grad
    assert trainer._get_grad_norm(model, 1.0) == 1.0
    with pytest.raises(
        Broken, match=r"in step 7: its gradient is NaN.*DeepSpeed has made"
    ) as error:
        trainer._get_grad_norm(model, float("nan"))
    assert "the weights are spoilt" in str(error.value)
    assert told == [["gradient"]]


def test_the_launch_of_two_processes_is_the_files():
    assert read("ddp").num_processes == 2
    assert read("ddp").multi_gpu is True
