"""Minutes: the number of steps follows the pace while the learning rate is stable, and then the run can be repeated."""

from __future__ import annotations

import json
import time
from collections import deque
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwell.errors import RunError, SettingError
from lightwell.training.checkpoints.files import record_hash
from lightwell.training.loop import train_step
from lightwell.training.planning.deadline import AT_THE_END, FIRST_STEPS, Deadline, ending_seconds, may_change_steps
from lightwell.training.planning.plan import Measured
from lightwell.training.runs.load import load
from lightwell.training.runs.run import Run
from lightwell.training.settings.config import RunConfig, TrainConfig
from lightwell.training.start import resume, train
from lightwell.training.update.schedule import learning_rate_factor, stable_steps
from small import StopAt, final_state, same_bits, small_config, untimed, write_text

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
        if not may_change_steps(config, step):
            break
        now = time.monotonic()
        start = step - 1
        deadline = Deadline(now + AT_THE_END + fitting, began=(start, now - start), recent=deque([(start, start)]))
        steps = deadline.update_steps(config, step, float(step)).training.steps  # a step takes a second
        assert steps >= step
        assert stable_steps(steps, config.training) >= step


@pytest.mark.parametrize("step", [60, 61, 62, 63])
def test_without_time_it_is_the_fewest_steps_that_leave_the_past_as_it_was(step: int) -> None:
    config = RunConfig().with_values({**TIMED, "steps": 1000})
    now, start = time.monotonic(), step - 1
    deadline = Deadline(now, began=(start, now - start), recent=deque([(start, start)]))
    fewest = next(n for n in range(step, 1000) if n - round(0.4 * n) >= step)  # decay_fraction is 0.4
    assert deadline.update_steps(config, step, float(step)).training.steps == fewest


def test_the_pace_is_that_of_recent_steps_after_the_first_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 0.0
    monkeypatch.setattr("lightwell.training.planning.deadline.time.monotonic", lambda: clock)
    config = RunConfig().with_values({**TIMED, "steps": 10_000})
    deadline = Deadline(1000.0 + AT_THE_END)
    for step in range(1, 101):
        clock += 60.0 if step < FIRST_STEPS else 0.1 if step < 50 else 2.0  # compiles, is fast, and then is slow
        settled = deadline.update_steps(config, step, clock)
        assert (settled is config) == (step <= FIRST_STEPS)
    assert settled.training.steps == pytest.approx(100 + (1000 - clock) / 2.0, abs=2)


def test_evaluations_to_come_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightwell.training.planning.deadline.time.monotonic", lambda: 0.0)

    def steps(**settings: Any) -> int:
        config = RunConfig().with_values({**TIMED, "steps": 100, **settings})
        deadline = Deadline(100.0 + AT_THE_END, evaluation=5.0, began=(9, -9.0), recent=deque([(9, 9.0)]))
        return deadline.update_steps(config, 10, 10.0).training.steps

    assert steps(eval_every=0) == 10 + 100 - 5  # one at the end
    assert steps(eval_every=25) == 10 + 100 - 20  # after 25, 50 and 75 steps as well
    assert steps(eval_every=10) == 10 + 100 - 50  # after 10, ... 90 steps, that of this very step too
    assert steps(eval_every=11) == 10 + 100 - 50  # after 11, ... 99 steps
    assert steps(eval_every=100) == 10 + 100 - 5  # the one after 100 steps is the one at the end


