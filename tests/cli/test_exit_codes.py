"""What becomes of an error: the exit code, what is said, and by which of several processes."""

from __future__ import annotations

import sys
import time
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from cli_house import call
from lightwell.cli import app, invocation
from lightwell.errors import LeftAloneError, LightwellError, RunError, SettingError, TryAgainError
from lightwell.training.events.interrupt import Terminated
from small import raising

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RANK", "LIGHTWELL_FAILED"):
        monkeypatch.delenv(name, raising=False)


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let every command fail so."""

    monkeypatch.setattr(app, "build_app", lambda: raising(error))


ERRORS = [
    (SettingError("wrong"), 2, "wrong"),
    (RunError("broken"), 1, "broken"),
    (LightwellError("failed"), 1, "failed"),
    (TryAgainError("once more"), 75, "once more"),
    (KeyboardInterrupt(), 130, "Stopped."),
    (KeyboardInterrupt("Saved."), 130, "Saved."),
    (Terminated(), 143, "Stopped."),
    (Terminated("Saved."), 143, "Saved."),
]
errors = pytest.mark.parametrize(("error", "code", "said"), ERRORS, ids=lambda value: repr(value))


@errors
def test_each_kind_of_error_has_its_code(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, said: str
) -> None:
    failing(monkeypatch, error)
    result = call(capsys, "train")
    assert (result.code, result.out, result.err) == (code, "", f"lightwell: {said}\n")


@errors
def test_under_our_launcher_a_stop_is_no_failure_and_a_failure_is_noted(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: BaseException, code: int, said: str
) -> None:
    failing(monkeypatch, error)
    noted = tmp_path / "failed"
    for name, value in {"WORLD_SIZE": "2", "RANK": "1", "LIGHTWELL_FAILED": str(noted)}.items():
        monkeypatch.setenv(name, value)
    result = call(capsys, "train")
    if isinstance(error, KeyboardInterrupt):
        assert (result.code, result.err, noted.exists()) == (0, "", False)  # rank 0 says it
    else:
        assert (result.code, result.err) == (code, f"lightwell, process 1: {said}\n")
        assert noted.read_text() == str(code)


@pytest.mark.parametrize(("error", "code"), [(KeyboardInterrupt(), 130), (Terminated(), 143)])
def test_under_another_launcher_a_stop_is_a_stop(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
) -> None:
    failing(monkeypatch, error)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert call(capsys, "train").code == code


def test_one_that_was_left_alone_waits_says_nothing_and_fails(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[bool] = []
    monkeypatch.setattr("lightwell.cli.processes.wait_to_be_ended", lambda: waited.append(True))
    failing(monkeypatch, LeftAloneError("gone"))
    result = call(capsys, "train")
    assert (result.code, result.err, waited) == (1, "", [True])


def test_the_command_line_and_the_time_at_which_it_began_are_kept(capsys: Capture, tmp_path: Path) -> None:
    before = time.monotonic()
    call(capsys, "runs", str(tmp_path))
    assert before <= invocation.started <= time.monotonic()
    assert list(invocation.command_line) == ["runs", str(tmp_path)]


def test_the_code_leaves_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app, "prepare_streams", lambda: None)
    monkeypatch.setattr(sys, "argv", ["lightwell", "show", "x"])
    monkeypatch.setattr(app, "run", lambda tokens: 75 if tokens == ["show", "x"] else 0)
    with pytest.raises(SystemExit) as left:
        app.main()
    assert left.value.code == 75


def test_the_version_is_that_of_the_package_where_it_is_installed(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.metadata.version", {"lightwell": "1.2.3"}.__getitem__)
    assert call(capsys, "--version").out == "1.2.3\n"

    monkeypatch.setattr("importlib.metadata.version", raising(PackageNotFoundError()))
    assert call(capsys, "--version").out == "not installed\n"
