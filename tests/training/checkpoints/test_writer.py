"""Writing beside training: in order, one at a time, and nothing that goes wrong is lost."""

from __future__ import annotations

import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lightwell.errors import RunError, TrainingError
from lightwell.training.checkpoints.checkpoint import checkpoint_steps, load_checkpoint, save_checkpoint
from lightwell.training.checkpoints.writer import Writer
from lightwell.training.events import saving
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.run import Run
from lightwell.training.start import resume
from small import StopAt, final_state, same_bits, small_run, untimed, write_text


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("corpus") / "text")


def fail() -> None:
    raise RunError("The disk is full.")


def test_one_is_written_at_a_time_and_each_is_told_once() -> None:
    done: list[str] = []
    with Writer() as writer:
        for name in "abc":
            writer.write(partial(done.append, f"{name} written"), partial(done.append, f"{name} told"))
    assert done == [f"{name} {what}" for name in "abc" for what in ("written", "told")]


class Held:
    """A task that ends only when it is let go; `ended` says whether it has."""

    def __init__(self) -> None:
        self.gate, self.ended = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.gate.wait(20)
        self.ended.set()


def test_training_goes_on_meanwhile() -> None:
    held = Held()
    with Writer() as writer:
        writer.write(held, lambda: None)
        writer.check()  # does not wait
        assert not held.ended.is_set()
        held.gate.set()
    assert held.ended.is_set()  # leaving does


@pytest.mark.parametrize("notice", ["write", "check", "leave"])
def test_what_failed_is_raised_in_the_loop(notice: str) -> None:
    writer = Writer()
    with pytest.raises(RunError, match="full"), writer:  # noqa: PT012 - whichever comes first
        writer.write(fail, lambda: pytest.fail("it was not written"))
        if notice == "write":
            writer.write(lambda: None, lambda: None)
        elif notice == "check":
            while True:
                writer.check()
    writer.wait()  # and not a second time


def test_an_error_of_the_loop_is_not_hidden_by_one_of_the_writer() -> None:
    with pytest.raises(TrainingError), Writer() as writer:  # noqa: PT012
        writer.write(fail, lambda: None)
        raise TrainingError("The loss is not finite.")


def test_a_second_ctrl_c_does_not_wait() -> None:
    held, writer = Held(), Writer()
    with pytest.raises(KeyboardInterrupt), writer:  # noqa: PT012
        writer.write(held, lambda: None)
        raise KeyboardInterrupt
    assert not held.ended.is_set()
    assert writer.cancelled  # so that nothing is put in place any more
    held.gate.set()


@pytest.mark.parametrize("error", [RuntimeError("can't allocate memory"), ValueError("not JSON"), OSError(5, "I/O")])
def test_whatever_goes_wrong_is_raised_and_nothing_is_told_as_saved(error: Exception) -> None:
    def task() -> None:
        raise error

    with pytest.raises(type(error)), Writer() as writer:
        writer.write(task, lambda: pytest.fail("it was not written"))


def test_a_snapshot_is_of_its_step_however_late_it_is_written(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of step 2 is held back until step 4 is trained; it must still be that of step 2."""
    straight = small_run(text, tmp_path / "straight", checkpoint_every=2, eval_every=0)
    trained = threading.Event()

    class Late(Listener):
        def stepped(self, record: dict[str, Any]) -> None:
            if record["step"] == 3:
                trained.set()

    waited: list[bool] = []

    def late(*arguments: Any, **named: Any) -> Path:
        if arguments[1] == 2:
            waited.append(trained.wait(10))
        return save_checkpoint(*arguments, **named)

    monkeypatch.setattr(saving, "save_checkpoint", late)
    run = small_run(text, tmp_path / "late", Late(), checkpoint_every=2, eval_every=0)
    assert waited == [True]  # the loop went on while it was written
    for step in checkpoint_steps(straight.checkpoints):
        expected, found = (load_checkpoint(one.checkpoints / f"{step:08d}") for one in (straight, run))
        assert same_bits(expected.model, found.model)
        assert same_bits(expected.training, found.training)


def test_a_full_disk_stops_the_run_and_keeps_what_was_there(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(checkpoints: Path, step: int, *rest: Any, **named: Any) -> Path:
        if step == 4:
            raise RunError("The checkpoint could not be written (No space left on device).")
        return save_checkpoint(checkpoints, step, *rest, **named)

    straight = small_run(text, tmp_path / "straight")
    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_checkpoint", full)
        with pytest.raises(RunError, match="No space"):
            small_run(text, tmp_path / "run")
    assert checkpoint_steps(Run(tmp_path / "run").checkpoints)[-1] < 4
    resumed = resume(tmp_path / "run")
    assert same_bits(final_state(resumed), final_state(straight))
    assert untimed(resumed.metrics()) == untimed(straight.metrics())


def test_ctrl_c_leaves_only_after_the_checkpoint_is_there(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def slow(*arguments: Any, **named: Any) -> Path:
        time.sleep(0.3)
        path = save_checkpoint(*arguments, **named)
        order.append("saved")
        return path

    class Ends(StopAt):
        def end(self) -> None:
            order.append("left")

    monkeypatch.setattr(saving, "save_checkpoint", slow)
    with pytest.raises(KeyboardInterrupt):
        small_run(text, tmp_path / "run", Ends(5), checkpoint_every=0, eval_every=0)
    assert order == ["saved", "left"]
    assert checkpoint_steps(tmp_path / "run" / "checkpoints")[-1] == 5


def test_a_thread_that_cannot_start_is_raised_and_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError, match="can't start new thread"), Writer() as writer:
        writer.write(lambda: None, lambda: None)


def test_a_loop_that_failed_waits_for_its_own_write_and_for_no_other_process() -> None:
    held, writer = Held(), Writer()
    told: list[str] = []
    threading.Timer(0.05, held.gate.set).start()
    with pytest.raises(TrainingError), writer:  # noqa: PT012
        writer.write(held, partial(told.append, "saved"))
        raise TrainingError("The loss is not finite.")
    assert held.ended.is_set()
    assert (writer.alone, writer.cancelled, told) == (True, False, [])


def test_leaving_well_or_with_nothing_to_write_sets_no_flag() -> None:
    with Writer() as writer:
        writer.wait()
        writer.check()
    with pytest.raises(TrainingError), writer:
        raise TrainingError("The loss is not finite.")
    assert (writer.alone, writer.cancelled) == (False, False)


def test_the_end_of_a_write_is_told_once_by_check_in_the_loop_s_own_thread() -> None:
    told: list[threading.Thread] = []
    ended = threading.Event()
    writer = Writer()
    writer.write(ended.set, lambda: told.append(threading.current_thread()))
    assert ended.wait(20)
    while not told:
        writer.check()
    writer.check()
    writer.wait()
    assert told == [threading.current_thread()]


def test_a_write_does_not_begin_before_the_one_before_has_ended() -> None:
    held, second = Held(), threading.Event()
    writer = Writer()
    writer.write(held, lambda: None)
    threading.Timer(0.05, held.gate.set).start()
    writer.write(lambda: second.set() if held.ended.is_set() else None, lambda: None)
    writer.wait()
    assert second.is_set()


def test_the_thread_does_not_keep_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    daemons: list[bool] = []
    real = threading.Thread.start

    def started(self: threading.Thread) -> None:
        daemons.append(self.daemon)
        real(self)

    monkeypatch.setattr(threading.Thread, "start", started)
    with Writer() as writer:
        writer.write(lambda: None, lambda: None)
    assert daemons == [True]
