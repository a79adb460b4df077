"""The learning rate's way over a run."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwell.training.settings.config import TrainConfig
from lightwell.training.update.schedule import learning_rate_factor, stable_steps, warmup_length


def factors(steps: int, **settings: Any) -> list[float]:
    config = TrainConfig(**settings)
    return [learning_rate_factor(step, steps, config) for step in range(steps)]


def test_cosine_rises_in_a_line_and_falls_to_the_final_rate() -> None:
    curve = factors(101, schedule="cosine", warmup_steps=11, final_learning_rate=0.1)
    assert curve[:11] == pytest.approx([(step + 1) / 11 for step in range(11)])
    assert curve[10] == 1.0
    assert curve[55] == pytest.approx(0.55)  # halfway between the peak and the end
    assert curve[100] == pytest.approx(0.1)


def test_wsd_is_stable_and_then_falls_in_a_line() -> None:
    curve = factors(100, schedule="wsd", warmup_steps=10, decay_fraction=0.2, final_learning_rate=0.0)
    assert curve[9:80] == [1.0] * 71
    assert curve[80:] == pytest.approx([1 - (step + 1) / 20 for step in range(20)])


def test_constant_stays_at_the_peak() -> None:
    assert factors(20, schedule="constant", warmup_steps=5)[4:] == [1.0] * 16


@pytest.mark.parametrize("schedule", ["cosine", "wsd", "constant"])
def test_neutral_values_leave_the_peak_alone(schedule: str) -> None:
    assert factors(30, schedule=schedule, warmup_steps=0, final_learning_rate=1.0) == [1.0] * 30


def test_wsd_without_decay_is_constant() -> None:
    settings = {"warmup_steps": 4, "decay_fraction": 0.0}
    assert factors(30, schedule="wsd", **settings) == factors(30, schedule="constant", **settings)


def test_a_run_shorter_than_its_warmup_still_reaches_the_peak_and_the_end() -> None:
    curve = factors(20, schedule="cosine", warmup_steps=50, final_learning_rate=0.05)
    assert warmup_length(20, TrainConfig(warmup_steps=50)) == 10
    assert max(curve) == 1.0
    assert curve[-1] == pytest.approx(0.05)


@given(
    steps=st.integers(1, 300),
    warmup=st.integers(0, 400),
    schedule=st.sampled_from(["cosine", "wsd", "constant"]),
    decay=st.floats(0, 1),
    final=st.floats(0, 1),
)
def test_never_zero_while_rising_never_above_the_peak_and_never_up_after_it(
    steps: int, warmup: int, schedule: str, decay: float, final: float
) -> None:
    config = TrainConfig(schedule=schedule, warmup_steps=warmup, decay_fraction=decay, final_learning_rate=final)  # type: ignore[arg-type]
    curve = [learning_rate_factor(step, steps, config) for step in range(steps)]
    rising = warmup_length(steps, config)
    assert all(0 < factor <= 1 for factor in curve[:rising])
    assert all(final - 1e-9 <= factor <= 1 + 1e-9 for factor in curve[rising:])
    after = curve[max(rising - 1, 0) :]
    assert all(later <= earlier + 1e-12 for earlier, later in itertools.pairwise(after))
    if schedule == "cosine" and steps > 2:
        assert curve[-1] == pytest.approx(final)
    assert learning_rate_factor(steps + 5, steps, config) == curve[-1]


@pytest.mark.parametrize(
    ("steps", "settings", "expected"),
    [
        (9, {"schedule": "cosine", "warmup_steps": 0, "final_learning_rate": 0.0}, {0: 1.0, 4: 0.5, 8: 0.0}),
        (9, {"schedule": "cosine", "warmup_steps": 1, "final_learning_rate": 0.0}, {0: 1.0, 4: 0.5, 8: 0.0}),
        (10, {"schedule": "cosine", "warmup_steps": 2, "final_learning_rate": 0.2}, {0: 0.5, 1: 1.0, 5: 0.6, 9: 0.2}),
        (1, {"schedule": "cosine", "warmup_steps": 0, "final_learning_rate": 0.2}, {0: 1.0}),
        (2, {"schedule": "cosine", "warmup_steps": 9, "final_learning_rate": 0.2}, {0: 1.0, 1: 0.2}),
        # wsd: a tenth of 25 is rounded to the even 2, a tenth of 35 to 4
        (25, {"schedule": "wsd", "warmup_steps": 0, "decay_fraction": 0.1, "final_learning_rate": 0.0},
         {0: 1.0, 22: 1.0, 23: 0.5, 24: 0.0}),
        (35, {"schedule": "wsd", "warmup_steps": 0, "decay_fraction": 0.1, "final_learning_rate": 0.2},
         {30: 1.0, 31: 0.8, 34: 0.2, 99: 0.2}),
        # a decay that would begin in the warm-up begins after it
        (20, {"schedule": "wsd", "warmup_steps": 10, "decay_fraction": 0.9, "final_learning_rate": 0.0},
         {8: 0.9, 9: 1.0, 10: 0.9, 18: 0.1, 19: 0.0}),
    ],
)  # fmt: skip
def test_the_share_at_each_turn(steps: int, settings: dict[str, Any], expected: dict[int, float]) -> None:
    config = TrainConfig(**settings)
    found = {step: learning_rate_factor(step, steps, config) for step in expected}
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("steps", "settings", "stable"),
    [
        (100, {"schedule": "cosine", "warmup_steps": 10}, 0),
        (100, {"schedule": "constant", "warmup_steps": 10}, 100),
        (100, {"schedule": "wsd", "warmup_steps": 10, "decay_fraction": 0.2}, 80),
        (35, {"schedule": "wsd", "warmup_steps": 10, "decay_fraction": 0.1}, 31),
        (20, {"schedule": "wsd", "warmup_steps": 10, "decay_fraction": 0.9}, 10),
        (19, {"schedule": "wsd", "warmup_steps": 10, "decay_fraction": 0.1}, 0),  # the warm-up is cut to 9
        (19, {"schedule": "constant", "warmup_steps": 10}, 0),
        (20, {"schedule": "constant", "warmup_steps": 10}, 20),
    ],
)
def test_so_many_updates_do_not_depend_on_how_many_follow(steps: int, settings: dict[str, Any], stable: int) -> None:
    assert stable_steps(steps, TrainConfig(**settings)) == stable


@pytest.mark.parametrize(("steps", "warmup"), [(21, 10), (20, 10), (19, 9), (1, 0), (1000, 12)])
def test_warm_up_takes_half_of_a_run_at_most(steps: int, warmup: int) -> None:
    assert warmup_length(steps, TrainConfig(warmup_steps=12)) == warmup
