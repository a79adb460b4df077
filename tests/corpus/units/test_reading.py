"""Reading in units gives the documents that reading into memory gives, block by block."""

from __future__ import annotations

import csv
import gzip
import json
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lightwell.corpus.units import reading as unit_reading
from lightwell.corpus.units.cutting import cut_in_units
from lightwell.corpus.units.reading import Findings, read_unit
from lightwell.errors import TextError
from lightwell.text import formats, unpacking
from lightwell.text.config import TextConfig
from lightwell.text.documents import read_documents
from lightwell.text.sources import find_sources

FORMATS = ["jsonl", "ndjson", "jsonl.gz", "jsonl.zst", "csv", "tsv", "csv.gz", "parquet"]
any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=60)
texts = st.lists(any_text, min_size=1, max_size=40).filter(lambda texts: any(text.strip() for text in texts))


@contextmanager
def blocks_of(size: int) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unit_reading, "BLOCK", size)
        yield


def write(path: Path, texts: list[str]) -> Path:
    """The texts as records of a file in the format that its name tells."""
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"id": list(range(len(texts))), "text": texts}), path, row_group_size=7)
        return path
    if ".csv" in path.name or ".tsv" in path.name:
        with tempfile.TemporaryFile("w+", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, csv.excel_tab if ".tsv" in path.name else csv.excel)
            writer.writerows([["id", "text"], *([number, text] for number, text in enumerate(texts))])
            file.seek(0)
            data = file.read().encode()
    else:
        data = "".join(
            json.dumps({"id": n, "text": t}, ensure_ascii=n % 2 == 0) + "\n" for n, t in enumerate(texts)
        ).encode()
    if path.suffix == ".gz":
        data = gzip.compress(data)
    elif path.suffix == ".zst":
        data = zstandard.compress(data)
    path.write_bytes(data)
    return path


def read(path: Path, size: int = 1 << 20, field: str = "text") -> tuple[list[str], Findings]:
    found = Findings()
    units = cut_in_units(find_sources([str(path)]), size)
    blocks = [block for unit in units for block in read_unit(unit, field, size, found)]
    return [text for block in blocks for text in block], found


@pytest.mark.parametrize("suffix", FORMATS)
@given(texts=texts, size=st.integers(30, 2000), block=st.integers(1, 300))
def test_the_documents_are_those_that_reading_into_memory_gives(
    suffix: str, texts: list[str], size: int, block: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, blocks_of(block):
        path = write(Path(folder) / f"a.{suffix}", texts)
        documents, report = read_documents(TextConfig(paths=(str(path),)))
        found_texts, found = read(path, size)
    assert found_texts == [document.text for document in documents]
    assert found.documents == report.documents
    assert found.empty_records == sum(report.empty_records.values())


@given(text=any_text.filter(lambda text: bool(text.strip())), size=st.integers(8, 400), block=st.integers(1, 100))
@pytest.mark.parametrize("suffix", ["txt", "txt.gz", "txt.zst"])
def test_a_large_plain_text_is_several_documents_that_joined_are_the_text(
    suffix: str, text: str, size: int, block: int
) -> None:
    text = text * 20
    with tempfile.TemporaryDirectory() as folder, blocks_of(block), pytest.MonkeyPatch.context() as patch:
        patch.setattr(unit_reading, "DOCUMENT_BYTES", 50)
        data, path = text.encode(), Path(folder) / f"a.{suffix}"
        packed = gzip.compress(data) if suffix.endswith("gz") else zstandard.compress(data)
        path.write_bytes(data if suffix == "txt" else packed)
        found_texts, found = read(path, size)
    bare = text.removeprefix("\ufeff")
    assert "".join(found_texts).split() == bare.split(), "only white space may be missing: pieces of nothing else"
    assert found.undecodable == []
    assert (len(found_texts) == 1) or (found.cut == [str(path)])


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{no json}", r"is not JSON in line 31 \("),
        ("[1]", "has no record in line 31"),
        ('{"body": "x"}', "has no field text in line 31, only body"),
        ('{"text": 5}', "has no text in field text of line 31 but 5"),
    ],
)
def test_a_line_that_is_no_record_is_named_by_its_number(tmp_path: Path, suffix: str, line: str, reason: str) -> None:
    path = tmp_path / f"a.{suffix}"
    data = ('{"text": "some text"}\n' * 30 + line + "\n").encode()
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    with blocks_of(100), pytest.raises(TextError, match=reason):
        read(path, 200)
    with blocks_of(100):
        texts, found = read(tmp_path, 200)  # not named: the line alone is left out
    assert texts == ["some text"] * 30
    (remark,) = found.remarks
    assert re.search(reason, remark)
    assert remark.endswith("; 1 record is left out.")


