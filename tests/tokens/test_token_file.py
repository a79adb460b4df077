from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwell.errors import TextError
from lightwell.text.config import TextConfig
from lightwell.tokens.token_file import TokenFile, token_type
from lightwell.tokens.tokenizer import make_tokenizer

BYTE = make_tokenizer(TextConfig(tokenizer="byte"), 0, ())
EOT = BYTE.end_of_text


def test_an_end_of_text_opens_each_document_and_closes_the_last() -> None:
    file = TokenFile.from_texts(["dog", "ca"], BYTE)
    assert file.tokens[:].tolist() == [EOT, *b"dog", EOT, *b"ca", EOT]
    assert file.offsets.tolist() == [0, 4, 7]
    assert (len(file), file.documents, file.text_bytes) == (8, 2, 5)
    assert (file.vocab_size, file.end_of_text) == (257, EOT)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1))
def test_every_document_is_found_by_its_offset(texts: list[str]) -> None:
    file = TokenFile.from_texts(texts, BYTE)
    assert (file.tokens[file.offsets] == EOT).all()
    spans = zip(file.offsets, file.offsets[1:], strict=False)
    assert [BYTE.decode(file.tokens[start + 1 : end]) for start, end in spans] == texts
    assert file.text_bytes == BYTE.byte_lengths[file.tokens].sum()


def test_what_is_on_disk_is_what_is_in_memory(tmp_path: Path) -> None:
    texts = ["one", "", "Größe " * 1000]
    written, memory = TokenFile.write(tmp_path, "x", texts, BYTE), TokenFile.from_texts(texts, BYTE)
    opened = TokenFile.open(tmp_path, "x")
    for file in (written, opened):
        assert (file.tokens[:] == memory.tokens[:]).all()
        assert (file.offsets == memory.offsets).all()
        assert (file.digest, file.text_bytes) == (memory.digest, memory.text_bytes)
    assert isinstance(opened.tokens, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        opened.tokens[0] = 1


def test_the_type_is_the_smallest_that_holds_the_vocabulary() -> None:
    assert [token_type(size) for size in (257, 65_536, 65_537)] == [np.uint16, np.uint16, np.uint32]
    file = TokenFile.from_ids([70_000, 1], vocab_size=70_001)
    assert file.tokens[:].tolist() == [70_000, 1]
    assert file.offsets.tolist() == [0, 1]


def test_the_digest_knows_ids_and_documents_apart() -> None:
    digests = {
        TokenFile.from_texts(texts, BYTE).digest
        for texts in (["ab", "c"], ["a", "bc"], ["abc"], ["ab", "d"], ["ab", "c"])
    }
    assert len(digests) == 4


@pytest.mark.parametrize("damage", ["x.tokens", "x.offsets", "x.json"])
@pytest.mark.parametrize("how", ["cut", "changed", "gone", "emptied"])
def test_damage_is_noticed(tmp_path: Path, damage: str, how: str) -> None:
    TokenFile.write(tmp_path, "x", ["some text", "and more"], BYTE)
    path = tmp_path / damage
    data = path.read_bytes()
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": data[:-2], "changed": bytes([data[0] ^ 1]) + data[1:], "emptied": b""}[how])
    with pytest.raises(TextError, match="are damaged"):
        TokenFile.open(tmp_path, "x")


def test_ids_are_taken_at_their_places_in_their_shape() -> None:
    file = TokenFile.from_ids([5, 6, 7], vocab_size=9)
    taken = file.take(np.array([[2, 0], [1, 1]]))
    assert taken.tolist() == [[7, 5], [6, 6]]
    assert taken.dtype == np.int64
    assert (file.end_of_text, file.text_bytes, file.documents, file.vocab_size) == (None, 0, 1, 9)
