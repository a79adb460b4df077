"""Every format, packed or not and read in blocks of any size, gives what reading it the simplest way gives."""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from lightwell.text.decoding import Undecodable, UnreadableError
from lightwell.text.formats import FileReader
from lightwell.text.tables import PlainTabs
from lightwell.text.unpacking import ALL, BLOCK

Named = list[tuple[str, str]]
"""The texts that hold anything, each with the number of its record, or "" where the file is one text."""

PACKINGS: dict[str, Callable[[bytes], bytes]] = {
    "": lambda data: data,
    ".gz": lambda data: gzip.compress(data[:7], mtime=0) + gzip.compress(data[7:], mtime=0),
    ".zst": lambda data: zstandard.compress(data[:7]) + zstandard.compress(data[7:]),
}
OPENING = "The first text is long enough that a few bytes of no text are a small share of it. " * 2
words = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12),
    st.sampled_from(['"', '""', ",", "\t", "\n", "\r\n", "\r", "\n\n", "\u2028", " ", "\ufffd", "\ufeff", "光👩", "'"]),
)
texts_of_records = st.lists(st.lists(words, max_size=5).map("".join), max_size=12)
halves = st.sampled_from([r"\ud83d", r"\ud83d\ude00", r"\u0041", r"\udc00x"])
bad_bytes = st.lists(st.tuples(st.floats(0, 1), st.sampled_from([b"\xff", b"\xe9", b"\xf0\x9f", b"\xc3"])), max_size=3)


def damaged(data: bytes, bad: list[tuple[float, bytes]], mark: bool) -> bytes:
    """The bytes with others among them that are no UTF-8, behind the opening, and a byte order mark before them."""
    for share, piece in bad:
        at = len(OPENING) + 20 + int(share * max(0, len(data) - len(OPENING) - 20))
        data = data[:at] + piece + data[at:]
    return b"\xef\xbb\xbf" * mark + data


