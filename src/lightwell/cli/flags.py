"""Every configuration field as a flag of the same name with dashes: --n-layers for n_layers.

A flag that is not given is None, so that only what the user wrote goes over the preset and the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeAlias

from cyclopts import Group, Parameter, Token

from lightwell.settings import Field
from lightwell.text.config import PREPARED
from lightwell.training.settings.config import RunConfig
from lightwell.training.settings.presets import DEFAULT_PRESET, preset

METAVARS = {int: "N", float: "X", str: "TEXT", tuple[str, ...]: "TEXT"}
FLATTEN = Parameter(name="*")


def flags_of(*sections: str, defaults: RunConfig, only: Collection[str] = ()) -> type:
    """Return a dataclass with an optional field for each configuration field of the sections, for cyclopts to read.

    only: the names of the fields that the command has a use for; none means all.
    """
    annotated: Any = Annotated  # as a value, not as an annotation that a type checker would read
    items: list[tuple[str, Any, Any]] = []
    for position, section in enumerate(sections):
        group = Group(section.capitalize(), sort_key=position + 10)
        for field in RunConfig.sections()[section].fields():
            if field.name != "paths" and (not only or field.name in only):  # paths are arguments, not flags
                default = getattr(getattr(defaults, section), field.name)
                annotation = annotated[field.type | None, _parameter(field, default, group)]
                items.append((field.name, annotation, None))
    made = dataclasses.make_dataclass("Flags", items, frozen=True, kw_only=True)
    made.__module__ = __name__  # cyclopts does not look into classes of the module "types"
    return made


def given(flags: Any) -> dict[str, Any]:
    """Return the settings that the user wrote, by field name."""
    if flags is None:
        return {}
    values = {item.name: getattr(flags, item.name) for item in dataclasses.fields(flags)}
    return {name: value for name, value in values.items() if value is not None}


def check(**values: Any) -> None:
    """Check flags of a command against the configuration fields of the same name.

    Raises:
        SettingError: a value is out of range.
    """
    fields = RunConfig.all_fields()
    for name, value in values.items():
        fields[name][1].check(value)


def _parameter(field: Field, default: Any, group: Group) -> Parameter:
    shown = _in_words(default)
    return Parameter(
        help=field.help,
        group=group,
        show_default=lambda _: shown,
        metavar=METAVARS.get(field.type),
        negative_iterable="",
    )


def _in_words(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value in ("", ()):
        return "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _find_run(_: type, tokens: tuple[Token, ...]) -> Path:
    """Return the run's folder: a run is meant by its path, or by its bare name where it is in runs/."""
    from lightwell.training.runs.run import find_run

    return find_run(tokens[0].value)


if TYPE_CHECKING:
    TrainFlags: TypeAlias = Any
    SamplingFlags: TypeAlias = Any
    PrepareFlags: TypeAlias = Any
else:  # made from the configuration classes, which no type checker can follow
    TrainFlags = flags_of(*RunConfig.sections(), defaults=preset(DEFAULT_PRESET))
    SamplingFlags = flags_of("sampling", defaults=RunConfig())
    PrepareFlags = flags_of("text", "model", defaults=RunConfig(), only=PREPARED)

RunPath: TypeAlias = Annotated[Path, Parameter(help="The run: its folder, or its name in runs/.", converter=_find_run)]
Json: TypeAlias = Annotated[bool, Parameter(help="Print the result as JSON.", negative=(), show_default=False)]
Checkpoint: TypeAlias = Annotated[
    str, Parameter(help="best (lowest held-out loss), newest, or a step.", metavar="WHICH", show_default=True)
]
Device: TypeAlias = Annotated[
    Literal["auto", "cpu", "cuda", "mps"], Parameter(help="Where to compute; auto takes a GPU where there is one.")
]
