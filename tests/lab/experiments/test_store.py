"""What decides a result is in its key, and nothing else is; and what a plan records."""

from __future__ import annotations

import dataclasses
import functools
import math
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from lab_house import laboratory
from lightwell.errors import TrainingError
from lightwell.lab.experiments import sources, store
from lightwell.lab.experiments.store import UNTRAINED, RecordingStore, Store
from lightwell.lab.experiments.trial import Trained, Trial

RESULT = dataclasses.replace(
    UNTRAINED, loss=2.5, bits_per_byte=1.5, train_loss=2.0, effective_epochs=1.0, probed=[(3, {"a": [1, 2]})]
)


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    return Trial("a", 1, laboratory(tmp_path).config, change="skipped", probe="zeros", probes=2, prefix_tokens=100)


def refused() -> Trained:
    raise AssertionError("it was made again")


def test_every_part_of_a_trial_but_the_arm_s_name_is_in_the_key(tmp_path: Path, trial: Trial) -> None:
    kept = Store(tmp_path, "text")
    kept.trained("buffer", trial, lambda: RESULT)
    others: dict[str, Any] = {
        "seed": 2, "config": trial.config.with_values({"weight_decay": 0.2}), "change": "", "probe": "rows",
        "probes": 3, "prefix_tokens": 101, "text": "another",
    }  # fmt: skip
    assert {"arm", *others} == {field.name for field in dataclasses.fields(Trial)}
    for name, value in others.items():
        assert not kept.has_trained("buffer", dataclasses.replace(trial, **{name: value})), name
    assert not kept.has_trained("dropout", trial), "another note changes and probes in another way"
    assert kept.trained("buffer", dataclasses.replace(trial, arm="b"), refused).loss == 2.5


def test_a_plain_trial_has_one_key_for_all_notes(tmp_path: Path, trial: Trial) -> None:
    kept, plain = Store(tmp_path, "text"), dataclasses.replace(trial, change="", probe="")
    kept.trained("buffer", plain, lambda: RESULT)
    assert kept.trained("dropout", plain, refused).loss == 2.5
    assert kept.made == 1


@pytest.mark.parametrize("changed", ["text", "torch", "threads", "processor", "sources"])
def test_a_result_is_of_one_text_one_machine_and_one_code(
    tmp_path: Path, trial: Trial, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Store(tmp_path, "text").trained("buffer", trial, lambda: RESULT)
    Store(tmp_path, "text").measured("buffer", "moved", {"seed": 1}, lambda: 7)
    monkeypatch.setattr(torch, "__version__", "0" if changed == "torch" else torch.__version__)
    if changed == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 99)
    if changed == "processor":
        monkeypatch.setattr(store, "describe_host", lambda: {"processor": "another"})
    if changed == "sources":
        monkeypatch.setattr(store, "sources_of", lambda note: "another")
    another = Store(tmp_path, "another" if changed == "text" else "text")
    assert not another.has_trained("buffer", trial)
    assert another.measured("buffer", "moved", {"seed": 1}, lambda: 8) == 8


def numbers(number: int) -> list[Any]:
    """A measurement that is not quite what JSON gives back."""
    return [number, (number,)]


def test_a_measurement_is_kept_under_its_note_its_name_and_its_settings(tmp_path: Path) -> None:
    kept = Store(tmp_path, "text")
    asked = [("buffer", "moved", {"seed": 1}), ("buffer", "moved", {"seed": 2}), ("buffer", "sizes", {"seed": 1}),
             ("causal", "moved", {"seed": 1})]  # fmt: skip
    for _ in range(2):
        values = [
            kept.measured(note, name, settings, functools.partial(numbers, number))
            for number, (note, name, settings) in enumerate(asked)
        ]
        assert values == [[number, [number]] for number in range(4)]
    assert kept.made == 4


def test_a_result_is_read_as_it_was_given(tmp_path: Path, trial: Trial) -> None:
    made = Store(tmp_path, "text").trained("buffer", trial, lambda: RESULT)
    read = Store(tmp_path, "text").trained("buffer", trial, refused)
    assert made == read == dataclasses.replace(RESULT, probed=cast("Any", [[3, {"a": [1, 2]}]]))


def test_a_plan_records_each_request_once_and_trains_nothing(tmp_path: Path, trial: Trial) -> None:
    kept, recording = Store(tmp_path, "text"), RecordingStore(tmp_path, "text")
    kept.trained("buffer", trial, lambda: RESULT)
    unfinished, diverged = (dataclasses.replace(trial, seed=seed) for seed in (2, 3))

    def diverging() -> Trained:
        raise TrainingError("The loss is inf.")

    with pytest.raises(TrainingError):
        kept.trained("buffer", diverged, diverging)
    losses = [
        recording.trained("buffer", each, refused).loss for each in (trial, unfinished, diverged, unfinished, trial)
    ]
    assert [losses[0], losses[2], losses[4]] == [2.5, math.inf, 2.5]
    assert math.isnan(losses[1])
    assert recording.requests == [trial, unfinished, diverged]
    recording.trained("buffer", dataclasses.replace(trial, seed=4), refused, planned=False)
    assert len(recording.requests) == 3
    assert not recording.has_trained("buffer", unfinished)


def test_each_file_that_measures_is_in_the_hash_of_its_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[str] = []
    read = Path.read_bytes

    def recorded(path: Path) -> bytes:
        hashed.append(path.name if "notes" in path.parts else f"{path.parent.name}/{path.name}")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", recorded)
    sources.sources_of.__wrapped__("stride")
    assert {"arms.py", "exposure.py", "leaks.py", "experiment.py", "experiments/trial.py", "model/attention.py"
            } <= set(hashed)  # fmt: skip
    assert not {"note.py", "pictures.py", "verdicts/verdict.py", "experiments/store.py"} & set(hashed)
