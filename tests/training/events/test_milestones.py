"""What a deadline hears of evaluations."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lightwell.training.events import milestones
from lightwell.training.planning.deadline import Deadline
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.runs.best import EvaluationTracker


def test_a_deadline_knows_the_last_evaluation_s_seconds_and_those_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 3.0, 10.0, 15.0])
    monkeypatch.setattr(milestones, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    monkeypatch.setattr(milestones, "score_held_out", lambda job: None)
    deadline = Deadline(ends=100.0)
    job: Any = SimpleNamespace(
        progress=SimpleNamespace(evaluations=EvaluationTracker()), group=ProcessGroup(), is_sharded=False,
        deadline=deadline,
    )  # fmt: skip
    milestones.evaluate_held_out(job)
    milestones.evaluate_held_out(job)
    assert (deadline.evaluation, deadline.evaluated) == (5.0, 8.0)
