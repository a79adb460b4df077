"""Units encoded in parallel: processes that take one unit after another and have nothing else in common.

One worker is this process itself; several are processes of their own, started anew (not forked), so that they hold
nothing of this one. A process that dies is noticed; processes whose parent has died end themselves.
"""

from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from lightwell.corpus.manifest import TOKENIZER
from lightwell.corpus.plan import Plan, plan_tokenizer
from lightwell.corpus.units.cutting import Unit
from lightwell.corpus.units.encoding import Work, encode_unit
from lightwell.errors import TextError
from lightwell.tokens.tokenizer import Tokenizer

ENVIRONMENT = {
    "RAYON_NUM_THREADS": "1",  # each worker has one CPU
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # Large pieces of freed memory go back at once (glibc): some 30 MB less for 5 to 14 % more time.
    "MALLOC_MMAP_THRESHOLD_": "1000000",
    "MALLOC_TRIM_THRESHOLD_": "2000000",
    "MALLOC_ARENA_MAX": "1",
}
"""What workers are started with."""
SECONDS_BETWEEN_LOOKS = 0.5

OnProgress = Callable[[int], None]


class StoppedError(Exception):
    """The work was stopped in the middle of a unit."""


def encode_units(
    units: Sequence[Unit], work: Work, workers: int, reference_only: bool, on_progress: OnProgress
) -> None:
    """Encode the units; `on_progress` is called with the bytes of text of each bit of work.

    Raises:
        TextError: a file that must be readable is not, or a worker was killed.
        EncodersDifferError: the faster encoder differs; what is done must be done again with `reference_only`.
        OSError: the disk is full.
        KeyboardInterrupt: Ctrl-C; units that are finished stay finished.
    """
    if workers == 1:
        tokenizer = _load(work, reference_only)
        for unit in units:
            encode_unit(unit, work, tokenizer, on_progress)
        return
    context = multiprocessing.get_context("spawn")
    read, stop = context.Value("q", 0), context.Event()
    with _pool(min(workers, len(units)), (read, stop, work, reference_only)) as pool:
        with as_workers_start():
            waiting: set[Future[None]] = {pool.submit(_encode, unit) for unit in units}
        reported = 0
        try:
            while waiting:
                done, waiting = wait(waiting, SECONDS_BETWEEN_LOOKS, FIRST_COMPLETED)
                for future in done:
                    future.result()
                now = read.value  # read once: workers go on adding to it
                on_progress(now - reported)
                reported = now
        except BaseException:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def available_cpus() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def make_tokenizer_aside(plan: Plan) -> None:
    """Make the plan's tokenizer in a process of its own, whose memory goes when it is made.

    Raises:
        TextError: as `plan_tokenizer`, or the process was killed.
    """
    context = multiprocessing.get_context("spawn")
    with _pool(1, (context.Value("q", 0), context.Event(), None, False)) as pool:
        with as_workers_start():
            made = pool.submit(_make_tokenizer, plan)
        made.result()


@contextmanager
def _pool(size: int, given: tuple[Any, ...]) -> Iterator[ProcessPoolExecutor]:
    context = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(size, context, _begin, given) as pool:
            yield pool
    except BrokenProcessPool:
        raise TextError(
            "A worker process died; it may have been killed for want of memory. What is finished is kept: "
            "give the same command again, perhaps with fewer --workers."
        ) from None


@contextmanager
def as_workers_start() -> Iterator[None]:
    """While processes are started, set their environment, and hide the program that runs.

    Each would run that program first, to know what is defined there. Workers need nothing of it, and a program may be
    one that must not run twice, or be no file at all.
    """
    main, before = sys.modules["__main__"], {name: os.environ.get(name) for name in ENVIRONMENT}
    sys.modules["__main__"] = types.ModuleType("__main__")
    os.environ.update(ENVIRONMENT)
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


class _Worker:
    """What a worker process keeps from one unit to the next."""

    read: Any
    stop: Any
    work: Work
    tokenizer: Tokenizer


def _begin(read: Any, stop: Any, work: Work | None, reference_only: bool) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent says stop
    _Worker.read, _Worker.stop = read, stop
    threading.Thread(target=end_with_parent, daemon=True).start()
    if work is not None:
        _Worker.work, _Worker.tokenizer = work, _load(work, reference_only)


def _encode(unit: Unit) -> None:
    def on_progress(size: int) -> None:
        with _Worker.read.get_lock():
            _Worker.read.value += size
        if _Worker.stop.is_set():
            raise StoppedError

    encode_unit(unit, _Worker.work, _Worker.tokenizer, on_progress)


def _make_tokenizer(plan: Plan) -> None:
    plan_tokenizer(plan)


def end_with_parent() -> None:
    """In a thread of a worker: wait for the end of the process that started it, and end this one."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)


def _load(work: Work, reference_only: bool) -> Tokenizer:
    tokenizer = Tokenizer.load(work.folder / TOKENIZER)
    if reference_only:
        tokenizer.leave_fast_encoder()
    return tokenizer
