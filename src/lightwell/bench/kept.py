"""The results file of a benchmark: written after every shape, so that a stop or a crash loses at most the one at work.

A file whose benchmark is not finished is gone on with by the same command; one that is finished, or anything else under
that name, is never written over.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightwell.atomic import write_file
from lightwell.bench import table
from lightwell.bench.contenders.shapes import Shape, shape
from lightwell.bench.turns.results import FORMAT
from lightwell.errors import RunError, SettingError
from lightwell.plain_json import plain_json


def begun(path: Path, asked: dict[str, Any], host: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the shapes that a stopped benchmark has finished in this file; none where there is no file.

    Raises:
        SettingError: the file is not of a benchmark, is finished, or was begun with other settings or elsewhere.
    """
    elsewhere = "name another file with --out"
    try:
        before = json.loads(path.read_bytes())
        if before["format"] != FORMAT or not all(map(is_readable, before["shapes"])):
            raise ValueError
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SettingError(f"{path} cannot be read ({error.strerror}); {elsewhere}.") from None
    except table.DAMAGED:
        raise SettingError(
            f"{path} is there already and holds no results that can be gone on with; {elsewhere}."
        ) from None
    if before.get("finished"):
        raise SettingError(f"{path} holds finished results; {elsewhere}, or move it away.")
    if before.get("asked") != asked or before.get("host") != host:
        what = "another machine" if before.get("asked") == asked else "other settings"
        raise SettingError(f"{path} was begun with {what}; give the same command as before there, or {elsewhere}.")
    return [result for result in before["shapes"] if result["finished"]]


def is_readable(result: dict[str, Any]) -> bool:
    """Return whether a shape is known and its results can be shown.

    Raises:
        One of `table.DAMAGED` instead, from what is not of its type.
    """
    for line in (table.headings(result), *table.rows(result), table.failures(result), table.remarks(result)):
        "".join(line)
    known = Shape(**result["shape"]) == shape(result["shape"]["name"])
    return known and isinstance(result["finished"], bool) and result["rounds"] + result["steps_per_round"] > 0


def write(path: Path, results: Mapping[str, Any]) -> None:
    """Put the results into the file: all of them, or, where that fails, what was in it.

    Raises:
        RunError: it cannot be written.
    """
    try:
        write_file(path, (plain_json(results, indent=1) + "\n").encode())
    except OSError as error:
        raise RunError(f"{path} could not be written ({error.strerror or error}).") from None
