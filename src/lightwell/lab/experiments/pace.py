"""How long a training step takes, arm beside arm: rounds whose order is turned around each time (ABBA)."""

from __future__ import annotations

import time
from collections.abc import Mapping

import torch

from lightwell.corpus.corpus import Corpus
from lightwell.lab.experiments.trial import Trial, TrialRunner
from lightwell.training.hardware.device import random_state_kept


def seconds_per_step(trials: Mapping[str, Trial], corpus: Corpus, rounds: int, steps: int) -> dict[str, list[float]]:
    """Return, for each trial, the seconds of a step in each round of `steps`.

    What slows the machine for a while slows all arms of a round, and none is always the one after another. A round
    before the first is not counted.
    """
    with random_state_kept(torch.device("cpu")):
        arms = {name: TrialRunner(trial, corpus) for name, trial in trials.items()}
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        order = list(arms)
        for number in range(1 + rounds):
            for name in order:
                started = time.perf_counter()
                for step in range(steps):
                    arms[name].step(step)
                if number:
                    seconds[name].append((time.perf_counter() - started) / steps)
            order.reverse()
    return seconds
