"""The door of the Python functions: what they are given is checked by their annotations, as the command line's is.

    @checked
    def evaluate(run: str | os.PathLike[str], *, stride: Annotated[int, Meta(ge=0)] = 0) -> Score: ...

    evaluate("runs/notes", stride="8")      SettingError: stride is '8', but must be a whole number, 0 or more.

A number of numpy counts as Python's. A file that the system refuses becomes a sentence, too.
"""

from __future__ import annotations

import collections.abc
import functools
import inspect
import os
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from lightwell.errors import LightwellError, SettingError, system_sentence
from lightwell.settings import Field, nearest, plain

P = ParamSpec("P")
R = TypeVar("R")
SHOWN = 60
"""Characters of a wrong value that a sentence shows."""
IN_WORDS: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "True or False",
    type(None): "None",
    None: "None",
    os.PathLike: "a path",
    Path: "a path",
}


class SystemRefusedError(LightwellError):
    """The system refused a file or folder."""


def checked(function: Callable[P, R]) -> Callable[P, R]:
    """Return a function that checks what it is given by its annotations before it does anything.

    What a hint cannot tell at run time (a TypeVar, a protocol) is not checked. The function raises SettingError for a
    value of another type, out of its range, or an argument that it does not have.
    """
    signature = inspect.signature(function)
    hints: dict[str, Any] = {}

    @functools.wraps(function)
    def door(*args: P.args, **kwargs: P.kwargs) -> R:
        if not hints:
            hints.update(_hints(function))
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError as error:
            raise SettingError(
                _misfit(function.__qualname__.removesuffix(".__init__"), signature, kwargs, error)
            ) from None
        for name, value in bound.arguments.items():
            kind = signature.parameters[name].kind
            if name not in hints or kind is inspect.Parameter.VAR_KEYWORD:
                continue
            if kind is inspect.Parameter.VAR_POSITIONAL:
                bound.arguments[name] = tuple(check(name, each, hints[name]) for each in value)
            else:
                bound.arguments[name] = check(name, value, hints[name])
        try:
            return function(*bound.args, **bound.kwargs)
        except OSError as error:
            if not (said := system_sentence(error)):
                raise
            raise SystemRefusedError(said) from error

    return door


def check(name: str, value: Any, hint: Any) -> Any:
    """Return a value that a hint allows, a number of numpy as Python's.

    Raises:
        SettingError: the hint does not allow it.
    """
    value = plain(value)
    alternatives = typing.get_args(hint) if _is_union(hint) else (hint,)
    if any(_fits(value, each) for each in alternatives):
        return value
    fields = [Field(name, each, None, "") for each in alternatives if _is_field(each)]
    for field in fields:
        try:
            return field.check(value)
        except SettingError:
            if len(alternatives) == 1:
                raise  # which says what is allowed, and offers what is near
    raise SettingError(f"{name} is {shown(value)}, but must be {_in_words(alternatives)}.")


def shown(value: object) -> str:
    """Return a value as a sentence shows it."""
    try:
        text = repr(value)
    except Exception:  # somebody's own class
        text = f"a {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


class _Names(Mapping[str, Any]):
    """The names of a module, also those that it imports only when they are asked for."""

    def __init__(self, module: str) -> None:
        self._module = sys.modules[module]

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self._module, name)
        except AttributeError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(vars(self._module))

    def __len__(self) -> int:
        return len(vars(self._module))


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the hints of a function's arguments; without those whose names are known to type checkers alone."""
    found = {}
    for name, hint in inspect.get_annotations(function).items():
        try:
            found[name] = eval(hint, {}, _Names(function.__module__)) if isinstance(hint, str) else hint
        except NameError:
            continue
    found.pop("return", None)
    return found


def _is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in (types.UnionType, typing.Union)


def _is_field(hint: Any) -> bool:
    return typing.get_origin(hint) in (typing.Annotated, typing.Literal)


def _fits(value: Any, hint: Any) -> bool:
    """Return whether a hint without limits allows a value; of a field with limits, Field.check says so."""
    kind = typing.get_origin(hint) or hint
    if _is_field(hint):
        return False
    if kind is collections.abc.Callable:
        return callable(value)
    if kind in (int, float):
        whole = isinstance(value, int) and not isinstance(value, bool)
        return whole or (kind is float and isinstance(value, float) and value == value)
    if hint is None or hint is type(None):
        return value is None
    return isinstance(value, kind) if isinstance(kind, type) and not getattr(kind, "_is_protocol", False) else True


def _in_words(alternatives: Sequence[Any]) -> str:
    words = []
    for hint in alternatives:
        kind = typing.get_origin(hint) or hint
        if _is_field(hint):
            words.append(Field("", hint, None, "").allowed)
        elif kind is collections.abc.Callable:
            words.append("a function")
        else:
            words.append(IN_WORDS.get(kind, f"a {getattr(kind, '__name__', kind)}"))
    words = list(dict.fromkeys(words))
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _misfit(name: str, signature: inspect.Signature, given: dict[str, Any], error: TypeError) -> str:
    """Return the sentence about arguments that a function does not have, or has to have."""
    unknown = next((each for each in given if each not in signature.parameters), "")
    takes = [each for each, about in signature.parameters.items() if each != "self" and about.kind != about.VAR_KEYWORD]
    if unknown:
        return f"{name} takes no {unknown}, only {', '.join(takes)}.{nearest(unknown, takes)}"
    return f"{name} cannot be called so: {error}; it takes {', '.join(takes)}."
