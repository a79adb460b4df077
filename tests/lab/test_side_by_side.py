"""Trainings side by side give what they give one after another; a stop or a crash loses and leaves nothing."""

from __future__ import annotations

import dataclasses
import json
import math
import multiprocessing
import os
import signal
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch

from lab_house import BRIEF, TINY, context_of, laboratory, with_seeds
from lightwell.errors import RunError, TextError, TrainingError
from lightwell.lab import side_by_side
from lightwell.lab.catalogue import experiment, notes
from lightwell.lab.experiments.experiment import Experiment, Findings
from lightwell.lab.experiments.rate_search import LearningRateSearch
from lightwell.lab.experiments.setup import base_config
from lightwell.lab.experiments.trial import Trained, Trial
from lightwell.lab.session import Session
from lightwell.lab.side_by_side import SideBySide, threads_for, workers_for
from small import small_config


def results(folder: Path) -> dict[str, Any]:
    """All trials in a folder, without their times."""
    found = {path.name: json.loads(path.read_bytes()) for path in (folder / "trials").glob("*.json")}
    return {name: {key: value for key, value in result.items() if key != "seconds"} for name, result in found.items()}


class Pool:
    """Workers that compute at once, in this process; each training is noted."""

    def __init__(self, *given: Any) -> None:
        self.trained: list[tuple[str, int]] = []
        self.ended: list[bool] = []

    def submit(self, work: Any, note: str, trial: Trial) -> Future[Trained]:
        future: Future[Trained] = Future()
        self.trained.append((trial.arm, trial.seed))
        try:
            future.set_result(work(note, trial))
        except Exception as error:
            future.set_exception(error)
        return future

    def shutdown(self, *, wait: bool, cancel_futures: bool) -> None:
        self.ended.append(wait and cancel_futures)


@pytest.fixture
def pool(monkeypatch: pytest.MonkeyPatch) -> Pool:
    made = Pool()
    monkeypatch.setattr(side_by_side, "ProcessPoolExecutor", lambda *given: made)
    return made


def trained(loss: float) -> Trained:
    return Trained(loss, 1.0, 1.0, [], [], [], 1, 1.0, 1, 0.0)


def with_workers(session: Session, count: int) -> Session:
    asked = base_config([str(session.folder.parent / "text")], "", "", BRIEF).with_values(TINY)
    return dataclasses.replace(session, side_by_side=SideBySide(count, asked, session.corpus.digest))


def test_two_workers_train_what_one_process_trains_to_the_bit(tmp_path: Path) -> None:
    with threads_for(2):
        alone = laboratory(tmp_path, "dropout")
        alone.plan()
        one = json.loads(alone.run(lambda card: None)[0].to_json())
        beside = with_workers(laboratory(tmp_path, "dropout", out="beside"), 2)
        assert beside.side_by_side
        with beside.side_by_side:
            plan = beside.plan()
            other = json.loads(beside.run(lambda card: None)[0].to_json())
    assert plan[0].finished == 0
    assert len(results(alone.folder)) > 3
    assert results(alone.folder) == results(beside.folder)
    for card in (one, other):
        del card["timings"]
    assert one == other
    assert not multiprocessing.active_children()


