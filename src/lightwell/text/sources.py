"""Names become files: what a user typed (files, folders, globs) becomes a sorted list of files to read."""

from __future__ import annotations

import errno
import glob
import itertools
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lightwell.errors import TextError
from lightwell.settings import nearest
from lightwell.text.own_folders import own_folder
from lightwell.text.paths import expanded, is_storable, shortened, shown


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

    def skip(self, path: Path, reason: str) -> None:
        """Note that something was found and is not read; once, however often it is found."""
        if (shown(path), reason) not in self.skipped:
            self.skipped.append((shown(path), reason))

    def find(self, path: Path) -> None:
        """Add a file that was found."""
        self.files.append(Source(path, shown(path), named=False))


def find_sources(names: Sequence[str]) -> Sources:
    """Expand files, folders (recursively) and globs (`**` goes into folders) to files, each at most once.

    A name that exists is never taken as a glob, whatever characters it holds. In a named folder and below a glob these
    are skipped with their reason: hidden files and folders, linked folders (which may lead in a circle), and what
    Lightwell itself has written (runs, prepared text, results of the lab).

    Raises:
        TextError: a name that does not exist or is no path, or a glob that matches nothing.
    """
    sources = Sources()
    for name in names:
        path = _named(name)
        if _exists(path, name):
            if path.is_dir():
                walk_folder(path, sources)
            else:
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
        sources.skip(Path(str(error.filename)), f"cannot be read ({error.strerror})")

    for here, folders, files in os.walk(folder, onerror=cannot_read):
        inside = Path(here)
        entered = []
        for name in sorted(folders):
            if name.startswith("."):
                sources.skip(inside / name, "is hidden")
            elif (inside / name).is_symlink():
                sources.skip(inside / name, "is a link to a folder")
            elif kind := own_folder(inside / name):
                sources.skip(inside / name, kind)
            elif name not in leave_out:
                entered.append(name)
        folders[:] = entered  # os.walk goes into what is left in this list, in its order
        for name in sorted(files):
            if name.startswith("."):
                sources.skip(inside / name, "is hidden")
            else:
                sources.find(inside / name)


def _named(name: str) -> Path:
    """Return the path of a name that was typed.

    Raises:
        TextError: it is none.
    """
    if not name:
        raise TextError("One of the paths is empty; name a file, a folder or a glob, or no path at all.")
    if not is_storable(name):
        raise TextError(
            f"The name {shortened(shown(name))} is not UTF-8, and no file of settings can hold it; rename it, "
            "or name its folder."
        )
    return expanded(name)


def _exists(path: Path, name: str) -> bool:
    """Return whether something is there.

    Raises:
        TextError: it cannot be looked at.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise TextError(
                f"{shortened(shown(name))} is too long for the name of a file; put a text into a file, and name that."
            ) from None
        remedy = "remove the link" if error.errno == errno.ELOOP else "check that it is there and readable"
        raise TextError(f"{shortened(shown(name))} cannot be read ({error.strerror}); {remedy}.") from None
    return True


def _match(pattern: Path, sources: Sources) -> None:
    """Add what a glob matches. A folder it matches is read whole, unless `**` goes into the folders anyway."""
    fixed = list(itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    root, parts = Path(*fixed), pattern.parts[len(fixed) :]
    count = len(sources.files) + len(sources.skipped)
    matches = sorted(set(_matches(root, parts, sources)))
    if not matches and len(sources.files) + len(sources.skipped) == count:
        raise TextError(f"Nothing matches {pattern}; check the folder, or put the pattern in quotes.")
    for match in matches:
        if not match.is_dir():
            sources.find(match)
        elif "**" not in parts:
            walk_folder(match, sources)


def _matches(folder: Path, parts: Sequence[str], sources: Sources) -> Iterator[Path]:
    """Yield what the parts of a glob match below a folder.

    Hidden names are matched only by a part that begins with a dot. `**` goes into folders, but not through links, which
    may lead in a circle; no part goes into what Lightwell has written.
    """
    part, rest = parts[0], parts[1:]
    if part == "**":
        yield from _matches(folder, rest or ["*"], sources)
        for inside in _entries(folder):
            if inside.is_dir() and not inside.is_symlink() and _enters(inside, sources):
                yield from _matches(inside, parts, sources)
        return
    pattern = glob.escape(part) if not glob.has_magic(part) else part
    for name in glob.glob(pattern, root_dir=folder):  # noqa: PTH207 - Path.glob does not leave out what is hidden
        match = folder / name
        if not rest:
            if not match.is_dir() or _enters(match, sources):
                yield match
        elif match.is_dir() and _enters(match, sources):
            yield from _matches(match, rest, sources)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError:
        return []


def _enters(folder: Path, sources: Sources) -> bool:
    """Return whether a glob may go into a folder; note the reason where it is one of Lightwell's own."""
    if kind := own_folder(folder):
        sources.skip(folder, kind)
    return not kind


def _once(files: Sequence[Source]) -> Iterator[Source]:
    """Yield each file the first time it comes, so that `notes notes/*.md` does not read a file twice."""
    known: set[str] = set()
    for source in files:
        real = os.path.realpath(source.path)  # Path.resolve raises where a link leads to itself
        if real not in known:
            known.add(real)
            yield source


def _nearest_path(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    return nearest(path.name, names)
