"""`evaluate_model`: from a model and a config to an `Evaluation`."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, set_seed
from transformers import PreTrainedTokenizerBase as Tokenizer

from rlkd import folder as folders
from rlkd.config import ConfigError, RunConfig
from rlkd.data import Row, check_columns, load_rows, load_splits, prepare
from rlkd.door import build_rewards, check_at_door, check_prompts
from rlkd.evaluation import embedding
from rlkd.evaluation.answers import Answers, answer_greedily, sample_answers
from rlkd.evaluation.measuring import measure
from rlkd.evaluation.result import Evaluation
from rlkd.evaluation.scoring import randomness_kept, score
from rlkd.evaluation.settings import Settings, settings_of
from rlkd.evaluation.votes import Labeller, Voter
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
    answers: str | Labeller | None = None,
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
    embed: Any = embedder
    if isinstance(embedder, str):
        embed = resolve(embedder, place="embedder", want_callable=True)
    check_at_door(config, 1, output=False, teacher=False)
    functions = build_rewards(config)
    first = config.rewards[0].label
    voter = _voter(answers, functions[first], first)
    rows = _rows(config, against_training)
    check_columns(functions, rows[0])
    check_prompts(config, rows)
    if voter is not None:
        voter.check(rows[0])
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
    measured = measure(rows, written, scored, first, settings, tokenizer, voter, embed)
    about = {
        "model": str(model) if isinstance(model, str | Path) else network.config._name_or_path,
        "run": config.run.name,
        "data": config.data.eval.model_dump(mode="json") if config.data.eval else None,
        "reward": first,
        "answers": voter.name if voter else None,
        "embedder": embedder if isinstance(embedder, str) else getattr(embedder, "__name__", "?"),
        "tokens": sum(len(ids) for ids in written.ids),
        "seconds": round(time.time() - started, 2),
        "date": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    known = {name: value for name, value in faults.items() if value}
    return Evaluation(
        measured.measures,
        measured.rows,
        settings,
        folders.software() | about,
        known,
        measured.notes,
    )


def answer_and_score(
    model: Any,
    tokenizer: Any,
    rows: Sequence[Row],
    rewards: Mapping[str, Callable[..., Any]],
    config: RunConfig,
    settings: Settings,
    besides: Sequence[Row] = (),
) -> tuple[Answers, list[dict[str, float | None]]]:
    """`settings.answers` answers to each row, side by side, and what the rewards say of each.

    Rows in `besides` are answered too, greedily, and nothing is said of them: where the weights are
    spread over processes, all must make as many passes as the others.

    Sampled answers are judged a pass at a time, those to one row together: a reward's deadline is
    made for a batch as in training, and one that compares the answers to a prompt sees them all.
    """
    limit, size = settings.max_completion_length, settings.batch_size
    template = config.model.chat_template_kwargs
    if settings.samples is None:
        whole = answer_greedily(model, tokenizer, [*rows, *besides], limit, size, template)
        written = Answers(whole.ids[: len(rows)], whole.truncated[: len(rows)])
        return written, score(written, tokenizer, rows, rewards)
    n = settings.samples
    written = sample_answers(
        model, tokenizer, rows, n, limit, size, settings.seed,
        settings.temperature, settings.top_p, settings.top_k, template,
    )  # fmt: skip
    scored: list[dict[str, float | None]] = []
    at_once = max(1, size // n)
    for start in range(0, len(rows), at_once):
        repeated = [row for row in rows[start : start + at_once] for _ in range(n)]
        part = slice(start * n, start * n + len(repeated))
        some = Answers(written.ids[part], written.truncated[part])
        scored += score(some, tokenizer, repeated, rewards)
    return written, scored


def _voter(answers: str | Labeller | None, reward: Callable[..., Any], name: str) -> Voter | None:
    if answers is None:
        return Voter.of(reward, name)
    if isinstance(answers, str):
        function = resolve(answers, place="answers", want_callable=True)
        return Voter(function, f"answers {answers}")
    return Voter(answers, "answers")


def _rows(config: RunConfig, against_training: bool) -> list[Row]:
    if config.data.eval is None:
        raise ConfigError("data.eval: there are no held-out rows (null); set data.eval to evaluate")
    if against_training:
        return load_splits(config.data)[1] or []
    return prepare(load_rows(config.data.eval, "eval"), config.data, "eval")


def _load(folder: Path, config: RunConfig) -> tuple[Any, Any]:
    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=config.model.dtype)
    network.to("cuda" if torch.cuda.is_available() else "cpu")
    return network, AutoTokenizer.from_pretrained(folder)
