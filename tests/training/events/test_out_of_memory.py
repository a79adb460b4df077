"""Memory that runs out makes micro-batches smaller and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lightwell.errors import TrainingError
from lightwell.training.runs.run import Run
from lightwell.training.start import resume
from lightwell.training.update import update
from lightwell.training.update.loss import accumulate_gradients
from lightwell.training.update.out_of_memory import is_out_of_memory
from small import Heard, StopAt, final_state, same_bits, small_run, untimed, write_text

PLAIN: dict[str, Any] = dict.fromkeys(("embedding_dropout", "attention_dropout", "residual_dropout"), 0.0)


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("corpus") / "text")


def room_for(sequences: int, monkeypatch: pytest.MonkeyPatch, from_step: int = 0) -> None:
    """Let memory run out, in the backward pass of all micro-batches but the last, for more sequences at once."""

    def limited(loss_module: Any, batch: Any, *, micro_batch_size: int, step: int, **others: Any) -> float:
        at_once = micro_batch_size or len(batch.inputs)
        loss = accumulate_gradients(loss_module, batch, micro_batch_size=micro_batch_size, step=step, **others)
        if at_once > sequences and step >= from_step:
            torch.empty(1 << 60, dtype=torch.uint8)  # the allocator's own words
        return loss

    monkeypatch.setattr(update, "accumulate_gradients", limited)


def test_what_the_allocator_says_is_understood() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_the_run_is_the_one_that_had_smaller_micro_batches_from_the_start(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = small_run(text, tmp_path / "expected", micro_batch_size=1, **PLAIN)
    room_for(1, monkeypatch)
    heard = Heard()
    run = small_run(text, tmp_path / "run", heard, micro_batch_size=0, **PLAIN)
    assert same_bits(final_state(run), final_state(expected))
    assert untimed(run.metrics())[1:] == untimed(expected.metrics())[1:]  # scored before the first step
    assert Run(run.path).config.batches.micro_batch_size == 1
    said = [sentence for sentence in heard.sentences if "Memory ran out in step 1" in sentence]
    assert [("with 4 sequences" in one, "with 2 sequences" in one) for one in said] == [(True, False), (False, True)]


def test_a_run_that_had_to_take_smaller_ones_is_resumed_from_before(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = small_run(text, tmp_path / "whole", micro_batch_size=0, **PLAIN)
    room_for(2, monkeypatch, from_step=3)
    with pytest.raises(KeyboardInterrupt):
        small_run(text, tmp_path / "run", StopAt(5), micro_batch_size=0, **PLAIN)
    resumed = resume(tmp_path / "run")
    for name, tensor in final_state(whole).items():
        assert (tensor - final_state(resumed)[name]).abs().max() < 1e-5, name
    assert resumed.config.batches.micro_batch_size == 2


def test_when_one_sequence_is_too_much_it_is_said_and_the_run_kept(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    room_for(0, monkeypatch, from_step=4)
    with pytest.raises(TrainingError, match=r"ran out in step 5, for a single sequence; .*--context-length than 16"):
        small_run(text, tmp_path / "run", **PLAIN)
    monkeypatch.undo()
    assert untimed(resume(tmp_path / "run").metrics())[-1]["step"] == 6


def test_another_error_is_not_taken_for_it(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **keywords: Any) -> float:
        raise RuntimeError("something else")

    monkeypatch.setattr(update, "accumulate_gradients", broken)
    with pytest.raises(RuntimeError, match="something else"):
        small_run(text, tmp_path / "run", **PLAIN)
