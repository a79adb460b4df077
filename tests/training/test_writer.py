"""Writing beside training: in order, one at a time, and nothing that goes wrong is lost."""

from __future__ import annotations

import threading
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from lightwell.errors import RunError, TrainingError
from lightwell.training import saving
from lightwell.training.checkpoint import checkpoint_steps, load_checkpoint, save_checkpoint
from lightwell.training.listener import Listener
from lightwell.training.run import Run
from lightwell.training.start import resume
from lightwell.training.writer import Writer
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


def waiting(gate: threading.Event) -> None:
    gate.wait(30)


def test_training_goes_on_meanwhile() -> None:
    gate = threading.Event()
    with Writer() as writer:
        writer.write(partial(waiting, gate), lambda: None)
        writer.check()  # does not wait
        assert not gate.is_set()
        gate.set()


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
    gate = threading.Event()
    with pytest.raises(KeyboardInterrupt), Writer() as writer:  # noqa: PT012
        writer.write(partial(waiting, gate), lambda: None)
        raise KeyboardInterrupt
    assert not gate.is_set()
    gate.set()


def test_a_snapshot_is_of_its_step_however_late_it_is_written(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkpoint of step 2 is held back until step 4 is trained; it must still be that of step 2."""
    straight = small_run(text, tmp_path / "straight", checkpoint_every=2)
    trained = threading.Event()

    class Late(Listener):
        def stepped(self, record: dict[str, Any]) -> None:
            if record["step"] == 3:
                trained.set()

    def late(*arguments: Any) -> Path:
        trained.wait(10)
        return save_checkpoint(*arguments)

    monkeypatch.setattr(saving, "save_checkpoint", late)
    run = small_run(text, tmp_path / "late", Late(), checkpoint_every=2)
    for step in checkpoint_steps(straight.checkpoints):
        expected, found = (load_checkpoint(one.checkpoints / f"{step:08d}") for one in (straight, run))
        assert same_bits(expected.model, found.model)
        assert same_bits(expected.training, found.training)


def test_a_full_disk_stops_the_run_and_keeps_what_was_there(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(checkpoints: Path, step: int, *rest: Any) -> Path:
        if step == 4:
            raise RunError("The checkpoint could not be written (No space left on device).")
        return save_checkpoint(checkpoints, step, *rest)

    straight = small_run(text, tmp_path / "straight")
    with monkeypatch.context() as patch:
        patch.setattr(saving, "save_checkpoint", full)
        with pytest.raises(RunError, match="No space"):
            small_run(text, tmp_path / "run")
    assert checkpoint_steps(Run(tmp_path / "run").checkpoints)[-1] < 4
    resumed = resume(tmp_path / "run")
    assert same_bits(final_state(resumed), final_state(straight))
    assert untimed(resumed.metrics()) == untimed(straight.metrics())


def test_ctrl_c_leaves_only_after_the_checkpoint_is_there(text: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        small_run(text, tmp_path / "run", StopAt(5), checkpoint_every=0)
    assert checkpoint_steps(tmp_path / "run" / "checkpoints")[-1] == 5
