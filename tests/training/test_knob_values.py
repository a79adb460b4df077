"""What some settings of TrainConfig make of a run, in numbers; test_training_knobs shows that each does something."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from lightwell.training.checkpoints.checkpoint import checkpoint_steps
from lightwell.training.events import milestones
from lightwell.training.runs.evaluation import Evaluation, evaluate
from lightwell.training.runs.run import Run
from lightwell.training.update.muon import Muon
from small import final_state, small_run, write_text


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("corpus") / "text")


def rates(run: Run) -> list[float]:
    return [record["learning_rate"] for record in run.metrics() if "loss" in record]


def test_each_step_takes_the_rate_that_warm_up_and_decay_say(text: Path, tmp_path: Path) -> None:
    shape: dict[str, Any] = {"learning_rate": 0.08, "final_learning_rate": 0.25, "steps": 8, "eval_every": 0}
    wsd = small_run(text, tmp_path / "wsd", schedule="wsd", warmup_steps=4, decay_fraction=0.25, **shape)
    assert rates(wsd) == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.08, 0.08, 0.05, 0.02])
    cosine = small_run(text, tmp_path / "cosine", schedule="cosine", warmup_steps=4, **shape)
    assert rates(cosine) == pytest.approx([0.02, 0.04, 0.06, 0.08, 0.0712132, 0.05, 0.0287868, 0.02])


def test_what_happens_every_so_many_steps_happens_after_those_and_at_the_end(text: Path, tmp_path: Path) -> None:
    run = small_run(
        text, tmp_path / "run", steps=7, log_every=3, eval_every=4, sample_every=5, checkpoint_every=2, keep_every=4,
        keep_checkpoints=1, learning_rate=1e-5,
    )  # fmt: skip
    metrics = run.metrics()
    assert [record["step"] for record in metrics if "loss" in record] == [3, 6, 7]
    assert [record["step"] for record in metrics if "validation_loss" in record] == [0, 4, 7]
    assert [record["step"] for record in run.samples()] == [5, 7]
    best = min((record for record in metrics if "validation_loss" in record), key=lambda one: one["validation_loss"])
    assert checkpoint_steps(run.checkpoints) == sorted({4, 7} | ({best["step"]} - {0}))


def test_the_newest_checkpoints_and_the_best_are_kept(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([5.0, 4.0, 4.5, 4.6, 4.7, 4.8, 4.9])

    def scripted(*arguments: Any, **named: Any) -> Evaluation:
        return dataclasses.replace(evaluate(*arguments, **named), nats_per_token=next(losses))

    monkeypatch.setattr(milestones, "evaluate", scripted)
    run = small_run(text, tmp_path / "run", eval_every=1, checkpoint_every=1, keep_checkpoints=2)
    assert checkpoint_steps(run.checkpoints) == [1, 5, 6]


def test_muon_takes_the_momentum_of_the_settings(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[dict[str, Any]] = []
    real = Muon.__init__

    def spy(self: Muon, *arguments: Any, **named: Any) -> None:
        made.append(named)
        real(self, *arguments, **named)

    monkeypatch.setattr(Muon, "__init__", spy)
    small_run(
        text, tmp_path / "run", optimizer="muon", muon_momentum=0.7, muon_learning_rate=0.03, weight_decay=0.2, steps=1
    )
    assert {name: made[0][name] for name in ("momentum", "lr", "weight_decay")} == {
        "momentum": 0.7, "lr": 0.03, "weight_decay": 0.2,
    }  # fmt: skip


def test_adamw_s_moments_are_means_of_the_gradients_by_beta1(text: Path, tmp_path: Path) -> None:
    """After one step the first moment is (1 - beta1) times the gradient, which is here of the norm grad_clip."""
    for beta1 in (0.9, 0.5):
        run = small_run(text, tmp_path / str(beta1), steps=1, beta1=beta1, grad_clip=0.01, eval_every=0)
        moments = [one for name, one in final_state(run).items() if name.endswith(".exp_avg")]
        norm = sum(float(one.double().square().sum()) for one in moments) ** 0.5
        assert norm == pytest.approx((1 - beta1) * 0.01, rel=1e-3)
