"""The figures of a plan, against ones computed by hand and from the text itself."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightwell.model.config import ModelConfig
from lightwell.model.decoder import Decoder
from lightwell.training.planning import plan as planning
from lightwell.training.planning.memory import Memory
from lightwell.training.planning.plan import Measured, Plan, flops_per_step, flops_per_token, make_plan, measure
from lightwell.training.start import plan
from lightwell.training.update.loss import accumulate_gradients
from lightwell.training.update.update import apply_gradients
from small import small_config, write_text
from tiny import TINY, loader


def test_flops_of_a_tied_model_with_rotations() -> None:
    """Per layer: qkv 16*48, output 16*16, feed-forward 2*16*64, norms 2*16 and 2*8: 3120. N = 100*16 + 2*3120 + 16."""
    config = ModelConfig(vocab_size=100, context_length=8, n_layers=2, n_heads=2, d_model=16)
    assert flops_per_token(config) == 6 * 7856 + 12 * 2 * 16 * 8 == 50208


def test_tables_that_are_only_looked_up_cost_no_flops() -> None:
    """qkv 12*(2+1+1)*4, output 8*12, gated feed-forward 3*12*20, norms 3*12, head 50*12: N = 192+96+720+36+600."""
    config = ModelConfig(
        vocab_size=50,
        context_length=10,
        n_layers=1,
        n_heads=2,
        n_kv_heads=1,
        head_dim=4,
        d_model=12,
        d_ff=20,
        activation="swiglu",
        positions="learned",
        qk_norm=False,
        tied_head=False,
    )
    assert flops_per_token(config) == 6 * 1644 + 12 * 1 * 2 * 4 * 10 == 10824


def test_adamw_keeps_two_moments_and_a_step_for_each_tensor() -> None:
    found = measure(TINY, loader(TINY))
    tensors = list(Decoder(TINY.model).parameters())
    assert found.optimizer_bytes == 2 * 4 * TINY.model.parameter_count() + 4 * len(tensors)


def test_muon_keeps_one_moment_for_the_matrices_of_the_blocks() -> None:
    config = TINY.with_values({"optimizer": "muon"})
    found = measure(config, loader(config))
    named = dict(Decoder(config.model).named_parameters())
    matrices = {name for name, tensor in named.items() if name.startswith("layers.") and tensor.dim() == 2}
    expected = sum(4 * tensor.numel() if name in matrices else 8 * tensor.numel() + 4 for name, tensor in named.items())
    assert found.optimizer_bytes == expected


def test_activations_grow_linearly_in_the_micro_batch_and_leave_out_the_weights() -> None:
    sizes = (1, 2, 4, 8)
    kept = [
        measure(cut, loader(cut)).activation_bytes for cut in (TINY.with_values({"micro_batch_size": b}) for b in sizes)
    ]
    per_row = (kept[-1] - kept[0]) / 7
    assert [(b - a) / per_row for a, b in itertools.pairwise(kept)] == pytest.approx([1, 2, 4], rel=1e-2)
    fixed = kept[0] - per_row
    assert 0 <= fixed < 0.1 * 4 * TINY.model.parameter_count()
    log_probabilities = 4 * TINY.model.context_length * TINY.model.vocab_size
    residual = 4 * TINY.model.context_length * TINY.model.d_model
    assert per_row > log_probabilities + 2 * TINY.model.n_layers * residual, (
        "at the very least, the input of each branch"
    )


def test_a_whole_batch_is_one_micro_batch_by_default() -> None:
    whole, named = (measure(config, loader(config)) for config in (TINY, TINY.with_values({"micro_batch_size": 8})))
    assert whole.activation_bytes == named.activation_bytes


def test_measuring_leaves_the_random_stream_alone() -> None:
    config = TINY.with_values({"residual_dropout": 0.5})
    before = torch.get_rng_state()
    measure(config, loader(config))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("plan") / "text")


def check_sums(found: Plan) -> None:
    assert found.weight_bytes == found.gradient_bytes == 4 * found.parameters
    held = 12 * found.parameters + 2 * found.optimizer_bytes  # with the snapshot of a checkpoint
    assert found.memory_bytes == held + found.activation_bytes + found.working_bytes + found.process_bytes
    assert found.to_dict()["memory_bytes"] == found.memory_bytes
    assert found.seconds == pytest.approx(found.steps * found.seconds_per_step)
    assert found.seconds_per_step > 0


def test_the_plan_counts_tokens_and_windows_of_the_text(folder: Path) -> None:
    config = small_config(folder, steps=30)
    found = plan(config)
    characters = sum(len(path.read_text(encoding="utf-8")) for path in folder.iterdir())
    assert found.documents == 12
    # One token for each character and one before each document; one more ends each side.
    assert found.train_tokens + found.held_out_tokens == characters + 12 + 2
    assert found.train_tokens > 5 * found.held_out_tokens > 0
    assert found.to_dict()["validation_tokens"] == found.held_out_tokens  # the key that scripts know
    targets = found.train_tokens - 1
    assert found.windows == targets // 16
    assert found.tokens_skipped == targets % 16
    assert (found.steps, found.tokens_per_step) == (30, 4 * 16)
    assert found.effective_epochs == pytest.approx(30 * 4 * 16 / targets)
    check_sums(found)


def test_the_plan_is_of_the_resolved_configuration(folder: Path) -> None:
    found = plan(small_config(folder, epochs=3))
    distinct = set("".join(path.read_text(encoding="utf-8") for path in folder.iterdir()))
    model = ModelConfig(vocab_size=257 + len(distinct), context_length=16, n_layers=2, n_heads=2, d_model=16)
    assert found.parameters == model.parameter_count()
    assert found.steps == -(-3 * found.windows // 4)
    assert found.flops == flops_per_token(model) * 64 * found.steps
    check_sums(found)


@pytest.mark.parametrize(
    ("times", "trials", "timed", "median"),
    [
        ([0.3, 0.1, 0.2, 0.5, 0.4, 0.9, 0.7], 7, 7, 0.4),
        ([1.5, 1.75, 1.25], 7, 3, 1.5),  # four seconds are over
        ([2.0, 2.0], 7, 2, 2.0),
        ([0.5, 0.25], 2, 2, 0.375),
    ],
)
def test_a_step_is_the_median_micro_batch_times_their_number_and_the_second_update(
    monkeypatch: pytest.MonkeyPatch, times: list[float], trials: int, timed: int, median: float
) -> None:
    clock = {"now": 0.0}
    passes, updates = iter([100.0, *times]), iter([50.0, 0.0625])
    forward, move = accumulate_gradients, apply_gradients

    def backward(*arguments: Any, **keywords: Any) -> Any:
        clock["now"] += next(passes)
        return forward(*arguments, **keywords)

    def update(*arguments: Any, **keywords: Any) -> Any:
        clock["now"] += next(updates)
        return move(*arguments, **keywords)

    monkeypatch.setattr(planning, "accumulate_gradients", backward)
    monkeypatch.setattr(planning, "apply_gradients", update)
    monkeypatch.setattr(planning, "time", SimpleNamespace(perf_counter=lambda: clock["now"]))
    config = TINY.with_values({"micro_batch_size": 3})
    found = measure(config, loader(config), trials)
    assert found.seconds_per_step == pytest.approx(median * 8 / 3 + 0.0625)
    assert clock["now"] == pytest.approx(100 + sum(times[:timed]) + 50.0625)
    assert planning.TRIALS == 7


@pytest.mark.parametrize(("compiled", "per_step", "wait"), [("off", 0.27, 0.0), ("on", 0.2, 30.0)])
def test_a_plan_is_put_together_from_what_was_counted_and_measured(
    monkeypatch: pytest.MonkeyPatch, compiled: str, per_step: float, wait: float
) -> None:
    asked: list[int] = []

    def estimate(config: Any, processes: int) -> Memory:
        asked.append(processes)
        return Memory(process=1, weights=2, gradients=3, moments=4, snapshot=5, activations=6, working=7)

    monkeypatch.setattr(planning, "estimate_memory", estimate)
    monkeypatch.setattr(planning, "measure", lambda *_: Measured(0.27, 0, 0))
    sides: Any = SimpleNamespace(
        documents=9, train=SimpleNamespace(tokens=range(400)), held_out=SimpleNamespace(tokens=range(30))
    )
    config = TINY.with_values({"steps": 40, "compile": compiled})
    found = make_plan(config, sides, loader(config), 3)
    assert asked == [3]
    assert (found.documents, found.train_tokens, found.held_out_tokens, found.processes) == (9, 400, 30, 3)
    assert (found.process_bytes, found.weight_bytes, found.gradient_bytes, found.optimizer_bytes) == (1, 2, 3, 4)
    assert (found.snapshot_bytes, found.activation_bytes, found.working_bytes, found.memory_bytes) == (5, 6, 7, 28)
    assert (found.n_layers, found.d_model, found.context_length, found.batch_size) == (2, 32, 16, 8)
    assert (found.windows, found.tokens_per_step, found.parameters) == (24, 128, 26_400)
    assert found.flops == 40 * flops_per_step(config) == 40 * 128 * flops_per_token(config.model)
    assert (found.seconds_per_step, found.seconds) == pytest.approx((per_step, 40 * per_step + wait))
