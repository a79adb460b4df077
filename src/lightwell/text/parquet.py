"""Tables in .parquet files, a few rows at a time, so that a file may be larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightwell.text.formats import Decoding, UnreadableError, check_text_column

BLOCK = 2 << 20
"""Bytes of text that are wanted at a time."""
READ_AT_ONCE = 1 << 20
"""Bytes that pyarrow reads of a column at a time."""
MOST_ROWS = 8192


def group_sizes(path: Path) -> list[int]:
    """Uncompressed bytes of each row group.

    Raises:
        UnreadableError: it is not a .parquet file.
    """
    file = _open(path)
    return [file.metadata.row_group(group).total_byte_size for group in range(file.num_row_groups)]


def read_groups(path: Path, name: str, field: str, groups: range, decoding: Decoding) -> Iterator[list[str]]:
    """Yield the texts of column `field` in some row groups, in blocks; a missing value is an empty text.

    Raises:
        UnreadableError: no such column, or the file is damaged.
    """
    import pyarrow as pa

    file = _open(path)
    kind = check_text_column(file.schema_arrow, field)
    before = sum(file.metadata.row_group(group).num_rows for group in range(groups.start))
    for group in groups:
        about = file.metadata.row_group(group)
        rows = max(1, min(MOST_ROWS, BLOCK * about.num_rows // max(1, about.total_byte_size)))
        try:
            for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=[field], use_threads=False):
                yield _texts(batch.column(0), kind, name, before, decoding)
                before += batch.num_rows
        except (pa.ArrowException, OSError) as error:
            raise _damaged(error) from None


def _texts(column: Any, kind: Any, name: str, before: int, decoding: Decoding) -> list[str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    as_bytes = pc.cast(pc.cast(column, kind), pa.large_binary())
    try:
        return [text or "" for text in pc.cast(as_bytes, pa.large_string()).to_pylist()]
    except pa.ArrowInvalid:  # not all of it is UTF-8, whatever the file calls it
        values = enumerate(as_bytes.to_pylist(), start=before + 1)
        return [decoding.decode(value or b"", f"{name}:{number}") for number, value in values]


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, buffer_size=READ_AT_ONCE, pre_buffer=False)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(error) from None


def _damaged(error: Exception) -> UnreadableError:
    first_line = str(error).splitlines()[0]
    return UnreadableError(f"is not a whole .parquet file ({first_line})", "make or download it again")
