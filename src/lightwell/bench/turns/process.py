"""The parent's side of a contender: start it, give it turns, end it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import tempfile
from typing import Any

from lightwell.bench.contenders.contender import Contender
from lightwell.errors import LightwellError


class ContenderError(LightwellError):
    """A contender could not be started or broke down; its last line of output says why."""


class Process:
    """A contender that is running, in a session of its own, so that Ctrl-C reaches the parent alone."""

    def __init__(self, contender: Contender) -> None:
        """Start it.

        Raises:
            ContenderError: there is no such program.
        """
        self.contender = contender
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the process
        try:
            self._process = subprocess.Popen(
                contender.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                encoding="utf-8",
                start_new_session=True,
            )
        except OSError as error:
            self._log.close()
            raise ContenderError(f"{contender.command[0]} cannot be run ({error.strerror or error}).") from None

    def ready(self) -> dict[str, Any]:
        """Wait until it is warm, and return what it says about itself."""
        return self._answer()

    def run(self, steps: int) -> list[float]:
        """Let it take some steps; the seconds of each."""
        return [float(second) for second in self._ask(f"run {steps}")["seconds"]]

    def quit(self) -> dict[str, Any]:
        """Let it end by itself, and return its findings."""
        return self._ask("quit")

    def close(self) -> None:
        """End it and the processes that it has started, if they are still there."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)  # the leader of its own session and group
        self._process.wait()
        for file in (self._process.stdin, self._process.stdout, self._log):
            with contextlib.suppress(OSError):
                if file is not None:
                    file.close()

    def _ask(self, command: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command + "\n")
            self._process.stdin.flush()
        except OSError:
            raise ContenderError(self._last_words()) from None
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        try:
            answer = json.loads(line)
        except ValueError:
            raise ContenderError(self._last_words()) from None
        if not isinstance(answer, dict):
            raise ContenderError(f"It answered {line.strip()!r}.")
        return answer

    def _last_words(self) -> str:
        """Return the last line that the process wrote to stderr: of a traceback, the error."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout=10)
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines()]
        code = self._process.returncode
        if code is not None and code < 0:  # e.g. out of memory; what it wrote before has nothing to do with it
            return f"It was killed by signal {-code}."
        return next((line for line in reversed(lines) if line), f"It ended with code {code}.")
