"""Names become files: what a user typed (files, folders, globs) becomes a sorted list of files to read."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lightwell.errors import TextError
from lightwell.settings import nearest


@dataclass(frozen=True)
class Source:
    """One file to read. `named` says that the user typed its name, so that trouble with it is an error."""

    path: Path
    name: str
    named: bool


@dataclass
class Sources:
    """Files in reading order, and (name, reason) of what was found but will not be read."""

    files: list[Source] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)


def find_sources(names: Sequence[str]) -> Sources:
    """Expand files, folders (recursively) and globs (`**` goes into folders) to files, each at most once.

    A name that exists is never taken as a glob, whatever characters it holds. Hidden files and folders inside a named
    folder, and linked folders (which may lead in a circle), are skipped with that reason.

    Raises:
        TextError: a name that does not exist, or a glob that matches nothing.
    """
    sources = Sources()
    for name in names:
        path = Path(name).expanduser()
        if path.is_dir():
            walk_folder(path, sources)
        elif path.exists():
            sources.files.append(Source(path, name, named=True))
        elif glob.has_magic(name):
            _match(path, sources)
        else:
            raise TextError(f"There is no file or folder {name}.{_nearest_path(path)}")
    sources.files = list(_once(sources.files))
    return sources


def walk_folder(folder: Path, sources: Sources, leave_out: Collection[str] = ()) -> None:
    """Add the files of a folder and its folders, sorted by name; folders named in `leave_out` are not entered."""

    def cannot_read(error: OSError) -> None:
        sources.skipped.append((str(error.filename), f"cannot be read ({error.strerror})"))

    for here, folders, files in os.walk(folder, onerror=cannot_read):
        inside = Path(here)
        entered = []
        for name in sorted(folders):
            if name.startswith("."):
                sources.skipped.append((str(inside / name), "is hidden"))
            elif (inside / name).is_symlink():
                sources.skipped.append((str(inside / name), "is a link to a folder"))
            elif name not in leave_out:
                entered.append(name)
        folders[:] = entered  # os.walk goes into what is left in this list, in its order
        for name in sorted(files):
            if name.startswith("."):
                sources.skipped.append((str(inside / name), "is hidden"))
            else:
                sources.files.append(Source(inside / name, str(inside / name), named=False))


def _match(pattern: Path, sources: Sources) -> None:
    """Add what a glob matches. A folder it matches is read whole, unless `**` goes into the folders anyway."""
    matches = [Path(match) for match in sorted(glob.glob(str(pattern), recursive=True))]  # noqa: PTH207, sorts and hides
    if not matches:
        raise TextError(f"Nothing matches {pattern}; check the folder, or put the pattern in quotes.")
    for match in matches:
        if not match.is_dir():
            sources.files.append(Source(match, str(match), named=False))
        elif "**" not in str(pattern):
            walk_folder(match, sources)


def _once(files: Sequence[Source]) -> Iterator[Source]:
    """Yield each file the first time it comes, so that `notes notes/*.md` does not read a file twice."""
    known: set[Path] = set()
    for source in files:
        real = source.path.resolve()
        if real not in known:
            known.add(real)
            yield source


def _nearest_path(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    return nearest(path.name, names)