def test_everything_is_trained_before_the_experiment_asks_also_rates_beyond_the_grid(
    tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of("activation", tmp_path, rates=3)

    def train(note: str, trial: Trial) -> Trained:
        return trained(1.0 / trial.config.training.learning_rate)  # the higher the better: two rates beyond the grid

    def trainings(context: Any) -> Any:
        search = LearningRateSearch(context, "relu", {})
        losses = search.losses()
        rate = min(losses, key=losses.__getitem__) if losses else 0.01
        return [context.train(context.trial("relu", seed, learning_rate=rate)) for seed in (1, 2)]

    monkeypatch.setattr(side_by_side, "_train", train)
    told: list[Trial] = []
    context = dataclasses.replace(context, on_progress=told.append)
    made = Experiment(experiment("activation").note, trainings, lambda *given: Findings(), lambda *given: [])
    with SideBySide(2, context.config, "") as beside:
        beside.train(made, context)
    tuning = [seed for _, seed in pool.trained if seed > 1000]
    assert len(tuning) >= 3
    assert len(told) == len(pool.trained) == len(set(told))
    assert pool.ended == [True]


def test_what_diverges_beside_is_said_by_the_experiment(
    tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(note: str, trial: Trial) -> Trained:
        raise TrainingError(f"The loss of arm {trial.arm} is nan at step 3.")

    monkeypatch.setattr(side_by_side, "_train", train)
    session = with_workers(laboratory(tmp_path, "dropout"), 2)
    session.plan()
    with pytest.raises(TrainingError, match=r"No card for dropout: The loss of arm .* is nan at step 3"):
        session.run(lambda card: None)
    count = len(pool.trained)
    assert count == len(results(session.folder))  # each once, and kept


def test_a_stop_ends_the_trainings_and_keeps_what_is_finished(
    tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[Trial] = []

    def train(note: str, trial: Trial) -> Trained:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(trial)
        return trained(1.0)

    class Interrupted(Pool):
        def submit(self, work: Any, note: str, trial: Trial) -> Future[Trained]:
            future: Future[Trained] = Future()
            try:
                future.set_result(work(note, trial))
            except KeyboardInterrupt as stop:
                future.set_exception(stop)
            return future

    ended = Interrupted()
    monkeypatch.setattr(side_by_side, "ProcessPoolExecutor", lambda *given: ended)
    monkeypatch.setattr(side_by_side, "_train", train)
    context = context_of("dropout", tmp_path)
    beside = SideBySide(2, context.config, "")
    with pytest.raises(KeyboardInterrupt), beside:
        beside.train(experiment("dropout"), context)
    assert beside._stop.is_set()
    assert ended.ended == [True]
    assert len(results(context.store.folder)) == 2


def test_a_training_that_is_told_to_stop_stops_before_its_next_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = context_of("dropout", tmp_path)
    stop = threading.Event()
    monkeypatch.setattr(side_by_side, "_corpus", lambda: context.corpus)
    monkeypatch.setattr(side_by_side._Worker, "stop", stop, raising=False)
    trial = context.trial("plain", 1)
    assert side_by_side._train("dropout", trial).loss > 0
    stop.set()
    with pytest.raises(side_by_side.StoppedError):
        side_by_side._train("dropout", trial)


def test_a_worker_that_is_killed_is_one_sentence(tmp_path: Path) -> None:
    context = context_of("dropout", tmp_path)

    def kill(trial: Trial) -> None:
        for process in multiprocessing.active_children():
            os.kill(process.pid or 0, signal.SIGKILL)

    context = dataclasses.replace(context, on_progress=kill)
    config = small_config(tmp_path / "text")
    with (
        pytest.raises(RunError, match=r"died; .* What is finished is kept: give the same command again"),
        SideBySide(2, config, context.corpus.digest) as beside,
    ):
        beside.train(experiment("dropout"), context)
    assert results(context.store.folder)  # the first, and perhaps another that was finished by then
    assert not multiprocessing.active_children()


def test_a_text_that_has_changed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context_of("dropout", tmp_path)
    for name, value in (("config", small_config(tmp_path / "text")), ("digest", "another")):
        monkeypatch.setattr(side_by_side._Worker, name, value, raising=False)
    side_by_side._corpus.cache_clear()
    with pytest.raises(TextError, match="has changed since"):
        side_by_side._corpus()


@pytest.mark.parametrize(
    ("threads", "device", "width", "expected"),
    [(4, "cpu", 64, 4), (1, "cpu", 64, 1), (32, "cpu", 64, 8), (4, "cpu", 1024, 1), (4, "cuda", 64, 1)],
)
def test_it_is_done_for_small_models_on_several_threads(
    monkeypatch: pytest.MonkeyPatch, threads: int, device: str, width: int, expected: int
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(side_by_side, "resolve_device", lambda name: torch.device(device))
    config = base_config([], "", "bible", BRIEF).with_values({"d_model": width})
    assert workers_for(config) == expected


def test_a_session_has_the_threads_of_its_workers_and_gives_them_back() -> None:
    before = torch.get_num_threads()
    with threads_for(1):
        assert torch.get_num_threads() == before
    with threads_for(2):
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == before


def test_the_plan_divides_the_time_by_the_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "_seconds_per_token", lambda self: 0.5)
    one = laboratory(tmp_path, "dropout").plan()
    two = with_workers(laboratory(tmp_path, "dropout"), 2).plan()
    assert one[0].seconds == 2 * two[0].seconds > 0


@pytest.mark.parametrize("note", sorted(set(notes()) - {"buffer"}))  # which trains nothing
def test_a_worker_trains_on_the_text_that_a_trial_names(
    note: str, tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Random tokens, the beginning of a text: a worker knows nothing but the trial, and makes the same of it."""
    alone = laboratory(tmp_path, note)
    _, context = alone.context(note)
    experiment(note).trainings(context)
    beside = laboratory(tmp_path, note, out="beside")
    monkeypatch.setattr(side_by_side, "_corpus", lambda: beside.corpus)
    monkeypatch.setattr(side_by_side, "_refuse_if_stopped", lambda: None)
    workers = with_workers(beside, 2).side_by_side
    assert workers
    workers.train(*beside.context(note))
    assert pool.trained
    found, expected = results(beside.folder), results(alone.folder)
    both = found.keys() & expected.keys()
    if note != "batch-size":  # whose steps in equal seconds follow from a pace that is measured each time
        assert found.keys() == expected.keys()
    assert len(both) >= 4
    assert {key: found[key] for key in both} == {key: expected[key] for key in both}


@pytest.mark.parametrize("note", ["stride", "dropout", "activation"])
def test_nothing_is_trained_that_one_process_would_not_train(
    note: str, tmp_path: Path, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where rates are chosen, the trainings at a chosen rate wait for the choice."""

    def train(name: str, trial: Trial) -> Trained:
        return trained(1.0 + abs(math.log(trial.config.training.learning_rate / 0.004)))  # the best is not the base

    budget = with_seeds(2, rates=3)
    alone = laboratory(tmp_path, note, budget=budget)
    _, context = alone.context(note)
    monkeypatch.setattr("lightwell.lab.experiments.context.train_trial", lambda trial, *given: train("", trial))
    experiment(note).trainings(context)
    beside = laboratory(tmp_path, note, out="beside", budget=budget)
    monkeypatch.setattr(side_by_side, "_train", train)
    workers = with_workers(beside, 2).side_by_side
    assert workers
    workers.train(*beside.context(note))
    extra = set(results(beside.folder)) - set(results(alone.folder))
    assert not extra
    assert len(pool.trained) == len(results(alone.folder))  # and nothing is left for one after another
