"""A .json file as records: a list of objects, alone or under one key of an object; anything else is one text.

    [{"body": "one"}, {"body": "two"}]            two records
    {"version": 1, "data": [{"body": "one"}]}     one record, under the key data
    {"name": "lightwell", "scripts": {}}          no records: a text like any other

Where each line is an object of its own, the file is read as .jsonl is.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

LARGEST = 1 << 30
"""Bytes of a .json file that is read as records, unpacked: all of it must be in memory, several times."""


class Records(NamedTuple):
    """The objects of a file."""

    objects: list[dict[str, Any]]
    key: str | None
    """The key that they are under; None where the file is a list."""


def records_of(text: str) -> Records | None:
    """Return the records of a .json file; None where it is no list of objects, nor an object with one such list."""
    if not text.lstrip().startswith(("[", "{")):
        return None
    try:
        value = json.loads(text, parse_int=whole_number)
    except (ValueError, RecursionError):
        return _records_in_lines(text)
    if _are_objects(value):
        return Records(value, None)
    lists = [key for key, inside in value.items() if _are_objects(inside)] if isinstance(value, dict) else []
    return Records(value[lists[0]], lists[0]) if len(lists) == 1 else None


def _records_in_lines(text: str) -> Records | None:
    """Return the records of a file that holds an object in each line, as a .jsonl does."""
    objects = []
    for line in text.split("\n"):
        if line.strip():
            try:
                objects.append(json.loads(line, parse_int=whole_number))
            except (ValueError, RecursionError):
                return None
    return Records(objects, None) if _are_objects(objects) else None


def whole_number(digits: str) -> float:
    """Return a whole number of any length: Python's own refuses more than 4,300 digits."""
    return int(digits) if len(digits) < 4000 else float(digits)


def _are_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, dict) for each in value)
