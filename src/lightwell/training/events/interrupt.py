"""Ctrl-C and SIGTERM: the first asks the loop to finish its step and save, the second leaves at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self


class Terminated(KeyboardInterrupt):
    """The run was stopped by SIGTERM, as a scheduler stops it, and can be resumed from its newest checkpoint."""


class Interrupt:
    """While active, a signal sets `requested`; the handlers that were there before come back at the end."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self, say: Callable[[str], None] = lambda sentence: None) -> None:
        """`say` hears at once that the first signal has come."""
        self._say = say
        self.requested = False
        self.stop: type[KeyboardInterrupt] = KeyboardInterrupt
        """What to leave with: Terminated after a SIGTERM."""
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # Python allows handlers only there
            self._previous = {number: signal.signal(number, self._handle) for number in self.SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.stop = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if self.requested:
            raise self.stop
        self.requested = True
        self._say("Finishing this step and saving; press Ctrl-C again to leave without saving.")
