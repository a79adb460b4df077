"""The model for a time: more time never means a smaller one, and what was weighed is told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwell.errors import SettingError
from lightwell.text.prepare import Corpus, prepare
from lightwell.training import budget
from lightwell.training.budget import choose, predicted_loss
from lightwell.training.compose import compose
from lightwell.training.config import RunConfig
from lightwell.training.listener import Listener
from lightwell.training.plan import Measured, flops_per_step
from lightwell.training.start import make_loader, resolve
from small import write_text

SPEED = 1e11  # model FLOPs in a second of the machine that these tests pretend to measure


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = write_text(tmp_path_factory.mktemp("corpus") / "text", documents=40)
    return prepare(compose((str(folder),), settings={"tokenizer": "byte"}).text, 0)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """Measurements that follow from the FLOPs alone; the list has what was measured."""
    measured: list[RunConfig] = []

    def measure(config: RunConfig, loader: Any, trials: int) -> Measured:
        measured.append(config)
        return Measured(flops_per_step(config) / SPEED, 10**6, 8 * config.model.parameter_count())

    monkeypatch.setattr(budget, "measure", measure)
    return measured


def automatic(minutes: float, **settings: Any) -> RunConfig:
    return compose(settings={"minutes": minutes, "vocab_size": 257, **settings})


def test_minutes_alone_leave_the_size_open_and_any_size_closes_it() -> None:
    assert automatic(1).training.size == "auto"
    assert automatic(1, n_layers=2).training.size == "given"
    assert compose(preset_name="tiny", settings={"minutes": 1}).training.size == "given"
    assert compose(settings={"steps": 5}).training.size == "given"
    with pytest.raises(SettingError, match="size is auto"):
        compose(settings={"steps": 5, "size": "auto"})


def test_more_time_means_no_smaller_model(corpus: Corpus, pretended: list[RunConfig]) -> None:
    sizes = [choose(automatic(minutes), corpus, 60 * minutes, make_loader)[0].parameters for minutes in (0.5, 5, 500)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_the_lowest_prediction_is_chosen_and_larger_ones_are_not_measured_for_long(
    corpus: Corpus, pretended: list[RunConfig]
) -> None:
    best, looked_at = choose(automatic(1), corpus, 60, make_loader)
    assert best.loss == min(candidate.loss for candidate in looked_at)
    assert len(pretended) == len(looked_at) <= looked_at.index(best) + 3
    assert best.steps * flops_per_step(best.config) / SPEED < 60
    assert best.row()["steps"] == best.steps


def test_no_memory_and_no_time_are_told(
    corpus: Corpus, pretended: list[RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingError, match="too short"):
        choose(automatic(0.05), corpus, 3.1, make_loader)
    monkeypatch.setattr(budget, "available_memory", lambda device: 10**6)
    with pytest.raises(SettingError, match="memory"):
        choose(automatic(1), corpus, 60, make_loader)


@given(st.floats(1e5, 1e9), st.floats(1e4, 1e10), st.floats(1e4, 1e10))
def test_the_law_falls_with_parameters_and_tokens_and_repetition_is_worth_less(
    parameters: float, tokens: float, unique: float
) -> None:
    loss = predicted_loss(parameters, tokens, unique)
    assert predicted_loss(2 * parameters, tokens, unique) < loss
    assert predicted_loss(parameters, 2 * tokens, unique) <= loss
    assert predicted_loss(parameters, tokens, 2 * unique) <= loss


def test_the_choice_is_told_and_resolved(corpus: Corpus, pretended: list[RunConfig]) -> None:
    told: list[tuple[list[dict[str, float]], int]] = []

    class Hears(Listener):
        def chose(self, rows: list[dict[str, float]], best: int) -> None:
            told.append((rows, best))

    config, _ = resolve(automatic(1, tokenizer="byte"), corpus, Hears())
    rows, best = told[0]
    assert (config.training.size, config.training.minutes) == ("given", 0)
    assert (config.model.n_layers, config.model.d_model) == (rows[best]["n_layers"], rows[best]["d_model"])
    assert config.training.steps == rows[best]["steps"]
