"""Which evaluation is the best one: the lowest loss among those of the same held-out tokens."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwell.training.checkpoints.files import record_hash
from lightwell.training.events import milestones
from lightwell.training.runs.best import EvaluationTracker, best_evaluation, comparable_evaluations, generating_step
from lightwell.training.runs.evaluation import Evaluation, evaluate
from lightwell.training.runs.load import choose_checkpoint
from lightwell.training.runs.run import Run
from lightwell.training.runs.summary import Summary
from lightwell.training.start import resume
from small import StopAt, small_run, write_text


def best_step(metrics: list[dict[str, Any]]) -> int | None:
    best = best_evaluation(metrics)
    return None if best is None else int(best["step"])


def scored(step: int, loss: float, tokens: int | None = None) -> dict[str, Any]:
    record = {"step": step, "validation_loss": loss}
    return record if tokens is None else {**record, "scored_tokens": tokens}


def test_the_best_is_the_lowest_loss_and_the_first_of_equals() -> None:
    metrics = [scored(0, 5.0), {"step": 1, "loss": 0.1}, scored(2, 3.0), scored(4, 3.0), scored(6, 4.0)]
    assert best_step(metrics) == 2
    assert best_evaluation(metrics) == scored(2, 3.0)
    assert best_step([{"step": 1, "loss": 0.1}]) is None


def test_only_the_newest_set_of_tokens_counts() -> None:
    metrics = [scored(0, 1.0, 400), scored(2, 0.5, 400), scored(4, 3.0, 20), scored(6, 2.0, 20)]
    assert best_step(metrics) == 6
    assert best_step([*metrics, scored(8, 4.0, 400)]) == 8


@given(st.lists(st.tuples(st.sampled_from([1.0, 2.0, 3.0]), st.sampled_from([20, 400])), min_size=1, max_size=12))
def test_what_a_run_tracks_is_what_its_records_say(evaluations: list[tuple[float, int]]) -> None:
    tracker, metrics = EvaluationTracker(), list[dict[str, Any]]()
    for step, (loss, tokens) in enumerate(evaluations):
        tracker.add(step, loss, tokens)
        metrics.append(scored(step, loss, tokens))
        best = best_evaluation(metrics)
        assert best is not None
        assert (tracker.best_step, tracker.best_loss) == (best["step"], best["validation_loss"])
        assert tracker.since_best == step - best["step"]


def test_records_of_before_count_as_the_set_that_follows_them() -> None:
    old = [scored(0, 5.0), scored(2, 2.0)]
    assert best_step([*old, scored(4, 3.0, 400)]) == 2
    assert len(comparable_evaluations([*old, scored(4, 3.0, 400), scored(6, 3.0, 20), scored(8, 4.0, 20)])) == 2


def test_after_eval_tokens_was_edited_losses_on_other_tokens_are_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every evaluation is better than the one before, but those on few tokens are worse than all on many."""

    def falling(*arguments: Any, **named: Any) -> Evaluation:
        score = evaluate(*arguments, **named)
        calls.append(score.tokens)
        return dataclasses.replace(score, nats_per_token=(3.0 if score.tokens > 20 else 10.0) - 0.1 * len(calls))

    calls: list[int] = []
    monkeypatch.setattr(milestones, "evaluate", falling)
    settings: dict[str, Any] = {"eval_every": 1, "checkpoint_every": 0, "keep_checkpoints": 1, "steps": 8}
    settings |= {"eval_tokens": 200, "patience": 3}
    text = write_text(tmp_path / "text")
    with pytest.raises(KeyboardInterrupt):
        small_run(text, tmp_path / "run", StopAt(4), **settings)
    file = tmp_path / "run" / "config.toml"
    file.write_text(file.read_text().replace("eval_tokens = 200", "eval_tokens = 20"))
    run = resume(tmp_path / "run")
    assert calls == [200] * 5 + [20] * 4  # all steps were done: patience did not count them as worse
    assert Summary.of(run).best_step == 8
    assert choose_checkpoint(Run(run.path), "best").step == 8
    newest = choose_checkpoint(Run(run.path), "newest").state["progress"]
    assert (newest["best_step"], newest["since_best"], newest["scored_tokens"]) == (8, 0, 20)


def test_a_run_of_an_earlier_version_resumed_with_other_eval_tokens_begins_its_best_anew(tmp_path: Path) -> None:
    """Its checkpoint does not say how many tokens were scored, but its configuration does."""
    text = write_text(tmp_path / "text")
    with pytest.raises(KeyboardInterrupt):
        small_run(text, tmp_path / "run", StopAt(4), eval_every=1, eval_tokens=200, steps=8)
    folder = max((tmp_path / "run" / "checkpoints").iterdir())
    record = json.loads((folder / "state.json").read_text())
    del record["progress"]["scored_tokens"], record["sha256"]["state.json"]
    record["progress"]["best_loss"] = 0.01  # which no evaluation of other tokens could reach
    record["sha256"]["state.json"] = record_hash(record)
    (folder / "state.json").write_text(json.dumps(record))
    file = tmp_path / "run" / "config.toml"
    file.write_text(file.read_text().replace("eval_tokens = 200", "eval_tokens = 20"))
    run = resume(tmp_path / "run")
    assert choose_checkpoint(Run(run.path), "newest").state["progress"]["best_step"] > 4


@pytest.mark.parametrize(
    ("losses", "saved", "step"),
    [
        ({0: 4.0, 10: 3.0, 20: 3.5}, [10, 20], 10),
        ({0: 3.0, 10: 4.0, 20: 3.5}, [10, 20], 20),  # the best is that of the untrained model, which is not saved
        ({0: 3.0, 10: 4.0, 20: 4.0}, [10, 20], 10),
        ({0: 3.0}, [5, 7], 7),
        ({0: 3.0}, [], None),
    ],
)
def test_what_generates_is_the_best_that_is_kept(losses: dict[int, float], saved: list[int], step: int | None) -> None:
    metrics = [{"step": number, "validation_loss": loss, "scored_tokens": 9} for number, loss in losses.items()]
    assert generating_step(metrics, saved) == step
