"""A file or folder is the old one or the new one, whatever call fails and wherever the machine stops."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lightwell.atomic import replace_folder, restore_folder, sync, write_file
from lightwell.corpus.shards import write_json
from lightwell.errors import RunError
from lightwell.training.runs.records import write_run_file
from small import raising, system_error

OLD, NEW = b"old " * 9, b"new" * 50_000
"""Contents of two lengths, so that a mixture is neither; the new one is larger than what a file buffers."""


class CrashError(BaseException):
    """The machine stops: no call after this one does anything."""


class Disk:
    """Counts and names the calls that reach the disk; the call number `fatal` fails, or is the last that is made."""

    def __init__(self, fatal: int = -1, crash: bool = False) -> None:
        self.fatal, self.crash = fatal, crash
        self.calls: list[str] = []

    def call(self, what: str, work: Callable[[], Any], halfway: Callable[[], Any] = lambda: None) -> Any:
        number = len(self.calls)
        self.calls.append(what)
        if self.crash and number >= self.fatal:
            raise CrashError
        if number == self.fatal:
            halfway()
            raise system_error(errno.ENOSPC)
        return work()


class WatchedFile:
    """A file whose writing goes through the disk; a failing write has written the first half."""

    def __init__(self, file: Any, disk: Disk) -> None:
        self.file, self.disk = file, disk

    def __enter__(self) -> WatchedFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.file.close()

    def write(self, data: bytes) -> int:
        return int(
            self.disk.call("write", lambda: self.file.write(data), lambda: self.file.write(data[: len(data) // 2]))
        )

    def flush(self) -> None:
        self.disk.call("flush", self.file.flush)

    def fileno(self) -> int:
        return int(self.file.fileno())


@contextmanager
def watched(disk: Disk) -> Iterator[None]:
    """Everything that atomic.py does to the disk goes through `disk`."""
    real_open, real_sync, real_unlink, real_rmtree = Path.open, os.fsync, Path.unlink, shutil.rmtree

    def name_of(descriptor: int) -> str:
        return Path(f"/proc/self/fd/{descriptor}").readlink().name.split(".")[0]

    def opened(path: Path, *given: Any, **named: Any) -> WatchedFile:
        return WatchedFile(real_open(path, *given, **named), disk)

    def renames(name: str) -> Callable[[Path, Path], Path]:
        real = getattr(Path, name)
        return lambda path, to: disk.call(f"rename to {to.name}", lambda: real(path, to))

    def removed(path: Path, ignore_errors: bool) -> None:
        assert ignore_errors
        with contextlib.suppress(OSError):
            disk.call(f"remove {path.name}", lambda: real_rmtree(path))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "open", opened)
        patch.setattr(os, "fsync", lambda file: disk.call(f"sync {name_of(file)}", lambda: real_sync(file)))
        for name in ("rename", "replace"):
            patch.setattr(Path, name, renames(name))
        patch.setattr(Path, "unlink", lambda path: disk.call("unlink", lambda: real_unlink(path)))
        patch.setattr(shutil, "rmtree", removed)
        yield


class OneFile:
    """A file in a folder of its own, written by `write_file`."""

    CALLS = ("write", "flush", "sync target", "rename to target", "sync home")

    def __init__(self, home: Path, older: bool) -> None:
        self.path = home / "target"
        if older:
            self.path.write_bytes(OLD)

    def prepare(self) -> None:
        """Nothing is needed."""

    def put(self) -> None:
        write_file(self.path, NEW)

    def repair(self) -> None:
        """Nothing is needed."""

    def content(self) -> bytes | None:
        return self.path.read_bytes() if self.path.exists() else None


class OneFolder:
    """A folder of two files, replaced by `replace_folder`, as a run is."""

    CALLS = ("sync beside", "rename to target", "sync home", "remove aside")
    OVER_AN_OLDER = (
        "sync beside",
        "remove aside",
        "rename to aside",
        "rename to target",
        "sync home",
        "remove aside",
    )

    def __init__(self, home: Path, older: bool) -> None:
        self.path, self.beside, self.aside = home / "target", home / "beside", home / "aside"
        if older:
            self._fill(self.path, OLD)

    def prepare(self) -> None:
        """Write the new folder beside."""
        shutil.rmtree(self.beside, ignore_errors=True)
        self._fill(self.beside, NEW)

    def put(self) -> None:
        replace_folder(self.beside, self.path, self.aside)

    def repair(self) -> None:
        """Do what whoever opens the folder after a crash does."""
        restore_folder(self.path, self.aside)

    def content(self) -> bytes | None:
        if not self.path.exists():
            return None
        (content,) = {(self.path / name).read_bytes() for name in ("one", "two")}
        return content

    def _fill(self, folder: Path, content: bytes) -> None:
        folder.mkdir()
        for name in ("one", "two"):
            (folder / name).write_bytes(content)


@pytest.mark.parametrize("crash", [False, True], ids=["fails", "crashes"])
@pytest.mark.parametrize("older", [False, True], ids=["new", "older"])
@pytest.mark.parametrize("kind", [OneFile, OneFolder])
def test_whatever_call_fails_the_target_is_the_old_or_the_new_one(
    tmp_path: Path, kind: type[OneFile] | type[OneFolder], older: bool, crash: bool
) -> None:
    calls = expected_calls(kind, older)
    for fatal in range(len(calls)):
        home = tmp_path / str(fatal) / "home"
        home.mkdir(parents=True)
        target, disk = kind(home, older), Disk(fatal, crash)
        target.prepare()
        ignored = calls[fatal] == "remove aside" and not crash  # what cannot be removed is in nobody's way
        trouble = contextlib.nullcontext() if ignored else pytest.raises(CrashError if crash else OSError)
        with watched(disk), trouble:
            target.put()
        assert tuple(disk.calls[: fatal + 1]) == calls[: fatal + 1]
        if crash:
            target.repair()
        # Before the last rename there is the old one, after it the new one.
        renamed = ignored or fatal > calls.index("rename to target")
        assert target.content() == (NEW if renamed else OLD if older else None), calls[fatal]
        if kind is OneFile and not crash:
            assert {path.name for path in home.iterdir()} <= {"target"}, "nothing is left beside it"
        target.prepare()  # the next attempt succeeds, whatever was left
        target.put()
        assert target.content() == NEW
        assert [path.name for path in home.iterdir()] == ["target"]


def expected_calls(kind: type[OneFile] | type[OneFolder], older: bool) -> tuple[str, ...]:
    return kind.OVER_AN_OLDER if kind is OneFolder and older else kind.CALLS


@pytest.mark.parametrize("older", [False, True], ids=["new", "older"])
@pytest.mark.parametrize("kind", [OneFile, OneFolder])
def test_the_content_is_synced_before_the_rename_and_the_folder_after_it(
    tmp_path: Path, kind: type[OneFile] | type[OneFolder], older: bool
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    target, disk = kind(home, older), Disk()
    target.prepare()
    with watched(disk):
        target.put()
    assert tuple(disk.calls) == expected_calls(kind, older)
    assert target.content() == NEW


def test_syncing_waits_for_a_file_and_for_a_folder(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(OLD)
    disk = Disk()
    with watched(disk):
        sync(tmp_path / "target")
        sync(tmp_path)
    assert disk.calls == ["sync target", f"sync {tmp_path.name}"]
    with pytest.raises(OSError, match="No such file"):
        sync(tmp_path / "missing")


@pytest.mark.parametrize(
    "write",
    [
        lambda path, content: write_json(path, content),
        lambda path, content: write_run_file(path, str(content).encode()),
    ],
    ids=["what is prepared", "a run's file"],
)
def test_what_others_write_is_the_old_one_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path, Any], None]
) -> None:
    full = raising(system_error(errno.ENOSPC))
    path = tmp_path / "file"
    write(path, [1])
    before = path.read_bytes()
    for call in ("replace", "rename"):
        monkeypatch.setattr(os, call, full)
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises((OSError, RunError)):
        write(path, [2])
    assert path.read_bytes() == before
