"""Tables in .parquet files, a few rows at a time, so that a file may be larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightwell.text.decoding import Decoding, UnreadableError, missing, several

READ_AT_ONCE = 1 << 20
"""Bytes that pyarrow reads of a column at a time."""
MOST_ROWS = 8192


def group_sizes(path: Path) -> list[int]:
    """Return the uncompressed bytes of each row group.

    Raises:
        UnreadableError: it is not a .parquet file.
    """
    file = _open(path)
    return [file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups)]


def read_groups(
    content: Path | bytes, name: str, field: str, groups: range | None, decoding: Decoding, at_once: int
) -> Iterator[list[str]]:
    """Yield the texts of column `field` in some row groups, or in all, in blocks of about `at_once` bytes.

    content: the file, or its bytes. A missing value is an empty text.

    Raises:
        UnreadableError: no such column, or the file is damaged.
    """
    import pyarrow as pa

    file = _open(content if isinstance(content, Path) else pa.BufferReader(content))
    kind = _text_type(file.schema_arrow, field)
    groups = range(file.num_row_groups) if groups is None else groups
    number = sum(file.metadata.row_group(group).num_rows for group in range(groups.start))
    for group in groups:
        about = file.metadata.row_group(group)
        rows = max(1, min(MOST_ROWS, at_once * about.num_rows // max(1, about.total_byte_size)))
        try:
            for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=[field], use_threads=False):
                yield _texts(batch.column(0), kind, name, number, decoding)
                number += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise _damaged(error) from None


def _texts(column: Any, kind: Any, name: str, number: int, decoding: Decoding) -> list[str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    as_bytes = pc.cast(pc.cast(column, kind), pa.large_binary())
    try:
        return [text or "" for text in pc.cast(as_bytes, pa.large_string()).to_pylist()]
    except pa.ArrowInvalid:  # not all of it is UTF-8, whatever the file calls it
        values = enumerate(as_bytes.to_pylist(), start=number + 1)
        return [decoding.decode(value or b"", f"{name}:{number}") for number, value in values]


def _text_type(schema: Any, field: str) -> Any:
    """Return the pyarrow type of a column's values.

    Raises:
        UnreadableError: there is no such column, or it holds no text.
    """
    import pyarrow as pa

    if field not in schema.names:
        raise missing("column", field, schema.names)
    if (count := schema.names.count(field)) > 1:
        raise several(field, count)
    kind = schema.field(field).type
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    checks = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    if not any(check(kind) for check in checks):
        remedy = "name the column that holds the text with --text-field"
        raise UnreadableError(f"has no text in column {field} but {kind}", remedy)
    return kind


def _open(content: Any) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(content, buffer_size=READ_AT_ONCE, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(error) from None


def _damaged(error: Exception) -> UnreadableError:
    first_line = str(error).splitlines()[0]
    return UnreadableError(f"is not a whole .parquet file ({first_line})", "make or download it again")
