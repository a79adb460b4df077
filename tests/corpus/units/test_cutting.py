"""Units hold every byte of the sources once, and are cut where nothing is torn apart."""

from __future__ import annotations

import gzip
import itertools
import os
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwell.corpus.units.cutting import Unit, cut_in_units, cut_text
from lightwell.errors import TextError
from lightwell.text.parquet import group_sizes
from lightwell.text.sources import find_sources

lines = st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40), max_size=60)


def units_of(*paths: Path, size: int) -> list[Unit]:
    return cut_in_units(find_sources([str(path) for path in paths]), size)


@given(lines=lines, size=st.integers(4, 400), suffix=st.sampled_from([".txt", ".jsonl"]))
def test_the_parts_of_a_file_are_the_file_cut_between_lines_and_characters(
    lines: list[str], size: int, suffix: str
) -> None:
    data = "".join(f"{line}\n" for line in lines).encode() or b"x"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a{suffix}"
        path.write_bytes(data)
        units = units_of(path, size=size)
    parts = [part for unit in units for part in unit.ranges]
    assert parts[0].start == 0
    assert all(before.end == after.start for before, after in itertools.pairwise(parts))
    assert parts[-1].end == len(data)
    for part in parts[1:]:
        before, after = data[: part.start], data[part.start :]
        before.decode(), after.decode()  # no character is torn apart
        assert suffix == ".txt" or before.endswith(b"\n")
    assert [unit.number for unit in units] == list(range(len(units)))


@given(lines=lines, size=st.integers(4, 400))
def test_the_pieces_of_a_text_are_the_text(lines: list[str], size: int) -> None:
    data = "\n".join(lines).encode()
    pieces = list(cut_text(data, size))
    assert b"".join(pieces) == data
    assert all(piece for piece in pieces)
    for piece in pieces:
        piece.decode()
        assert len(piece) <= size + max(4, size // 4) * 2


def test_a_text_is_cut_at_an_empty_line_sooner_than_at_a_line() -> None:
    text = b"a\n" * 50 + b"\n" + b"b\n" * 50
    assert next(cut_text(text, 95)) == b"a\n" * 50 + b"\n"
    assert next(cut_text(text, 51)) == b"a\n" * 26


def test_small_files_share_a_unit_and_keep_their_order(tmp_path: Path) -> None:
    for number in range(20):
        (tmp_path / f"{number:02}.txt").write_text("x" * 100)
    units = units_of(tmp_path, size=350)
    names = [[part.source.path.name for part in unit.ranges] for unit in units]
    assert [len(unit) for unit in names] == [3] * 6 + [2]
    assert list(itertools.chain.from_iterable(names)) == [f"{number:02}.txt" for number in range(20)]
    assert all(part.kind == "file" for unit in units for part in unit.ranges)


def test_a_packed_file_and_a_table_are_read_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"text": "x"}\n' * 10_000))
    (tmp_path / "b.csv").write_text("text\n" + "x\n" * 1000)
    parts = [part for unit in units_of(tmp_path, size=50) for part in unit.ranges]
    assert [(part.source.path.name, part.kind) for part in parts] == [("a.jsonl.gz", "stream"), ("b.csv", "stream")]


