"""The cost of a checkpoint is that of rounds which differ in nothing but it."""

from __future__ import annotations

import statistics
from pathlib import Path

from lightwell.bench.contenders.shapes import shape
from lightwell.bench.contenders.worker import settings
from lightwell.bench.saving import cost
from lightwell.training.checkpoints.checkpoint import checkpoint_steps
from lightwell.training.settings.config import RunConfig


def test_every_other_round_saves_and_both_kinds_are_timed(tmp_path: Path) -> None:
    found = cost("tiny", 2, 2, tmp_path)
    assert len(found["seconds_with"]) == len(found["seconds_without"]) == 2
    assert checkpoint_steps(tmp_path / "run" / "checkpoints") == [2, 8]  # before the first and the fourth round
    assert found["share_of_a_minute"] == found["seconds_each"] / 60
    pairs = zip(found["seconds_with"], found["seconds_without"], strict=True)
    assert found["seconds_each"] == statistics.median(with_one - without for with_one, without in pairs)
    assert len(found["snapshot_seconds"]) == len(found["writing_processor_seconds"]) == 2
    assert all(0 < one < other for one, other in zip(found["snapshot_seconds"], found["seconds_with"], strict=True))
    assert found["shape"] == "tiny"
    assert (
        found["parameters"]
        == RunConfig().with_values(settings(shape("tiny"), "lightwell-eager")).model.parameter_count()
    )
