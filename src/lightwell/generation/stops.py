"""Stop strings: text arrives in pieces, and what might become a stop string is held back until it is decided."""

from __future__ import annotations

from collections.abc import Sequence

from lightwell.errors import SettingError


class StopStrings:
    """Lets text through up to the first stop string, which may be split over any number of pieces.

    What comes out does not depend on how the text is cut into pieces: the stop string that is completed first ends it,
    and of several completed by the same character, the longest.

    Raises:
        SettingError: an empty stop string.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if "" in stops:
            raise SettingError("stop holds an empty text, which would end every text at once; leave it out.")
        self.stopped = False
        self._stops = tuple(stops)
        self._held = ""

    def push(self, piece: str) -> str:
        """Add a piece; return what can be shown by now. Nothing comes after a stop string."""
        if self.stopped:
            return ""
        text = self._held + piece
        completed = [(start + len(stop), start) for stop in self._stops if (start := text.find(stop)) >= 0]
        if completed:
            self.stopped, self._held = True, ""
            return text[: min(completed)[1]]
        shown = len(text) - max((self._begun(text, stop) for stop in self._stops), default=0)
        self._held = text[shown:]
        return text[:shown]

    def flush(self) -> str:
        """Return what was held back: the text has ended, so it was no stop string."""
        held, self._held = self._held, ""
        return held

    @staticmethod
    def _begun(text: str, stop: str) -> int:
        """Return how many characters at the end of the text are the beginning of the stop string."""
        longest = min(len(text), len(stop) - 1)
        return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
