from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lightwell.errors import TextError
from lightwell.text.config import TextConfig
from lightwell.text.decoding import Decoding
from lightwell.text.documents import Document, ReadReport, read_documents

SENTENCE = "Ein kleines Licht: 光, ß, 👩‍🚀.\r\n"
HUGE = "long " * 200_000  # a million characters; the csv module's own limit is 131,072


def read(*paths: Path | str, field: str = "text") -> tuple[list[Document], ReadReport]:
    return read_documents(TextConfig(paths=tuple(str(path) for path in paths), text_field=field))


def texts(*paths: Path | str, field: str = "text") -> list[str]:
    return [document.text for document in read(*paths, field=field)[0]]


def refusal(*paths: Path | str, field: str = "text") -> str:
    with pytest.raises(TextError) as caught:
        read(*paths, field=field)
    message = str(caught.value)
    assert message.count("\n") == 0
    return message


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as people have them: text, code, a picture, hidden things, an empty file."""
    (tmp_path / "b.md").write_bytes(b"# Second\n")
    (tmp_path / "a.txt").write_bytes(SENTENCE.encode())
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "c.py").write_bytes(b"print('third')\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text("not for reading")
    (tmp_path / ".hidden.txt").write_text("not for reading")
    (tmp_path / "empty.txt").write_bytes(b"")
    return tmp_path


def test_a_file_is_one_document_exactly_as_it_is(folder: Path) -> None:
    documents, report = read(folder / "a.txt")
    assert documents == [Document(str(folder / "a.txt"), SENTENCE)]
    assert (report.files, report.documents, report.bytes) == (1, 1, len(SENTENCE.encode()))
    assert documents[0].size == len(SENTENCE.encode())


def test_a_folder_is_read_in_order_and_says_what_it_skipped(folder: Path) -> None:
    documents, report = read(folder)
    assert [Path(document.source).name for document in documents] == ["a.txt", "b.md", "c.py"]
    skipped = {Path(item.source).name: item.reason for item in report.skipped}
    assert skipped == {
        ".git": "is hidden",
        ".hidden.txt": "is hidden",
        "picture.png": "is binary",
        "empty.txt": "is empty",
    }
    said = "\n".join(report.sentences())
    assert "Read 3 documents from 3 files" in said
    for name in skipped:
        assert name in said


def test_globs_go_into_folders_with_two_stars_only(folder: Path) -> None:
    assert texts(folder / "*.md") == ["# Second\n"]
    assert texts(folder / "**" / "*.py") == ["print('third')\n"]
    assert len(texts(folder / "**")) == 3
    assert len(texts(folder / "*")) == 3, "a folder that a glob names is read whole, as when the shell expands it"


def test_a_file_named_twice_is_read_once(folder: Path) -> None:
    assert len(texts(folder / "a.txt", folder, folder / "*.txt")) == 3


def test_a_name_with_brackets_is_a_name_first(tmp_path: Path) -> None:
    (tmp_path / "a[1].txt").write_text("brackets")
    assert texts(tmp_path / "a[1].txt") == ["brackets"]


def test_a_circle_of_links_ends(folder: Path) -> None:
    (folder / "deeper" / "up").symlink_to(folder, target_is_directory=True)
    documents, report = read(folder)
    assert len(documents) == 3
    assert "is a link to a folder" in {item.reason for item in report.skipped}


@pytest.mark.parametrize("packing", ["", ".gz", ".zst"])
@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".csv", ".tsv", ".parquet"])
def test_every_format_packed_and_not(tmp_path: Path, kind: str, packing: str) -> None:
    wanted = [SENTENCE, 'a,"b"\tc\nd\u2028e', HUGE] if kind != ".txt" else [SENTENCE]
    plain = tmp_path / f"x{kind}"
    if kind == ".txt":
        plain.write_bytes(SENTENCE.encode())
    elif kind == ".jsonl":
        plain.write_text("\n".join(json.dumps({"id": 1, "text": text}, ensure_ascii=False) for text in wanted) + "\n\n")
    elif kind == ".parquet":
        pq.write_table(pa.table({"id": [1, 2, 3], "text": wanted}), plain)
    else:
        with plain.open("w", newline="") as file:
            writer = csv.writer(file, "excel" if kind == ".csv" else "excel-tab")
            writer.writerows([["id", "text"], *[[1, text] for text in wanted]])
    path = tmp_path / f"x{kind}{packing}"
    data = plain.read_bytes()
    if packing == ".gz":
        half = len(data) // 2  # two members, as when logs are put together with cat
        path.write_bytes(gzip.compress(data[:half]) + gzip.compress(data[half:]))
    elif packing == ".zst":
        pack = zstandard.ZstdCompressor(write_content_size=False).compress
        path.write_bytes(pack(data[:40]) + pack(data[40:]))
    limit = csv.field_size_limit()
    documents, report = read(path)
    assert [document.text for document in documents] == wanted
    assert csv.field_size_limit() == limit, "the limit of the whole process is put back"
    assert report.bytes == sum(len(text.encode()) for text in wanted)
    if kind != ".txt":
        assert documents[1].source.endswith((":2", ":1"))


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.binary(), pa.dictionary(pa.int32(), pa.string())])
def test_parquet_columns_of_every_text_type(tmp_path: Path, type_: pa.DataType) -> None:
    pq.write_table(pa.table({"body": pa.array(["one", None, "three ß"]).cast(type_)}), tmp_path / "x.parquet")
    documents, report = read(tmp_path / "x.parquet", field="body")
    assert [document.text for document in documents] == ["one", "three ß"]
    assert report.empty_records == {str(tmp_path / "x.parquet"): 1}
    assert any("1 record of" in sentence for sentence in report.sentences())


def test_tabs_with_and_without_quoting(tmp_path: Path) -> None:
    (tmp_path / "quoted.tsv").write_text('label\ttext\nham\t"two\nlines and a ""word"""\n')
    (tmp_path / "plain.tsv").write_text('label\ttext\nham\t"Fine," he said\n\nspam\tWin 1" now\n')
    assert texts(tmp_path / "quoted.tsv") == ['two\nlines and a "word"']
    assert texts(tmp_path / "plain.tsv") == ['"Fine," he said', 'Win 1" now']


