from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from lightwell.errors import SettingError, TextError
from lightwell.text.config import TextConfig
from lightwell.text.documents import read_documents
from lightwell.tokens import pieces
from lightwell.tokens.building import END_OF_TEXT, build_bpe, build_byte, build_character, chosen_vocab_size
from lightwell.tokens.stream import TextStream
from lightwell.tokens.token_bytes import byte_alphabet
from lightwell.tokens.tokenizer import KINDS, Tokenizer, make_tokenizer

TRAINING = ["In the beginning God created the heaven and the earth.\n" * 3, "naïve Größe, 光 and 👩‍🚀\r\n\t  end " * 3]
MADE = {kind: make_tokenizer(TextConfig(tokenizer=kind), 0, TRAINING) for kind in KINDS}

any_text = st.text(st.characters(exclude_categories=["Cs"]))
# Text that looks like what tokenizers use inside, beside any text.
tricky = st.lists(
    st.one_of(any_text, st.sampled_from([END_OF_TEXT, "<0x41>", "Ġ", "▁", "the", " ", "\n\n", "光", "\0"]))
).map("".join)


@functools.cache
def backend(kind: str) -> tokenizers.Tokenizer:
    builders: dict[str, Callable[[], tokenizers.Tokenizer]] = {
        "byte": build_byte,
        "character": lambda: build_character(TRAINING),
        "bpe": lambda: build_bpe(TRAINING, 0),
    }
    made = builders[kind]()
    made.encode_special_tokens = True
    return made


def backend_ids(kind: str, text: str) -> list[int]:
    """Ids as the tokenizers library alone gives them."""
    ids: list[int] = backend(kind).encode(text, add_special_tokens=False).ids
    return ids


@pytest.mark.parametrize("kind", KINDS)
@given(text=tricky)
def test_law_13_decoding_what_was_encoded_gives_the_text(kind: str, text: str) -> None:
    tokenizer = MADE[kind]
    assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize("kind", KINDS)
@given(text=tricky)
def test_byte_lengths_add_up_to_the_bytes_of_the_text(kind: str, text: str) -> None:
    tokenizer = MADE[kind]
    assert tokenizer.byte_lengths[tokenizer.encode(text)].sum() == len(text.encode())


@pytest.mark.parametrize("kind", KINDS)
@given(text=tricky)
def test_the_ids_are_those_of_the_library(kind: str, text: str) -> None:
    assert MADE[kind].encode(text).tolist() == backend_ids(kind, text)


@pytest.mark.parametrize("kind", KINDS)
@given(text=tricky)
def test_no_text_becomes_the_end_of_text(kind: str, text: str) -> None:
    tokenizer = MADE[kind]
    assert tokenizer.end_of_text not in tokenizer.encode(text + END_OF_TEXT)
    assert tokenizer.decode([tokenizer.end_of_text]) == END_OF_TEXT
    assert tokenizer.byte_lengths[tokenizer.end_of_text] == 0


@pytest.mark.parametrize("kind", KINDS)
@given(texts=st.lists(tricky, max_size=5))
def test_a_batch_is_encoded_as_its_texts_are(kind: str, texts: list[str]) -> None:
    tokenizer = MADE[kind]
    batch = tokenizer.encode_batch(texts)
    assert [ids.tolist() for ids in batch] == [tokenizer.encode(text).tolist() for text in texts]
    assert all(ids.dtype == np.int64 for ids in batch)


@pytest.mark.parametrize("kind", KINDS)
@given(text=tricky, cuts=st.lists(st.integers(1, 4)), data=st.data())
def test_a_stream_gives_the_decoded_text_in_whole_characters(
    kind: str, text: str, cuts: list[int], data: st.DataObject
) -> None:
    tokenizer = MADE[kind]
    ids = tokenizer.encode(text).tolist()
    end = data.draw(st.integers(0, len(ids)))  # a generation may end in the middle of a character
    stream, said, start = TextStream(tokenizer), list[str](), 0
    for cut in [*cuts, *[1] * end]:
        said.append(stream.push(ids[start : min(start + cut, end)]))
        start = min(start + cut, end)
    assert "\ufffd" not in "".join(said) or "\ufffd" in text
    assert "".join([*said, stream.flush()]) == tokenizer.decode(ids[:end])


@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_survives_saving_and_loading(kind: str, tmp_path: Path) -> None:
    MADE[kind].save(tmp_path / "tokenizer.json")
    loaded = Tokenizer.load(tmp_path / "tokenizer.json")
    assert [path.name for path in tmp_path.iterdir()] == ["tokenizer.json"]
    for name in ("kind", "vocab_size", "end_of_text", "fingerprint", "joins_bytes"):
        assert getattr(loaded, name) == getattr(MADE[kind], name)
    assert loaded.encode("In the 光光 <|endoftext|> naïve").tolist() == (
        MADE[kind].encode("In the 光光 <|endoftext|> naïve").tolist()
    )


def test_kinds_differ_in_what_a_token_is() -> None:
    text = "the Größe"
    assert MADE["byte"].encode(text).tolist() == list(text.encode())
    assert len(MADE["character"].encode(text)) == len(text)
    assert len(MADE["bpe"].encode("the beginning")) < 5
    assert MADE["byte"].vocab_size == 257
    assert MADE["character"].vocab_size == 257 + len(set("".join(TRAINING)))
    assert [MADE[kind].kind for kind in KINDS] == list(KINDS)


