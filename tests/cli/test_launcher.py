"""The launcher of several processes, with a pretended torchrun: what it starts, and what it makes of it."""

from __future__ import annotations

import logging
import os
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from lightwell.cli import app, processes
from lightwell.cli.processes import ProcessesError, begun_by_this_command, launch, note_failure, refuse_number
from lightwell.errors import SettingError
from lightwell.training.events.interrupt import Terminated
from lightwell.training.processes import process_group

Happens = Callable[["Torchrun"], int | None]


class Torchrun:
    """A started process: at each wait one more thing happens to it; a number is its exit code."""

    happenings: list[list[Happens]]
    started: list[Torchrun]

    def __init__(self, command: list[str], *, env: dict[str, str], start_new_session: bool) -> None:
        self.command, self.env, self.own_session = command, env, start_new_session
        self.signals: list[int] = []
        self.failed = Path(env["LIGHTWELL_FAILED"])
        self.next = iter(self.happenings[len(self.started)])
        self.started.append(self)

    def wait(self, timeout: float | None = None) -> int:
        code = next(self.next)(self)
        if code is None:
            assert timeout == 0.2
            raise subprocess.TimeoutExpired("torchrun", timeout)
        return code

    def send_signal(self, number: int) -> None:
        self.signals.append(number)

    def terminate(self) -> None:
        self.signals.append(-signal.SIGTERM)


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Torchrun]]:
    def prepare(*happenings: list[Happens]) -> list[Torchrun]:
        Torchrun.happenings, Torchrun.started = list(happenings), []
        monkeypatch.setattr(subprocess, "Popen", Torchrun)
        return Torchrun.started

    for name in ("OMP_NUM_THREADS", "LOGLEVEL", "LIGHTWELL_AGAIN", "LIGHTWELL_SINCE", "LIGHTWELL_FAILED"):
        monkeypatch.delenv(name, raising=False)
    return prepare


def ends(code: int) -> Happens:
    return lambda process: code


def says(code: int) -> Happens:
    """One of its processes fails with a sentence."""

    def write(process: Torchrun) -> None:
        process.failed.write_text(str(code))

    return write


def gets(number: int) -> Happens:
    return lambda process: signal.raise_signal(number)


def goes_on(process: Torchrun) -> None:
    """Nothing happens."""


