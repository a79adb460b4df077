"""This invocation of the command line: its words, the time at which it began, and its exit codes."""

from __future__ import annotations

import time
from collections.abc import Sequence

started = time.monotonic()
"""When this command began; `--minutes` counts from here."""
command_line: Sequence[str] = ()
"""The words of the command line, the command's name first."""

every_flag = False
"""Whether help is to show every flag, not the usual ones alone."""

DONE, FAILED, WRONG_USAGE, TRY_AGAIN, INTERRUPTED, TERMINATED = 0, 1, 2, 75, 130, 143
