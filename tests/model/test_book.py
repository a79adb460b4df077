"""The preset book-124m is the GPT of "Build a Large Language Model (From Scratch)", and its logits are the book's.

The package llms-from-scratch, the book's own code, is compared with where it is installed.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from decoders import IMPLEMENTATIONS, enliven, text
from lightwell.model.config import ModelConfig
from lightwell.model.decoder import Decoder
from lightwell.training.settings.presets import preset

REASON = "install it with `pip install --no-deps llms-from-scratch==1.0.19` and tiktoken"
SMALL: dict[str, Any] = {"vocab_size": 53, "context_length": 17, "n_layers": 3, "n_heads": 3, "d_model": 39}


@pytest.fixture
def chapter() -> ModuleType:
    """The book's chapter 4."""
    found: ModuleType = pytest.importorskip("llms_from_scratch.ch04", reason=REASON)
    return found


def as_theirs(config: ModelConfig) -> dict[str, Any]:
    """A shape in the words of GPT_CONFIG_124M."""
    return {
        "vocab_size": config.vocab_size,
        "context_length": config.context_length,
        "emb_dim": config.d_model,
        "n_heads": config.n_heads,
        "n_layers": config.n_layers,
        "drop_rate": config.attention_dropout,
        "qkv_bias": config.qkv_bias,
    }


def test_the_preset_is_the_configuration_that_the_book_prints() -> None:
    model = preset("book-124m").model
    assert as_theirs(model) == {
        "vocab_size": 50257,
        "context_length": 1024,
        "emb_dim": 768,
        "n_heads": 12,
        "n_layers": 12,
        "drop_rate": 0.1,
        "qkv_bias": False,
    }
    assert model.embedding_dropout == model.residual_dropout == model.attention_dropout
    assert model.parameter_count() == 163_009_536


def test_the_preset_trains_as_chapter_5_does() -> None:
    config = preset("book-124m")
    assert (config.batches.batch_size, config.training.epochs, config.training.learning_rate) == (2, 10, 4e-4)
    assert (config.training.optimizer, config.training.weight_decay, config.training.grad_clip) == ("adamw", 0.1, 0)
    assert (config.training.schedule, config.training.warmup_steps) == ("constant", 0)
    assert (config.training.beta1, config.training.beta2) == (0.9, 0.999)  # torch's own, which the book keeps


def test_the_books_own_model_has_as_many_parameters(chapter: ModuleType) -> None:
    with torch.device("meta"):
        theirs = chapter.GPTModel(as_theirs(preset("book-124m").model))
    assert sum(parameter.numel() for parameter in theirs.parameters()) == 163_009_536


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_law_15_logits_are_those_of_the_book(chapter: ModuleType, implementation: str) -> None:
    config = preset("book-124m").with_values({**SMALL, "attention": implementation}).model
    model = enliven(Decoder(config), noise=0.15).eval()
    theirs = chapter.GPTModel(as_theirs(config)).eval()
    theirs.load_state_dict(in_their_names(model), strict=False)
    tokens = text(3, config.context_length, vocab_size=config.vocab_size)
    with torch.no_grad():
        logits, expected = model(tokens), theirs(tokens)
    assert 0.3 < expected.std() < 1.5
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-5)


def in_their_names(model: Decoder) -> dict[str, Tensor]:
    """Our weights under the names of the book's GPTModel, but for the masks, which ours has in no file."""
    own = model.state_dict()
    named = {
        "tok_emb.weight": own["token_embedding.weight"],
        "pos_emb.weight": own["position_embedding.weight"],
        "final_norm.scale": own["norm.weight"],
        "final_norm.shift": own["norm.bias"],
        "out_head.weight": own["unembedding.weight"],
    }
    for layer in range(model.config.n_layers):
        ours, block = f"layers.{layer}", f"trf_blocks.{layer}"
        queries, keys, values = own[f"{ours}.attention.qkv.weight"].chunk(3)
        named |= {
            f"{block}.att.W_query.weight": queries,
            f"{block}.att.W_key.weight": keys,
            f"{block}.att.W_value.weight": values,
        }
        for target, source in (
            ("att.out_proj", "attention.output"),
            ("ff.layers.0", "feed_forward.up"),
            ("ff.layers.2", "feed_forward.down"),
        ):
            named |= {f"{block}.{target}.{part}": own[f"{ours}.{source}.{part}"] for part in ("weight", "bias")}
        for target, source in (("norm1", "attention_norm"), ("norm2", "feed_forward_norm")):
            named[f"{block}.{target}.scale"] = own[f"{ours}.{source}.weight"]
            named[f"{block}.{target}.shift"] = own[f"{ours}.{source}.bias"]
    return named
