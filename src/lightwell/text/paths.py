"""The names of files as a caller may give them: one by one, as a list, as strings or as Path objects; ~ is expanded."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from lightwell.errors import TextError

TextPaths = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A file, folder or glob, or several."""
SHOWN = 60
"""Characters of a name that a sentence shows."""


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


def expanded(name: str | os.PathLike[str]) -> Path:
    """Return the path of a name: ~ and ~user at its beginning stand for a home, as in a shell.

    Everything else is taken as it is, also ~$notes.md and ~backup.txt, which editors make.
    """
    text = os.fspath(name)
    if text.startswith("~") and not (text == "~" or text.startswith("~/")) and os.path.lexists(text):
        return Path(text)
    return Path(os.path.expanduser(text))  # noqa: PTH111 - Path.expanduser raises for an unknown user


def shown(path: str | os.PathLike[str]) -> str:
    """Return a name for a sentence: bytes that are not UTF-8 become U+FFFD, and a line break is spelt out."""
    return os.fsencode(path).decode(errors="replace").replace("\n", "\\n")


def shortened(name: str) -> str:
    """Return a name of at most SHOWN characters; of a longer one the beginning and the end, with ... between."""
    return name if len(name) <= SHOWN else f"{name[: SHOWN // 2]}...{name[-SHOWN // 2 + 3 :]}"


def is_storable(name: str) -> bool:
    """Return whether a name can be written into a file of text: its bytes are UTF-8, and no zero is among them."""
    return "\0" not in name and not any("\ud800" <= letter <= "\udfff" for letter in name)
