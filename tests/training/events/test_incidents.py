"""What goes wrong along the way is noted with its windows; a run stops or leaves the update out, as it was told."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightwell.corpus.corpus import prepare
from lightwell.errors import TrainingError
from lightwell.training.build import make_job
from lightwell.training.events.non_finite import MOST_SKIPPED
from lightwell.training.planning.resolve import make_loader, resolve
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.run import Run
from lightwell.training.start import resume, run_job
from lightwell.training.update import update
from lightwell.training.update.loss import accumulate_gradients
from lightwell.training.update.loss_spikes import SETTLED, LossSpikeDetector
from small import StopAt, final_state, same_bits, small_config, small_run, untimed, write_text


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("corpus") / "text")


def poison(monkeypatch: pytest.MonkeyPatch, *steps: int) -> None:
    """Let the gradients of these updates be infinite."""
    real = accumulate_gradients

    def poisoned(loss_module: Any, batch: Any, **named: Any) -> float:
        loss = real(loss_module, batch, **named)
        if named["step"] + 1 in steps:
            loss_module.model.get_parameter("layers.1.feed_forward.up.weight").grad[0, 0] = math.inf
        return loss

    monkeypatch.setattr(update, "accumulate_gradients", poisoned)


def test_the_windows_of_a_step_are_those_that_were_read(text: Path) -> None:
    config = small_config(text)
    corpus = prepare(config.text, config.model.vocab_size)
    config, loader = resolve(config, corpus, Listener())
    L, stride = config.model.context_length, config.batches.stride or config.model.context_length
    for step in (0, 3, 200):
        epochs, windows = loader.windows_of(step)
        assert (epochs == (step * 4 + np.arange(4)) // loader.windows).all()
        for row, window in zip(loader.batch(step).inputs, windows, strict=True):
            start = int(window) * stride
            assert torch.equal(row, torch.from_numpy(corpus.train.tokens[start : start + L].astype("int64")))


def test_a_run_that_stops_names_the_place_and_writes_the_windows_down(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, 4)
    with pytest.raises(TrainingError, match=r"Step 4 is not finite, first in the gradient of layers\.1\.feed_forward"):
        small_run(text, tmp_path / "run")
    (incident,) = Run(tmp_path / "run").incidents()
    config = small_config(text)
    corpus = prepare(config.text, config.model.vocab_size)
    config, _ = resolve(config, corpus, Listener())
    epochs, windows = make_loader(config, corpus).windows_of(3)
    assert incident == {
        "step": 4, "kind": "non_finite", "where": "the gradient of layers.1.feed_forward.up.weight",
        "epochs": epochs.tolist(), "windows": windows.tolist(),
    }  # fmt: skip


def test_a_skipped_update_leaves_the_weights_and_the_run_goes_on(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, 3)
    run = small_run(text, tmp_path / "run", non_finite="skip", checkpoint_every=1)
    before, after = (run.checkpoints / f"{step:08d}" / "model.safetensors" for step in (2, 3))
    assert before.read_bytes() == after.read_bytes()
    skipped = next(record for record in run.metrics() if record["step"] == 3)
    assert skipped["skipped"] == "the gradient of layers.1.feed_forward.up.weight"
    assert "loss" not in skipped
    assert [record["step"] for record in run.metrics() if "loss" in record] == [1, 2, 4, 5, 6]
    assert [incident["step"] for incident in run.incidents()] == [3]
    assert all(tensor.isfinite().all() for tensor in final_state(run).values())


def test_law_09_resuming_around_a_skipped_update_is_bit_identical(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, 3)
    straight = small_run(text, tmp_path / "straight", non_finite="skip")
    for stop in (2, 3):
        with pytest.raises(KeyboardInterrupt):
            small_run(text, tmp_path / f"stopped-{stop}", StopAt(stop), non_finite="skip")
        resumed = resume(tmp_path / f"stopped-{stop}")
        assert same_bits(final_state(resumed), final_state(straight))
        assert untimed(resumed.metrics()) == untimed(straight.metrics())
        assert resumed.incidents() == straight.incidents()


def test_skipping_without_end_stops(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, *range(3, 100))
    with pytest.raises(TrainingError, match=f"Step {3 + MOST_SKIPPED} is not finite"):
        small_run(text, tmp_path / "run", non_finite="skip", steps=50)
    assert len(Run(tmp_path / "run").incidents()) == MOST_SKIPPED + 1


def test_only_updates_in_a_row_count(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    poison(monkeypatch, *range(3, 9), *range(10, 16))  # six bad ones, a good one, six bad ones
    run = small_run(text, tmp_path / "run", non_finite="skip", steps=17)
    assert len(run.incidents()) == 12 > MOST_SKIPPED
    assert [record["step"] for record in run.metrics() if "loss" in record] == [1, 2, 9, 16, 17]


def test_a_healthy_run_has_no_incidents(text: Path, tmp_path: Path) -> None:
    assert small_run(text, tmp_path / "run").incidents() == []


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 1.0))
def test_a_spike_is_told_once_it_is_far_from_the_usual(seed: int, noise: float) -> None:
    draw = np.random.default_rng(seed)
    detector = LossSpikeDetector()
    for step in range(200):
        quiet = 5.0 * math.exp(-step / 50) + 3.0 + draw.uniform(-noise, noise)
        assert not detector.is_spike(quiet), f"a spike in the noise of step {step}"
    assert detector.usual_loss == pytest.approx(3.1, abs=noise + 0.2)
    assert detector.is_spike(3.0 + 12 * noise + 1.0)
    assert not detector.is_spike(3.0 + noise)  # and what follows it is usual again


def test_no_spike_before_there_is_a_usual_loss() -> None:
    detector = LossSpikeDetector()
    assert not any(detector.is_spike(loss) for loss in [1.0, 50.0] * (SETTLED // 2))


def test_a_lasting_change_becomes_the_usual() -> None:
    detector = LossSpikeDetector()
    for step in range(100):
        detector.is_spike(3.0 + 0.1 * (step % 2))
    told = [detector.is_spike(5.0 + 0.1 * (step % 2)) for step in range(400)]
    assert told[0]
    assert not any(told[200:])


def test_a_spike_in_a_run_is_noted_and_said(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []

    class Heard(Listener):
        def say(self, sentence: str) -> None:
            said.append(sentence)

    real = accumulate_gradients
    monkeypatch.setattr(
        update, "accumulate_gradients", lambda *args, **named: real(*args, **named) + 20 * (named["step"] == 59)
    )
    run = small_run(text, tmp_path / "run", Heard(), steps=70)
    (incident,) = run.incidents()
    assert (incident["step"], incident["kind"]) == (60, "loss_spike")
    assert incident["loss"] > incident["usual"] + 10
    assert any("jumped" in sentence for sentence in said)


def test_what_is_done_with_numbers_that_are_not_finite_does_not_matter_without_them(text: Path, tmp_path: Path) -> None:
    stopping, skipping = (small_run(text, tmp_path / choice, non_finite=choice) for choice in ("stop", "skip"))
    assert same_bits(final_state(stopping), final_state(skipping))
    assert untimed(stopping.metrics()) == untimed(skipping.metrics())


def test_a_run_that_stopped_can_be_told_to_leave_the_update_out(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison(monkeypatch, 4)
    skipping = small_run(text, tmp_path / "skipping", non_finite="skip")
    with pytest.raises(TrainingError, match='resume with non_finite = "skip"'):
        small_run(text, tmp_path / "run")
    file = tmp_path / "run" / "config.toml"
    file.write_text(file.read_text().replace('non_finite = "stop"', 'non_finite = "skip"'))
    resumed = resume(tmp_path / "run")
    assert same_bits(final_state(resumed), final_state(skipping))
    assert untimed(resumed.metrics()) == untimed(skipping.metrics())
    assert resumed.incidents() == skipping.incidents()


def test_a_broken_weight_is_the_fault_of_the_update_before_and_is_not_skipped(text: Path, tmp_path: Path) -> None:
    class Break(Listener):
        def stepped(self, record: dict[str, Any]) -> None:
            if record["step"] == 4:
                with torch.no_grad():
                    job.model.get_parameter("layers.0.attention.qkv.weight")[0, 0] = math.nan

    config = small_config(text, non_finite="skip", eval_every=0, checkpoint_every=0, sample_every=0)
    corpus = prepare(config.text, config.model.vocab_size)
    config, _ = resolve(config, corpus, Listener())
    run = Run.create(tmp_path / "run", config, corpus.tokenizer)
    job = make_job(config, corpus, make_loader(config, corpus), run, Break())
    with pytest.raises(TrainingError, match=r"the weight layers\.0\.attention\.qkv"):
        run_job(job)
    (incident,) = run.incidents()
    assert (incident["step"], incident["where"]) == (4, "the weight layers.0.attention.qkv.weight")
