"""Minutes: the number of steps follows the pace while the learning rate is stable, and then the run can be repeated."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwell.errors import RunError
from lightwell.training.config import RunConfig, TrainConfig
from lightwell.training.deadline import AT_THE_END, FIRST_STEPS, Deadline, is_open
from lightwell.training.listener import Listener
from lightwell.training.run import Run
from lightwell.training.schedule import learning_rate_factor, stable_steps
from lightwell.training.start import resume, train
from small import final_state, same_bits, small_config, untimed, write_text

TIMED: dict[str, Any] = {"schedule": "wsd", "decay_fraction": 0.4, "warmup_steps": 2, "eval_every": 0}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("corpus") / "text")


@given(
    st.sampled_from(["wsd", "cosine", "constant"]),
    st.integers(0, 30),
    st.floats(0, 1),
    st.integers(1, 300),
    st.integers(1, 300),
)
def test_stable_learning_rates_do_not_depend_on_the_number_of_steps(
    schedule: Any, warmup: int, fraction: float, steps: int, other: int
) -> None:
    config = TrainConfig(schedule=schedule, warmup_steps=warmup, decay_fraction=fraction)
    for step in range(min(stable_steps(steps, config), stable_steps(other, config))):
        assert learning_rate_factor(step, steps, config) == learning_rate_factor(step, other, config)


@given(st.integers(20, 2000), st.integers(1, 5000), st.floats(0.05, 1))
def test_what_was_stable_stays_so_when_the_number_is_settled(planned: int, fitting: int, fraction: float) -> None:
    config = RunConfig().with_values({**TIMED, "steps": planned, "decay_fraction": fraction})
    for step in range(1, planned):
        if not is_open(config, step):
            break
        now = time.monotonic()
        deadline = Deadline(now + AT_THE_END + fitting, deque([(step - 1, now - 1.0)]))  # a step takes a second
        settled = deadline.settle(config, step)
        assert stable_steps(settled.training.steps, settled.training) >= step
        assert settled.training.steps >= step


def test_the_pace_is_that_of_recent_steps_after_the_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr("lightwell.training.deadline.time.monotonic", lambda: clock)
    config = RunConfig().with_values({**TIMED, "steps": 10_000})
    deadline = Deadline(1000.0 + AT_THE_END)
    for step in range(1, 101):
        clock += 60.0 if step < FIRST_STEPS else 0.1 if step < 50 else 2.0  # compiles, is fast, and then is slow
        settled = deadline.settle(config, step)
        if step <= FIRST_STEPS:
            assert settled is config
    assert settled.training.steps == pytest.approx(100 + (1000 - clock) / 2.0, abs=2)


def test_a_run_in_minutes_is_the_run_of_as_many_steps(text: Path, tmp_path: Path) -> None:
    """Whether it ends in time is measured, not tested: docs/performance.md."""
    timed = train(small_config(text, minutes=0.1, **TIMED), out=tmp_path / "timed")
    steps = timed.config.training.steps
    assert timed.config.training.minutes == 0
    assert steps > FIRST_STEPS
    given_steps = train(small_config(text, steps=steps, **TIMED), out=tmp_path / "given")
    assert same_bits(final_state(timed), final_state(given_steps))
    assert untimed(timed.metrics()) == untimed(given_steps.metrics())


def test_a_run_in_minutes_that_was_stopped_resumes_to_a_number_that_stands_fast(text: Path, tmp_path: Path) -> None:
    class StopEarly(Listener):
        def stepped(self, record: dict[str, Any]) -> None:
            if record["step"] == 8:
                raise KeyboardInterrupt

    config = small_config(text, minutes=0.2, checkpoint_every=3, **TIMED)
    with pytest.raises(KeyboardInterrupt):
        train(config, out=tmp_path / "run", listener=StopEarly())
    run = Run(tmp_path / "run")
    run.write_config(run.config.with_values({"steps": 30}))  # as it stands once the number is settled
    assert resume(run.path).config.training.steps == 30
    given_steps = train(small_config(text, steps=30, checkpoint_every=3, **TIMED), out=tmp_path / "given")
    assert same_bits(final_state(Run(run.path)), final_state(given_steps))


def test_a_number_of_steps_that_was_settled_cannot_be_edited(text: Path, tmp_path: Path) -> None:
    run = train(small_config(text, **TIMED), out=tmp_path / "run")
    run.write_config(run.config.with_values({"steps": 12}))
    with pytest.raises(RunError, match="steps is 12"):
        resume(run.path)
