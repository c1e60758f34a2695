"""`evaluate_model`: from a model and a config to an `Evaluation`."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, set_seed
from transformers import PreTrainedTokenizerBase as Tokenizer

from rlkd import folder as folders
from rlkd.config import ConfigError, RunConfig
from rlkd.config.schema import FileSource
from rlkd.data import Row, check_columns, load_rows, load_splits, prepare
from rlkd.door import build_rewards, check_at_door, check_prompts
from rlkd.evaluation import embedding, measures
from rlkd.evaluation.answers import Answers, answer_greedily, sample_answers
from rlkd.evaluation.result import Evaluation
from rlkd.evaluation.scoring import as_completions, randomness_kept, score
from rlkd.evaluation.settings import Settings, settings_of
from rlkd.evaluation.votes import Voter, check_voter, labels, voter_of
from rlkd.quiet import quieten
from rlkd.refs import resolve
from rlkd.rewarding import ledger, rowcheck
from rlkd.rewarding.setup import close, guard


def evaluate_model(
    model: str | Path | PreTrainedModel,
    config: RunConfig,
    *,
    tokenizer: Tokenizer | None = None,
    samples: int | None = None,
    temperature: float | None = None,
    top_p: float | None = None,
    top_k: int | None = None,
    seed: int | None = None,
    ks: Sequence[int] | None = None,
    embedder: str | embedding.Embedder = embedding.DEFAULT,
    answers: str | Voter | None = None,
    against_training: bool = True,
) -> Evaluation:
    """Answer the held-out rows of a config and judge the answers by its rewards.

    Args:
        model: a folder (also of adapters), or a loaded model, which is left in its mode and where
            it is.
        config: says the rows (`data.eval`), the rewards, the chat template's arguments, the length
            limit and the answers per pass (`eval`).
        tokenizer: that of a loaded model.
        samples: sampled answers to each row; None: one greedy answer.
        temperature, top_p, top_k, seed: of sampling; None: the config's, as in training.
        ks: for which k pass@k and maj@k are given; None: the powers of two up to `samples`.
        embedder: for the Vendi score, as `module:name` or a function (`rlkd.evaluation.embedding`).
        answers: which answers are the same (`rlkd.evaluation.votes`), as `module:name` or a
            function; None: what the first reward carries. Where there is none, maj@k is left out,
            and a note says so.
        against_training: load the training rows too, and refuse held-out prompts that are among
            them (unless `data.allow_overlap`).

    Raises:
        ConfigError: something that the person wrote is wrong; no row can be graded.
    """
    quieten()
    settings = settings_of(config, samples, temperature, top_p, top_k, seed, ks)
    embed = resolve(embedder, place="embedder", want_callable=True) if isinstance(
        embedder, str
    ) else embedder  # fmt: skip
    check_at_door(config, 1, output=False)
    functions = build_rewards(config)
    first = config.rewards[0].label
    voter, place = _voter(answers, functions[first], first)
    rows = _rows(config, against_training)
    check_columns(functions, rows[0])
    check_prompts(config, rows)
    if voter is not None:
        check_voter(voter, rows[0], place)
    rowcheck.report(rowcheck.bad_rows(config, functions, {"eval": rows}))
    if isinstance(model, str | Path):
        network, tokenizer = _load(Path(model), config)
    elif tokenizer is None:
        raise ConfigError("evaluation: a loaded model needs its tokenizer (tokenizer=...)")
    else:
        network = model
    started = time.time()
    guarded = guard(config, functions)
    try:
        with randomness_kept():
            set_seed(settings.seed)  # for rewards that draw in this process
            written, scored = answer_and_score(network, tokenizer, rows, guarded, config, settings)
        faults = ledger.metrics(ledger.take_all(guarded), "reward")
    finally:
        close(guarded)
    notes = [] if voter is not None or settings.greedy else [_no_voter(first)]
    found, kept = _measure(
        rows, written, scored, first, settings, tokenizer, voter, place, embed, notes
    )
    tokens = sum(len(ids) for ids in written.ids)
    about = {
        **folders.software(),
        "model": str(model) if isinstance(model, str | Path) else network.config._name_or_path,
        "run": config.run.name,
        "data": config.data.eval.model_dump(mode="json") if config.data.eval else None,
        "reward": first,
        "embedder": _name(embedder),
        "answers": _name(answers) if answers is not None else place if voter else None,
        "tokens": tokens,
        "seconds": round(time.time() - started, 2),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    return Evaluation(found, kept, settings, about, {k: v for k, v in faults.items() if v}, notes)


def answer_and_score(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    rewards: Mapping[str, Callable[..., Any]],
    config: RunConfig,
    settings: Settings,
) -> tuple[Answers, list[dict[str, float | None]]]:
    """`settings.answers` answers to each row, side by side, and what the rewards say of each."""
    limit, size = settings.max_completion_length, settings.batch_size
    template = config.model.chat_template_kwargs
    if settings.samples is None:
        written = answer_greedily(model, tokenizer, rows, limit, size, template)
    else:
        written = sample_answers(
            model, tokenizer, rows, settings.samples, limit, size, settings.seed,
            settings.temperature, settings.top_p, settings.top_k, template,
        )  # fmt: skip
    repeated = [row for row in rows for _ in range(settings.answers)]
    return written, score(written, tokenizer, repeated, rewards)


def _measure(
    rows: list[Row],
    written: Answers,
    scored: list[dict[str, float | None]],
    first: str,
    settings: Settings,
    tokenizer: Any,
    voter: Voter | None,
    place: str,
    embed: embedding.Embedder,
    notes: list[str],
) -> tuple[dict[str, measures.Measure], list[dict[str, Any]]]:
    """The measures, and the numbers of each row; what a reader must know is added to the notes."""
    n = settings.answers
    digests = [_digest(row["prompt"]) for row in rows]
    number = {digest: i for i, digest in enumerate(dict.fromkeys(digests))}
    names = [key for key in scored[0] if key.startswith("reward/")]
    values = {name: _column(scored, name).view(-1, n) for name in ("length", "truncated", *names)}
    mark_NG = values[f"reward/{first}"]
    graded = measures.Graded(
        (mark_NG >= 1.0).double().masked_fill(mark_NG.isnan(), math.nan),
        values["length"],
        values["truncated"],
        torch.tensor([number[digest] for digest in digests]),
    )
    if not graded.counts_NG.any():
        raise ConfigError(
            f"evaluation: reward {first!r} could grade none of the {mark_NG.numel()} answers.\n"
            "  why: there is nothing to measure\n"
            "  do: look at the gold answers (rlkd audit) and at the warnings above"
        )
    found = measures.correctness(graded, settings.ks) | measures.lengths(graded)
    found |= measures.rewards(
        {name.removeprefix("reward/"): values[name] for name in names}, graded.prompt_N
    )
    majority: list[float | None] = [None] * len(rows)
    if n > 1:
        texts = tokenizer.batch_decode(written.ids, skip_special_tokens=True)
        text_NG = [texts[i : i + n] for i in range(0, len(texts), n)]
        if voter is not None:
            more, majority = _votes(rows, text_NG, graded, settings, voter, place, first, notes)
            found |= more
        body = [
            ids if cut else ids[:-1]
            for ids, cut in zip(written.ids, written.truncated, strict=True)
        ]
        token_NG = [body[i : i + n] for i in range(0, len(body), n)]
        found |= measures.diversity(graded, text_NG, token_NG, len(tokenizer), embed)
    kept = [
        {"prompt": digest, "counted": counted, "correct": correct, "tokens": tokens, "majority": m}
        for digest, counted, correct, tokens, m in zip(
            digests,
            graded.counts_NG.sum(-1).tolist(),
            graded.right_NG.nansum(-1).long().tolist(),
            graded.tokens_NG.sum(-1).long().tolist(),
            majority,
            strict=True,
        )
    ]
    return found, kept


def _votes(
    rows: list[Row],
    text_NG: list[list[str]],
    graded: measures.Graded,
    settings: Settings,
    voter: Voter,
    place: str,
    first: str,
    notes: list[str],
) -> tuple[dict[str, measures.Measure], list[float | None]]:
    said = []
    for row, text_G in zip(rows, text_NG, strict=True):
        label_G = labels(voter, row, as_completions(row, text_G), place)
        if label_G is None:
            notes.append(_no_voter(first))
            return {}, [None] * len(rows)
        said.append(label_G)
    found, majority, odd = measures.votes(graded, said, settings.ks)
    if odd:
        notes.append(
            f"in {odd} rows reward {first!r} marks answers differently that {place} calls the same"
            " (or marks a missing answer as correct); there the vote's correctness is the mean over"
            " those who gave the answer"
        )
    return found, majority


def _voter(
    answers: str | Voter | None, reward: Callable[..., Any], label: str
) -> tuple[Voter | None, str]:
    """The function that labels answers, and what messages call it."""
    if isinstance(answers, str):
        return resolve(answers, place="answers", want_callable=True), f"answers {answers}"
    if answers is not None:
        return answers, "answers"
    return voter_of(reward), f"reward {label!r}'s `answers`"


def _no_voter(label: str) -> str:
    return (
        f"no maj@k: reward {label!r} does not say which answers are the same; name a function"
        " that does (--answers module:name), or give the reward an attribute `answers`"
    )


def _rows(config: RunConfig, against_training: bool) -> list[Row]:
    if config.data.eval is None:
        raise ConfigError("data.eval: there are no held-out rows (null); set data.eval to evaluate")
    if against_training:
        return load_splits(config.data)[1] or []
    rows = prepare(load_rows(config.data.eval, "eval"), config.data, "eval")
    if not rows:
        origin = config.data.eval
        raise ConfigError(
            f"data.eval: {origin.path if isinstance(origin, FileSource) else origin.use} is empty"
        )
    return rows


def _load(folder: Path, config: RunConfig) -> tuple[Any, Any]:
    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=config.model.dtype)
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    return network, AutoTokenizer.from_pretrained(folder)


def _column(scored: list[dict[str, float | None]], name: str) -> torch.Tensor:
    return torch.tensor(
        [math.nan if (value := row[name]) is None else value for row in scored],
        dtype=torch.float64,
    )


def _digest(prompt: Any) -> str:
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _name(given: Any) -> str:
    return given if isinstance(given, str) else getattr(given, "__qualname__", repr(given))