@pytest.fixture
def ten_steps_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock on which each step takes a tenth of a second and nothing else takes any time."""
    clock = {"now": 0.0}

    def tick(job: Any) -> dict[str, Any]:
        record = train_step(job)
        clock["now"] += 0.1
        job.progress.seconds = clock["now"]
        return record

    monkeypatch.setattr("lightwell.training.planning.deadline.time", SimpleNamespace(monotonic=lambda: clock["now"]))
    for module in ("start", "planning.resolve"):
        monkeypatch.setattr(f"lightwell.training.{module}.time", SimpleNamespace(monotonic=lambda: clock["now"]))
    monkeypatch.setattr(
        "lightwell.training.planning.resolve.measure", lambda *_: Measured(0.2, 0, 0)
    )  # and was taken for slower
    monkeypatch.setattr("lightwell.training.loop.train_step", tick)


ENDINGS: dict[str, dict[str, Any]] = {
    "wsd": {},
    "no decay": {"decay_fraction": 0.0},
    "constant": {"schedule": "constant"},
}


@pytest.mark.usefixtures("ten_steps_a_second")
@pytest.mark.parametrize("ending", ENDINGS)
def test_a_run_in_minutes_is_the_run_of_as_many_steps(text: Path, tmp_path: Path, ending: str) -> None:
    """Whether it ends in time on a real clock is measured, not tested: docs/performance.md."""
    settings = {**TIMED, **ENDINGS[ending]}
    timed = train(small_config(text, minutes=0.1, **settings), out=tmp_path / "timed")
    assert timed.config.training.minutes == 0
    steps = Run(timed.path).config.training.steps
    assert 10 * (6 - AT_THE_END - 1) < steps <= 10 * (6 - AT_THE_END)
    given_steps = train(Run(timed.path).config, out=tmp_path / "given")
    assert same_bits(final_state(timed), final_state(given_steps))
    assert untimed(timed.metrics()) == untimed(given_steps.metrics())
    assert resume(timed.path).metrics() == timed.metrics()  # finished, also for whoever looks later


@pytest.mark.usefixtures("ten_steps_a_second")
@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("stop", [9, 20])
def test_a_run_in_minutes_that_was_stopped_goes_on_to_a_number_that_stands_fast(
    text: Path, tmp_path: Path, ending: str, stop: int
) -> None:
    settings = {**TIMED, **ENDINGS[ending]}
    with pytest.raises(KeyboardInterrupt):
        train(small_config(text, minutes=0.1, **settings), out=tmp_path / "run", listener=StopAt(stop))
    resumed = resume(tmp_path / "run")
    steps = resumed.config.training.steps
    assert resumed.metrics()[-1]["step"] == steps > stop
    given_steps = train(small_config(text, steps=steps, **settings), out=tmp_path / "given")
    assert same_bits(final_state(resumed), final_state(given_steps))


@pytest.mark.usefixtures("ten_steps_a_second")
def test_a_number_whose_decay_would_have_begun_is_refused(text: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(small_config(text, minutes=0.1, **TIMED), out=tmp_path / "run", listener=StopAt(9))
    run = Run(tmp_path / "run")
    run.write_config(run.config.with_values({"steps": 10}))
    with pytest.raises(RunError, match="steps is 10"):
        resume(run.path)


def test_too_little_time_is_told(text: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingError, match="too short"):
        train(small_config(text, minutes=0.001), out=tmp_path / "run")


def test_a_run_of_an_older_version_is_not_resumed_but_read(text: Path, tmp_path: Path) -> None:
    run = train(small_config(text), out=tmp_path / "run")
    file = run.checkpoints / "00000006" / "state.json"
    state = json.loads(file.read_text())
    del state["length_is_open"], state["sha256"]["state.json"]
    state["sha256"]["state.json"] = record_hash(state)
    file.write_text(json.dumps(state))
    settings = run.path / "config.toml"
    settings.write_text(settings.read_text().replace('compile = "off"', "compile = false"))
    with pytest.raises(RunError, match="older version"):
        resume(run.path)
    assert Run(run.path).config.training.compile == "off"
    assert load(run.path).generate("the", seed=1, max_new_tokens=3)


def test_a_number_of_steps_that_was_settled_cannot_be_edited(text: Path, tmp_path: Path) -> None:
    run = train(small_config(text, **TIMED), out=tmp_path / "run")
    run.write_config(run.config.with_values({"steps": 12}))
    with pytest.raises(RunError, match="steps is 12"):
        resume(run.path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    now = {"now": 0.0}
    monkeypatch.setattr("lightwell.training.planning.deadline.time", SimpleNamespace(monotonic=lambda: now["now"]))
    return now


STABLE = RunConfig().with_values({"schedule": "constant", "warmup_steps": 0, "eval_every": 0, "steps": 1000})


def at(clock: dict[str, float], deadline: Deadline, step: int, now: float, seconds: float) -> int:
    """How many steps it is after this one, at this time, after so many seconds of training."""
    clock["now"] = now
    return deadline.update_steps(STABLE, step, seconds).training.steps


def test_what_happens_beside_the_steps_counts_from_the_first_that_is_believed(clock: dict[str, float]) -> None:
    deadline = Deadline(ends=1101.0, ending=3.0)
    assert at(clock, deadline, 4, now=1000.0, seconds=4.0) == 1000
    assert at(clock, deadline, 5, now=1006.0, seconds=5.0) == 1000  # one says nothing about the pace
    # A second in the step and one beside it; 90 of the time are left.
    assert at(clock, deadline, 6, now=1008.0, seconds=6.0) == 6 + 45
    # Two more steps with nothing beside them: a third of a second beside each; 88 are left.
    assert at(clock, deadline, 8, now=1010.0, seconds=8.0) == 8 + 66
    # An evaluation of 20 seconds is no part of it; 67 are left, and a quarter of a second is beside each step.
    deadline.evaluated = 20.0
    assert at(clock, deadline, 9, now=1031.0, seconds=9.0) == round(9 + 67 / 1.25)


def test_an_evaluation_that_took_less_than_was_thought_makes_no_step_faster(clock: dict[str, float]) -> None:
    deadline = Deadline(ends=1103.0, ending=3.0)
    at(clock, deadline, 5, now=1000.0, seconds=5.0)
    deadline.evaluated = 4.0
    assert at(clock, deadline, 7, now=1002.0, seconds=7.0) == 7 + 98


@pytest.mark.parametrize(("seconds", "per_step"), [(25.0, 12.5), (25.1, 15.1)])
def test_the_pace_is_that_of_the_last_quarter_of_a_minute(
    clock: dict[str, float], seconds: float, per_step: float
) -> None:
    deadline = Deadline(ends=1000.0 + seconds + 300 * per_step, ending=0.0)
    for step, spent in ((5, 0.0), (6, 10.0)):
        at(clock, deadline, step, now=1000.0 + spent, seconds=spent)
    assert at(clock, deadline, 7, now=1000.0 + seconds, seconds=seconds) == 307


@pytest.mark.parametrize(("schedule", "last"), [("wsd", 59), ("constant", 99)])
def test_the_number_may_change_until_the_decay_begins(schedule: str, last: int) -> None:
    config = RunConfig().with_values({**TIMED, "schedule": schedule, "steps": 100})
    assert may_change_steps(config, last)
    assert not may_change_steps(config, last + 1)


def test_seconds_for_the_end_by_hand() -> None:
    """A checkpoint has 12 bytes for a parameter, and 150 MB of it are written in a second."""
    assert ending_seconds(0) == 3.0
    assert ending_seconds(12_500_000) == 4.0
    assert Deadline(0.0).ending == 3.0


def test_large_models_have_more_time_to_be_saved() -> None:
    assert ending_seconds(4_000_000) < AT_THE_END + 1
    assert ending_seconds(124_000_000) > AT_THE_END + 5