def read(suffix: str, data: bytes, packing: str, at_once: int) -> tuple[Named, FileReader]:
    """What the reader gives, and the reader itself."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"x{suffix}{packing}"
        path.write_bytes(PACKINGS[packing](data))
        reader = FileReader(path, "x", "text", at_once=at_once)
        named: Named = []
        for texts, numbers in reader.texts():
            names = [""] if numbers is None else [str(number) for number in numbers]
            named += [pair for pair in zip(names, texts, strict=True) if pair[1].strip()]
        return named, reader


def plainly(suffix: str, data: bytes) -> Named:
    """The same from all of the bytes at once, by the standard library alone; ValueError where it is no such file."""
    text = data.decode(errors="replace").removeprefix("\ufeff")
    if suffix == ".txt":
        return [("", text)] if text.strip() else []
    if suffix == ".jsonl":
        lines = [(str(number), line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
        values = [(number, json.loads(line)["text"] or "") for number, line in lines]
    else:
        rows = table(text, [csv.excel] if suffix == ".csv" else [csv.excel_tab, PlainTabs])
        place = rows[0].index("text")
        if any(any(row[len(rows[0]) :]) for row in rows):
            raise ValueError("more fields than columns")
        values = [(str(n), row[place] if place < len(row) else "") for n, row in enumerate(rows[1:], 1)]
    whole = [(name, "".join("\ufffd" if "\ud800" <= c <= "\udfff" else c for c in value)) for name, value in values]
    return [(name, value) for name, value in whole if value.strip()]


def table(text: str, dialects: list[type[csv.Dialect]]) -> list[list[str]]:
    """The rows by the first dialect that takes all of them."""
    for dialect in dialects:
        try:
            return [row for row in csv.reader(io.StringIO(text, newline=""), dialect, strict=True) if row]
        except csv.Error:
            continue
    raise ValueError("no table")


def first_fault(data: bytes) -> tuple[int, int]:
    """How many sequences are not UTF-8, and where the first one is, one error after another."""
    places, start = [], 0
    while True:
        try:
            data[start:].decode()
        except UnicodeDecodeError as error:
            places.append(start + error.start)
            start += error.end
        else:
            return len(places), places[0] if places else 0


def compare(suffix: str, data: bytes, packing: str, at_once: int) -> None:
    """Hold the reader against the plain way."""
    try:
        expected = plainly(suffix, data)
    except (ValueError, KeyError):
        with pytest.raises(UnreadableError):
            read(suffix, data, packing, at_once)
        return
    named, reader = read(suffix, data, packing, at_once)
    assert named == expected
    count, offset = first_fault(data)
    undecodable = reader.undecodable()
    if count:
        assert undecodable[0].count == count
        assert (undecodable[0].source, undecodable[0].first_offset) == ("x", offset)
    assert all(found.halves for found in undecodable[count > 0 :])
    assert suffix == ".jsonl" or len(undecodable) == (count > 0)


any_block = st.one_of(st.integers(1, 300), st.just(ALL))
every_packing = pytest.mark.parametrize("packing", PACKINGS)


@every_packing
@given(texts=texts_of_records, bad=bad_bytes, mark=st.booleans(), at_once=any_block)
def test_a_plain_file_is_one_text(
    packing: str, texts: list[str], bad: list[tuple[float, bytes]], mark: bool, at_once: int
) -> None:
    compare(".txt", damaged("\n".join([OPENING, *texts]).encode(), bad, mark), packing, at_once)


@every_packing
@given(
    texts=texts_of_records, half=st.lists(halves, max_size=3), ends=st.sampled_from(["\n", "\r\n", "\n\n", " \n"]),
    last=st.booleans(), bad=bad_bytes, mark=st.booleans(), at_once=any_block, order=st.randoms(use_true_random=False),
)  # fmt: skip
def test_lines_of_json_are_texts(
    packing: str, texts: list[str], half: list[str], ends: str, last: bool, bad: list[tuple[float, bytes]], mark: bool,
    at_once: int, order: object,
) -> None:  # fmt: skip
    lines = [json.dumps({"id": n, "text": text, "x": None}, ensure_ascii=n % 2 > 0) for n, text in enumerate(texts)]
    lines += [f'{{"text": "{piece}", "x": NaN}}' for piece in half] + ['{"text": null}', ' {"text": "a", "text": "b"} ']
    order.shuffle(lines)  # type: ignore[attr-defined]
    data = ends.join([json.dumps({"text": OPENING}), *lines]) + ends * last
    compare(".jsonl", damaged(data.encode(), bad, mark), packing, at_once)


@every_packing
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
@given(
    texts=texts_of_records, ends=st.sampled_from(["\n", "\r\n", "\r"]), quotes=st.booleans(), bad=bad_bytes,
    mark=st.booleans(), at_once=any_block,
)  # fmt: skip
def test_rows_of_a_table_are_texts(
    packing: str, suffix: str, texts: list[str], ends: str, quotes: bool, bad: list[tuple[float, bytes]], mark: bool,
    at_once: int,
) -> None:  # fmt: skip
    rows = [["id", "text"], ["0", OPENING], *([str(n), text] for n, text in enumerate(texts, 1)), [], ["short"]]
    if quotes:
        with io.StringIO(newline="") as file:
            csv.writer(file, csv.excel if suffix == ".csv" else csv.excel_tab, lineterminator=ends).writerows(rows)
            data = file.getvalue()
    else:  # whatever stands in the texts, quotes that are never closed among it
        data = ends.join(("," if suffix == ".csv" else "\t").join(row) for row in rows)
    compare(suffix, damaged(data.encode(), bad, mark), packing, at_once)


@every_packing
@given(
    values=st.lists(st.one_of(st.none(), st.binary(max_size=9), words.map(str.encode)), min_size=1, max_size=30),
    group=st.integers(1, 9), at_once=any_block,
)  # fmt: skip
def test_rows_of_parquet_are_texts(packing: str, values: list[bytes | None], group: int, at_once: int) -> None:
    values = [b"good text " * 200, *values]
    with io.BytesIO() as file:
        pq.write_table(pa.table({"text": pa.array(values, pa.binary())}), file, row_group_size=group)
        data = file.getvalue()
    named, reader = read(".parquet", data, packing, at_once)
    decoded = [(str(number), (value or b"").decode(errors="replace")) for number, value in enumerate(values, 1)]
    assert named == [pair for pair in decoded if pair[1].strip()]
    faults = [(number, *first_fault(value or b"")) for number, value in enumerate(values, 1)]
    count = sum(found for _, found, _ in faults)
    first = next(((number, offset) for number, found, offset in faults if found), None)
    expected = [Undecodable(f"x:{first[0]}", count, first[1])] if first else []
    assert reader.undecodable() == expected


@given(lines=st.lists(st.sampled_from(["one", "two", ""]), min_size=1), cut=st.integers(0, 200), at_once=any_block)
def test_a_range_of_lines_counts_from_where_it_begins(lines: list[str], cut: int, at_once: int) -> None:
    data = [json.dumps({"text": line}).encode() + b"\n" for line in lines]
    cut = min(cut, len(data) - 1)
    start = sum(map(len, data[:cut]))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.jsonl"
        path.write_bytes(b"".join(data) + b"wrong\n")
        reader = FileReader(path, "x", "text", start, start + len(b"".join(data[cut:])), at_once)
        blocks = list(reader.texts())
        assert list(itertools.chain.from_iterable(block.texts for block in blocks)) == lines[cut:]
        assert [n for block in blocks for n in block.numbers or ()] == list(range(1, len(lines) - cut + 1))
        with pytest.raises(UnreadableError, match=rf"is not JSON in line {len(lines) + 1} \("):
            list(FileReader(path, "x", "text", start, None, at_once).texts())


@pytest.mark.parametrize("line", ['{"text": "a"} {"text": "b"}\n', '{"text":\n"a"}'])
def test_a_record_is_a_line_and_a_line_a_record(line: str) -> None:
    """As many records as lines are not enough: two share one, and another has none or is broken over two."""
    data = '{"text": "first"}\n' + line + ('\n{"text": "b"}{"text": "c"}\n' if "\n" in line[:-1] else "\n")
    with pytest.raises(UnreadableError, match="is not JSON in line 2"):
        read(".jsonl", data.encode(), "", ALL)


def test_bytes_that_are_not_utf8_are_counted_in_fields_that_are_not_read() -> None:
    named, reader = read(".jsonl", b'{"text": "a long enough text", "x": "\xff"}\n', "", ALL)
    assert named == [("1", "a long enough text")]
    assert reader.undecodable() == [Undecodable("x", 1, 37)]


def test_halves_of_characters_are_told_apart_from_bytes() -> None:
    _, reader = read(".jsonl", b'{"text": "\\ud800 half of one"}\n{"text": "caf\xe9"}\n', "", ALL)
    bytes_, halves = reader.undecodable()
    assert (bytes_, halves) == (Undecodable("x", 1, 44), Undecodable("x:1", 1, 0, halves=True))
    assert bytes_.sentence().endswith("convert the file to UTF-8 to keep them.")
    assert "UTF-8" not in halves.sentence()
    assert halves.sentence().startswith("x:1 spells half a character")
    _, reader = read(".jsonl", b'{"text": "fine"}\n{"text": "ab\\ud800"}\n', "", ALL)
    assert reader.undecodable() == [Undecodable("x:2", 1, 2, halves=True)]


def test_a_table_that_is_no_proper_one_says_so_before_its_columns() -> None:
    for at_once in (5, ALL):
        with pytest.raises(UnreadableError, match="is not a proper table in line 2"):
            read(".csv", b'title,body\na,"b', "", at_once)


def test_a_quarter_may_be_undecodable_and_no_more() -> None:
    assert read(".txt", b"abc\xff", "", ALL)[0] == [("", "abc\ufffd")]
    with pytest.raises(UnreadableError, match="is binary or in another encoding than UTF-8"):
        read(".txt", b"ab\xff", "", ALL)


def test_megabytes_of_text_make_no_text_of_what_follows(tmp_path: Path) -> None:
    """In blocks: of a file that turns into something else after a long beginning, nothing is taken for text."""
    line = json.dumps({"text": "all is well " * 80}).encode() + b"\n"
    bad = b'{"text": "' + b"\xff" * 900 + b'"}\n'
    path = tmp_path / "mail.jsonl"
    path.write_bytes(line * (10 * 2**20 // len(line)) + bad * (3 * 2**20 // len(bad)))
    with pytest.raises(UnreadableError, match="another encoding than UTF-8"):
        for _ in FileReader(path, "mail.jsonl", "text", at_once=BLOCK).texts():
            pass


@pytest.mark.parametrize(
    ("suffix", "sign"), [(".csv", ","), (".csv", ";"), (".csv", "|"), (".csv", "\t"), (".tsv", "\t")]
)
@pytest.mark.parametrize("at_once", [5, ALL])
def test_a_row_longer_than_its_header_is_refused_with_line_and_both_counts(
    suffix: str, sign: str, at_once: int
) -> None:
    def table_of(*rows: str) -> bytes:
        return "\n".join(row.replace(",", sign) for row in ("id,text", *rows)).encode()

    assert read(suffix, table_of("1,a", "2,b,", "3"), "", at_once)[0] == [("1", "a"), ("2", "b")]
    middle, line = (['2,"b', 'c"'], 4) if suffix == ".csv" else (["2,b"], 4 - 1)
    reason = rf"^has 3 fields in line {line + 1}, but 2 columns; quote the texts that hold"
    with pytest.raises(UnreadableError, match=reason):
        read(suffix, table_of("1,a", *middle, "3,hello, and the rest"), "", at_once)


@pytest.mark.parametrize("sign", [";", "|", "\t"])
def test_a_csv_without_commas_is_read_or_its_columns_are_named(sign: str) -> None:
    data = f'id{sign}text\n1{sign}"one, two"\n'.encode()
    assert read(".csv", data, "", ALL)[0] == [("1", "one, two")]
    with pytest.raises(UnreadableError, match=r"has no column text, only id, body; name the column"):
        read(".csv", data.replace(b"text", b"body"), "", ALL)


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(UnreadableError, match="has 2 columns called text; give each column another name"):
        read(".csv", b"text,id,text\na,1,b\n", "", ALL)
    with io.BytesIO() as file:
        pq.write_table(pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"]), file)
        data = file.getvalue()
    with pytest.raises(UnreadableError, match="has 2 columns called text"):
        read(".parquet", data, "", ALL)


RECORDS = [{"id": 1, "text": "one"}, {"id": 2, "text": "two"}, {"id": 3, "text": ""}]


@every_packing
@pytest.mark.parametrize(
    ("value", "key"),
    [
        (json.dumps(RECORDS), ""),
        (json.dumps(RECORDS, indent=2), ""),
        (json.dumps({"version": 1, "data": RECORDS}), "data"),
        ("\n".join(map(json.dumps, RECORDS)), ""),
        ('[{"text": "one", "x": ' + "1" * 5000 + '}, {"text": "two"}]', ""),
    ],
)
def test_a_json_file_of_records_is_read_record_by_record(packing: str, value: str, key: str) -> None:
    for at_once in (7, ALL):
        named, reader = read(".json", value.encode(), packing, at_once)
        assert named == [("1", "one"), ("2", "two")]
        assert reader.has_records
        assert reader.remarks() == ([f"The records of x are those under its key {key}."] if key else [])


@pytest.mark.parametrize(
    "text",
    ['{"name": "x", "list": [1, 2]}', "[1, 2]", "[]", "[{", '{"a": [{}], "b": [{}]}', "plain", '{"text": "a"} x'],
)
def test_any_other_json_file_is_one_text(text: str) -> None:
    named, reader = read(".json", text.encode(), "", ALL)
    assert named == [("", text)]
    assert not reader.has_records


def test_a_json_file_without_the_field_names_those_that_are_there() -> None:
    with pytest.raises(UnreadableError, match="has no field text in record 1, only id, body; name the field"):
        read(".json", b'[{"id": 1, "body": "one"}]', "", ALL)
    with pytest.raises(UnreadableError, match="has no text in field text of record 2 but 5"):
        read(".json", b'[{"text": "a"}, {"text": 5}]', "", ALL)


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
@pytest.mark.parametrize("bad", ["{", "5", '{"id": 1}', '{"text": 5}'])
def test_a_record_that_is_none_costs_only_itself_where_its_file_was_only_found(
    tmp_path: Path, suffix: str, bad: str
) -> None:
    if suffix == ".json" and bad in ("{", "5"):
        return  # then the file is no list of records
    lines = ['{"text": "one"}', bad, '{"text": "three"}', bad]
    path = tmp_path / f"x{suffix}"
    path.write_text("\n".join(lines) if suffix == ".jsonl" else f"[{','.join(lines)}]")
    with pytest.raises(UnreadableError):
        list(FileReader(path, "x", "text").texts())
    reader = FileReader(path, "x", "text", strict=False)
    blocks = list(reader.texts())
    assert [(n, text) for texts, numbers in blocks for n, text in zip(numbers or (), texts, strict=True)] == [
        (1, "one"),
        (3, "three"),
    ]
    (remark,) = reader.remarks()
    assert remark.startswith("x ")
    assert " 2" in remark
    assert remark.endswith("; 2 records are left out.")
    path.write_text(bad if suffix == ".jsonl" else f"[{bad}]")
    with pytest.raises(UnreadableError):
        list(FileReader(path, "x", "text", strict=False).texts())


def test_a_quarter_of_a_parquet_column_may_be_undecodable_and_no_more() -> None:
    for values, fine in (
        ([b"abc\xff"], True),
        ([b"ab\xff"], False),
        ([b"a long text that is good", b"\xff" * 9], False),
    ):
        with io.BytesIO() as file:
            pq.write_table(pa.table({"text": pa.array(values, pa.binary())}), file)
            data = file.getvalue()
        if fine:
            assert read(".parquet", data, "", ALL)[0] == [("1", "abc\ufffd")]
        else:
            with pytest.raises(UnreadableError, match="another encoding than UTF-8"):
                read(".parquet", data, "", ALL)


def test_a_very_long_number_in_another_field_is_no_trouble() -> None:
    line = '{"x": ' + "7" * 5000 + ', "text": "a\\ud800"}\n{"text": "b", "x": -' + "8" * 5000 + "}"
    assert read(".jsonl", line.encode(), "", ALL)[0] == [("1", "a\ufffd"), ("2", "b")]
