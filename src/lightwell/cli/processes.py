"""`--processes N`: the same command in N processes, started by torch's own launcher, torchrun.

A process that dies is started again with all others, and goes on from the newest checkpoint. One that fails with a
sentence is not: it says so, and leaves its exit code in a file that this launcher looks at. A signal is passed on once,
so that all processes agree on a step, save, and leave; torchrun alone would call that a failure. When the work is done
and the main process has said so, that is in a file, too: whatever dies after it changes nothing, and what is started
again after it leaves in silence.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import NoReturn

from lightwell.atomic import write_file
from lightwell.cli.invocation import TRY_AGAIN, WRONG_USAGE
from lightwell.errors import LightwellError, SettingError

UNDER_TORCHRUN = "WORLD_SIZE" in os.environ
"""Whether torchrun has started this process."""
IS_MAIN = os.environ.get("RANK", "0") == "0"
"""Whether this is the process that prints."""
AGAIN = "LIGHTWELL_AGAIN"
"""The variable that says that these processes are started anew after others that ran out of memory."""
RESTARTED = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0" or AGAIN in os.environ
"""Whether this process has been started again, by torchrun or by our launcher."""
SINCE = "LIGHTWELL_SINCE"
"""The variable with the time at which the command began, in nanoseconds: a run from before is not its own."""
FAILED = "LIGHTWELL_FAILED"
"""The variable with the file into which a process writes its exit code when it fails with a sentence."""
SAID = "said"
"""The file beside it into which the main process writes the exit code of work that is over, once it has said so."""
RESTARTS = 3
SHUTDOWN = 3600
"""Seconds that a stopped process may take to finish its step and save; a second signal ends it at once."""
LOOK_EVERY = 0.2
"""Seconds between looks at that file."""
GRACE = 10.0
"""Seconds that a process whose exchange broke waits for the launcher: it is not the one that has something to say."""


class ProcessesError(LightwellError):
    """Processes died again and again."""


def refuse_number(processes: int) -> None:
    """Make sure that it is a number of processes.

    Raises:
        SettingError: it is not.
    """
    if processes < 1:
        raise SettingError(f"processes is {processes}, but must be at least 1.")


def launch(processes: int, arguments: Sequence[str]) -> int:
    """Run `lightwell ARGUMENTS` in so many processes on this machine, and wait for them.

    Returns 0, or the exit code of a failure or of a stop of which a process has told the user.

    Where memory ran out they are started anew, which does not count as a restart: they take less each time.

    Raises:
        ProcessesError: one of them died in the midst of the work, and died again after each restart.
        KeyboardInterrupt: a signal stopped them before they could say so; Terminated after a SIGTERM.
    """
    since = {SINCE: str(time.time_ns())}
    code = _launched(processes, arguments, since)
    while code == TRY_AGAIN:
        code = _launched(processes, arguments, {**since, AGAIN: "1"})
    return code


def _launched(processes: int, arguments: Sequence[str], variables: dict[str, str]) -> int:
    """Run the processes once, with these variables in their environment."""
    from lightwell.training.events.interrupt import Terminated

    threads = str(max(1, (os.cpu_count() or 1) // processes))
    command = [
        sys.executable, "-m", "lightwell.cli.torchrun", "--standalone", f"--nproc-per-node={processes}",
        f"--max-restarts={RESTARTS}", f"--shutdown-timeout={SHUTDOWN}", "-m", "lightwell", *arguments,
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        failed = Path(folder) / "failed"
        # Restarted processes that share torchrun's own store find there what those before them left, and wait for the
        # dead: four of six restarts hung in init_process_group with torch 2.13. With a store of their own, none did.
        store = {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        quiet = {"LOGLEVEL": "ERROR"}  # of torchrun, which else tells each signal that it passes on
        environment = {"OMP_NUM_THREADS": threads, **store, **quiet, **os.environ, **variables, FAILED: str(failed)}
        started = subprocess.Popen(command, env=environment, start_new_session=True)
        got: list[int] = []

        def pass_on(number: int, frame: FrameType | None) -> None:
            got.append(number)
            started.send_signal(number)

        before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            code = _wait(started, failed)
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if failed.exists():
            return int(failed.read_text())
        said = _read_code(failed.with_name(SAID))
    if said is not None:  # done, or stopped by a signal
        return said
    if got:
        raise (Terminated if got[0] == signal.SIGTERM else KeyboardInterrupt)
    if code:
        raise ProcessesError(f"The {processes} processes died {RESTARTS + 1} times; what torchrun says is above.")
    return 0


def begun_by_this_command(config: Path) -> bool:
    """Return whether a run's config.toml is there and of this command: in a restarted process, that the run goes on."""
    try:
        return config.stat().st_mtime_ns >= int(os.environ.get(SINCE, "0"))
    except FileNotFoundError:
        return False


def note_failure(code: int) -> bool:
    """In a process of a group: tell the launcher that it failed with a sentence, and need not be started again.

    Returns whether this process is to say the sentence: it is the first that failed; without a launcher of ours, which
    keeps count, the first of all processes says what is wrong with the command, and each what else went wrong in it.
    """
    if FAILED not in os.environ:
        return IS_MAIN or code != WRONG_USAGE
    failed = Path(os.environ[FAILED])
    mine = failed.with_name(f"{failed.name}-{os.getpid()}")
    try:
        mine.write_text(str(code))
        failed.hardlink_to(mine)  # complete, and only for the first
    except FileExistsError:
        return False
    except OSError:
        return IS_MAIN
    return True


@contextmanager
def last_words(code: int) -> Iterator[None]:
    """Say, in a process of a group, how its work ended, with this exit code: once and whole, whatever happens then.

    From here on no signal of the launcher ends the process; it needs but a moment more.
    """
    if FAILED not in os.environ:
        yield
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    yield
    sys.stdout.flush()
    sys.stderr.flush()
    if IS_MAIN:
        with suppress(OSError):  # no room for a mark; what is said stays said
            write_file(Path(os.environ[FAILED]).with_name(SAID), str(code).encode())


def is_over() -> bool:
    """Return whether the work of this process's group was over, and said to be, when this process was started."""
    return FAILED in os.environ and Path(os.environ[FAILED]).with_name(SAID).exists()


def is_explained() -> bool:
    """Return whether a process of this group has said why all of them end."""
    return FAILED in os.environ and Path(os.environ[FAILED]).exists()


def leave(code: int) -> NoReturn:
    """End a process of a group with this exit code, and take nothing apart.

    Python would join, free and unload what torch has made; a process that has trained with fsdp is sometimes aborted
    in the midst of that (torch 2.13), and torchrun starts all of them again.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # whether it could be said is known by now
            stream.flush()
    os._exit(code)


def wait_to_be_ended() -> None:
    """In a process of a group that another has left: give that one the time to say why, and the launcher to end all."""
    until = time.monotonic() + GRACE
    while time.monotonic() < until:
        time.sleep(LOOK_EVERY)


def _read_code(file: Path) -> int | None:
    return int(file.read_text()) if file.exists() else None


def _wait(started: subprocess.Popen[bytes], failed: Path) -> int:
    while True:
        try:
            return started.wait(LOOK_EVERY)
        except subprocess.TimeoutExpired:
            if failed.exists():
                started.terminate()
                return started.wait()