def test_what_json_can_spell_otherwise_is_read_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'\xef\xbb\xbf{"text": "first"}\r\n\r\n{"text": "half \\ud800 of one", "x": NaN}\n  {"text": null}\n'
        b'{"text": "caf\xe9"}\n{"text": "a", "text": "b"}'
    )
    documents, _ = read_documents(TextConfig(paths=(str(path),)))
    found_texts, found = read(path)
    assert found_texts == [document.text for document in documents] == ["first", "half \ufffd of one", "caf\ufffd", "b"]
    assert (found.empty_records, [item.count for item in found.undecodable]) == (1, [1, 1])


def test_undecodable_bytes_are_located_in_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    data = b"some words\n" * 100
    at = 700
    path.write_bytes(data[:at] + b"\xe9" + data[at:] + b"\xff")
    _, found = read(path, 200)
    assert sum(item.count for item in found.undecodable) == 2
    assert found.undecodable[0].first_offset == at


@pytest.mark.parametrize("suffix", ["jsonl.gz", "jsonl.zst"])
def test_a_packed_file_that_is_cut_off_is_refused(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"a.{suffix}", [f"text number {number * 7919}" for number in range(300)])
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(TextError, match="is not a whole"):
        read(path)


def test_a_found_file_that_turns_out_damaged_after_its_first_documents_is_no_skip(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", [f"text number {number * 7919}" for number in range(300)])
    path.write_bytes(path.read_bytes()[:-9])
    with blocks_of(100), pytest.raises(TextError, match="is not a whole"):
        read(tmp_path)


def test_frames_of_zstandard_follow_each_other(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.zst"
    path.write_bytes(zstandard.compress(b'{"text": "one"}\n') + zstandard.compress(b'{"text": "two"}\n'))
    assert read(path)[0] == ["one", "two"]


def test_a_line_larger_than_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "LARGEST_LINE", 1 << 20)
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "' + b"x" * (3 << 20) + b'"}\n')
    with blocks_of(1000), pytest.raises(TextError, match="has a line of more than 1 MiB; break or remove that line"):
        read(path)


def test_a_quote_that_is_never_closed_does_not_swallow_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(formats, "LARGEST_LINE", 1000)
    (tmp_path / "a.csv").write_text('text\n"' + "x\n" * 5000)
    with pytest.raises(TextError, match=r"is not a proper table in line .*field larger than field limit"):
        read(tmp_path / "a.csv")


def test_tabs_without_quotes_are_a_table(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text('text\tid\n"unclosed\t1\nsay "so"\t2\n')
    assert read(tmp_path / "a.tsv")[0] == ['"unclosed', 'say "so"']


def test_parquet_text_that_is_not_utf8_is_counted(tmp_path: Path) -> None:
    column = pa.array([b"fine", b"caf\xe9", None], type=pa.binary())
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    found_texts, found = read(tmp_path / "a.parquet")
    assert found_texts == ["fine", "caf\ufffd"]
    assert found.undecodable[0].source.endswith("a.parquet:2")


def test_a_column_that_is_not_there_is_named(tmp_path: Path) -> None:
    for suffix in ("csv", "parquet"):
        path = write(tmp_path / f"a.{suffix}", ["x"])
        with pytest.raises(TextError, match="has no column body, only id, text"):
            read(path, field="body")
