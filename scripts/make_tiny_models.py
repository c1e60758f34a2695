"""Train the tiny models of the quickstart and of the evidence, or measure the shipped ones.

    scripts/make_tiny_models --out configs/models --seed 2   trains all, writes their README.md
    scripts/make_tiny_models --models tiny_reasoner          trains one, leaves README.md alone
    scripts/make_tiny_models --check                         measures configs/models, trains nothing

All are Llama-shaped, read characters (one token each) and learn from written solutions of training
problems only (envs/arithmetic.py, envs/liars.py). The teacher has seen chains of partial results
without a mistake. The student has seen several ways: most often the direct answer, else a chain,
seldom a verbose chain; and its chains hold slips (a partial result replaced by a random digit,
from which the chain goes on). So it knows how to work the problem out but prefers not to, and
when sampled it slips often, though its most likely chain is right. The reasoner (for
scripts/evidence) is a student of another kind: it writes at length where it need not, answers short
problems at once now and then, and has learnt some operations wrong. Student and teacher of
knights and liars (for rlkd compare) differ as the first two do, but that student is the teacher
after some bad lessons: direct answers, slips, and most times "either … or" where it says "or".
"""

import argparse
import datetime
import platform
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tiny_tasks import TASKS, Recipe

SPECIAL = ("<pad>", "<eos>", "<unk>")
PAD, EOS = 0, 1  # their places in SPECIAL, which comes first in the vocabulary
IGNORED = -100  # the label that transformers' loss skips
MAX_COMPLETION = 24  # tokens; the longest solution (verbose, five terms, with its end) has 20


RECIPES = {
    "tiny_student": Recipe(
        64, 3, 192, 2500, 96, 3e-3, direct=0.58, habit=0.07, verbose=0.1, slip=0.48
    ),
    "tiny_teacher": Recipe(96, 4, 288, steps=1000, batch=96, learning_rate=3e-3),
    "tiny_reasoner": Recipe(
        64,
        2,
        192,
        1600,
        96,
        4e-3,
        direct=0.28,
        habit=0.02,
        longing=0.08,
        verbose=0.7,
        slip=0.08,
        stuck=0.95,
    ),
    "liars_teacher": Recipe(96, 4, 288, 2500, 64, 4e-3, task="liars", people=(1, 3, 6)),
    "liars_student": Recipe(
        96,
        4,
        288,
        400,
        64,
        1e-3,
        direct=0.5,
        longing=0.05,
        slip=0.12,
        stuck=0.9,
        examples=30_000,
        task="liars",
        start="liars_teacher",
    ),
}


def make_tokenizer(characters: str) -> PreTrainedTokenizerFast:
    """One token per character; pads on the left, as generation needs it."""
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *characters))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        model_input_names=["input_ids", "attention_mask"],
    )


def make_model(recipe: Recipe, tokenizer: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    """A fresh model of the recipe's size, initialised from torch's current seed."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        intermediate_size=recipe.intermediate,
        max_position_embeddings=128,
        tie_word_embeddings=True,
        # Texts are shorter than 40 tokens; the usual base of 10,000 leaves most frequencies unused.
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
        pad_token_id=PAD,
        eos_token_id=EOS,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config)


def make_examples(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, draw: random.Random
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and labels, (examples, longest), right-padded; only solutions have labels."""
    pairs = [TASKS[recipe.task].solution(recipe, draw) for _ in range(recipe.examples)]
    longest = max(len(prompt) + len(text) + 1 for prompt, text in pairs)
    number = tokenizer.get_vocab()
    ids = torch.full((len(pairs), longest), PAD)
    labels = torch.full((len(pairs), longest), IGNORED)
    for i, (prompt, text) in enumerate(pairs):
        tokens = torch.tensor([number[c] for c in prompt + text] + [EOS])
        ids[i, : len(tokens)] = tokens
        labels[i, len(prompt) : len(tokens)] = tokens[len(prompt) :]
    return ids, labels


def train(
    recipe: Recipe, tokenizer: PreTrainedTokenizerFast, seed: int, folder: Path
) -> LlamaForCausalLM:
    """Plain supervised next-token training on written solutions; `folder` has the models made
    before."""
    torch.manual_seed(seed)
    if recipe.start is None:
        model = make_model(recipe, tokenizer)
    else:
        model = LlamaForCausalLM.from_pretrained(folder / recipe.start).train()
    ids, labels = make_examples(recipe, tokenizer, random.Random(seed))
    optimizer = torch.optim.AdamW(model.parameters(), recipe.learning_rate, betas=(0.9, 0.98))
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.learning_rate, total_steps=recipe.steps, pct_start=0.1
    )
    started = time.perf_counter()
    for step in range(1, recipe.steps + 1):
        picked = torch.randint(len(ids), (recipe.batch,))
        longest = int((labels[picked] != IGNORED).nonzero()[:, 1].max()) + 1
        # Padding is on the right and attention looks left: no mask is needed.
        loss = model(
            input_ids=ids[picked, :longest], labels=labels[picked, :longest], use_cache=False
        ).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0:
            seconds = time.perf_counter() - started
            print(f"  step {step} loss {loss.item():.3f} {seconds:.0f} s", flush=True)
    return model.eval()


