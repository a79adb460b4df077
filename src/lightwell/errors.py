"""What a user reads when something foreseeable goes wrong: one sentence that names the thing and the remedy."""

from __future__ import annotations

import errno
import os

REMEDIES = {
    errno.ENAMETOOLONG: "put a text into a file, and give the name of that",
    errno.ELOOP: "the link leads to itself, so remove it",
    errno.EACCES: "ask its owner for permission, or name another",
    errno.EPERM: "ask its owner for permission, or name another",
    errno.EROFS: "name another place, which can be written",
    errno.ENOSPC: "free some space, or name another place",
    errno.EDQUOT: "free some space, or name another place",
    errno.EISDIR: "name a file in it",
    errno.ENOTDIR: "name a folder, or remove the file that is in its place",
    errno.ENOENT: "check that it is there",
}
"""What helps against a refusal of the system."""


class LightwellError(ValueError):
    """A foreseeable failure. The command line prints its message and exits with 1; it never shows a traceback."""


def system_sentence(error: OSError) -> str:
    """Return what to tell a user whom the system refused a file or folder: its name, the reason and a remedy.

    Empty where the error names none: such a one was not foreseen.
    """
    if error.filename is None:
        return ""
    name = os.fsencode(error.filename).decode(errors="replace") if isinstance(error.filename, str | bytes) else ""
    name = name if len(name) <= 60 else f"{name[:30]}...{name[-27:]}"
    remedy = REMEDIES.get(error.errno or 0, "check it, or name another")
    return f"{name or 'An open file'} cannot be used ({error.strerror or error}); {remedy}."


class SettingError(LightwellError):
    """A configuration field or flag that does not exist or whose value is not allowed."""


class TextError(LightwellError):
    """A text or tokenizer that is missing, empty, unreadable or too short."""


class VocabularyError(TextError):
    """A vocabulary that is larger than what a text supports."""

    def __init__(self, supported: int, message: str) -> None:
        super().__init__(message)
        self.supported = supported
        """Tokens that this text has repeated pairs for."""


class RunError(LightwellError):
    """A run folder that exists already, is missing, or is damaged."""


class TrainingError(LightwellError):
    """Training that cannot go on, e.g. at a non-finite loss."""


class LeftAloneError(LightwellError):
    """Another process of a group has ended, so that this one cannot go on; what happened is for that one to say."""


class TryAgainError(LightwellError):
    """A process of a group that is to be started again with all others, from the newest checkpoint."""
