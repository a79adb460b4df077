"""What every contender does between its training steps: count the seconds, and wait for its turn.

    contender                       parent
    (imports, compiles, warms up)
    {"warm_up_seconds": 31.2, ...}  -->
                                <-- run 2
    {"seconds": [0.91, 0.90]}       -->
                                <-- quit
    {"peak_bytes": 903741440, ...}  -->

A contender that waits on stdin uses no CPU, so that the others have the machine to themselves. This module needs
nothing but Python's standard library, because peers.py imports it in environments without Lightwell.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TextIO

WARM_UP_STEPS = 3  # the first compiles, the second finds the caches cold, the third is like all that follow


class Pacer:
    """Tells a training loop whether to go on; made before the slow imports, so that these count as warm-up.

    Args:
        packages: whose versions are reported.
    """

    def __init__(self, *packages: str) -> None:
        self.about: dict[str, Any] = {}
        """More to report when ready."""
        self.versions: dict[str, str] = {}
        """Versions of what is no package."""
        self.findings: dict[str, Any] = {}
        """More to report at the end."""
        self._packages = ("torch", *packages)
        self._started = time.perf_counter()
        self._answers = _own_stdout()
        self._seconds: list[float] = []
        self._left = WARM_UP_STEPS
        self._ready = False
        self._mark = time.perf_counter()

    def stepped(self, loss: float) -> bool:
        """Note that a step is done; after the last one of a turn, answer and wait. False: stop training."""
        now = time.perf_counter()
        self._seconds.append(now - self._mark)
        self._left -= 1
        if not self._left:
            self._answer_turn(now)
            self._left = self._wait()
            self._seconds = []
            if not self._left:
                self._answer({"peak_bytes": peak_bytes(), "loss": loss, **self.findings})
                return False
        self._mark = time.perf_counter()
        return True

    def _answer_turn(self, now: float) -> None:
        if self._ready:
            self._answer({"seconds": self._seconds})
            return
        self._ready = True
        self._answer(
            {
                "warm_up_seconds": now - self._started,
                "peak_bytes": peak_bytes(),
                "python": platform.python_version(),
                "versions": {name: _version(name) for name in self._packages} | self.versions,
                **self.about,
            }
        )

    def _answer(self, answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=self._answers, flush=True)

    def _wait(self) -> int:
        """Return how many steps to run; 0 to stop, also where the parent is gone."""
        words = sys.stdin.readline().split()
        return int(words[1]) if words[:1] == ["run"] else 0


def peak_bytes() -> int:
    """Return the most resident memory that this process has had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


def _own_stdout() -> TextIO:
    """Stdout for answers alone: what anything else prints goes to stderr from now on."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return answers


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "unknown"
