"""A context costs what the tokens in hand cost, however long it may be; and is computed as a short one is."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest
import torch

import lightwell as lw
from lightwell.errors import SettingError
from lightwell.generation.config import SamplingConfig
from lightwell.generation.language_model import LanguageModel
from lightwell.generation.sampling import next_token_probabilities
from lightwell.model import cache, decoder
from lightwell.model.cache import KVCache
from lightwell.model.config import ModelConfig
from lightwell.model.decoder import Decoder, causal_mask, causal_rows
from lightwell.tokens.tokenizer import make_tokenizer


def config(**fields: Any) -> ModelConfig:
    small = {"vocab_size": 300, "context_length": 24, "n_layers": 2, "n_heads": 2, "d_model": 16}
    return ModelConfig(**{**small, **fields})


@pytest.mark.parametrize("window", [0, 1, 5, 40])
def test_rows_of_the_mask_are_those_of_the_whole_mask(window: int) -> None:
    whole = causal_mask(24, window)
    for past in (0, 1, 7, 23):
        for T in {1, 24 - past}:
            rows = causal_rows(past, T, window, torch.device("cpu"))
            assert torch.equal(rows, whole[past : past + T, : past + T])


@pytest.mark.parametrize("attention", ["explicit", "fused"])
@pytest.mark.parametrize("window", [0, 5])
@pytest.mark.parametrize("positions", ["rope", "learned", "none"])
def test_beyond_the_tables_the_logits_are_the_same_bits(
    monkeypatch: pytest.MonkeyPatch, attention: str, window: int, positions: str
) -> None:
    made = config(attention=attention, attention_window=window, positions=positions)
    tokens = torch.randint(300, (2, 24), generator=torch.Generator().manual_seed(1))
    documents = torch.arange(24).div(7, rounding_mode="floor").expand(2, 24)
    own = torch.arange(24).flip(0).expand(2, 24)
    expected = Decoder(made)
    monkeypatch.setattr(decoder, "LONGEST_TABLE", 5)
    monkeypatch.setattr(cache, "FIRST_SLOTS", 3)
    found = Decoder(made)
    assert len(found.causal_mask) == 5
    with torch.no_grad():
        for given in ({}, {"documents": documents}, {"positions": own}, {"documents": documents, "positions": own}):
            assert torch.equal(found(tokens, **given), expected(tokens, **given))
            assert torch.equal(
                found(tokens[:, :4], **{k: v[:, :4] for k, v in given.items()}),
                expected(tokens[:, :4], **{k: v[:, :4] for k, v in given.items()}),
            )
        kept, all_at_once = KVCache(made, 2), KVCache(made, 2)
        pieces = [
            found(piece, cache=kept) for piece in (tokens[:, a:b] for a, b in itertools.pairwise([0, 4, 5, 6, 17, 24]))
        ]
        assert torch.allclose(torch.cat(pieces, dim=1), expected(tokens, cache=all_at_once), atol=1e-5)


def test_a_million_tokens_of_context_cost_nothing_before_they_are_there() -> None:
    tokenizer = make_tokenizer(lw.TextConfig(tokenizer="byte"), 0, ())
    long = config(context_length=1_000_000, vocab_size=tokenizer.vocab_size)
    model = Decoder(long)
    held = sum(buffer.numel() * buffer.element_size() for buffer in model.buffers())
    assert held < 6e6
    kept = KVCache(long, 1)
    assert kept.capacity == 1_000_000
    assert kept.keys.numel() == long.n_layers * long.kv_heads * cache.FIRST_SLOTS * long.head_width
    short = Decoder(config(vocab_size=tokenizer.vocab_size))
    texts = [
        LanguageModel(each.eval(), tokenizer).generate("abc", seed=1, max_new_tokens=12) for each in (model, short)
    ]
    assert texts[0] == texts[1]


def test_a_cache_grows_with_what_is_in_it_and_keeps_it() -> None:
    made = config(context_length=5000, n_layers=1)
    kept = KVCache(made, 1)
    first = kept.keys
    kept.reserve(1024)
    assert kept.keys is first
    kept.keys[..., 3, :] = 7.0
    kept.length = 1024
    kept.reserve(1)
    assert kept.documents.size(1) == kept.keys.size(3) == kept.values.size(3) == 2048
    assert float(kept.keys[..., 3, :].mean()) == 7.0
    kept.reserve(3000)
    assert kept.keys.size(3) == 4096
    kept.length = 4096
    kept.reserve(100)
    assert kept.keys.size(3) == 5000


@pytest.mark.parametrize(
    "sizes", [{"n_layers": 10**9}, {"d_model": 10**7, "n_heads": 1}, {"vocab_size": 10**13}, {"d_ff": 10**12}]
)
def test_a_model_that_no_machine_could_hold_is_refused_at_once(sizes: dict[str, int]) -> None:
    with pytest.raises(
        SettingError, match=r"A model of .* parameters takes .* GB, and this machine has .* GB; make n_layers"
    ):
        Decoder(config(**sizes))
    with torch.device("meta"), pytest.raises(SettingError, match="this machine has"):
        Decoder(config(**{name: size * 10**4 for name, size in sizes.items()}))


@pytest.mark.parametrize("penalty", [1e-38, 1e-30, 1e38, 3e38, 1e-45])
@pytest.mark.parametrize("temperature", [0.0, 1e-38, 1e-30, 1.0, 1e38])
def test_extreme_numbers_of_sampling_give_probabilities(penalty: float, temperature: float) -> None:
    sampling = SamplingConfig(repetition_penalty=penalty, temperature=temperature, min_p=0.01, top_p=0.99)
    logits = torch.tensor([[5.0, -3.0, 0.0, 1.0], [1e30, -1e30, 2.0, 0.0]])
    for penalised in (torch.tensor([[True, True, False, True]] * 2), torch.ones(2, 4, dtype=torch.bool)):
        probabilities = next_token_probabilities(logits, sampling, penalised)
        assert bool(probabilities.isfinite().all())
        assert [math.isclose(float(row.sum()), 1.0, rel_tol=1e-5) for row in probabilities] == [True, True]
