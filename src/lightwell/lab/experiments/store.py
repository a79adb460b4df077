"""What the lab has finished, on disk: each result under the hash of all that decides it, so that none is made twice.

A result is written completely or not at all; a lab that was killed goes on with what is there.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from lightwell.errors import RunError, TrainingError
from lightwell.lab.experiments.sources import sources_of
from lightwell.lab.experiments.trial import Trained, Trial
from lightwell.text.own_folders import LAB_RESULTS, has_results
from lightwell.training.hardware.host import describe_host
from lightwell.training.runs.records import write_run_file


class Store:
    """The results of one text and one machine's way of computing.

    folder: where they are. corpus: the hash of the tokens.
    """

    def __init__(self, folder: Path, corpus: str) -> None:
        self.folder = folder
        self.corpus = corpus
        self.made = 0
        """Results that were not there before."""
        self._setting = {
            "corpus": corpus,
            "torch": torch.__version__,
            "threads": torch.get_num_threads(),
            "processor": describe_host()["processor"],
        }

    def trained(self, note: str, trial: Trial, train: Callable[[], Trained], *, planned: bool = True) -> Trained:
        """Return the result of a trial: the one that is there, or what `train` makes.

        planned: whether a plan counts it; this store makes no difference between the two.

        Raises:
            TrainingError: the training diverged, now or when it was made.
        """

        def work() -> dict[str, Any]:
            try:
                return asdict(train())
            except TrainingError as diverged:
                return {"diverged": str(diverged)}

        result = self._result("trials", _key(note, trial), work)
        if "diverged" in result:
            raise TrainingError(result["diverged"])
        return Trained(**result)

    def guess(self) -> None:
        """Hear that a rate is not chosen yet, so that the base rate stands for it in what is asked next."""

    def has_trained(self, note: str, trial: Trial) -> bool:
        """Return whether a trial is finished."""
        return self._path("trials", _key(note, trial)).is_file()

    def measured(self, note: str, name: str, settings: Mapping[str, Any], work: Callable[[], Any]) -> Any:
        """Return a measurement's plain values: those that are there, or what `work` returns."""
        return self._result("measures", {"note": note, "name": name, "sources": sources_of(note), **settings}, work)

    def _path(self, kind: str, key: Mapping[str, Any]) -> Path:
        text = json.dumps({**self._setting, **key}, sort_keys=True, default=str)
        return self.folder / kind / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.json"

    def _result(self, kind: str, key: Mapping[str, Any], work: Callable[[], Any]) -> Any:
        path = self._path(kind, key)
        try:
            return json.loads(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            pass
        except ValueError:
            path.unlink()  # not what was written: it is made again
        except OSError as error:
            raise RunError(f"The result {path} cannot be read ({error.strerror or error}).") from None
        # Through JSON and back, so that a new result is what a kept one is.
        text = json.dumps(work())
        make_folder(path.parent)
        write_run_file(path, text.encode())
        self.made += 1
        return json.loads(text)


UNTRAINED = Trained(
    loss=math.nan, bits_per_byte=math.nan, train_loss=math.nan, batch_losses=[], held_out_losses=[], probed=[],
    tokens=0, effective_epochs=math.nan, parameters=0, seconds=0.0,
)  # fmt: skip
"""What a plan gets in place of a result that is not finished."""


class RecordingStore(Store):
    """A store for plans, which trains nothing and keeps a list of what was asked for.

    Results that are finished are given out, since the choice of a learning rate decides which trainings come next.
    """

    def __init__(self, folder: Path, corpus: str) -> None:
        super().__init__(folder, corpus)
        self.requests: list[Trial] = []
        """The trainings that were asked for, each once, in their order."""
        self.beyond: list[Trial] = []
        """The trainings that no plan counts: at learning rates beyond a grid."""
        self.guesses = False
        """Whether trainings were asked for at a rate that may not be chosen."""

    def guess(self) -> None:
        """Note that a rate is not chosen yet."""
        self.guesses = True

    def trained(self, note: str, trial: Trial, train: Callable[[], Trained], *, planned: bool = True) -> Trained:
        """Return the result of a trial that is finished, else UNTRAINED; one that diverged has an infinite loss."""
        kept = self.requests if planned else self.beyond
        if trial not in kept:
            kept.append(trial)

        def refuse() -> Trained:
            raise LookupError  # not there, or cut off by a stop

        try:
            return super().trained(note, trial, refuse)
        except LookupError:
            return UNTRAINED
        except TrainingError:
            return replace(UNTRAINED, loss=math.inf)


def _key(note: str, trial: Trial) -> dict[str, Any]:
    """Return what decides a trial's result; a plain trial is the same for every note."""
    owner = note if trial.change or trial.probe or trial.text else ""
    return {
        "sources": sources_of(owner),
        "note": owner,
        "prefix_tokens": trial.prefix_tokens,
        "text": trial.text,
        "seed": trial.seed,
        "config": trial.config.to_dict(),
        "change": trial.change,
        "probe": trial.probe,
        "probes": trial.probes,
    }


def refuse_foreign(folder: Path) -> None:
    """Raise where the lab would write among things that are not its own; results of the lab are known by their names.

    Raises:
        RunError: the folder is not empty, and holds no results.
    """
    try:
        names = {path.name for path in folder.iterdir()}
        foreign = bool(names - set(LAB_RESULTS)) and not has_results(folder)
    except FileNotFoundError:
        return
    except OSError as error:
        raise RunError(f"{folder} cannot be used ({error.strerror}); choose another folder with --out.") from None
    if foreign:
        raise RunError(
            f"{folder} is not empty and holds no results of the lab, so nothing there is overwritten; "
            "choose another folder with --out."
        )


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it is in.

    Raises:
        RunError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(
            f"The folder {folder} could not be made ({error.strerror or error}); choose another --out."
        ) from None
