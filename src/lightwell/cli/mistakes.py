"""One sentence for each mistake on the command line, with the nearest name that would have been right."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from cyclopts.exceptions import (
    CoercionError,
    CycloptsError,
    MissingArgumentError,
    RepeatArgumentError,
    UnknownCommandError,
    UnknownOptionError,
    UnusedCliTokensError,
)

from lightwell.cli.commands import COMMANDS
from lightwell.errors import SettingError
from lightwell.settings import Field, nearest
from lightwell.training.settings.config import RunConfig


def sentence(error: CycloptsError, tokens: Sequence[str]) -> str:
    """Return what to tell the user about an error of parsing `tokens`."""
    command = " ".join(["lightwell", *(error.command_chain or ())])
    match error:
        case UnknownCommandError():
            return _unknown_command(error, tokens)
        case UnknownOptionError():
            return _unknown_flag(error, command)
        case CoercionError():
            return _wrong_value(error)
        case MissingArgumentError():
            return _missing(error, command, tokens)
        case RepeatArgumentError():
            return f"{error.token.keyword} is given more than once; give it once."
        case UnusedCliTokensError():
            unused = " ".join(error.unused_tokens or ())
            return f"`{command}` takes nothing more, but got {unused}; `{command} --help` shows how it is written."
        case _:
            error.verbose = False
            return str(error)


def _unknown_command(error: UnknownCommandError, tokens: Sequence[str]) -> str:
    name = (error.unused_tokens or tokens)[0]
    hint = nearest(name, COMMANDS)
    if not hint and Path(name).exists():
        hint = f" Did you mean `lightwell train {name}`?"
    return f"There is no command {name}; there are {', '.join(COMMANDS)}.{hint}"


def _unknown_flag(error: UnknownOptionError, command: str) -> str:
    written = (error.token.keyword or error.token.value).split("=", 1)[0]
    flags = [name for argument in error.argument_collection if argument.parse for name in argument.names]
    return f"There is no flag {written}.{nearest(written, flags) or f' `{command} --help` lists them all.'}"


def _missing(error: MissingArgumentError, command: str, tokens: Sequence[str]) -> str:
    assert error.argument is not None
    name = error.keyword or error.argument.name
    how = f"`{command} --help` shows how it is written"
    if name.startswith("-") and name in tokens:
        return f"{name} is given without a value; {how}."
    return f"`{command}` needs a {name}, which is not given; {how}."


def _wrong_value(error: CoercionError) -> str:
    """Return the sentence of the configuration field, where the flag is one: the same as from a file or from Python."""
    if error.argument is None or error.token is None:
        error.verbose = False
        return str(error)
    name = error.argument.name
    fields = RunConfig.all_fields()
    _, field = fields.get(name.removeprefix("--").replace("-", "_"), ("", Field(name, error.target_type, None, "")))
    try:
        field.check(error.token.value)
    except SettingError as wrong:
        return str(wrong)
    error.verbose = False
    return str(error)
