"""Settings: what a configuration field is, how a value for it is checked, and how it gets its help.

Every configuration in Lightwell is a frozen dataclass. The annotation of a field says what is allowed, and the
sentence under it is the help of the command line, the label in the page and the row in the docs (where the sources
cannot be read, the field's name in words stands in for it):

    @dataclass(frozen=True)
    class ModelConfig(Settings):
        n_layers: Annotated[int, Meta(ge=1)] = 4
        \"\"\"Decoder blocks, one after another.\"\"\"
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import functools
import inspect
import math
import textwrap
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import msgspec
from msgspec import Meta

from lightwell.errors import SettingError
from lightwell.synonyms import is_synonym, synonyms_of

__all__ = ["Field", "Meta", "Settings", "nearest", "plain"]


@dataclass(frozen=True)
class Field:
    """One configuration field, as the command line, the page and the docs show it."""

    name: str
    annotation: Any
    default: Any
    help: str

    @property
    def type(self) -> Any:
        """Return the plain type without its limits, e.g. int."""
        return _split(self.annotation)[0]

    @property
    def allowed(self) -> str:
        """Return what values are allowed, in words, e.g. "a whole number, 1 or more"."""
        plain, limits = _split(self.annotation)
        if typing.get_origin(plain) is Literal:
            return "one of " + ", ".join(str(choice) for choice in typing.get_args(plain))
        words = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(plain, "a list")
        return ", ".join([words, *_limits_in_words(limits)])

    def check(self, value: Any) -> Any:
        """Return `value` as this field's type.

        Raises:
            SettingError: the value is of another type or out of range.
        """
        value = plain(value)
        try:
            checked = msgspec.convert(value, self.annotation)
            if isinstance(checked, float) and math.isinf(checked):  # no field has a use for it
                raise msgspec.ValidationError
            return checked
        except (msgspec.ValidationError, UnicodeError):  # the latter for words that are not UTF-8
            near = nearest(value, typing.get_args(self.type)) if typing.get_origin(self.type) is Literal else ""
            text = repr(value)
            text = text if len(text) <= 200 else f"{text[:197]}..."
            raise SettingError(f"{self.name} is {text}, but must be {self.allowed}.{near}") from None


class Settings:
    """Base of every configuration: checks its fields when made, and goes to and from plain dictionaries."""

    def __post_init__(self) -> None:
        for field in self.fields():
            object.__setattr__(self, field.name, field.check(getattr(self, field.name)))

    @classmethod
    @functools.cache  # one entry per configuration class
    def fields(cls) -> tuple[Field, ...]:
        """Return the fields in the order of the class, with their help."""
        hints = typing.get_type_hints(cls, include_extras=True)
        sentences = _sentences_under_fields(cls)
        return tuple(
            Field(
                item.name,
                hints[item.name],
                item.default if item.default_factory is dataclasses.MISSING else item.default_factory(),
                sentences.get(item.name, f"{item.name.replace('_', ' ').capitalize()}."),
            )
            for item in dataclasses.fields(cls)  # type: ignore[arg-type]
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Build the configuration from plain values, e.g. a TOML table.

        Raises:
            SettingError: an unknown name (the nearest valid one is offered) or a value that is not allowed.
        """
        names = [field.name for field in cls.fields()]
        for name in values:
            if name not in names:
                raise SettingError(f"There is no setting named {name}.{nearest(name, names)}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for TOML or JSON."""
        return {field.name: msgspec.to_builtins(getattr(self, field.name)) for field in self.fields()}


def plain(value: Any) -> Any:
    """Return a single number of numpy or torch as Python's own; anything else as it is."""
    item = getattr(value, "item", None)
    return item() if callable(item) and getattr(value, "ndim", None) == 0 else value


def nearest(name: object, valid: Iterable[object]) -> str:
    """Return a sentence that offers the valid name that is meant, a space before it, or nothing where none is near.

    What other programs call a setting counts before what is spelt alike.
    """
    names = [str(item) for item in valid]
    close = synonyms_of(str(name), names)[:1]
    another = str(name).startswith("--") and is_synonym(str(name))
    if not close and not another:  # of a flag that is not here, what is spelt alike is no help
        close = difflib.get_close_matches(str(name), names, n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _split(annotation: Any) -> tuple[Any, Meta | None]:
    if typing.get_origin(annotation) is typing.Annotated:
        plain, *extras = typing.get_args(annotation)
        return plain, next((extra for extra in extras if isinstance(extra, Meta)), None)
    return annotation, None


def _limits_in_words(limits: Meta | None) -> list[str]:
    if limits is None:
        return []
    words = [
        (limits.ge, f"{limits.ge} or more"),
        (limits.gt, f"more than {limits.gt}"),
        (limits.le, f"at most {limits.le}"),
        (limits.lt, f"less than {limits.lt}"),
        (limits.min_length, "not empty"),
    ]
    return [text for limit, text in words if limit is not None]


def _sentences_under_fields(cls: type) -> dict[str, str]:
    """Return the string literal under each annotated field, read from the source, since Python keeps none of them.

    Without a source (a package of .pyc files alone, a frozen program) there is none.
    """
    try:
        source = inspect.getsource(cls)
    except (OSError, TypeError):
        return {}
    (definition,) = ast.parse(textwrap.dedent(source)).body
    assert isinstance(definition, ast.ClassDef)
    sentences: dict[str, str] = {}
    for statement, below in zip(definition.body, definition.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            assert isinstance(below, ast.Expr), f"{cls.__name__}.{statement.target.id} has no sentence under it"
            assert isinstance(below.value, ast.Constant)
            sentences[statement.target.id] = inspect.cleandoc(str(below.value.value))
    return sentences