def test_a_frame_that_looks_back_two_gigabytes(tmp_path: Path) -> None:
    # What `zstd --long=31` writes; making it here would take 2 GB of address space.
    (tmp_path / "x.txt.zst").write_bytes(b"(\xb5/\xfd\x00\xa8)\x00\x00hello")
    assert texts(tmp_path / "x.txt.zst") == ["hello"]


def test_a_byte_order_mark_is_dropped(tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"\xef\xbb\xbfhello")
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbftext,id\r\nhello,1\r\n")
    assert texts(tmp_path / "x.txt", tmp_path / "x.csv") == ["hello", "hello"]


def test_undecodable_bytes_are_replaced_counted_and_located(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("Öl und Käse".encode("latin-1"))
    documents, report = read(tmp_path / "latin.txt")
    assert documents[0].text == "\ufffdl und K\ufffdse"
    (item,) = report.undecodable
    assert (item.count, item.first_offset) == (2, 0)
    assert any("2 byte sequences" in sentence and "latin.txt" in sentence for sentence in report.sentences())


def test_undecodable_parts_of_records_are_reported_with_the_record(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"text": "fine"}\n{"text": "half \\ud83d of a face"}\n')
    damaged = pa.array([b"fine", b"not \xff so"], type=pa.binary())
    pq.write_table(pa.table({"text": damaged}), tmp_path / "y.parquet")
    documents, report = read(tmp_path / "x.jsonl", tmp_path / "y.parquet")
    assert [document.text for document in documents[1::2]] == ["half \ufffd of a face", "not \ufffd so"]
    assert [item.source.rsplit(":")[-1] for item in report.undecodable] == ["2", "2"]
    assert [item.first_offset for item in report.undecodable] == [5, 4]


@given(
    st.lists(
        st.one_of(st.binary(max_size=6), st.text(max_size=4).map(str.encode), st.just(b"\xef\xbf\xbd")), max_size=12
    )
)
def test_decoding_counts_what_it_replaced(parts: list[bytes]) -> None:
    data = b"".join(parts)
    decoding = Decoding()
    text = decoding.decode(data, "x")
    assert text == data.decode(errors="replace")
    offsets = []
    start = 0
    while True:  # the slow way: one error after another
        try:
            data[start:].decode()
            break
        except UnicodeDecodeError as error:
            offsets.append(start + error.start)
            start += error.end
    assert decoding.count == len(offsets)
    assert decoding.first_offset == (offsets[0] if offsets else 0)


def test_a_missing_field_or_column_names_those_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"title": "a", "body": "b"}\n')
    (tmp_path / "x.csv").write_text("title,body\na,b\n")
    pq.write_table(pa.table({"title": ["a"], "body": ["b"]}), tmp_path / "x.parquet")
    for name in ("x.jsonl", "x.csv", "x.parquet"):
        assert "only title, body; name the " in refusal(tmp_path / name)
        assert "--text-field" in refusal(tmp_path / name)
        assert texts(tmp_path / name, field="body") == ["b"]


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("x.txt", b"", "is empty"),
        ("x.txt", b" \n ", "is empty"),
        ("x.bin", b"ab\0cd", "is binary"),
        ("x.txt", "hello".encode("utf-16"), "UTF-16"),
        ("x.jsonl", b'{"text": \n{"text": \n', "line 1"),
        ("x.jsonl", b'["a"]\n', "has no record in line 1"),
        ("x.jsonl", b'{"text": 3}\n', "has no text in field text of line 1"),
        ("x.jsonl", b"[" * 100_000, "line 1"),
        ("x.csv", b'text\n"never closed\n', "not a proper table"),
        ("x.csv", b"text\n", "is empty"),
        ("x.parquet", b"no parquet", "not a whole .parquet file"),
        ("x.txt.gz", b"no gzip", "not a whole .gz file"),
        ("x.txt.gz", gzip.compress(b"x" * 99, mtime=0)[:-5], "not a whole .gz file"),
        ("x.txt.zst", b"no zstandard", "not a whole .zst file"),
        ("x.txt.zst", zstandard.ZstdCompressor().compress(b"x" * 99)[:-2], "not a whole .zst file"),
    ],
)
def test_bad_files_get_one_sentence_when_named_and_are_skipped_when_found(
    tmp_path: Path, name: str, data: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(data)
    message = refusal(tmp_path / name)
    assert str(tmp_path / name) in message
    assert said in message
    assert said in refusal(tmp_path), "a folder with nothing else says what it skipped"
    (tmp_path / "good.md").write_text("good")
    documents, report = read(tmp_path)
    assert [document.text for document in documents] == ["good"]
    assert len(report.skipped) == 1
    assert said in report.skipped[0].reason


def test_numbers_in_a_parquet_column_are_not_text(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": [1, 2]}), tmp_path / "x.parquet")
    assert "has no text in column text but int64" in refusal(tmp_path / "x.parquet")


def test_missing_paths_get_one_sentence_with_the_nearest_name(folder: Path) -> None:
    assert "Did you mean deeper?" in refusal(folder / "deper")
    assert "There is no file or folder" in refusal(folder / "no" / "such" / "thing.txt")
    assert "Nothing matches" in refusal(folder / "*.rst")
    (folder / "nothing").mkdir()
    assert "There are no files in" in refusal(folder / "nothing")


def test_devices_are_not_read() -> None:
    if not Path("/dev/zero").exists():
        pytest.skip("needs /dev/zero")
    assert "is not a regular file" in refusal("/dev/zero")


def test_the_bible_is_1189_chapters_of_31103_verses() -> None:
    documents, report = read_documents(TextConfig())
    assert len(documents) == 1189
    assert sum(document.text.count("\n") - 1 for document in documents) == 31103
    assert documents[0].text.startswith("Genesis 1\nIn the beginning God created the heaven and the earth.\nAnd the")
    assert documents[-1].source == "Revelation 22"
    assert report.sentences() == ["Read 1,189 documents from 1 file, 4,150,432 bytes."]


def test_the_standard_library_is_its_modules_without_tests() -> None:
    documents, report = read_documents(TextConfig(corpus="stdlib"))
    names = {document.source for document in documents}
    assert {"json/decoder.py", "argparse.py"} <= names
    assert not {part for name in names for part in name.split("/")} & {"test", "tests", "site-packages"}
    assert 5e6 < report.bytes < 20e6


def test_bytes_that_are_mostly_no_utf8_are_binary_though_no_zero_is_among_them(tmp_path: Path) -> None:
    (tmp_path / "noise").write_bytes(bytes(range(128, 256)) * 3)
    (tmp_path / "latin.txt").write_bytes("Grüße aus der Höhe, schöne Träume über Äcker.".encode("latin-1"))
    with pytest.raises(TextError, match="binary or in another encoding"):
        read_documents(TextConfig(paths=(str(tmp_path / "noise"),)))
    documents, report = read_documents(TextConfig(paths=(str(tmp_path),)))
    assert [Path(document.source).name for document in documents] == ["latin.txt"]
    assert any("noise" in sentence and "another encoding" in sentence for sentence in report.sentences())
    assert report.undecodable[0].count == 7
