"""The choice of --minutes beside shapes by hand: what is run where, and what is said of it."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from lightwell.bench import minutes
from lightwell.bench.minutes import CHOICE, HANDS, Finished, Hand, compare, lanes_of, summary
from lightwell.errors import SettingError
from lightwell.training.compose import compose
from small import write_text


def finished(how: str, bits: float) -> Finished:
    return Finished(how, 60.0, 1, 64, 32, 4, 10, 1280, bits)


def test_every_shape_by_hand_is_one_that_can_be_trained_and_none_is_there_twice() -> None:
    for shapes in HANDS.values():
        assert len(set(shapes)) == len(shapes) >= 8
        for hand in shapes:
            settings = {
                name.removeprefix("--").replace("-", "_"): int(value)
                for name, value in zip(hand.flags[::2], hand.flags[1::2], strict=True)
            }
            model = compose(settings=settings).model
            assert (model.n_layers, model.d_model, model.head_width) == (hand.n_layers, hand.d_model, 64)


def test_lanes_are_equal_and_share_no_processor() -> None:
    assert lanes_of([0, 1, 2, 3, 4], 2) == [[0, 1], [2, 3]]
    assert lanes_of([5], 1) == [[5]]
    for lanes in (0, -1, 3):
        with pytest.raises(SettingError, match="lanes"):
            lanes_of([0, 1], lanes)


def test_a_lane_has_one_run_at_a_time_and_all_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    busy: set[int] = set()
    guard = threading.Lock()

    def pretend(how: str, flags: Sequence[str], minutes: float, processors: Sequence[int]) -> Finished:
        with guard:
            assert not busy & set(processors)
            busy.update(processors)
        time.sleep(0.01)
        with guard:
            busy.difference_update(processors)
        return finished(how, len(how))

    monkeypatch.setattr(minutes, "train", pretend)
    jobs = [("x" * number, ()) for number in range(1, 8)]
    assert [one.how for one in compare(1, jobs, [[0], [1]])] == [how for how, _ in jobs]


def test_the_summary_ranks_and_says_how_far_the_choice_is_from_the_best() -> None:
    found = summary([finished(CHOICE, 1.02), finished("b", 1.5), finished("a", 1.0)])
    assert [run["how"] for run in found["runs"]] == ["a", CHOICE, "b"]
    assert found["choice_above_best"] == pytest.approx(0.02)
    assert "choice_above_best" not in summary([finished(CHOICE, 1.0)])


@pytest.mark.skipif(not shutil.which("taskset"), reason="taskset (util-linux) is not installed")
def test_a_run_is_a_whole_process_on_its_processors_and_is_scored(tmp_path: Path) -> None:
    text = str(write_text(tmp_path / "texts"))
    flags = (text, "--preset", "tiny", "--tokenizer", "byte", "--d-model", "16", "--precision", "fp32")
    found = minutes.train("tried", flags, 0.15, sorted(os.sched_getaffinity(0))[:1])
    assert (found.how, found.d_model) == ("tried", 16)
    assert found.steps > 1
    assert found.tokens > 0
    assert 0 < found.bits_per_byte < 9
    assert 4 < found.seconds < 60


def test_flags_are_spelt_as_the_command_takes_them() -> None:
    assert Hand(2, 128).flags == (
        "--n-layers", "2", "--d-model", "128", "--context-length", "128", "--batch-size", "16", "--n-heads", "2",
    )  # fmt: skip
