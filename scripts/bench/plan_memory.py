"""rlkd plan's estimates against what training steps really hold, on a CPU.

    .venv/bin/python scripts/bench/plan_memory.py

For each case a random model of that shape is trained for two steps by rlkd's own Trainer, with
answers of the full length. Bytes that live in tensors are counted at every operation (a dispatch
mode: deterministic; what a kernel allocates within itself is not seen), the peak of each phase
separately; the phases of the last step are compared. A second process, without counting, gives the
growth of its resident memory above the imports, which also holds what the allocator does not give
back and libraries that load late.

2026-11-25 (whole vocabulary: 2026-11-26), torch 2.13 and TRL 1.16 on two shared cores of an AMD
EPYC, one thread, before the head read the answers' places alone (speed.answers_only_head); MiB:

    estimate / measured    generate       score    backward      update   peak
    whole vocabulary       249/250     280/285     839/840     319/319   1.00
    SmolLM2 shape         2081/2085   2179/2178   3279/3253   2890/2890   1.01
    SmolLM2 shape, LoRA     609/613     759/759   1452/1417     588/588   1.03
    long answers            245/246     273/281     835/823     315/315   1.01
    long, checkpointing     245/246     273/281     684/659               1.04
    long, LoRA              157/158     185/193     674/660     147/147   1.02
    long, bfloat16          168/169     202/210     588/585               1.00
    long, beta              217/218   1074/1083   2377/2328               1.02
    tiny; evaluate 25/27      15/15       19/19       99/98       22/22   1.00

Without a teacher "score" is what the reference (beta is 0.04 in GRPO) and the student's own
scoring need; "SmolLM2 shape" holds a reference's weights. Not measured: a GPU (TRL's Triton head,
its attention kernels, the caching allocator), several processes.
"""

import argparse
import dataclasses
import gc
import json
import os
import subprocess
import sys
import tempfile
import weakref
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "disabled"
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from rlkd import config as configs
from rlkd.planning.plan import plan

TINY = {"vocab": 4000, "hidden": 128, "layers": 2, "heads": 4, "kv": 2, "inner": 320}
SMALL = {"vocab": 8000, "hidden": 384, "layers": 6, "heads": 6, "kv": 2, "inner": 1024}
SMOLLM2 = {"vocab": 49152, "hidden": 576, "layers": 30, "heads": 9, "kv": 3, "inner": 1536}
TEACHER = {"vocab": 8000, "hidden": 512, "layers": 6, "heads": 8, "kv": 8, "inner": 1408}

PROMPT = 32


@dataclasses.dataclass(frozen=True)
class Case:
    student: dict[str, int]
    teacher: dict[str, int] | None
    completion: int
    overrides: tuple[str, ...] = ()
    prompts: int = 2
    group: int = 4
    micro: int = 4
    evaluated: int = 0


CASES = {
    "tiny": Case(TINY, TINY, 48, evaluated=64),
    "long answers": Case(SMALL, TEACHER, 224),
    "long, checkpointing": Case(SMALL, TEACHER, 224, ("--trl.gradient_checkpointing=true",)),
    "long, LoRA": Case(SMALL, TEACHER, 224, ("--model.lora={r: 16, alpha: 32}",)),
    "long, bfloat16": Case(SMALL, TEACHER, 224, ("--model.dtype=bfloat16",)),
    "long, beta": Case(SMALL, None, 224, ("--algorithm.beta=0.1",), group=8, micro=16),
    "whole vocabulary": Case(
        SMALL, TEACHER, 224, ("--algorithm.use=rlkd.algorithms.opd_loss:OPDLoss",)
    ),
    "SmolLM2 shape": Case(SMOLLM2, None, 32, group=4, micro=4),
    "SmolLM2 shape, LoRA": Case(SMOLLM2, None, 64, ("--model.lora={r: 16, alpha: 32}",)),
    "many rows": Case(SMALL, TEACHER, 64, prompts=8, micro=16, evaluated=96),
}


