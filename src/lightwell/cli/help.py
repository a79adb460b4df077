"""How help is laid out: names on the left, sentences on the right, no boxes."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from lightwell.cli import invocation

if TYPE_CHECKING:
    from cyclopts.help import HelpEntry, HelpPanel
    from rich.console import Console, ConsoleOptions

USUAL = (
    "--minutes", "--steps", "--epochs", "--tokenizer", "--vocab-size", "--n-layers", "--d-model", "--context-length",
    "--batch-size", "--learning-rate", "--residual-dropout", "--seed",
)  # fmt: skip
"""The settings of `train` that most people set, in the order in which help shows them."""
ALL = "--help-all"
WIDEST = 110  # characters in a line: longer ones are hard to read
LEFT = 30  # characters for the names; a longer name has its sentence below it


class PlainHelp:
    """A help formatter for cyclopts; its own draw boxes, or do not indent."""

    def __call__(self, console: Console, options: ConsoleOptions, panel: HelpPanel) -> None:
        """Print one group of commands or flags."""
        entries = (
            usual(panel) if invocation.command_line[:1] == ["train"] and not invocation.every_flag else panel.entries
        )
        if not entries:
            return
        _print(console, str(panel.title), style="bold")
        for entry in entries:
            _print(console, _entry(entry, min(console.width, WIDEST)))
        _print(console, "")

    def render_usage(self, console: Console, options: ConsoleOptions, usage: Any) -> None:
        """Print the line that says how the command is written."""
        _print(console, str(usage).strip() + "\n")

    def render_description(self, console: Console, options: ConsoleOptions, description: Any) -> None:
        """Print what the command does."""
        for paragraph in _plain(description).split("\n\n"):
            _print(console, textwrap.fill(paragraph, min(console.width, WIDEST)) + "\n")


def usual(panel: HelpPanel) -> list[HelpEntry]:
    """Return the entries of a group that most people need: all that are no settings, and of the settings the USUAL."""
    from lightwell.training.settings.config import RunConfig

    if str(panel.title).lower() not in RunConfig.sections():
        return list(panel.entries)
    shown = [entry for entry in panel.entries if set(entry.positive_names) & set(USUAL)]
    return sorted(shown, key=lambda entry: min(USUAL.index(name) for name in entry.positive_names if name in USUAL))


def _entry(entry: HelpEntry, width: int) -> str:
    names = ", ".join(entry.positive_names + entry.positive_shorts) or entry.positional_label or ""
    if entry.negative_names:
        names = f"{names}, {', '.join(entry.negative_names)}"
    elif entry.metavar and entry.positive_names:
        names = f"{names} {entry.metavar}"
    left = f"  {names}".ljust(LEFT)
    sentence = _plain(entry.description)
    if entry.choices:
        sentence += f" One of {', '.join(entry.choices)}."
    if entry.default is not None:
        sentence += f" [{_plain(entry.default)}]"
    lines = textwrap.wrap(sentence, width - LEFT - 1, break_on_hyphens=False) or [""]
    if len(left) > LEFT:
        lines.insert(0, left)
    else:
        lines[0] = f"{left} {lines[0]}"
    return "\n".join([lines[0], *(" " * (LEFT + 1) + line for line in lines[1:])]).rstrip()


def _plain(text: Any) -> str:
    """Return the words of whatever cyclopts hands over: a string, rich's Text, or its own wrapper around that."""
    inner = getattr(text, "primary_renderable", text)
    return str(getattr(inner, "plain", inner or "")).strip()


def _print(console: Console, text: str, style: str | None = None) -> None:
    console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)
