"""Tiny models and data that every test may use. Nothing is downloaded."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "disabled")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# The same examples in every run: a failure in CI is one that can be seen again.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")

WORDS = "<pad> <eos> 0 1 2 3 4 5 6 7 8 9 + - = ; a b c d".split()


def make_model(
    path: Path,
    *,
    seed: int,
    hidden: int = 32,
    layers: int = 2,
    words=None,
    pieces=(),
    positions: int = 128,
) -> Path:
    """A random Llama with a character tokenizer, saved at `path`.

    `pieces` are words of several characters.
    """
    import re

    import torch
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = list(words or WORDS)
    inner = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<pad>"))
    whole = "".join(f"{re.escape(piece)}|" for piece in sorted(pieces, key=len, reverse=True))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex(f"{whole}<[a-z]+>|."), behavior="isolated")
    inner.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", padding_side="left"
    )
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(words), hidden_size=hidden, intermediate_size=2 * hidden,
        num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=positions, tie_word_embeddings=True,
        bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    # The default initialisation gives nearly uniform next tokens; larger weights make the
    # distributions differ from token to token, so that a wrong alignment shows.
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() == 2:
                weight.mul_(6.0)
        model.model.embed_tokens.weight.mul_(2.0)
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def student(tmp_path_factory) -> str:
    return str(make_model(tmp_path_factory.mktemp("student"), seed=1))


@pytest.fixture(scope="session")
def teacher(tmp_path_factory) -> str:
    return str(make_model(tmp_path_factory.mktemp("teacher"), seed=2, hidden=48, layers=3))


@pytest.fixture
def prompts():
    from datasets import Dataset

    rows = [{"prompt": f"{a}+{b}=", "answer": str(a + b)} for a in range(6) for b in range(4)]
    return Dataset.from_list(rows)
