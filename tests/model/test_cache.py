"""The cache of keys and values gives the logits of the whole text, however the text is cut."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from decoders import IMPLEMENTATIONS, KINDS, L, decoder, packed, text
from lightwell.errors import SettingError
from lightwell.model.cache import KVCache


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_law_08_any_cut_into_two_gives_the_logits_of_the_whole(kind: str, implementation: str) -> None:
    model, tokens = decoder(**KINDS[kind], attention=implementation), text(3)
    whole = model(tokens)
    for split in range(1, L):
        cache = KVCache(model.config, 3)
        parts = [model(part, cache=cache) for part in (tokens[:, :split], tokens[:, split:])]
        torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)
        assert cache.length == L == cache.capacity


@given(st.sampled_from(sorted(KINDS)), st.sampled_from(IMPLEMENTATIONS), st.booleans(), st.sets(st.integers(1, L - 1)))
@torch.no_grad()
def test_law_08_any_cut_into_pieces_with_and_without_documents(
    kind: str, implementation: str, documented: bool, cuts: set[int]
) -> None:
    model, tokens, documents = decoder(**KINDS[kind], attention=implementation), text(), packed()
    cache, parts = KVCache(model.config, 2), []
    edges = [0, *sorted(cuts), L]
    for start, end in itertools.pairwise(edges):
        own = documents[:, start:end] if documented else None
        parts.append(model(tokens[:, start:end], documents=own, cache=cache))
    whole = model(tokens, documents=documents if documented else None)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("named_again", [True, False])
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_law_08_rows_of_different_lengths_are_as_each_row_alone(
    kind: str, implementation: str, named_again: bool
) -> None:
    """Padding on the left is unseen, whether later tokens come with document ids or without."""
    model, tokens = decoder(**KINDS[kind], attention=implementation), text(3)
    lengths, split = torch.tensor([3, 7, 8]), 8
    padding = split - lengths
    places = torch.arange(L) - padding[:, None]  # (B, T), negative for padding
    rows = tokens.where(places >= 0, 0)
    documents, positions = torch.where(places < 0, -1, 0), places.clamp(min=0)
    cache = KVCache(model.config, 3)
    model(rows[:, :split], documents=documents[:, :split], positions=positions[:, :split], cache=cache)
    for t in range(split, L):
        own = documents[:, t : t + 1] if named_again else None
        found = model(rows[:, t : t + 1], documents=own, positions=positions[:, t : t + 1], cache=cache)
        for b in range(3):
            alone = model(rows[b, padding[b] : t + 1][None])[0, -1]
            torch.testing.assert_close(found[b, 0], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_more_tokens_than_the_context_length_are_refused_before_anything_is_computed() -> None:
    model = decoder()
    with pytest.raises(SettingError, match=f"{L + 1} tokens do not fit the context_length of {L}"):
        model(text(1, L + 1))
    cache = KVCache(model.config, 1)
    model(text(1, L), cache=cache)
    with pytest.raises(SettingError, match=f"{L + 1} tokens do not fit the context_length of {L}"):
        model(text(1, 1), cache=cache)
    assert cache.length == L


def test_grouped_heads_make_the_cache_smaller() -> None:
    whole, grouped = decoder(), decoder(n_kv_heads=1)
    assert KVCache(whole.config, 2).keys.numel() == 4 * KVCache(grouped.config, 2).keys.numel()


@torch.no_grad()
def test_the_cache_keeps_the_dtype_that_it_was_made_with() -> None:
    model = decoder().to(torch.bfloat16)
    cache = KVCache(model.config, 2, dtype=torch.bfloat16)
    logits = [model(part, cache=cache) for part in torch.split(text(), [8, 4], dim=1)]
    assert cache.keys.dtype == cache.values.dtype == logits[1].dtype == torch.bfloat16
    torch.testing.assert_close(torch.cat(logits, dim=1), model(text()), atol=0.3, rtol=0.1)
