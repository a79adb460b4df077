"""What is shown while a model trains: a bar where a person watches, lines where a file or a pipe does.

All of it goes to stderr, so that stdout holds results alone.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from lightwell.cli import words
from lightwell.cli.printer import fit
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.run import Run

SECONDS_BETWEEN_LINES = 10.0
BESIDE = 36  # cells of the bar, the number of steps and the time so far
RECENT = 10  # steps over which loss and speed are averaged, so that the figures can be read


def progress(run: Path | None = None) -> Listener:
    """Return the listener for this terminal, file or pipe; `run` is where the run will be, for its reference lines."""
    console = _console()
    return BarProgress(console, run) if console.is_terminal else LineProgress(console, run)


class LineProgress(Listener):
    """A line for each thing worth knowing, and one every ten seconds."""

    def __init__(self, console: Console, run: Path | None = None) -> None:
        self.console = console
        self.run = run
        self.references: dict[str, float] = {}
        self.steps = self.start = self.step = 0
        self.began = self.last_line = time.monotonic()
        self.held_out: list[float] = []
        """The held-out losses so far, in nats per token."""
        self.losses: deque[float] = deque(maxlen=RECENT)
        self.speeds: deque[float] = deque(maxlen=RECENT)

    def print(self, text: str, style: str | None = None) -> None:
        """Print a text, broken between words where a terminal is too narrow."""
        width = self.console.width if self.console.is_terminal else 0
        self.console.print(fit(text, width), style=style, soft_wrap=True)

    def say(self, sentence: str) -> None:
        """Print the sentence."""
        self.print(sentence)

    def chose(self, rows: list[dict[str, float]], best: int) -> None:
        """Print the models that were considered for the time there is, and which one it will be."""
        self.print("\nFor the time there is, on this machine and this text:")
        self.print(words.candidates(rows, best) + "\n")

    def begin(self, steps: int, start: int) -> None:
        """Explain the reference lines; the clock for the time left starts here."""
        if self.run is not None:
            run = Run(self.run)
            self.references = run.references()
            self.print("\n" + "\n".join(words.reference_lines(self.references)) + "\n")
            if run.config.training.compile == "on":
                self.print(
                    "The model is compiled during the first steps, for up to half a minute; then it is faster.\n"
                )
        self.steps, self.start, self.step = steps, start, start
        self.began = self.last_line = time.monotonic()

    def lengthened(self, steps: int) -> None:
        """Count on the new number of steps."""
        self.steps = steps

    def stepped(self, record: dict[str, Any]) -> None:
        """Keep the figures, and print them now and then."""
        self.step = record["step"]
        if "loss" in record:  # not where an update was left out
            self.losses.append(record["loss"])
            self.speeds.append(record["tokens_per_second"])
        if time.monotonic() - self.last_line >= SECONDS_BETWEEN_LINES:
            self.last_line = time.monotonic()
            self.print(f"step {self.step:>5}/{self.steps}  {self.figures()}")

    def evaluated(self, record: dict[str, Any]) -> None:
        """Print the held-out scores, and how they stand to the reference lines."""
        self.last_line = time.monotonic()
        if record["step"] == self.start:
            self.began = self.last_line  # what came before the first step says nothing about the time left
        loss = record["validation_loss"]
        style = self._style(loss)
        self.held_out.append(loss)
        where = f"  {words.standing(loss, self.references)}" if self.references else ""
        self.print(
            f"step {record['step']:>5}  held-out loss {loss:.3f}  {record['validation_bits_per_byte']:.3f} bits/byte  "
            f"perplexity {record['perplexity']:,.1f}{where}",
            style=style,
        )

    def _style(self, loss: float) -> str | None:
        """Return the colour of an evaluation: worse than the best before it, or below one more reference line."""
        if not self.held_out:
            return None
        before = words.standing(min(self.held_out), self.references) if self.references else ""
        if loss > min(self.held_out):
            return "yellow"
        return "green" if self.references and words.standing(loss, self.references) != before else None

    def sampled(self, record: dict[str, Any]) -> None:
        """Print the beginning of what the model writes; the last sample is part of the result."""
        if record["step"] < self.steps:
            self.print(words.excerpt(record["prompt"] + record["text"]), style="dim")

    def figures(self, room: int = 0) -> str:
        """Return training loss, held-out loss, its best so far, speed and time left in a line.

        room: cells that there are, 0 for any number; what matters least is left out first.
        """
        parts: list[tuple[int, str]] = []  # how much each matters: the lowest the most
        if self.losses:
            loss = sum(self.losses) / len(self.losses)
            parts += [(0, f"loss {loss:.3f}")]
            if self.references:
                parts += [(4, f"{words.bits_per_byte(loss, self.references):.3f} bits/byte")]
        if self.held_out:
            parts += [(1, f"held out {self.held_out[-1]:.3f}")]
            if min(self.held_out) < self.held_out[-1]:
                parts += [(3, f"best {min(self.held_out):.3f}")]
        if self.speeds:
            parts += [(5, f"{sum(self.speeds) / len(self.speeds):,.0f} tokens/s")]
        if self.step > self.start:
            # Measured over everything so far, evaluations and samples included: they will come again.
            each = (time.monotonic() - self.began) / (self.step - self.start)
            parts += [(2, f"{words.duration(each * (self.steps - self.step))} left")]
        while room > 0 and len(parts) > 1 and len("  ".join(text for _, text in parts)) > room:
            parts.remove(max(parts))
        return "  ".join(text for _, text in parts)


class BarProgress(LineProgress):
    """A bar at the bottom of the terminal; what is worth keeping scrolls by above it."""

    def __init__(self, console: Console, run: Path | None = None) -> None:
        super().__init__(console, run)
        columns: list[ProgressColumn] = [
            BarColumn(bar_width=None),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
        ]
        self.bar = Progress(*columns, console=console, transient=True, refresh_per_second=4, expand=True)
        self.task = self.bar.add_task("", total=None)

    def begin(self, steps: int, start: int) -> None:
        """Show the bar."""
        super().begin(steps, start)
        self.bar.update(self.task, total=steps, completed=start)
        self.bar.start()

    def lengthened(self, steps: int) -> None:
        """Give the bar its new end."""
        super().lengthened(steps)
        self.bar.update(self.task, total=steps)

    def stepped(self, record: dict[str, Any]) -> None:
        """Move the bar."""
        self.last_line = time.monotonic()  # the bar stands for the lines
        super().stepped(record)
        self.bar.update(self.task, completed=self.step, description=self.figures(self.console.width - BESIDE))

    def end(self) -> None:
        """Take the bar away."""
        self.bar.stop()


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    """For a job that counts up: gives a function to call with what is done, and of how many; shows the time left."""
    console = _console()
    columns = (BarColumn(bar_width=None), MofNCompleteColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True, expand=True)
    task = bar.add_task(what, total=None)
    began = last_line = time.monotonic()
    done_at_first = -1  # what was done before the first report, e.g. before the job was stopped and went on

    def on_progress(done: int, of: int) -> None:
        nonlocal began, done_at_first, last_line
        if done_at_first < 0:
            began, done_at_first = time.monotonic(), done
        if console.is_terminal:
            bar.update(task, completed=done, total=of)
            bar.start()  # only now, so that it does not stand among the sentences before
        elif (now := time.monotonic()) - last_line >= SECONDS_BETWEEN_LINES and done > done_at_first:
            last_line = now
            left = (now - began) * (of - done) / (done - done_at_first)
            console.print(f"{done:,} of {of:,} {what}  {words.duration(left)} left")

    try:
        yield on_progress
    finally:
        if bar.live.is_started:
            bar.stop()


def _console() -> Console:
    console = Console(stderr=True, highlight=False, markup=False)
    console.soft_wrap = not console.is_terminal  # a file has no width to wrap at
    return console
