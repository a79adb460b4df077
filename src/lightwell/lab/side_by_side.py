"""Trainings of a note side by side: processes with a thread each, where that is faster than one after another.

    plan --> trainings that are left --> workers --> store        again, until the plan asks for nothing new
                                                       |
                                        the experiment finds every result there

A model as small as the lab's leaves most of a second thread idle. A worker computes what this process would, to the
bit, as both have one thread; so a session has it from its beginning, and so do measurements. Only this process writes
results.
"""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from functools import cache, partial
from typing import Any

import torch

from lightwell.corpus.corpus import Corpus
from lightwell.corpus.workers import as_workers_start, end_with_parent
from lightwell.errors import RunError, TextError, TrainingError
from lightwell.lab.catalogue import experiment
from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.experiment import Experiment
from lightwell.lab.experiments.setup import opened
from lightwell.lab.experiments.trial import Trained, Trial, text_of, train_trial
from lightwell.training.hardware.device import resolve_device
from lightwell.training.runs.listener import Listener
from lightwell.training.settings.config import RunConfig

SMALL = 5_000_000
"""Parameters up to which two trainings with a thread each are faster than one with two."""
MOST = 8
"""Workers at most: each holds torch, and some 300 MB."""


class StoppedError(Exception):
    """A training was told to stop."""


def workers_for(config: RunConfig) -> int:
    """Return how many trainings of a session go side by side; 1 where a single one uses the machine as well."""
    small = config.model.parameter_count() <= SMALL
    on_cpu = resolve_device(config.training.device).type == "cpu"
    return min(torch.get_num_threads(), MOST) if small and on_cpu else 1


@contextmanager
def threads_for(workers: int) -> Iterator[None]:
    """Within, this process computes as its workers do: with one thread where there are several."""
    before = torch.get_num_threads()
    if workers > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class SideBySide:
    """Worker processes that train, started when there is something to train, and kept for all notes of a session."""

    def __init__(self, workers: int, config: RunConfig, digest: str) -> None:
        """Start nothing yet.

        workers: how many trainings at a time. config: the configuration before its text was read, from which each
        worker opens the text. digest: that of the text, which must be the same there.
        """
        self.workers = workers
        self._context = multiprocessing.get_context("spawn")
        self._stop = self._context.Event()
        self._text = (config, digest)
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> SideBySide:
        return self

    def __exit__(self, *error: object) -> None:
        """End the workers, in the middle of their trainings where an error is the reason."""
        if any(error):
            self._stop.set()
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def train(self, made: Experiment[Any], context: ExperimentContext) -> None:
        """Train what the note's plan asks for and is not in the store yet, and put it there.

        The choice of a learning rate decides what is asked for next, so the plan is made again when its trainings are
        there, and at rates that are not chosen yet nothing but their choice is trained. What diverged is left to the
        experiment, which says so.

        Raises:
            RunError: a worker died; what is finished is kept.
        """
        asked: set[Trial] = set()
        while self.workers > 1:
            left = [trial for trial in made.unfinished(context) if trial not in asked]
            if not left or (len(left) < 2 and self._pool is None):  # not worth starting processes
                return
            asked.update(left)
            self._train_all(left, context)

    def _train_all(self, trials: Sequence[Trial], context: ExperimentContext) -> None:
        futures: dict[Future[Trained], Trial] = {}
        try:
            pool = self._started()
            with as_workers_start():
                for trial in trials:
                    futures[pool.submit(_train, context.note, trial)] = trial
            waiting = set(futures)
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    with suppress(TrainingError):  # kept in the store as such
                        context.store.trained(context.note, futures[future], partial(_result, future))
                    context.on_progress(futures[future])
        except BrokenProcessPool:
            raise RunError(
                "A process that trained for the lab died; it may have been killed for want of memory. What is "
                "finished is kept: give the same command again, with OMP_NUM_THREADS=1 for one training at a time."
            ) from None
        finally:  # a training that was finished when another was stopped or died is kept, too
            for future, trial in futures.items():
                if future.done() and not future.cancelled() and future.exception() is None:
                    context.store.trained(context.note, trial, partial(_result, future))

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._pool = ProcessPoolExecutor(self.workers, self._context, _begin, (self._stop, *self._text))
        return self._pool


def _result(future: Future[Trained]) -> Trained:
    return future.result()


class _Worker:
    """What a worker process keeps from one training to the next."""

    stop: Any
    config: RunConfig
    digest: str


def _begin(stop: Any, config: RunConfig, digest: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent says stop
    threading.Thread(target=end_with_parent, daemon=True).start()
    torch.set_num_threads(1)
    _Worker.stop, _Worker.config, _Worker.digest = stop, config, digest


@cache
def _corpus() -> Corpus:
    """Return the text's tokens, from the cache; what goes wrong is an error of the training that needs them."""
    _, corpus = opened(_Worker.config, Listener())
    if corpus.digest != _Worker.digest:
        raise TextError("The text has changed since the lab began to read it; give the same command again.")
    return corpus


def _train(note: str, trial: Trial) -> Trained:
    made = experiment(note)
    change = made.changes[trial.change] if trial.change else None
    probe = made.probes[trial.probe] if trial.probe else None
    corpus = text_of(trial, _corpus(), made.texts)
    return train_trial(trial, corpus, change, probe, before_step=_refuse_if_stopped)


def _refuse_if_stopped() -> None:
    if _Worker.stop.is_set():
        raise StoppedError
