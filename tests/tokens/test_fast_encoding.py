"""The faster encoder gives the reference's ids, or is not used."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lightwell.corpus.corpus import prepare
from lightwell.text.config import TextConfig
from lightwell.tokens import fast_encoding, tokenizer
from lightwell.tokens.building import END_OF_TEXT, build_bpe
from lightwell.tokens.fast_encoding import fast_encoder
from lightwell.tokens.tokenizer import Tokenizer
from small import write_text

TRAINING = ["In the beginning God created the heaven and the earth.\n" * 3, "naïve Größe, 光 and 👩‍🚀\r\n\t  end " * 3]
BACKEND = build_bpe(TRAINING, 0)
BACKEND.encode_special_tokens = True

needs_fastokens = pytest.mark.skipif(importlib.util.find_spec("fastokens") is None, reason="fastokens is not installed")
any_text = st.text(st.characters(exclude_categories=["Cs"]))
tricky = st.lists(
    st.one_of(any_text, st.sampled_from([END_OF_TEXT, "<0x41>", "Ġ", "'ll", "'S", "the", " ", "\n\n", "光", "\0", "٣"]))
).map("".join)


@needs_fastokens
@given(st.lists(tricky, min_size=1, max_size=4))
def test_the_ids_are_those_of_the_reference(texts: list[str]) -> None:
    fast = fast_encoder(BACKEND.to_str())
    assert fast is not None
    expected = [encoding.ids for encoding in BACKEND.encode_batch_fast(texts, add_special_tokens=False)]
    assert [ids.tolist() for ids in fast(texts)] == expected


@needs_fastokens
def test_large_texts_go_to_it_and_prompts_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Tokenizer(BACKEND, END_OF_TEXT)
    assert made.encoder == "fastokens"
    asked: list[int] = []
    fast = made._fast
    assert fast is not None

    def watch(texts: Sequence[str]) -> list[NDArray[np.int64]]:
        asked.append(sum(map(len, texts)))
        return fast(texts)

    monkeypatch.setattr(made, "_fast", watch)
    text = "Rain falls into the well, and nobody sees it. " * 1000
    assert made.encode("Rain falls").tolist() == BACKEND.encode("Rain falls", add_special_tokens=False).ids
    assert asked == []
    assert made.encode(text).tolist() == BACKEND.encode(text, add_special_tokens=False).ids
    assert asked == [len(text)]


def broken(texts: Sequence[str]) -> list[NDArray[np.int64]]:
    raise RuntimeError("native failure")


def wrong(texts: Sequence[str]) -> list[NDArray[np.int64]]:
    return [np.zeros(len(text), dtype=np.int64) for text in texts]


@pytest.mark.parametrize("fast", [wrong, broken])
def test_one_that_differs_or_fails_is_left_at_once(
    monkeypatch: pytest.MonkeyPatch, fast: Callable[[Sequence[str]], list[NDArray[np.int64]]]
) -> None:
    monkeypatch.setattr(tokenizer, "fast_encoder", lambda spec: fast)
    made = Tokenizer(BACKEND, END_OF_TEXT)
    text = "Nobody has seen the stone at the bottom. " * 1000
    assert made.encode(text).tolist() == BACKEND.encode(text, add_special_tokens=False).ids
    assert made.encoder == "tokenizers"


def test_where_it_differs_only_later_everything_is_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []

    def wrong_later(texts: Sequence[str]) -> list[NDArray[np.int64]]:
        calls.append(len(texts))
        if len(calls) > 1:
            return wrong(texts)
        return [np.array(encoding.ids) for encoding in made._backend.encode_batch_fast(list(texts))]

    folder = write_text(tmp_path / "text", documents=100, sentences=40)
    config = TextConfig(paths=(str(folder),))
    monkeypatch.setattr(tokenizer, "fast_encoder", lambda spec: None)
    expected = prepare(config, 0, cache=tmp_path / "reference")
    made = expected.tokenizer
    monkeypatch.setattr(tokenizer, "fast_encoder", lambda spec: wrong_later)
    found = prepare(config, 0, cache=tmp_path / "wrong")
    assert len(calls) == 2  # the training side, then the held-out one
    assert found.digest == expected.digest
    assert found.tokenizer.encoder == "tokenizers"


def test_without_it_there_is_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fast_encoding, "fastokens", None)
    assert fast_encoder(BACKEND.to_str()) is None
    assert Tokenizer(BACKEND, END_OF_TEXT).encoder == "tokenizers"


@needs_fastokens
def test_a_tokenizer_that_it_does_not_know_is_left_to_the_reference() -> None:
    assert fast_encoder("{}") is None