@pytest.mark.parametrize(("cpus", "number", "threads"), [(8, 2, "4"), (7, 2, "3"), (2, 3, "1"), (None, 1, "1")])
def test_it_starts_torchrun_with_the_command_and_shares_the_cores(
    pretend: Any, monkeypatch: pytest.MonkeyPatch, cpus: int | None, number: int, threads: str
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cpus)
    started = pretend([goes_on, ends(0)])
    before = time.time_ns()
    assert launch(number, ["train", "notes", "--seed=5"]) == 0
    (process,) = started
    assert process.command == [
        sys.executable, "-m", "lightwell.cli.torchrun", "--standalone", f"--nproc-per-node={number}",
        "--max-restarts=3", "--shutdown-timeout=3600", "-m", "lightwell", "train", "notes", "--seed=5",
    ]  # fmt: skip
    assert process.own_session
    assert process.env["OMP_NUM_THREADS"] == threads
    assert process.env["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"
    assert process.env["LOGLEVEL"] == "ERROR"
    assert process.env["PATH"] == os.environ["PATH"]
    assert before <= int(process.env["LIGHTWELL_SINCE"]) <= time.time_ns()
    assert "LIGHTWELL_AGAIN" not in process.env
    assert not process.failed.parent.exists()  # nothing is left behind
    assert process.signals == []


def test_the_environment_of_the_user_goes_over_its_own_but_for_what_it_looks_at(
    pretend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"OMP_NUM_THREADS": "9", "LOGLEVEL": "INFO", "LIGHTWELL_SINCE": "5"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("LIGHTWELL_FAILED", "/elsewhere")
    started = pretend([ends(0)])
    launch(2, [])
    env = started[0].env
    assert (env["OMP_NUM_THREADS"], env["LOGLEVEL"]) == ("9", "INFO")
    assert int(env["LIGHTWELL_SINCE"]) > 5
    assert env["LIGHTWELL_FAILED"] != "/elsewhere"


def test_processes_that_ran_out_of_memory_are_started_anew_as_often_as_it_takes(pretend: Any) -> None:
    started = pretend([says(75), ends(1)], [says(75), ends(1)], [ends(0)])
    assert launch(2, ["train"]) == 0
    assert [process.env.get("LIGHTWELL_AGAIN") for process in started] == [None, "1", "1"]
    assert len({process.env["LIGHTWELL_SINCE"] for process in started}) == 1
    assert started[2].command == started[0].command


@pytest.mark.parametrize("code", [1, 2])
@pytest.mark.parametrize("ended", [0, 1])
def test_a_failure_with_a_sentence_ends_all_and_its_code_is_passed_on(pretend: Any, code: int, ended: int) -> None:
    started = pretend([goes_on, says(code), ends(ended)])
    assert launch(2, []) == code
    assert started[0].signals == [-signal.SIGTERM]
    assert len(started) == 1


def test_a_failure_noted_at_the_very_end_counts_too(pretend: Any) -> None:
    def last(process: Torchrun) -> int:
        process.failed.write_text("1")
        return 0

    started = pretend([last])
    assert launch(2, []) == 1
    assert started[0].signals == []


def test_processes_that_die_again_and_again_are_an_error(pretend: Any) -> None:
    pretend([ends(1)])
    with pytest.raises(ProcessesError, match="The 3 processes died 4 times; what torchrun says is above"):
        launch(3, [])


@pytest.mark.parametrize(
    ("numbers", "stop"),
    [
        ([signal.SIGINT], KeyboardInterrupt),
        ([signal.SIGTERM], Terminated),
        ([signal.SIGINT, signal.SIGTERM], KeyboardInterrupt),
        ([signal.SIGTERM, signal.SIGINT], Terminated),
    ],
)
@pytest.mark.parametrize("code", [0, 1])
def test_signals_are_passed_on_and_the_first_says_what_it_was(
    pretend: Any, numbers: list[int], stop: type[BaseException], code: int
) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    started = pretend([*map(gets, numbers), ends(code)])
    with pytest.raises(KeyboardInterrupt) as raised:
        launch(2, [])
    assert raised.type is stop
    assert started[0].signals == numbers
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_sentence_counts_for_more_than_a_signal(pretend: Any) -> None:
    pretend([gets(signal.SIGINT), says(1), ends(1)])
    assert launch(2, []) == 1


def marks(code: int) -> Happens:
    """Its work is over, and that is said."""

    def write(process: Torchrun) -> None:
        process.failed.with_name("said").write_text(str(code))

    return write


@pytest.mark.parametrize("then", [[ends(0)], [ends(1)], [goes_on, ends(-6)], [gets(signal.SIGTERM), ends(1)]])
def test_nothing_that_happens_after_the_end_changes_it(pretend: Any, then: list[Happens]) -> None:
    started = pretend([marks(0), *then])
    assert launch(2, []) == 0
    assert len(started) == 1


def test_a_failure_to_say_the_end_is_a_failure(pretend: Any) -> None:
    pretend([marks(0), says(1), ends(0)])
    assert launch(2, []) == 1


@pytest.mark.parametrize("code", [130, 143])
def test_a_stop_that_was_told_keeps_its_code_and_is_not_told_again(pretend: Any, code: int) -> None:
    pretend([marks(code), ends(1)])
    assert launch(2, []) == code
    pretend([gets(signal.SIGINT), marks(code), ends(1)])
    assert launch(2, []) == code


@pytest.fixture
def group(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """The mark of a group's end, in a process of it; afterwards signals do what they did."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    monkeypatch.setenv("LIGHTWELL_FAILED", str(tmp_path / "failed"))
    yield tmp_path / "said"
    for number, handler in before.items():
        signal.signal(number, handler)


def test_last_words_are_whole_and_noted_when_they_are_out(
    group: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(processes, "IS_MAIN", True)
    assert not processes.is_over()
    with processes.last_words(0):
        signal.raise_signal(signal.SIGTERM)  # another has died, and torchrun ends all
        signal.raise_signal(signal.SIGINT)
        print("all of it")
        assert not group.exists()
    assert (group.read_text(), processes.is_over()) == ("0", True)
    assert capsys.readouterr().out == "all of it\n"
    with pytest.raises(OSError, match="full"), processes.last_words(143):
        raise OSError("full")
    assert group.read_text() == "0"


def test_of_several_only_the_main_one_notes_the_end_and_alone_none_does(
    group: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "IS_MAIN", False)
    with processes.last_words(0):
        pass
    assert not processes.is_over()
    monkeypatch.setattr(processes, "IS_MAIN", True)
    monkeypatch.setenv("LIGHTWELL_FAILED", str(group.parent / "gone" / "failed"))
    with processes.last_words(0):
        pass  # there is no place for a mark
    monkeypatch.delenv("LIGHTWELL_FAILED")
    with processes.last_words(0):
        pass
    assert not processes.is_over()
    assert not group.exists()


def test_what_is_started_again_after_the_end_does_nothing(group: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[int] = []

    def leave(code: int) -> None:
        left.append(code)
        raise SystemExit

    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(process_group, "leaves_at_once", False)
    monkeypatch.setattr(app, "prepare_streams", lambda: None)
    monkeypatch.setattr(app, "run", lambda tokens: 7)
    with pytest.raises(SystemExit):
        app.main()
    assert (left, process_group.leaves_at_once) == ([7], True)
    group.write_text("0")
    with pytest.raises(SystemExit):
        app.main()
    assert left == [7, 0]


def test_torchrun_says_nothing_of_what_dies_after_the_end(
    group: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The filters that it puts on loggers come off again at the end of the test."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from lightwell.cli.torchrun import main

    logger = logging.getLogger("torch.distributed.elastic.multiprocessing.api")

    def torchrun() -> None:
        logger.warning("Sending process 5 closing signal SIGTERM")
        logger.error("failed (exitcode: -6)")
        raise ChildFailedError("lightwell", {0: Mock()})

    monkeypatch.setenv("LOGLEVEL", "ERROR")
    monkeypatch.setattr("torch.distributed.run.main", torchrun)
    monkeypatch.setattr(ChildFailedError, "format_msg", lambda self: "a table")
    with pytest.raises(ChildFailedError):
        main()
    assert caplog.messages == ["failed (exitcode: -6)"]
    (group.parent / "failed").write_text("1")
    with pytest.raises(ChildFailedError):
        main()
    group.write_text("0")
    main()
    assert len(caplog.messages) == 1
    for name in logging.root.manager.loggerDict:
        logging.getLogger(name).filters.clear()


def test_handlers_come_back_also_where_waiting_fails(pretend: Any) -> None:
    def breaks(process: Torchrun) -> None:
        raise ZeroDivisionError

    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    pretend([breaks])
    with pytest.raises(ZeroDivisionError):
        launch(2, [])
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_one_process_is_the_fewest() -> None:
    refuse_number(1)
    with pytest.raises(SettingError, match="processes is 0, but must be at least 1"):
        refuse_number(0)


@pytest.mark.parametrize(("since", "begun"), [(-1, True), (0, True), (1, False)])
def test_a_run_is_of_this_command_from_the_nanosecond_on_at_which_it_began(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, since: int, begun: bool
) -> None:
    config = tmp_path / "config.toml"
    config.write_text("")
    monkeypatch.setenv("LIGHTWELL_SINCE", str(config.stat().st_mtime_ns + since))
    assert begun_by_this_command(config) == begun
    assert not begun_by_this_command(tmp_path / "none.toml")
    monkeypatch.delenv("LIGHTWELL_SINCE")
    assert begun_by_this_command(config)


@pytest.mark.parametrize("main", [True, False])
def test_who_speaks_of_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, main: bool) -> None:
    monkeypatch.setattr(processes, "IS_MAIN", main)
    monkeypatch.delenv("LIGHTWELL_FAILED", raising=False)
    assert note_failure(1)
    assert note_failure(75)
    assert note_failure(2) == main  # a wrong command is wrong in all of them
    monkeypatch.setenv("LIGHTWELL_FAILED", str(tmp_path / "gone" / "failed"))
    assert note_failure(1) == main  # nothing can be noted
    monkeypatch.setenv("LIGHTWELL_FAILED", str(tmp_path / "failed"))
    assert note_failure(2)
    monkeypatch.setattr(os, "getpid", lambda: 0)  # another process
    assert not note_failure(1)
    assert (tmp_path / "failed").read_text() == "2"


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, (False, True, False)),
        ({"WORLD_SIZE": "2", "RANK": "0", "TORCHELASTIC_RESTART_COUNT": "0"}, (True, True, False)),
        ({"WORLD_SIZE": "2", "RANK": "1", "TORCHELASTIC_RESTART_COUNT": "1"}, (True, False, True)),
        ({"WORLD_SIZE": "2", "RANK": "1", "LIGHTWELL_AGAIN": "1"}, (True, False, True)),
    ],
)
def test_a_process_learns_what_it_is_from_its_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], found: tuple[bool, bool, bool]
) -> None:
    for name in ("WORLD_SIZE", "RANK", "TORCHELASTIC_RESTART_COUNT", "LIGHTWELL_AGAIN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    names = runpy.run_path(str(processes.__file__))
    assert (names["UNDER_TORCHRUN"], names["IS_MAIN"], names["RESTARTED"]) == found


def test_one_that_was_left_waits_ten_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds

    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    processes.wait_to_be_ended()
    assert clock[0] == pytest.approx(110.0, abs=0.21)


def test_torchrun_that_a_signal_stopped_ends_with_1_and_shows_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed.elastic.multiprocessing.api import SignalException

    from lightwell.cli.torchrun import main

    def stopped() -> None:
        raise SignalException("stopped", signal.SIGTERM)

    monkeypatch.setattr("torch.distributed.run.main", stopped)
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    monkeypatch.setattr("torch.distributed.run.main", lambda: None)
    main()
