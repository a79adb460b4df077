"""Listeners that write a run's figures for other programs: TensorBoard, Weights & Biases, trackio.

Each needs its own package, which is imported when it is asked for. Nothing leaves the machine unless the user's
environment says so: W&B is offline as long as WANDB_MODE is not set. A writer that fails is left out with a sentence;
a training never ends because of one.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightwell.errors import SettingError
from lightwell.settings import nearest
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.run import Run

FIGURES = ("loss", "learning_rate", "grad_norm", "tokens_per_second", "tokens_seen")
"""What of a step's record is written."""
HELD_OUT = {
    "validation_loss": "held_out_loss",
    "validation_bits_per_byte": "held_out_bits_per_byte",
    "perplexity": "held_out_perplexity",
}
"""What of an evaluation is written, and under which name."""
FOLDER = "logs"
"""The folder in a run that writers have."""


class Writer(Listener):
    """Writes what it hears; what is written how is told by three functions."""

    def __init__(self, name: str, path: Path, begin: Callable[[Path, dict[str, Any]], Backend]) -> None:
        self.name = name
        self._path = path
        self._begin = begin
        self._backend: Backend | None = None
        self._say: Callable[[str], None] = lambda sentence: print(sentence, file=sys.stderr)
        self._failed = False

    def tell(self, say: Callable[[str], None]) -> None:
        """Give it somebody to say sentences to."""
        self._say = say

    def begin(self, steps: int, start: int) -> None:
        """Open the other program's files, with the run's settings."""
        settings = {
            name: value for section in Run(self._path).config.to_dict().values() for name, value in section.items()
        }
        self._try(lambda: self._open(settings))

    def stepped(self, record: dict[str, Any]) -> None:
        """Write the figures of a step."""
        self._figures(record, {name: name for name in FIGURES})

    def evaluated(self, record: dict[str, Any]) -> None:
        """Write the held-out figures."""
        self._figures(record, HELD_OUT)

    def sampled(self, record: dict[str, Any]) -> None:
        """Write what the model wrote."""
        self._try(lambda: self._backend and self._backend.text(record["step"], record["prompt"] + record["text"]))

    def end(self) -> None:
        """Close the files."""
        self._try(lambda: self._backend and self._backend.close())
        self._backend = None

    def _open(self, settings: dict[str, Any]) -> None:
        folder = self._path / FOLDER
        folder.mkdir(exist_ok=True)
        self._backend = self._begin(folder, settings)

    def _figures(self, record: dict[str, Any], names: dict[str, str]) -> None:
        values = {there: record[here] for here, there in names.items() if here in record}
        if values:
            self._try(lambda: self._backend and self._backend.figures(record["step"], values))

    def _try(self, work: Callable[[], Any]) -> None:
        """Do something with the other program's package; whatever it raises ends the writing and not the run."""
        if self._failed:
            return
        try:
            work()
        except Exception as error:  # somebody else's code, and the network
            self._failed, self._backend = True, None
            first = (str(error).splitlines() or [type(error).__name__])[0]
            self._say(f"Nothing more is written for {self.name}: {first}; the training goes on.")


class Backend:
    """What is open in another program."""

    def __init__(
        self,
        figures: Callable[[int, dict[str, float]], Any],
        text: Callable[[int, str], Any],
        close: Callable[[], Any],
    ) -> None:
        self.figures, self.text, self.close = figures, text, close


class Listeners(Listener):
    """Several listeners as one: each hears everything, in their order."""

    def __init__(self, listeners: Sequence[Listener]) -> None:
        self.listeners = list(listeners)
        for listener in self.listeners:
            if isinstance(listener, Writer):
                listener.tell(self.say)

    def say(self, sentence: str) -> None:
        """Tell all."""
        for listener in self.listeners:
            listener.say(sentence)

    def chose(self, rows: list[dict[str, float]], best: int) -> None:
        """Tell all."""
        for listener in self.listeners:
            listener.chose(rows, best)

    def begin(self, steps: int, start: int) -> None:
        """Tell all."""
        for listener in self.listeners:
            listener.begin(steps, start)

    def lengthened(self, steps: int) -> None:
        """Tell all."""
        for listener in self.listeners:
            listener.lengthened(steps)

    def stepped(self, record: dict[str, Any]) -> None:
        """Tell all."""
        for listener in self.listeners:
            listener.stepped(record)

    def evaluated(self, record: dict[str, Any]) -> None:
        """Tell all."""
        for listener in self.listeners:
            listener.evaluated(record)

    def sampled(self, record: dict[str, Any]) -> None:
        """Tell all."""
        for listener in self.listeners:
            listener.sampled(record)

    def saved(self, checkpoint: Path) -> None:
        """Tell all."""
        for listener in self.listeners:
            listener.saved(checkpoint)

    def end(self) -> None:
        """Tell all."""
        for listener in self.listeners:
            listener.end()


def writer(name: str, path: Path) -> Writer:
    """Return a listener that writes the figures of the run at `path` for another program.

    Raises:
        SettingError: there is no such program, or its package is not installed.
    """
    if name not in PROGRAMS:
        raise SettingError(f"There is no log {name}; there are {', '.join(PROGRAMS)}.{nearest(name, PROGRAMS)}")
    package, begin = PROGRAMS[name]
    try:
        importlib.import_module(package)
    except ImportError:
        raise SettingError(
            f"A log for {name} needs the package {package}: pip install {package}, or pip install 'lightwell[{name}]'."
        ) from None
    return Writer(name, path, begin)


def writers(names: Sequence[str], path: Path) -> list[Listener]:
    """Return a writer for each name, one where a name is given twice.

    Raises:
        SettingError: as of `writer`.
    """
    return [writer(name, path) for name in dict.fromkeys(names)]


def _tensorboard(folder: Path, settings: dict[str, Any]) -> Backend:
    from torch.utils.tensorboard import SummaryWriter

    board: Any = SummaryWriter(str(folder / "tensorboard"))
    board.add_text("settings", "\n".join(f"    {name} = {value}" for name, value in settings.items()), 0)

    def figures(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            board.add_scalar(name, value, step)
        board.flush()

    return Backend(figures, lambda step, text: board.add_text("sample", f"    {text}", step), board.close)


def _wandb(folder: Path, settings: dict[str, Any]) -> Backend:
    wandb = importlib.import_module("wandb")
    mode = os.environ.get("WANDB_MODE", "offline")
    run = wandb.init(project="lightwell", name=folder.parent.name, dir=str(folder), config=settings, mode=mode)
    return Backend(
        lambda step, values: run.log(values, step=step),
        lambda step, text: run.log({"sample": text}, step=step),
        run.finish,
    )


def _trackio(folder: Path, settings: dict[str, Any]) -> Backend:
    trackio = importlib.import_module("trackio")
    trackio.init(project="lightwell", name=folder.parent.name, config=settings)
    return Backend(
        lambda step, values: trackio.log(values, step=step),
        lambda step, text: trackio.log({"sample": text}, step=step),
        trackio.finish,
    )


PROGRAMS: dict[str, tuple[str, Callable[[Path, dict[str, Any]], Backend]]] = {
    "tensorboard": ("tensorboard", _tensorboard),
    "wandb": ("wandb", _wandb),
    "trackio": ("trackio", _trackio),
}
"""The programs that a run can be written for: their package, and what opens its files."""
