"""`--processes N`: the same command in N processes, started by torch's own launcher, torchrun.

torchrun restarts nothing here and speaks little; what it says of a worker's exit code is translated into what this
command says without it. A signal is passed on once, so that all processes agree on a step, save, and leave.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from lightwell.errors import LightwellError, SettingError

IN_A_TEAM = "WORLD_SIZE" in os.environ
"""Whether torchrun has started this process."""
LEADS = os.environ.get("RANK", "0") == "0"
"""Whether this is the process that prints."""


class ProcessesError(LightwellError):
    """The processes did not end well; what went wrong was said by the one to which it happened."""


def launch(processes: int, arguments: Sequence[str]) -> None:
    """Run `lightwell ARGUMENTS` in so many processes on this machine, and wait for them.

    Raises:
        SettingError: not a number of processes.
        ProcessesError: one of them failed.
        KeyboardInterrupt: a signal stopped them; Terminated after a SIGTERM.
    """
    if processes < 1:
        raise SettingError(f"processes is {processes}, but must be at least 1.")
    from lightwell.training.interrupt import Terminated

    threads = str(max(1, (os.cpu_count() or 1) // processes))
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
        "-m", "lightwell", *arguments,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}
    started = subprocess.Popen(command, env=environment, start_new_session=True)
    got: list[int] = []

    def pass_on(number: int, frame: FrameType | None) -> None:
        got.append(number)
        started.send_signal(number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        code = started.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if got:
        raise (Terminated if got[0] == signal.SIGTERM else KeyboardInterrupt)
    if code:
        raise ProcessesError(
            f"{processes} processes did not train to the end; the first of them to fail says why above."
        )
