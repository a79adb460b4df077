"""Reference losses, against the plainest count of the same thing."""

from __future__ import annotations

import itertools
import math
import time
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwell.tokens.token_file import TokenFile
from lightwell.training.runs import references as module
from lightwell.training.runs.references import References, measure_references

V = 6


def stream(ids: list[int] | np.ndarray, vocab_size: int = V) -> TokenFile:
    return TokenFile.from_ids(np.asarray(ids), vocab_size=vocab_size)


def by_hand(train: list[int], held_out: list[int]) -> References:
    """The definitions, written with dictionaries."""
    single, pairs = Counter(train), Counter(itertools.pairwise(train))
    firsts = Counter(train[:-1])
    followers = Counter(first for first, _ in pairs)

    def token(w: int) -> float:
        return (single[w] + 1) / (len(train) + V)

    def after(h: int, w: int) -> float:
        if not firsts[h]:
            return token(w)
        return (pairs[h, w] + followers[h] * token(w)) / (firsts[h] + followers[h])

    scored = list(itertools.pairwise(held_out))
    n_pairs = len(train) - 1
    return References(
        uniform=math.log(V),
        unigram_entropy=-sum(c / len(train) * math.log(c / len(train)) for c in single.values()),
        bigram_entropy=-sum(c / n_pairs * math.log(c / firsts[h]) for (h, _), c in pairs.items()),
        unigram_loss=-sum(math.log(token(w)) for _, w in scored) / len(scored),
        bigram_loss=-sum(math.log(after(h, w)) for h, w in scored) / len(scored),
        bytes_per_token=sum(w for _, w in scored) / len(scored),
    )


ids = st.lists(st.integers(0, V - 1), min_size=2, max_size=60)


@given(train=ids, held_out=ids)
def test_equal_to_the_definitions(train: list[int], held_out: list[int]) -> None:
    found = measure_references(
        stream(train), stream(held_out), np.arange(V)
    )  # a token stands for as many bytes as its id
    assert found.to_dict() == pytest.approx(by_hand(train, held_out).to_dict())


@given(train=ids, held_out=ids, at_once=st.integers(1, 7), max_tokens=st.integers(0, 60))
def test_pieces_that_are_scored_one_by_one_add_up(
    train: list[int], held_out: list[int], at_once: int, max_tokens: int
) -> None:
    scored = held_out[: max_tokens + 1 if max_tokens else None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_SCORED_AT_ONCE", at_once)
        found = measure_references(stream(train), stream(held_out), np.arange(V), max_tokens=max_tokens)
    assert found.to_dict() == pytest.approx(by_hand(train, scored).to_dict())


def test_scoring_takes_the_memory_of_a_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SCORED_AT_ONCE", 1 << 12)
    draw = np.random.default_rng(1)
    train, held_out = stream(draw.integers(0, V, 1000)), stream(draw.integers(0, V, 1_000_000))
    tracemalloc.start()
    measure_references(train, held_out, np.ones(V, dtype=np.int64))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000, "less than one byte for each of the tokens"


@given(train=ids, history=st.integers(0, V - 1))
def test_the_smoothed_bigram_is_a_distribution(train: list[int], history: int) -> None:
    total = 0.0
    for token in range(V):
        found = measure_references(stream(train), stream([history, token]), np.ones(V, dtype=np.int64))
        total += math.exp(-found.bigram_loss)
    assert total == pytest.approx(1.0)


def test_only_the_first_max_tokens_targets_are_scored() -> None:
    train, held_out = [0, 1, 2, 3, 4, 5, 0, 1], [0, 1, 2, 5, 5, 5]
    found = measure_references(stream(train), stream(held_out), np.arange(V), max_tokens=2)
    assert found == measure_references(stream(train), stream(held_out[:3]), np.arange(V))


def test_a_predictable_text_has_no_bigram_entropy() -> None:
    found = measure_references(stream([0, 1, 2] * 50), stream([0, 1, 2] * 5), np.ones(V, dtype=np.int64))
    assert found.bigram_entropy == pytest.approx(0.0, abs=1e-12)
    assert found.unigram_entropy == pytest.approx(math.log(3))
    assert found.bigram_loss < 0.2 < found.unigram_loss < found.uniform


def test_pieces_stand_for_a_text_that_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(1)
    train, held_out = stream(draw.integers(0, 3, 50_000)), stream(draw.integers(0, 3, 1_000))
    whole = measure_references(train, held_out, np.ones(V, dtype=np.int64))
    monkeypatch.setattr(module, "_MOST_TOKENS", 20_000)
    part = measure_references(train, held_out, np.ones(V, dtype=np.int64))
    assert part.to_dict() == pytest.approx(whole.to_dict(), rel=0.01)


def test_two_million_tokens_take_a_moment() -> None:
    draw = np.random.default_rng(1)
    train = stream(draw.zipf(1.3, 2_000_000) % 4096, 4096)
    started = time.perf_counter()
    found = measure_references(train, train, np.ones(4096, dtype=np.int64))
    assert time.perf_counter() - started < 10  # about 1 s where nothing else runs
    assert found.bigram_entropy < found.unigram_entropy < found.uniform


@pytest.mark.parametrize("most", [24, 23, 12])
def test_pieces_are_evenly_spaced_from_the_first_token_to_the_last(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Of 24 tokens in three pieces: 7 from each of 0, 8 and 17, or 4 from each of 0, 10 and 20."""
    train = [int(value) for value in np.random.default_rng(3).integers(0, V, 24)]
    starts, length = {24: ([0], 24), 23: ([0, 8, 17], 7), 12: ([0, 10, 20], 4)}[most]
    pieces = [train[start : start + length] for start in starts]
    single = Counter(token for piece in pieces for token in piece)
    pairs = Counter(pair for piece in pieces for pair in itertools.pairwise(piece))
    monkeypatch.setattr(module, "_MOST_TOKENS", most)
    monkeypatch.setattr(module, "_PIECES", 3)
    found = measure_references(stream(train), stream([0, 1, 2, 3, 4, 5, 0]), np.ones(V, dtype=np.int64))
    total = sum(single.values())
    expected = -sum(math.log((single[token] + 1) / (total + V)) for token in (1, 2, 3, 4, 5, 0)) / 6
    assert found.unigram_loss == pytest.approx(expected)
    firsts: Counter[int] = Counter()
    for (first, _), count in pairs.items():
        firsts[first] += count
    together = sum(pairs.values())
    entropy = -sum(count / together * math.log(count / firsts[first]) for (first, _), count in pairs.items())
    assert found.bigram_entropy == pytest.approx(entropy)


def test_a_text_is_whole_up_to_sixteen_million_tokens_and_then_in_64_pieces() -> None:
    assert (module._MOST_TOKENS, module._PIECES, module._SCORED_AT_ONCE) == (16_777_216, 64, 1_048_576)