@torch.no_grad()
def measure(
    task: str, model: Any, tokenizer: PreTrainedTokenizerFast, sampled: bool, n: int = 2000
) -> dict[str, float]:
    """Shares of ``n`` held-out answers that are right, well formed and ended, and of each way."""
    problems, judges = TASKS[task].rows("heldout", n, seed=0), TASKS[task].rewards
    inputs = tokenizer([row["prompt"] for row in problems], return_tensors="pt", padding=True)
    torch.manual_seed(0)
    how = {"do_sample": True, "temperature": 1.0, "top_k": 0} if sampled else {"do_sample": False}
    output = model.generate(**inputs, max_new_tokens=MAX_COMPLETION, **how)
    tokens = output[:, inputs["input_ids"].shape[1] :]
    ended = (tokens == EOS).any(1).tolist()
    texts = tokenizer.batch_decode(tokens, skip_special_tokens=True)
    scores = judges.accuracy(texts, [row["answer"] for row in problems])
    right = [score == 1.0 for score in scores]
    formed = [score == 1.0 for score in judges.well_formed(texts)]
    direct = [text.startswith("#") for text in texts]
    chains = [score for score, is_direct in zip(right, direct, strict=True) if not is_direct]
    return {
        "accuracy": sum(right) / n,
        "well formed and ended": sum(f and e for f, e in zip(formed, ended, strict=True)) / n,
        "tokens": (tokens != PAD).sum().item() / n,
        "share of direct answers": sum(direct) / n,
        "accuracy of the other answers": sum(chains) / max(1, len(chains)),
    }


def report(folder: Path) -> list[str]:
    """Rows of a Markdown table: one per model and way of decoding; printed as they come."""
    table = []
    for name, recipe in RECIPES.items():
        model = LlamaForCausalLM.from_pretrained(folder / name).eval()
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / name)
        for sampled in (False, True):
            figures = measure(recipe.task, model, tokenizer, sampled)
            if not table:
                heads = ["model", "parameters", "decoding", *figures]
                table += ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
            cells = [name, f"{model.num_parameters():,}", "temperature 1" if sampled else "greedy"]
            cells += [f"{value:.3f}" for value in figures.values()]
            table.append("| " + " | ".join(cells) + " |")
    print("\n".join(table))
    return table


def write_readme(folder: Path, seed: int, table: list[str], minutes: float) -> None:
    """Say beside the models how they were made and what they can do."""
    recipes = "\n".join(f"- `{name}`: `{recipe}`" for name, recipe in RECIPES.items())
    text = f"""# The tiny models

Made by `scripts/make_tiny_models --seed {seed}` on {datetime.date.today().isoformat()} in
{minutes:.0f} minutes (torch {torch.__version__}, {platform.machine()}); `scripts/make_tiny_models
--check` measures them again. float32 safetensors, a character tokenizer per task, random
initialisation: no pretrained weights, no data but the training problems of `envs/arithmetic.py` and
`envs/liars.py`.

2,000 held-out problems, at most {MAX_COMPLETION} tokens an answer:

{chr(10).join(table)}

The student was taught mostly direct answers, some chains with slips in them, and a few verbose
chains; the teacher only chains, without slips. The reasoner (for `configs/evidence`) was taught
mostly verbose chains, direct answers mainly to short problems, and one operation in ten wrong. The
liars' teacher (for `rlkd compare`) was taught only chains, without slips; their student is that
teacher after lessons of direct answers and of chains with slips and with most an "or" taken for
"either … or". The recipes:

{recipes}
"""
    (folder / "README.md").write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--out", type=Path, default=ROOT / "configs" / "models", help="folder of all"
    )
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument(
        "--threads", type=int, default=1, help="of torch; another number, other rounding"
    )
    parser.add_argument(
        "--models", nargs="+", choices=list(RECIPES), default=list(RECIPES), help="which to train"
    )
    parser.add_argument("--check", action="store_true", help="measure what is there, train nothing")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.check:
        report(arguments.out)
        return
    started = time.perf_counter()
    for name in arguments.models:
        recipe = RECIPES[name]
        tokenizer = make_tokenizer(TASKS[recipe.task].characters)
        print(f"{name}: {recipe}", flush=True)
        model = train(recipe, tokenizer, arguments.seed, arguments.out)
        model.save_pretrained(arguments.out / name)
        tokenizer.save_pretrained(arguments.out / name)
    minutes = (time.perf_counter() - started) / 60
    table = report(arguments.out)
    if set(arguments.models) == set(RECIPES):
        write_readme(arguments.out, arguments.seed, table, minutes)


if __name__ == "__main__":
    main()