def test_row_groups_fill_a_unit(tmp_path: Path) -> None:
    table = pa.table({"text": [f"text {number}" for number in range(1000)]})
    pq.write_table(table, tmp_path / "a.parquet", row_group_size=100)
    one = units_of(tmp_path, size=1 << 20)
    many = units_of(tmp_path, size=2500)
    assert [(part.start, part.end) for unit in one for part in unit.ranges] == [(0, 10)]
    ranges = [(part.start, part.end) for unit in many for part in unit.ranges]
    assert len(ranges) > 3
    assert list(itertools.chain.from_iterable(range(*bounds) for bounds in ranges)) == list(range(10))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.txt", b"", "is empty"),
        ("a.txt", b"\0" * 100, "is binary"),
        ("a.jsonl", "{}\n".encode("utf-16") * 40, "is UTF-16 text"),
        ("a.parquet", b"no table", "is not a whole .parquet file"),
        ("a.parquet.gz", b"no table", "is a .parquet file packed as .gz"),
    ],
)
def test_what_is_no_text_is_refused_by_name_and_skipped_in_a_folder(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    (tmp_path / name).write_bytes(content)
    sources = find_sources([str(tmp_path)])
    assert cut_in_units(sources, 50) == []
    assert sources.skipped[0][0] == str(tmp_path / name)
    assert sources.skipped[0][1].startswith(reason)
    with pytest.raises(TextError, match=f"{name} {reason}"):
        units_of(tmp_path / name, size=50)


def test_what_fills_a_unit_exactly_still_belongs_to_it(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text("x" * 100)
    assert [len(unit.ranges) for unit in units_of(tmp_path, size=200)] == [2, 2]
    pq.write_table(pa.table({"text": ["one"] * 4}), tmp_path / "a.parquet", row_group_size=1)
    (first, *_) = group_sizes(tmp_path / "a.parquet")
    ranges = [file_range for unit in units_of(tmp_path / "a.parquet", size=2 * first) for file_range in unit.ranges]
    assert [(file_range.start, file_range.end) for file_range in ranges] == [(0, 2), (2, 4)]


def test_a_line_that_ends_where_a_cut_is_wanted_is_cut_there(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(('{"text": "' + "x" * 87 + '"}\n') * 6)  # lines of 100 bytes
    ranges = [file_range for unit in units_of(tmp_path, size=200) for file_range in unit.ranges]
    assert [(file_range.start, file_range.end) for file_range in ranges] == [(0, 200), (200, 400), (400, 600)]


def bounds(path: Path, size: int) -> list[tuple[int, int]]:
    return [(part.start, part.end) for unit in units_of(path, size=size) for part in unit.ranges]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        # Ranges of 100 bytes are cut in the 25 after them: at an empty line, else a line, else a character.
        (b"x" * 125, [(0, 125)]),
        (b"x" * 126, [(0, 100), (100, 126)]),
        (b"x" * 105 + b"\n" + b"x" * 10 + b"\n\n" + b"x" * 50, [(0, 118), (118, 168)]),
        (b"x" * 105 + b"\n" + b"x" * 10 + b"\n" + b"x" * 50, [(0, 106), (106, 167)]),
        (b"x" * 124 + b"\n" + b"x" * 50, [(0, 125), (125, 175)]),
        (b"x" * 125 + b"\n" + b"x" * 50, [(0, 100), (100, 176)]),
        (b"x" * 99 + "é".encode() * 30, [(0, 101), (101, 159)]),
        (b"x" * 301, [(0, 100), (100, 200), (200, 301)]),
    ],
)
def test_a_plain_file_is_cut_within_a_quarter_after_the_wanted_place(
    tmp_path: Path, data: bytes, expected: list[tuple[int, int]]
) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    assert bounds(tmp_path / "a.txt", 100) == expected
    assert [len(piece) for piece in cut_text(data, 100)] == [end - start for start, end in expected]
    units = units_of(tmp_path / "a.txt", size=100)
    assert [(unit.size, unit.ranges[0].kind) for unit in units] == [(end - start, "plain") for start, end in expected]


def test_a_long_line_is_never_cut_and_what_fits_a_unit_is_one_range(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"x" * 150 + b"\n" + b"y" * 200)
    assert bounds(path, 100) == [(0, 151), (151, 351)]
    path.write_bytes(b"x" * 99 + b"\n")
    assert bounds(path, 100) == [(0, 100)]
    path.write_bytes(b"x" * 99 + b"\n" + b"y" * 26)  # more than a quarter beyond
    assert bounds(path, 100) == [(0, 100), (100, 126)]


def test_the_size_of_a_unit_is_its_text_and_its_name_its_number(tmp_path: Path) -> None:
    for name in ("a.jsonl.gz", "b.csv", "c.txt"):
        (tmp_path / name).write_bytes(b"x" * 10)
    (unit,) = units_of(tmp_path, size=60)  # a packed one counts four times
    assert (unit.size, unit.name) == (60, "00000")
    assert [unit.size for unit in units_of(tmp_path, size=59)] == [50, 10]
    assert Unit(123_456, (), 0).name == "123456"
    assert Unit(42, (), 0).name == "00042"


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.txt")
    with pytest.raises(TextError, match=r"a\.txt is not a regular file; name a file that holds text\."):
        units_of(tmp_path / "a.txt", size=50)


def test_a_plain_file_of_exactly_a_unit_is_one_document_and_a_byte_more_is_several(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for size, kinds in ((99, ["file"]), (100, ["file"]), (101, ["plain"])):
        path.write_bytes(b"x" * size)
        assert [part.kind for unit in units_of(path, size=100) for part in unit.ranges] == kinds
