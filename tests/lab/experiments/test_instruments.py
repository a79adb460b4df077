"""The instruments by value: a training's numbers, its pace, a step that is left out."""

from __future__ import annotations

import dataclasses
import itertools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lab_house import laboratory
from lightwell.batches.evaluation import evaluation_batches
from lightwell.corpus.corpus import Corpus
from lightwell.errors import TrainingError
from lightwell.lab.experiments import pace
from lightwell.lab.experiments.pace import seconds_per_step
from lightwell.lab.experiments.prefix import prefix_of, tokens_for
from lightwell.lab.experiments.skipping import skipping
from lightwell.lab.experiments.trial import Trained, Trial, held_out_loss, train_trial, trained_model
from lightwell.lab.session import Session
from lightwell.model.tap import Tap
from lightwell.training.runs.evaluation import evaluate, true_byte_lengths


@pytest.fixture
def session(tmp_path: Path) -> Session:
    return laboratory(tmp_path)


def trial_of(session: Session, steps: int = 3, **settings: Any) -> Trial:
    return Trial("a", 1, session.config.with_values({"steps": steps, **settings}))


def ticking(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that goes on by a second each time that somebody looks."""
    ticks = itertools.count()
    monkeypatch.setattr("time.perf_counter", lambda: float(next(ticks)))


def test_a_training_s_numbers(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    ticking(monkeypatch)
    trial, corpus = trial_of(session, residual_dropout=0.2), session.corpus
    state = torch.get_rng_state()
    found = train_trial(trial, corpus)
    assert torch.equal(torch.get_rng_state(), state)
    assert found.seconds == 3.0, "evaluations count among them"
    assert (found.tokens, len(found.batch_losses)) == (3 * 4 * 16, 3)
    assert found.effective_epochs == pytest.approx(3 * 4 * 16 / (len(corpus.train) - 1), rel=0.02)
    assert found.parameters == trial.config.model.parameter_count()
    assert [step for step, _ in found.held_out_losses] == [1, 2, 3]
    assert found.held_out_losses[-1][1] == found.loss
    assert found.gap == found.loss - found.train_loss
    model = trained_model(trial, corpus)
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state)
    lengths = [true_byte_lengths(part, corpus.tokenizer.byte_lengths) for part in (corpus.held_out, corpus.train)]
    held_out, train = (
        evaluate(model, evaluation_batches(part, 16, 32, max_tokens=200), each)
        for part, each in zip((corpus.held_out, corpus.train), lengths, strict=True)
    )
    assert [found.loss, found.bits_per_byte] == pytest.approx([held_out.nats_per_token, held_out.bits_per_byte])
    assert found.train_loss == pytest.approx(train.nats_per_token)
    assert found.held_out_losses[1][1] == pytest.approx(
        held_out_loss(trained_model(trial, corpus, until=2), corpus.held_out, corpus, trial.config).nats_per_token
    )


@pytest.mark.parametrize(
    ("steps", "probes", "scored", "probed"),
    [(7, 3, [1, 2, 3, 4, 5, 6, 7], [0, 2, 5, 7]), (20, 1, list(range(2, 21, 2)), [0, 20]), (2, 0, [1, 2], [0])],
)
def test_when_a_model_is_scored_and_probed(
    session: Session, steps: int, probes: int, scored: list[int], probed: list[int]
) -> None:
    seen: list[tuple[Any, Any]] = []

    def probe(model: Any, corpus: Corpus, config: Any) -> float:
        seen.append((len(corpus.train), config))
        return float(model.token_embedding.weight.detach().sum())

    trial = dataclasses.replace(trial_of(session, steps), probe="p", probes=probes, prefix_tokens=200)
    found = train_trial(trial, session.corpus, probe=probe)
    assert [step for step, _ in found.held_out_losses] == scored
    assert [step for step, _ in found.probed] == probed
    assert seen == [(200, trial.config)] * len(probed)
    first = float(trained_model(trial, session.corpus, until=0).token_embedding.weight.detach().sum())
    assert found.probed[0][1] == first
    if probes:
        assert (
            found.probed[-1][1]
            == float(trained_model(trial, session.corpus).token_embedding.weight.detach().sum())
            != first
        )
    assert train_trial(trial, session.corpus).probed == []


def test_a_change_is_in_the_training_and_in_every_score(session: Session) -> None:
    made: list[int] = []

    def flat() -> Tap:
        """Logits that say nothing."""
        made.append(1)

        def tap(name: str, value: Tensor) -> Tensor:
            return value * 0.0 if name == "normed" else value

        return tap

    found = train_trial(trial_of(session), session.corpus, flat)
    uniform = math.log(session.config.model.vocab_size)
    assert [found.loss, found.train_loss, *found.batch_losses] == pytest.approx([uniform] * 5, rel=1e-5)
    assert made == [1]


def test_a_loss_that_is_not_finite_is_named(session: Session) -> None:
    def infinite() -> Tap:
        return lambda name, value: value * math.nan if name == "normed" else value

    with pytest.raises(TrainingError, match=r"The loss of arm a is nan at step 1\."):
        train_trial(trial_of(session), session.corpus, infinite)


def test_a_model_is_scored_at_the_stride_and_the_boundaries_that_are_asked_for(session: Session) -> None:
    trial, corpus = trial_of(session, document_boundaries="cut"), session.corpus
    model = trained_model(trial, corpus)
    lengths = true_byte_lengths(corpus.held_out, corpus.tokenizer.byte_lengths)
    for stride in (0, 4):
        batches = evaluation_batches(corpus.held_out, 16, 32, stride=stride, max_tokens=200, boundaries="cut")
        found = held_out_loss(model, corpus.held_out, corpus, trial.config, stride=stride)
        assert found.nats_per_token == pytest.approx(evaluate(model, batches, lengths).nats_per_token, rel=1e-9)
        assert found.tokens == 200


def test_the_pace_is_taken_in_rounds_whose_order_turns_round(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, steps = [0.0], []
    costs = {"a": 1.0, "b": 10.0}

    class Runner:
        def __init__(self, trial: Any, corpus: Any) -> None:
            self.arm = trial.arm

        def step(self, number: int) -> None:
            torch.rand(1)
            steps.append((self.arm, number))
            clock[0] += costs[self.arm] + (100.0 if len(steps) <= 6 else 0.0)  # the round that does not count

    monkeypatch.setattr(pace, "TrialRunner", Runner)
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    state = torch.get_rng_state()
    trials: Any = {name: SimpleNamespace(arm=name) for name in costs}
    found = seconds_per_step(trials, None, rounds=3, steps=3)  # type: ignore[arg-type]
    assert found == {"a": [1.0] * 3, "b": [10.0] * 3}
    assert [arm for arm, _ in steps[::3]] == ["a", "b", "b", "a", "a", "b", "b", "a"]
    assert [number for _, number in steps] == [0, 1, 2] * 8
    assert torch.equal(torch.get_rng_state(), state)


def test_a_step_that_is_left_out_is_left_out_in_every_layer_and_nothing_else_is() -> None:
    tap = skipping("scaled", back_to="scores")
    for _ in range(2):
        for layer in (0, 1):
            name, value = f"layers.{layer}.attention", torch.tensor(float(layer))
            assert tap(f"{name}.scores", value) is value
            assert float(tap(f"{name}.scaled", value + 7)) == layer
            assert float(tap(f"{name}.weights", value + 9)) == layer + 9
    with pytest.raises(KeyError):  # nothing of an earlier pass is left
        tap("layers.0.attention.scaled", torch.zeros(1))


def test_the_documents_of_a_prefix_begin_where_they_did(session: Session) -> None:
    corpus = session.corpus
    starts = corpus.train.offsets
    second = int(starts[1])
    for count in (second + 1, second + 2, second + 3):
        part = prefix_of(corpus, count).train
        expected = [int(start) for start in starts if start < count - 1]
        assert part.offsets.tolist() == [*expected, count - 1]
        assert (part.vocab_size, part.end_of_text) == (corpus.train.vocab_size, corpus.train.end_of_text)
    assert len(prefix_of(corpus, len(corpus.train) - 1).train) == len(corpus.train) - 1
    assert prefix_of(corpus, 50).digest != prefix_of(corpus, 51).digest


@pytest.mark.parametrize(
    ("presented", "epochs", "windows"), [(64 * 10, 1.0, 10), (64 * 10, 4.0, 2), (64 * 11, 4.0, 3), (64, 60.0, 1)]
)
def test_the_length_of_a_text_is_of_whole_windows(presented: int, epochs: float, windows: int) -> None:
    assert tokens_for(presented, 64, epochs) == 64 * windows + 1


def test_the_plan_s_pace_leaves_the_first_step_out(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    clock, asked = [0.0], []
    seconds = [50.0]

    class Runner:
        def __init__(self, trial: Trial, corpus: Corpus) -> None:
            assert trial.config == session.config

        def step(self, number: int) -> None:
            asked.append(number)
            clock[0] += seconds[min(number, len(seconds) - 1)]

    monkeypatch.setattr("lightwell.lab.session.TrialRunner", Runner)
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    for times, steps, middle in (
        ([0.9, 0.1, 0.3, 0.2, 0.4, 0.6, 0.5, 0.7], 8, 0.4),  # the first is left out, the median of seven is taken
        ([3.0, 3.0, 3.0, 3.0, 3.0], 4, 3.0),  # more than ten seconds: enough
        ([50.0, 8.0], 2, 8.0),  # one counts, whatever the first took
    ):
        seconds[:], asked[:] = times, []
        assert session._seconds_per_token() == pytest.approx(middle / (4 * 16))
        assert asked == list(range(steps))
    assert np.isfinite(clock[0])


def test_a_result_s_gap() -> None:
    assert Trained(3.0, 0.0, 2.25, [], [], [], 1, 1.0, 1, 0.0).gap == 0.75