class LiveBytes(TorchDispatchMode):
    """Bytes of the storages that live, and the most so far."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.most = 0
        self._known: dict[int, weakref.ref] = {}

    def note(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        place = storage._cdata
        if place in self._known:
            return
        size = storage.nbytes()

        def gone(_: Any) -> None:
            del self._known[place]
            self.now -= size

        self._known[place] = weakref.ref(storage, gone)
        self.now += size
        self.most = max(self.most, self.now)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self.note, result)
        return result


def make_model(folder: Path, sizes: dict[str, int], seed: int) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<eos>", *(f"w{i}" for i in range(sizes["vocab"] - 2))]
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=sizes["vocab"], hidden_size=sizes["hidden"], intermediate_size=sizes["inner"],
        num_hidden_layers=sizes["layers"], num_attention_heads=sizes["heads"],
        num_key_value_heads=sizes["kv"], max_position_embeddings=2048, eos_token_id=1,
        pad_token_id=0, bos_token_id=None, tie_word_embeddings=True,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    ).save_pretrained(folder)


def config_of(case: Case, folder: Path) -> configs.RunConfig:
    rows = [
        # Of different lengths: padded, as prompts are.
        {"prompt": " ".join(f"w{(7 * i + j) % 97}" for j in range(PROMPT - i % 3))}
        for i in range(200)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    data: dict[str, Any] = {"train": {"path": str(folder / "rows.jsonl")}}
    if case.evaluated:
        data |= {"eval": data["train"] | {"size": case.evaluated}, "allow_overlap": True}
    name = "rlad:RLAD" if case.teacher else "grpo:GRPO"
    tree = {
        "model": {"path": str(folder / "student")},
        "algorithm": {"use": f"rlkd.algorithms.{name}"},
        "data": data,
        "rewards": [{"use": "rewards.repetition:ngrams", "in_process": True}],
        "batch": {
            "prompts_per_step": case.prompts, "group_size": case.group,
            "micro_batch_size": case.micro,
        },
        "sampling": {"max_completion_length": case.completion},
        "optim": {"steps": 2, "learning_rate": 1e-6},
        "eval": {"batch_size": case.evaluated or 1},
        "run": {"name": "plan", "dir": str(folder)},
        # Random models would end their answers anywhere.
        "trl": {"generation_kwargs": {"min_new_tokens": case.completion}},
    }  # fmt: skip
    if case.teacher:
        tree["teacher"] = {"path": str(folder / "teacher"), "check": "off"}
    return configs.overlay(tree, list(case.overrides), "plan_memory")


class Phases:
    """The most that lived in each phase."""

    def __init__(self, live: LiveBytes | None) -> None:
        self.live = live
        self.peaks: dict[str, int] = {}

    def ends(self, name: str) -> None:
        """What lived since the last phase ended belongs to this one."""
        if self.live is not None:
            self.peaks[name] = max(self.live.most, self.peaks.get(name, 0))
            self.live.most = self.live.now

    def measured(self, name: str, inner: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.ends("between")
            try:
                return inner(*args, **kwargs)
            finally:
                self.ends(name)

        return call


def train(case: Case, folder: Path, live: LiveBytes | None) -> dict[str, int]:
    """Two steps; the peak of each phase of the last one."""
    from rlkd import run
    from rlkd.data import load_splits
    from rlkd.door import build_rewards
    from rlkd.geometry import geometry
    from rlkd.tracking.store import RolloutStore

    config = config_of(case, folder)
    rows, heldout = load_splits(config.data)
    store = RolloutStore(folder / "rollouts", 0)
    trainer: Any = run._build_trainer(
        config, geometry(config.batch, 1), [store.write], build_rewards(config), rows, None
    )
    phases = Phases(live)
    networks = (trainer.model, trainer.ref_model, getattr(trainer.teacher, "model", None))
    if live is not None:
        for network in filter(None, networks):
            for tensor in network.parameters():
                live.note(tensor)
    watch(trainer, case, phases)
    trainer.add_callback(steps(trainer, case, phases, heldout))
    trainer.train()
    return phases.peaks


def watch(trainer: Any, case: Case, phases: Phases) -> None:
    """Tell where each phase ends."""
    sample = phases.measured("generate", trainer._generate_single_turn)

    def answers(prompt_ids: list, *args: Any, **kwargs: Any) -> Any:
        if trainer.state.global_step:
            return sample(prompt_ids, *args, **kwargs)
        # The first step only makes the optimiser's states: it need not sample.
        return [[5 + i % 50] * case.completion for i in range(len(prompt_ids))], None

    own = trainer._get_per_token_logps_and_entropies

    def logps(*args: Any, **kwargs: Any) -> Any:
        return (own if torch.is_grad_enabled() else phases.measured("score", own))(*args, **kwargs)

    # Below the first layer's norm only the embedding's gradient is left to arrive.
    model = trainer.model
    base = model.get_base_model() if hasattr(model, "peft_config") else model
    norm = base.model.layers[0].input_layernorm.weight
    if norm.requires_grad:
        norm.register_hook(lambda _: phases.ends("backward"))
    differentiate = trainer.accelerator.backward

    def backward(*args: Any, **kwargs: Any) -> None:
        differentiate(*args, **kwargs)
        phases.ends("update" if norm.requires_grad else "backward")

    trainer._generate_single_turn = answers
    trainer._get_per_token_logps_and_entropies = logps
    trainer._ask_teacher = phases.measured("score", trainer._ask_teacher)
    trainer._compute_loss = phases.measured("backward", trainer._compute_loss)
    trainer.accelerator.backward = backward


def steps(trainer: Any, case: Case, phases: Phases, heldout: Any) -> Any:
    """The callback that forgets the first step, evaluates after the second, and sees the update."""
    from transformers import TrainerCallback

    from rlkd.evaluation.answers import answer_greedily

    class Steps(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 1:
                phases.peaks.clear()

        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            phases.ends("between")

        def on_optimizer_step(self, args, state, control, **kwargs):
            phases.ends("update")

        def on_step_end(self, args, state, control, **kwargs):
            if case.evaluated and state.global_step == 2:
                answer = phases.measured("evaluate", answer_greedily)
                tokenizer, rows = trainer.processing_class, case.evaluated
                answer(trainer.model, tokenizer, heldout, case.completion, rows)

    return Steps()


def resident() -> int:
    """The most resident bytes so far. (ru_maxrss would be the parent's where that had more.)"""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def child(name: str, folder: Path, counting: bool) -> None:
    """In a fresh process: print what was measured, as JSON."""
    import datasets  # noqa: F401
    import trl.trainer.grpo_trainer  # noqa: F401

    import rlkd.run  # noqa: F401

    before = resident()
    if counting:
        live = LiveBytes()
        with live:
            peaks = train(CASES[name], folder, live)
    else:
        train(CASES[name], folder, None)
        peaks = {"resident": resident() - before}
    gc.collect()
    print("measured=" + json.dumps(peaks))


def ask_child(name: str, folder: Path, mode: str) -> dict[str, int]:
    done = subprocess.run(
        [sys.executable, __file__, "--child", name, str(folder), mode],
        capture_output=True, text=True,
    )  # fmt: skip
    if done.returncode:
        sys.exit(done.stderr)
    return json.loads(done.stdout.rpartition("measured=")[2])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--cases", nargs="*", choices=list(CASES), default=list(CASES))
    parser.add_argument("--no-resident", action="store_true", help="leave out the second process")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.child:
        name, folder, mode = options.child
        child(name, Path(folder), mode == "count")
        return
    print("estimate / measured, MiB                generate  evaluate     score  backward    update"
          "      peak  resident")  # fmt: skip
    ratios = []
    for name in options.cases:
        case = CASES[name]
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            make_model(folder / "student", case.student, 0)
            if case.teacher:
                make_model(folder / "teacher", case.teacher, 1)
            found = ask_child(name, folder, "count")
            if not options.no_resident:
                found |= ask_child(name, folder, "resident")
            ratios.append(report(name, case, folder, found))
    print(f"estimate_over_measured_peak={min(ratios):.2f}..{max(ratios):.2f}")


def report(name: str, case: Case, folder: Path, found: dict[str, int]) -> float:
    """Print a line; returns the estimated over the measured peak."""
    estimate = plan(config_of(case, folder), 1, PROMPT, cuda=False).estimate
    guesses = {phase.name: phase.total for phase in estimate.phases}
    cells = []
    for phase in ("generate", "evaluate", "score", "backward", "update"):
        there = phase in guesses and phase in found
        cell = f"{guesses[phase] / 2**20:.0f}/{found[phase] / 2**20:.0f}" if there else ""
        cells.append(cell)
    peak = max(found[key] for key in guesses)
    ratio = estimate.peak.total / peak
    resident = found.get("resident", 0) / 2**20
    cells += [f"{ratio:.2f}", f"{resident:.0f}" if resident else ""]
    print(f"{name:22s}" + "".join(f"{cell:>12s}" for cell in cells), flush=True)
    return ratio


if __name__ == "__main__":
    main()
