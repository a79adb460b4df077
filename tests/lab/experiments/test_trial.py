"""A training of the lab is Lightwell's own, and one that diverges is an error, whenever it does."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from lab_house import laboratory
from lightwell.errors import TrainingError
from lightwell.lab.experiments.store import Store
from lightwell.lab.experiments.trial import Trial, held_out_loss, train_trial
from lightwell.model.decoder import Decoder
from lightwell.tokens.token_file import TokenFile
from lightwell.training.build import make_job
from lightwell.training.loop import train_step
from lightwell.training.planning.resolve import make_loader
from lightwell.training.runs.evaluation import Evaluation
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.run import Run
from lightwell.training.update import update
from lightwell.training.update.loss import accumulate_gradients


def trial_and_corpus(tmp_path: Path, **settings: Any) -> tuple[Trial, Any]:
    session = laboratory(tmp_path)
    config = session.config.with_values({"steps": 3, **settings})
    return Trial("a", 1, config), session.corpus


def test_a_training_whose_last_update_diverges_is_not_kept(tmp_path: Path) -> None:
    trial, corpus = trial_and_corpus(tmp_path, steps=1, warmup_steps=0, learning_rate=1e38)
    store = Store(tmp_path / "store", corpus.digest)
    for _ in range(2):  # now, and when it is looked up
        with pytest.raises(TrainingError, match=r"The loss of arm a is (nan|inf) when it is scored"):
            store.trained("buffer", trial, lambda: train_trial(trial, corpus))
    (kept,) = store.folder.rglob("*.json")
    assert "NaN" not in kept.read_text()
    assert "diverged" in kept.read_text()


def test_a_gradient_that_is_not_finite_stops_a_training_though_its_loss_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def poisoned(loss_module: Any, batch: Any, **named: Any) -> float:
        loss = accumulate_gradients(loss_module, batch, **named)
        if named["step"] == 1:
            next(loss_module.parameters()).grad[0, 0] = math.inf
        return loss

    monkeypatch.setattr(update, "accumulate_gradients", poisoned)
    trial, corpus = trial_and_corpus(tmp_path)
    with pytest.raises(TrainingError, match="gradient of arm a has the norm inf at step 2"):
        train_trial(trial, corpus)


def test_a_trial_learns_as_a_run_of_the_same_settings_does(tmp_path: Path) -> None:
    """Bit for bit, clipping included: there is one update for both."""
    trial, corpus = trial_and_corpus(tmp_path, grad_clip=0.25, seed=1, residual_dropout=0.1)
    config = trial.config
    run = Run.create(tmp_path / "run", config, corpus.tokenizer)
    job = make_job(config, corpus, make_loader(config, corpus), run, Listener())
    job.model.train()
    assert train_trial(trial, corpus).batch_losses == [train_step(job)["loss"] for _ in range(3)]


def test_the_loss_on_trained_text_is_that_on_the_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial, corpus = trial_and_corpus(tmp_path)
    texts: list[TokenFile] = []

    def scored(model: Decoder, tokens: TokenFile, *arguments: Any, **named: Any) -> Evaluation:
        texts.append(tokens)
        return held_out_loss(model, tokens, *arguments, **named)

    monkeypatch.setattr("lightwell.lab.experiments.trial.held_out_loss", scored)
    train_trial(dataclasses.replace(trial, prefix_tokens=200), corpus)
    assert len(texts[-1]) <= 201 < len(corpus.train)
    assert {len(text) for text in texts[:-1]} == {len(corpus.held_out)}
