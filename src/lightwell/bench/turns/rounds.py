"""The order of the turns: a few steps each, so that whatever slows the machine slows all contenders:

    round 1   product  A A  B B  C C        the bare matrix product is measured in every round
    round 2   product  B B  C C  A A        who begins rotates
    round 3   product  C C  A A  B B

A ratio is taken within each round, and the rounds give its median and spread. Where not all fit into memory at once,
they run in groups, with the baseline and the products in each.
"""

from __future__ import annotations

import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

from lightwell.bench.contenders.contender import Contender
from lightwell.bench.turns.process import ContenderError, Process
from lightwell.training.hardware.meminfo import meminfo

ROOM = 1.5
"""A further contender is started where so many times the largest one so far is free."""

Counting = Callable[[str], AbstractContextManager[Callable[[int, int], None]]]


@dataclass(frozen=True)
class Watcher:
    """What hears of the progress of a measurement."""

    say: Callable[[str], None]
    counting: Counting
    """A progress bar for something: gives what to call with how much is done, and of how many."""


@dataclass
class Turns:
    """What became of one contender."""

    contender: Contender
    about: dict[str, Any] = field(default_factory=dict)
    """What the contender said when it was ready."""
    findings: dict[str, Any] = field(default_factory=dict)
    """What it said at the end."""
    rounds: dict[int, list[float]] = field(default_factory=dict)
    """The seconds of its steps, by the number of the round."""
    error: str = ""
    """The contender's last words, where it broke down."""


@dataclass
class Measurement:
    """All turns on one shape; complete or, after Ctrl-C, as far as they went."""

    turns: list[Turns]
    """The baseline first."""
    products: dict[str, Turns]
    """The bare matrix product, by precision."""
    rounds: int = 0
    """Rounds that were begun, over all groups."""


class Rounds:
    """A measurement that is going on, and the processes that it has started."""

    def __init__(self, contenders: Sequence[Contender], products: Mapping[str, Contender], watcher: Watcher) -> None:
        """Prepare; nothing is started yet. The first of `contenders` is the baseline."""
        self.measurement = Measurement(
            [Turns(contender) for contender in contenders],
            {precision: Turns(contender) for precision, contender in products.items()},
        )
        self._watcher = watcher
        self._running: dict[str, Process] = {}

    def measure(self, rounds: int, steps: int) -> None:
        """Run all contenders for so many rounds of so many steps; `measurement` fills as it goes.

        Raises:
            KeyboardInterrupt: as usual; no process is left behind.
        """
        baseline, *rest = self.measurement.turns
        yardsticks = list(self.measurement.products.values())
        waiting = deque(rest)
        try:
            for turns in (*yardsticks, baseline):
                self._start(turns)
            first = True
            while first or waiting:
                group = [baseline]
                while waiting and (len(group) == 1 or self._room()):  # one at least, whatever the memory
                    group.append(waiting.popleft())
                    self._start(group[-1])
                self._take_turns(group, yardsticks, rounds, steps)
                for turns in group[1:]:
                    self._end(turns)
                first = False
            for turns in (baseline, *yardsticks):
                self._end(turns)
        finally:
            for process in self._running.values():
                process.close()

    def _take_turns(self, group: list[Turns], yardsticks: list[Turns], rounds: int, steps: int) -> None:
        with self._watcher.counting("rounds") as on_progress:
            for number in range(rounds):
                for turns in (*yardsticks, *rotated(group, number)):
                    self._turn(turns, self.measurement.rounds, steps)
                self.measurement.rounds += 1
                on_progress(number + 1, rounds)

    def _start(self, turns: Turns) -> None:
        name = turns.contender.name
        self._watcher.say(f"{name} starts ...")
        try:
            self._running[name] = Process(turns.contender)
            turns.about = self._running[name].ready()
        except ContenderError as error:
            self._failed(turns, error)
        else:
            self._watcher.say(f"{name} is warm after {turns.about['warm_up_seconds']:.0f} s.")

    def _turn(self, turns: Turns, number: int, steps: int) -> None:
        if process := self._running.get(turns.contender.name):
            try:
                turns.rounds[number] = process.run(steps)
            except ContenderError as error:
                self._failed(turns, error)

    def _end(self, turns: Turns) -> None:
        if process := self._running.get(turns.contender.name):
            try:
                turns.findings = process.quit()
            except ContenderError as error:
                self._failed(turns, error)
            else:
                process.close()
                del self._running[turns.contender.name]

    def _failed(self, turns: Turns, error: ContenderError) -> None:
        turns.error = str(error)
        self._watcher.say(f"{turns.contender.name} failed: {error}")
        if process := self._running.pop(turns.contender.name, None):
            process.close()

    def _room(self) -> bool:
        free = meminfo("MemAvailable")
        largest = max((turns.about.get("peak_bytes", 0) for turns in self.measurement.turns), default=0)
        return free is None or free > ROOM * largest


def rotated(group: Sequence[Turns], number: int) -> list[Turns]:
    """Return the group in its order, begun by another in each round."""
    start = number % len(group)
    return [*group[start:], *group[:start]]


def ratios(baseline: Turns, other: Turns) -> list[float]:
    """Return how many times as fast the baseline is as the other, in each round that both took part in."""
    return [
        statistics.median(seconds) / statistics.median(baseline.rounds[number])
        for number, seconds in other.rounds.items()
        if number in baseline.rounds
    ]
