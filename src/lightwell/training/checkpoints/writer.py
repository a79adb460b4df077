"""Checkpoints are written beside training: the loop takes a snapshot and goes on, a thread hashes, writes and syncs it.

One is written at a time. What goes wrong in the thread is raised in the loop, at the next step or at the end, so that a
full disk stops the run with a sentence, and what was saved before is still there.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from types import TracebackType
from typing import Self


class Writer:
    """The thread that writes a run's checkpoints.

    As a context: leaving it waits for the last write, unless a second Ctrl-C wants to leave at once.
    """

    def __init__(self) -> None:
        self._pending: Future[None] | None = None
        """The write that the loop has not yet heard the end of."""
        self._then: Callable[[], None] = lambda: None
        self.cancelled = False
        """Whether the loop has left without waiting: what is being written must not be put in place any more."""
        self.alone = False
        """Whether the loop has failed: what other processes were to write is not waited for."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.wait()
        elif isinstance(error, KeyboardInterrupt):
            self.cancelled = True
        elif self._pending is not None:
            self.alone = True
            wait([self._pending])  # what the loop has to say is more than what the thread might

    def write(self, task: Callable[[], None], then: Callable[[], None]) -> None:
        """Run `task` in the thread, after the one before is done; the loop calls `then` once it has ended well.

        Raises:
            RunError: the one before has failed.
        """
        self.wait()
        pending: Future[None] = Future()
        # A daemon, and so no ThreadPoolExecutor, for whose threads Python waits: where the process is to end, a
        # half-written checkpoint is not waited for; it has another name.
        threading.Thread(target=self._run, args=(task, pending), daemon=True).start()
        self._pending, self._then = pending, then  # only now: of a thread that could not start, nobody would hear

    def check(self) -> None:
        """Look, without waiting, whether the write has ended.

        Raises:
            RunError: it has failed.
        """
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            RunError: the write has failed.
        """
        if self._pending is None:
            return
        wait([self._pending])  # a Ctrl-C that comes meanwhile leaves it pending
        pending, self._pending = self._pending, None
        pending.result()
        self._then()

    def _run(self, task: Callable[[], None], pending: Future[None]) -> None:
        try:
            task()
        except BaseException as error:  # whatever it is, the loop must not take the checkpoint for written
            pending.set_exception(error)
        else:
            pending.set_result(None)
