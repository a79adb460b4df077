"""A benchmark: shape after shape, and what is known about the machine, as plain values for JSON."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightwell.bench.contenders.contender import Peers, choose, command_of, products
from lightwell.bench.contenders.shapes import shape
from lightwell.bench.turns.results import FORMAT, shape_results
from lightwell.bench.turns.rounds import Rounds, Watcher
from lightwell.errors import LightwellError, SettingError
from lightwell.training.hardware.host import describe_host

PRECISIONS = ("bf16", "fp32")


class BenchError(LightwellError):
    """A benchmark in which nothing could be measured."""


@dataclass(frozen=True)
class Suite:
    """What to measure."""

    shapes: tuple[str, ...] = ("S",)
    contenders: tuple[str, ...] = ()
    """Names; none: all that can be run."""
    peers: Peers = field(default_factory=Peers)
    rounds: int = 5
    steps: int = 2
    """Steps of each contender in a round."""
    peak_gflops: float = 0.0
    """What the silicon could do at best; 0: not known."""

    def check(self) -> None:
        """Raise a SettingError where something cannot be measured so; nothing is started yet."""
        for name in self.shapes:
            shape(name)
        choose(self.contenders, self.peers)
        for name, value in (("rounds", self.rounds), ("steps_per_round", self.steps)):
            if value < 1:
                raise SettingError(f"{name} is {value}, but must be at least 1.")
        if self.peak_gflops < 0:
            raise SettingError(f"peak is {self.peak_gflops:g}, but must be at least 0.")

    def asked(self) -> dict[str, Any]:
        """Return what decides the results, as plain values; a file of others is not gone on with."""
        return {
            "shapes": list(self.shapes),
            "contenders": choose(self.contenders, self.peers),
            "rounds": self.rounds,
            "steps_per_round": self.steps,
            "peak_gflops": self.peak_gflops,
        }


def measure(
    suite: Suite,
    watcher: Watcher,
    command: str,
    *,
    begun: Sequence[dict[str, Any]] = (),
    on_shape: Callable[[dict[str, Any]], None] = lambda results: None,
) -> dict[str, Any]:
    """Measure everything, and return the results; `finished` in them says whether it came to its end.

    Args:
        suite: what to measure.
        watcher: hears what goes on.
        command: what was typed, to be repeated.
        begun: results of shapes that were measured before, which are not measured again.
        on_shape: called with all results so far after each shape that was measured, the one of a stop among them.

    Raises:
        SettingError: as `Suite.check`.
        BenchError: nothing at all could be measured.
        KeyboardInterrupt: a signal stopped it, after `on_shape`.
    """
    suite.check()
    done: list[dict[str, Any]] = []
    before = {result["shape"]["name"]: result for result in begun}
    results: dict[str, Any] = {
        "format": FORMAT,
        "date": datetime.date.today().isoformat(),
        "command": command,
        "host": describe_host(),
        "asked": suite.asked(),
        "finished": False,
        "shapes": done,
    }
    names = choose(suite.contenders, suite.peers)
    for shape_name in suite.shapes:
        if shape_name in before:
            watcher.say(f"Shape {shape_name} was measured before.")
            done.append(before[shape_name])
            continue
        watcher.say(f"Shape {shape_name}: {shape(shape_name).sentence()}.")
        rounds = Rounds(
            [command_of(name, shape(shape_name), suite.peers) for name in names],
            {precision: products(precision) for precision in PRECISIONS},
            watcher,
        )
        finished = False
        try:
            rounds.measure(suite.rounds, suite.steps)
            finished = True
        finally:  # what a stop has left is kept, too
            result = shape_results(shape(shape_name), rounds.measurement, suite.steps, suite.peak_gflops)
            done.append({**result, "finished": finished})
            results["finished"] = finished and len(done) == len(suite.shapes)
            on_shape(results)
    refuse_nothing(done)
    return {**results, "finished": True}


def refuse_nothing(shapes: Sequence[dict[str, Any]]) -> None:
    """Raise a BenchError where no contender was measured on any shape."""
    contenders = [contender for result in shapes for contender in result["contenders"]]
    if not any("tokens_per_second" in contender for contender in contenders):
        raise BenchError(f"Nothing could be measured; {contenders[0]['name']} failed: {contenders[0]['error']}")
