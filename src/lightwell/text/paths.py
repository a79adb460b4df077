"""The names of texts as a caller may give them: one by one, as a list, as strings or as Path objects."""

from __future__ import annotations

import os
from collections.abc import Iterable

from lightwell.errors import TextError

TextPaths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A file, folder or glob, or several."""


def text_paths(*given: TextPaths) -> tuple[str, ...]:
    """Return all of them in order, as strings.

    Raises:
        TextError: something is not a path.
    """
    names: list[str] = []
    for paths in given:
        for path in [paths] if isinstance(paths, str | os.PathLike) or not isinstance(paths, Iterable) else paths:
            if not isinstance(path, str | os.PathLike):
                raise TextError(f"A text is named by its path, a str or a Path, but {path!r} is given.")
            names.append(os.fspath(path))
    return tuple(names)
