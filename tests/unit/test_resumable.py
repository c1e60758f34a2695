"""The trainer's own half of resuming, from Python: what is logged in threes, what is refused."""

import os
import signal

import pytest
import torch
from datasets import Dataset
from torch.nn.modules.module import _IncompatibleKeys
from transformers import TrainerCallback

from rlkd import GRPO, Trainer
from rlkd import config as configs
from rlkd.checkpoints.manifest import CheckpointError
from rlkd.rewarding.setup import FaultStop
from rlkd.training.stopped import BY_HAND, REQUEUE, Stopped
from rlkd.training.stopping import StopSignals
from tests.parity.test_trl import arguments, reward

SETTINGS = {
    "max_steps": 7, "save_strategy": "steps", "save_steps": 1, "logging_steps": 3,
    "steps_per_generation": 4, "num_iterations": 2, "lr_scheduler_type": "cosine",
}  # fmt: skip


def make(student, folder, **more):
    rows = Dataset.from_list([{"prompt": f"{i}+{i}="} for i in range(9)])
    args = arguments(folder, **(SETTINGS | more))
    return Trainer(student, reward, args, rows, algorithm=GRPO(beta=0.0))


@pytest.fixture(scope="module")
def whole(student, tmp_path_factory):
    trainer = make(student, tmp_path_factory.mktemp("whole"))
    trainer.train()
    return trainer


def logged(trainer):
    """The log without times, and without the closing summary, which a rest of a run lacks."""
    return [
        {k: v for k, v in line.items() if "time" not in k and "memory" not in k}
        for line in trainer.state.log_history
        if "loss" in line
    ]


@pytest.mark.parametrize("step", [2, 3, 4, 5])
def test_resumed_from_any_step_it_is_the_same_training(step, whole, student, tmp_path):
    trainer = make(student, tmp_path)
    trainer.train(f"{whole.args.output_dir}/checkpoint-{step}")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(trainer.model.state_dict()[name], value), name
    assert logged(trainer) == logged(whole)
    assert len(logged(whole)) == 2


def test_true_takes_the_newest_whole_one_and_a_damaged_one_is_refused(
    whole, student, tmp_path, caplog
):
    with pytest.raises(CheckpointError, match="holds no whole checkpoint"):
        make(student, tmp_path).train(True)
    trainer = make(student, tmp_path, max_steps=2)
    trainer.train()
    damaged = tmp_path / "checkpoint-2"
    (damaged / "optimizer.pt").unlink()
    with pytest.raises(CheckpointError, match=r"lacks optimizer\.pt"):
        make(student, tmp_path).train(str(damaged))
    steps = []

    class Count(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            steps.append(state.global_step)

    trainer = make(student, tmp_path, max_steps=3)
    trainer.add_callback(Count())
    trainer.train(resume_from_checkpoint=True)
    assert steps == [2, 3]
    assert "checkpoint-2 lacks optimizer.pt" in caplog.text


def test_another_number_of_rows_is_refused(whole, student, tmp_path):
    trainer = make(student, tmp_path)
    trainer.train_dataset = trainer.train_dataset.select(range(8))
    with pytest.raises(CheckpointError, match="8 training rows and had 9"):
        trainer.train(f"{whole.args.output_dir}/checkpoint-3")


def test_a_model_without_the_optimiser_is_no_checkpoint_to_resume_from(student, tmp_path):
    trainer = make(student, tmp_path, save_only_model=True, max_steps=1)
    trainer.train()
    with pytest.raises(CheckpointError, match="it holds a model only"):
        make(student, tmp_path).train(True)


def test_weights_of_another_model_are_refused_and_tied_ones_are_not_missing(whole):
    whole._issue_warnings_after_load(_IncompatibleKeys(["lm_head.weight"], []))
    name = "model.norm.weight"
    with pytest.raises(CheckpointError, match=name):
        whole._issue_warnings_after_load(_IncompatibleKeys([name], []))
    with pytest.raises(CheckpointError, match=r"of another model: \['extra'\]"):
        whole._issue_warnings_after_load(_IncompatibleKeys([], ["extra"]))


def test_faults_are_counted_on_and_begin_anew_where_they_stopped_the_run(tmp_path):
    words = [f"--run.dir={tmp_path}", "--rewards.0.max_fault_share=0.5"]
    config = configs.load("configs/quickstart_grpo.yaml", words)
    failing = {"accuracy": {"rows": 10, "crashed": 10}}
    first = FaultStop(config)
    for _ in range(2):
        first.add(failing)
        assert first.complaint is None
    second = FaultStop(config)
    assert "20 rows of the run so far" in second.restore(first.state())
    second.add(failing)
    assert "30 of the last 30 rows" in (second.complaint or "")
    third = FaultStop(config)
    assert "counted anew: accuracy" in third.restore(second.state())
    third.add(failing)
    assert third.complaint is None


# -- signals --------------------------------------------------------------------------------------


class Control:
    should_save = should_training_stop = False


class State:
    global_step = 4


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGTERM, REQUEUE), (signal.SIGUSR1, REQUEUE), (signal.SIGINT, BY_HAND)],
)
def test_a_signal_saves_and_stops_after_the_step(number, code, tmp_path):
    before = signal.getsignal(number)
    control = Control()
    with StopSignals(lambda own: own) as signals:
        signals.on_step_end(None, State(), control)
        assert not control.should_training_stop
        os.kill(os.getpid(), number)
        signals.on_step_end(None, State(), control)
        assert control.should_training_stop
        assert control.should_save
    assert signal.getsignal(number) is before
    with pytest.raises(Stopped, match=r"after step 4 .*\n.*checkpoint-4\n.*--resume") as stopped:
        signals.raise_if_stopped(tmp_path)
    assert stopped.value.exit_code == code


def test_another_ranks_signal_counts_and_a_finished_run_is_not_stopped(tmp_path):
    signals = StopSignals(lambda own: max(own, REQUEUE))
    ending = Control()
    ending.should_training_stop = True
    signals.on_step_end(None, State(), ending)
    signals.raise_if_stopped(tmp_path)  # the run had all its steps
    control = Control()
    signals.on_step_end(None, State(), control)
    assert signals.exit_code == REQUEUE
    assert control.should_save


def test_a_second_ctrl_c_interrupts_at_once():
    with StopSignals(lambda own: own):
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
