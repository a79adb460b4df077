"""What a checkpoint costs the training: `python -m lightwell.bench.saving S`.

Rounds of steps with a checkpoint at their start and rounds without one take turns in one process, on the bare disk and
with all syncing. A round is long enough for a checkpoint to be written beside it, so that its snapshot and all that its
writing takes from the steps are in the difference, which is put beside a minute. Where the machine is noisier than
that, CPU time says more: that of the thread that writes, and how long the snapshot keeps training waiting.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lightwell.bench.contenders.shapes import shape
from lightwell.bench.quality import as_command
from lightwell.plain_json import plain_json
from lightwell.training.hardware.host import describe_host

if TYPE_CHECKING:
    from lightwell.training.checkpoints.writer import Writer

VARIANT = "lightwell-eager"
WARM_UP = 2


def cost(name: str, rounds: int, steps: int, folder: Path) -> dict[str, Any]:
    """Return seconds of each kind of round, and what a checkpoint every minute costs, as a share."""
    from lightwell.bench.contenders.worker import make_bench_job
    from lightwell.training.events.saving import save
    from lightwell.training.hardware.device import freed_memory_kept, random_state_kept
    from lightwell.training.loop import train_step

    job, _ = make_bench_job(shape(name), VARIANT, folder)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    snapshots: list[float] = []
    writing = timed_writing(job.writer)
    with freed_memory_kept(), random_state_kept(job.device), job.writer:
        for _ in range(WARM_UP):
            train_step(job)
        for number in range(2 * rounds):
            saving = number % 4 in (0, 3)  # with, without, without, with: a drift is on both sides
            started = time.perf_counter()
            if saving:
                save(job)
                snapshots.append(time.perf_counter() - started)
            for _ in range(steps):
                train_step(job)
            job.writer.wait()
            seconds[saving].append(time.perf_counter() - started)
    # Neighbours are compared: what the machine does beside changes from one pair to the next.
    each = statistics.median(a - b for a, b in zip(seconds[True], seconds[False], strict=True))
    return {
        "shape": name,
        "parameters": job.config.model.parameter_count(),
        "seconds_with": seconds[True],
        "seconds_without": seconds[False],
        "snapshot_seconds": snapshots,
        "writing_processor_seconds": writing,
        "seconds_each": each,
        "share_of_a_minute": each / 60.0,
        "host": describe_host(),
    }


def timed_writing(writer: Writer) -> list[float]:
    """Return the list to which the CPU seconds of every later write are added."""
    seconds: list[float] = []
    write = writer.write

    def timed(task: Callable[[], None], then: Callable[[], None]) -> None:
        def measured() -> None:
            started = time.thread_time()
            task()
            seconds.append(time.thread_time() - started)

        write(measured, then)

    writer.write = timed  # type: ignore[method-assign]
    return seconds


def main(
    shape_name: Annotated[str, Parameter(name="SHAPE", help="As in `lightwell bench`.")] = "S",
    /,
    *,
    rounds: Annotated[int, Parameter(help="Of each kind.")] = 6,
    steps: Annotated[int, Parameter(help="Training steps in a round.")] = 6,
) -> None:
    """Measure what a checkpoint costs; JSON."""
    with tempfile.TemporaryDirectory(dir=".") as folder:
        print(plain_json(cost(shape_name, rounds, steps, Path(folder)), indent=1))


if __name__ == "__main__":
    as_command("saving", main)
