"""The page of all settings, made from the configuration classes so that it cannot differ from them.

python -m lightwell.training.settings.table > docs/configuration.md
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from lightwell.settings import Field
from lightwell.training.settings.config import RunConfig
from lightwell.training.settings.presets import DEFAULT_PRESET, PRESETS

PAGES = {"text": "text", "batches": "batches", "model": "model", "training": "training", "sampling": "generation"}
"""The page in docs/ that explains each section."""

INTRODUCTION = f"""# Configuration

Every setting of a run. This page is written by `training/settings/table.py` from the configuration classes: a name, a
default or a sentence here is the one that the program has.

A setting is the same word everywhere: `n_layers` in Python and in `config.toml`, `--n-layers` on the command line. No
name occurs in two sections, so that each is a flag by its bare name. What is set later wins:

    the default below  <  --preset NAME  <  --config FILE  <  a flag

A plain `lightwell train` starts from the preset `{DEFAULT_PRESET}`; [the presets](#presets) are at the end. An unknown
name or a value that is not allowed is refused with a sentence that says what is allowed and offers the nearest name.
"""

PRESETS_INTRODUCTION = f"""## Presets

What each preset sets; an empty place leaves the default. `{DEFAULT_PRESET}` is the one that is used when none is named.
"""


def configuration_page() -> str:
    """Return docs/configuration.md."""
    sections = [_section(name, settings.fields()) for name, settings in RunConfig.sections().items()]
    return "\n".join([INTRODUCTION, *sections, PRESETS_INTRODUCTION, _presets()])


def _section(name: str, fields: Iterable[Field]) -> str:
    """Return the heading of a section, what it is about, and a row for each field."""
    rows = [
        (f"`{field.name}`", _flag(field), _value(field.default), _allowed(field), field.help.replace("\n", " "))
        for field in fields
    ]
    about = f"Section `[{name}]` of `config.toml`; explained in [{PAGES[name]}.md]({PAGES[name]}.md).\n"
    head = ("name", "flag", "default", "allowed", "what it is")
    return "\n".join([f"## {name.capitalize()}\n", about, _table(head, rows)])


def _presets() -> str:
    """Return a row for each field that a preset sets, a column for each preset."""
    names = [name for name in RunConfig.all_fields() if any(name in values for values in PRESETS.values())]
    rows = [
        (f"`{name}`", *(_value(values[name]) if name in values else "" for values in PRESETS.values()))
        for name in names
    ]
    return _table(("", *(f"`{name}`" for name in PRESETS)), rows)


def _flag(field: Field) -> str:
    """Return how the command line writes it; the paths are its arguments."""
    if field.name == "paths":
        return "`TEXT...`"
    dashed = field.name.replace("_", "-")
    return f"`--{dashed}`, `--no-{dashed}`" if field.type is bool else f"`--{dashed}`"


def _allowed(field: Field) -> str:
    return "a list of texts" if field.type == tuple[str, ...] else field.allowed


def _value(value: Any) -> str:
    """Return a value as config.toml writes it, without the quotes of a text that is not empty."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return {"": '""', (): "[]"}.get(value, str(value))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(configuration_page())
