"""Standard output that cannot be written is a sentence; standard error that cannot is no reason to stop."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cli_house import call
from lightwell.cli import app
from lightwell.cli.app import NO_MEMORY, run
from lightwell.cli.streams import prepare_streams
from small import raising

Capture = pytest.CaptureFixture[str]
FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="there is no /dev/full")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LIGHTWELL_FAILED"):
        monkeypatch.delenv(name, raising=False)


def full() -> io.TextIOWrapper:
    return FULL.open("w", encoding="ascii")


@pytest.fixture
def streams(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test makes of the streams is undone after it."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", sys.stdout)
        patch.setattr(sys, "stderr", sys.stderr)
        yield


@needs_full
@pytest.mark.parametrize(
    "tokens", [["lab"], ["--help"], ["--version"], ["lab", "--json"], ["runs", "."], ["train", "--help"]], ids=" ".join
)
def test_every_command_says_that_its_output_cannot_be_written(
    streams: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tokens: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    sys.stdout, sys.stderr = full(), io.StringIO()
    stderr = sys.stderr
    prepare_streams()
    if run(tokens) == 0:  # there was nothing to write
        assert tokens == ["runs", "."]
        return
    said = "lightwell: The output cannot be written (No space left on device); send it to another place.\n"
    assert stderr.getvalue() == said
    sys.stdout.flush()  # as Python does when it ends: nothing fails again


@needs_full
def test_progress_that_cannot_be_written_is_no_failure(streams: None, tmp_path: Path) -> None:
    sys.stdout, sys.stderr = io.StringIO(), full()
    prepare_streams()
    print("a line of progress", file=sys.stderr, flush=True)
    sys.stderr.flush()
    assert run(["show", str(tmp_path / "none")]) == 1


def test_models_write_any_character_and_closed_streams_are_none(streams: None, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    sys.stdout, sys.stderr = io.TextIOWrapper(written, encoding="ascii"), None
    prepare_streams()
    print("tea \u2615", flush=True)
    print("nowhere", file=sys.stderr)
    assert written.getvalue() == b"tea ?\n"
    assert sys.stdout.encoding == "ascii"


def test_a_reader_that_has_enough_is_no_failure(streams: None) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    sys.stdout = os.fdopen(writer, "w")
    prepare_streams()
    assert run(["lab"]) == 0


def no_memory() -> BaseException:
    try:
        torch.empty(1 << 60, dtype=torch.uint8)
    except RuntimeError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize("error", [MemoryError(), no_memory()], ids=["Python", "torch"])
def test_memory_that_runs_out_in_a_command_is_a_sentence(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    monkeypatch.setattr(app, "build_app", lambda: raising(error))
    result = call(capsys, "generate", "bible")
    assert (result.code, result.err) == (1, f"lightwell: {NO_MEMORY}\n")
    monkeypatch.setattr(app, "build_app", lambda: raising(RuntimeError("shapes differ")))
    with pytest.raises(RuntimeError, match="shapes differ"):
        run([])


def test_an_error_of_the_system_that_names_nothing_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "build_app", lambda: raising(OSError(errno.EIO, "broken")))
    with pytest.raises(OSError, match="broken"):
        run([])