def test_a_character_that_was_never_seen_becomes_its_bytes() -> None:
    assert MADE["character"].encode("é").tolist() == [0xC3, 0xA9]
    assert MADE["character"].decode([0xC3]) == "\ufffd"


def test_tokens_are_shown_so_that_they_can_be_read() -> None:
    byte, character = MADE["byte"], MADE["character"]
    assert [byte.token_text(index) for index in (65, 10, 0xC3, 256)] == ["A", "\\n", "\\xc3", END_OF_TEXT]
    assert character.token_text(int(character.encode("光")[0])) == "光"
    bpe = MADE["bpe"]
    assert bpe.token_text(int(bpe.encode("In the")[-1])) == " the"


def test_the_alphabet_is_that_of_the_library() -> None:
    assert byte_alphabet().keys() == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(byte_alphabet().values()) == list(range(256))


@given(tricky)
def test_cutting_a_text_wherever_it_can_be_cut_changes_no_id(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "PIECE", 1)
        assert "".join(pieces.cut_in_pieces(text)) == text
        assert MADE["bpe"].encode(text).tolist() == backend_ids("bpe", text)


def test_a_long_text_is_cut_into_pieces() -> None:
    text = "".join(TRAINING) * 400
    parts = list(pieces.cut_in_pieces(text))
    assert len(parts) > 5
    assert max(len(part) for part in parts) < pieces.PIECE + 100
    assert MADE["bpe"].encode(text).tolist() == backend_ids("bpe", text)
    assert len(list(pieces.cut_in_pieces("光" * pieces.PIECE * 3))) == 1, "nowhere to cut"


def test_the_vocabulary_grows_with_the_text() -> None:
    sizes = [chosen_vocab_size(size) for size in (0, 20_000, 1_100_000, 3_700_000, 10**9)]
    assert sizes == [512, 512, 1024, 4096, 8192]


def test_training_is_repeatable_and_reaches_the_size_asked_for() -> None:
    texts = [document.text for document in read_documents(TextConfig())[0][:150]]
    first, second = (make_tokenizer(TextConfig(), 700, texts) for _ in range(2))
    assert first.vocab_size == 700
    assert first.fingerprint == second.fingerprint
    assert first.fingerprint != make_tokenizer(TextConfig(), 701, texts).fingerprint


def test_a_vocabulary_larger_than_the_text_supports_is_refused_with_the_number() -> None:
    with pytest.raises(TextError, match=r"supports only (\d+) tokens") as caught:
        make_tokenizer(TextConfig(), 10**9, TRAINING)
    supported = int(str(caught.value).split("supports only ")[1].split()[0])
    assert make_tokenizer(TextConfig(), supported, TRAINING).vocab_size == supported
    assert make_tokenizer(TextConfig(), 0, TRAINING).vocab_size == min(supported, 512)
    with pytest.raises(TextError, match="at least 257"):
        make_tokenizer(TextConfig(), 256, TRAINING)


def test_a_text_without_a_space_is_trained_on_in_no_time() -> None:
    dna = "".join(random.Random(1).choices("ACGT", k=300_000))
    start = time.perf_counter()
    tokenizer = make_tokenizer(TextConfig(), 0, [dna])
    assert time.perf_counter() - start < 10, "a minute, when the whole is one word"
    assert tokenizer.vocab_size == 512
    assert tokenizer.decode(tokenizer.encode(dna)) == dna


def test_a_text_too_short_for_a_merge_still_makes_a_bpe_tokenizer() -> None:
    tokenizer = make_tokenizer(TextConfig(), 0, ["ab"])
    assert (tokenizer.kind, tokenizer.vocab_size, tokenizer.decode(tokenizer.encode("ab"))) == ("bpe", 257, "ab")


def test_a_fixed_vocabulary_cannot_be_asked_for_another_size() -> None:
    assert make_tokenizer(TextConfig(tokenizer="byte"), 257, ()).vocab_size == 257
    with pytest.raises(TextError, match="has 257 tokens here, but vocab_size is 5,000"):
        make_tokenizer(TextConfig(tokenizer="byte"), 5000, ())


def test_a_misspelt_kind_offers_the_nearest_one() -> None:
    with pytest.raises(SettingError, match="Did you mean character"):
        make_tokenizer(TextConfig(tokenizer="charcter"), 0, TRAINING)
    with pytest.raises(TextError, match="There is no tokenizer"):
        make_tokenizer(TextConfig(tokenizer="no/such/tokenizer.json"), 0, TRAINING)


def test_the_end_of_text_of_a_made_tokenizer_is_not_a_choice() -> None:
    with pytest.raises(SettingError, match="end_of_text is '</s>'"):
        make_tokenizer(TextConfig(tokenizer="byte", end_of_text="</s>"), 0, TRAINING)


@pytest.mark.parametrize("kind", KINDS)
def test_half_of_a_character_is_refused_with_its_place(kind: str) -> None:
    with pytest.raises(TextError, match="as character 2, half of a character"):
        MADE[kind].encode("ab\ud83d")
