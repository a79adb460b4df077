"""What a user reads when something foreseeable goes wrong: one sentence that names the thing and the remedy."""

from __future__ import annotations


class LightwellError(ValueError):
    """A foreseeable failure. The command line prints its message and exits with 1; it never shows a traceback."""


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
