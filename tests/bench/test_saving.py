"""The cost of a checkpoint is that of rounds which differ in nothing but it."""

from __future__ import annotations

from pathlib import Path

from lightwell.bench.saving import cost
from lightwell.training.checkpoints.checkpoint import checkpoint_steps


def test_every_other_round_saves_and_both_kinds_are_timed(tmp_path: Path) -> None:
    found = cost("tiny", 2, 2, tmp_path)
    assert len(found["seconds_with"]) == len(found["seconds_without"]) == 2
    assert checkpoint_steps(tmp_path / "run" / "checkpoints") == [2, 8]  # before the first and the fourth round
    assert found["share_of_a_minute"] == found["seconds_each"] / 60
