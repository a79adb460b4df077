"""What `--minutes` chooses, beside shapes chosen by hand that get the same minutes.

    python -m lightwell.bench.minutes 3 --lanes 2 --out minutes-3.json

Each run is a process of its own, `lightwell train` on the default corpus, with the recipe of the small presets; the
first one chooses for itself. All find the corpus tokenized and nothing compiled, are evaluated at the start and the end
only, and are scored on all of the held-out text. With more than one lane, as many run side by side, each with its share
of the CPUs: what a smaller machine would reach in as much time, in a fraction of the hours.

Every run is written to the file as it ends; what is there already is not run again.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated, Any

from cyclopts import Parameter

from lightwell.bench.quality import as_command, keep, run_quietly
from lightwell.errors import SettingError
from lightwell.plain_json import plain_json
from lightwell.training.hardware.host import describe_host

CHOICE = "chosen"


@dataclass(frozen=True)
class Hand:
    """A model and a batch that somebody might take, without knowing the machine."""

    n_layers: int
    d_model: int
    context_length: int = 128
    batch_size: int = 16

    @property
    def flags(self) -> tuple[str, ...]:
        """As `lightwell train` takes them; heads are 64 wide, as among what is chosen from."""
        settings = {**asdict(self), "n_heads": self.d_model // 64}
        return tuple(word for name, value in settings.items() for word in (f"--{name.replace('_', '-')}", str(value)))


QUIET = ("--eval-every", "0", "--sample-every", "0", "--checkpoint-every", "0")

HANDS = {
    3: (
        Hand(1, 256), Hand(2, 128), Hand(2, 192), Hand(2, 256), Hand(3, 192), Hand(4, 256), Hand(3, 256, 64, 32),
        Hand(2, 192, 256, 8),
    ),
    10: (
        Hand(2, 192), Hand(2, 256), Hand(3, 256), Hand(4, 256), Hand(4, 256, 256, 16), Hand(4, 384), Hand(6, 384),
        Hand(4, 384, 256, 16),
    ),
}  # fmt: skip
"""For three and for ten minutes."""


@dataclass(frozen=True)
class Finished:
    """One run."""

    how: str
    """`chosen`, or the flags."""
    seconds: float
    """From the start of the process to its end."""
    n_layers: int
    d_model: int
    context_length: int
    batch_size: int
    steps: int
    tokens: int
    bits_per_byte: float
    """Bits per byte over all of the held-out text."""


def train(how: str, flags: Sequence[str], minutes: float, cpus: Sequence[int]) -> Finished:
    """Train in a process of its own on these CPUs, then score the run."""
    from lightwell.training.runs.run import Run
    from lightwell.training.runs.summary import Summary

    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        fresh = {"OMP_NUM_THREADS": str(len(cpus)), "TORCHINDUCTOR_CACHE_DIR": f"{folder}/compiled"}
        bound = ("taskset", "--cpu-list", ",".join(map(str, cpus)), sys.executable, "-m", "lightwell")
        started = time.perf_counter()
        run_quietly(
            [*bound, "train", "--minutes", f"{minutes:g}", "--out", str(out), *QUIET, *flags], Path(folder), fresh
        )
        seconds = time.perf_counter() - started
        score = json.loads(run_quietly([*bound, "evaluate", str(out), "--json"], Path(folder)))
        run = Run(out)
        model, batches = run.config.model, run.config.batches
        return Finished(
            how, seconds, model.n_layers, model.d_model, model.context_length, batches.batch_size,
            run.config.training.steps, Summary.of(run).tokens_seen, score["bits_per_byte"],
        )  # fmt: skip


def lanes_of(cpus: Sequence[int], lanes: int) -> list[list[int]]:
    """Return the CPUs in so many equal groups, what is left over unused.

    Raises:
        SettingError: there are fewer CPUs than lanes.
    """
    each = len(cpus) // lanes if lanes > 0 else 0
    if not each:
        raise SettingError(f"--lanes is {lanes}, but must be from 1 to {len(cpus)}, the processors there are.")
    return [list(cpus[lane * each : (lane + 1) * each]) for lane in range(lanes)]


def compare(
    minutes: float,
    jobs: Sequence[tuple[str, Sequence[str]]],
    lanes: Sequence[Sequence[int]],
    finished: Callable[[Finished], None],
) -> None:
    """Train all of them, one in each lane at a time; `finished` gets each as it ends."""
    free: SimpleQueue[Sequence[int]] = SimpleQueue()
    for lane in lanes:
        free.put(lane)

    def one(job: tuple[str, Sequence[str]]) -> Finished:
        lane = free.get()
        try:
            return train(*job, minutes, lane)
        finally:
            free.put(lane)

    with ThreadPoolExecutor(len(lanes)) as pool:
        for run in as_completed([pool.submit(one, job) for job in jobs]):
            finished(run.result())


def summary(finished: Sequence[Finished], minutes: float, lanes: int) -> dict[str, Any]:
    """Return all runs, the best first, and how far the choice is above the best of those by hand in bits per byte."""
    ranked = sorted(finished, key=lambda one: one.bits_per_byte)
    results: dict[str, Any] = {
        "minutes": minutes,
        "lanes": lanes,
        "date": datetime.date.today().isoformat(),
        "host": describe_host(),
        "versions": {name: version(name) for name in ("torch", "lightwell")},
        "runs": [asdict(one) for one in ranked],
    }
    chosen = [one.bits_per_byte for one in ranked if one.how == CHOICE]
    by_hand = [one.bits_per_byte for one in ranked if one.how != CHOICE]
    if chosen and by_hand:
        results["choice_above_best"] = chosen[0] / by_hand[0] - 1.0
    return results


def already(out: Path | None) -> list[Finished]:
    """Return the runs that a file has from before.

    Raises:
        SettingError: the file is something else.
    """
    if out is None or not out.exists():
        return []
    try:
        return [Finished(**run) for run in json.loads(out.read_text(encoding="utf-8"))["runs"]]
    except (OSError, ValueError, KeyError, TypeError):
        raise SettingError(f"{out} is not what this benchmark writes; name another file.") from None


def main(
    minutes: Annotated[int, Parameter(help=f"How long: {' or '.join(map(str, HANDS))}.")],
    *,
    lanes: Annotated[int, Parameter(help="Runs side by side, each on its share of the processors.")] = 1,
    out: Annotated[Path | None, Parameter(help="A file for all results, as JSON; runs in it are not repeated.")] = None,
) -> None:
    """Measure how good the choice of `lightwell train --minutes` is, on the default corpus."""
    if minutes not in HANDS:
        raise SettingError(f"There are shapes by hand for {' and '.join(map(str, HANDS))} minutes, not for {minutes}.")
    done = already(out)
    if not shutil.which("taskset"):
        raise SettingError("taskset is needed to give each run its processors; it comes with util-linux.")
    parts = lanes_of(sorted(os.sched_getaffinity(0)), lanes)
    jobs: list[tuple[str, Sequence[str]]] = [
        (CHOICE, ()),
        *((" ".join(hand.flags), hand.flags) for hand in HANDS[minutes]),
    ]
    from lightwell.corpus.corpus import prepare
    from lightwell.text.config import TextConfig

    prepare(TextConfig(), 0)  # so that no run has to tokenize

    def finished(run: Finished) -> None:
        done.append(run)
        keep(summary(done, minutes, lanes), out)
        print(plain_json(asdict(run)), file=sys.stderr, flush=True)

    compare(minutes, [job for job in jobs if job[0] not in {run.how for run in done}], parts, finished)
    print(plain_json(summary(done, minutes, lanes), indent=1))


if __name__ == "__main__":
    as_command("minutes", main)
