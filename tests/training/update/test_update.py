"""One update: clipped to the norm asked for, left out where a number is not finite, done again in less memory."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightwell.errors import SettingError
from lightwell.model.decoder import Decoder
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.settings.config import TrainConfig
from lightwell.training.update import reproducible as reproducible_module
from lightwell.training.update import update as update_module
from lightwell.training.update.loss import TrainedLoss, accumulate_gradients, head_loss
from lightwell.training.update.optimizers import Optimizers
from lightwell.training.update.out_of_memory import is_out_of_memory
from lightwell.training.update.reproducible import (
    number_of_leaves,
    one_thread,
    pop_gradients,
    refuse_uneven,
    tree_gradients,
    tree_sum,
)
from lightwell.training.update.update import UpdateResult, apply_gradients, clip_gradients_, gradient_norm, update
from teams import pretend_exchange
from tiny import TINY, loader

BATCH = loader(TINY).batch(0)


def model_with_gradients(scale: float) -> Decoder:
    model = Decoder(TINY.model, 1)
    accumulate_gradients(TrainedLoss(model, head_loss, "fp32"), BATCH, micro_batch_size=0, seed=1, step=0)
    for parameter in model.parameters():
        assert parameter.grad is not None
        parameter.grad *= scale
    return model


@pytest.mark.parametrize("longest", [0.25, 1.0, 3.0])
def test_a_longer_gradient_is_clipped_to_exactly_that_norm(longest: float) -> None:
    parameters = list(model_with_gradients(50.0).parameters())
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    before = [gradient.clone() for gradient in gradients]
    norm = gradient_norm(parameters)
    assert norm.item() == pytest.approx(math.sqrt(sum(float(one.double().square().sum()) for one in before)), rel=1e-5)
    clip_gradients_(parameters, longest, norm)
    assert gradient_norm(parameters).item() == pytest.approx(longest, rel=1e-4)
    for parameter, one in zip(parameters, before, strict=True):
        torch.testing.assert_close(parameter.grad, one * (longest / norm), rtol=1e-4, atol=1e-9)


def test_a_shorter_gradient_is_left_alone() -> None:
    parameters = list(model_with_gradients(1.0).parameters())
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    before = [gradient.clone() for gradient in gradients]
    norm = gradient_norm(parameters)
    clip_gradients_(parameters, 2 * norm.item(), norm)
    assert len(gradients) == len(parameters)
    assert all(torch.equal(gradient, one) for gradient, one in zip(gradients, before, strict=True))


@pytest.mark.parametrize("grad_clip", [0.0, 0.25])
def test_the_optimizer_moves_along_the_clipped_gradient(grad_clip: float) -> None:
    """AdamW's first moment after one step is 1 - beta1 of the gradient that it was given."""
    model = model_with_gradients(50.0)
    parameters = list(model.parameters())
    optimizers = Optimizers(model, TrainConfig(optimizer="adamw", beta1=0.9))
    config = TrainConfig(optimizer="adamw", steps=10, warmup_steps=0, grad_clip=grad_clip)
    norm = apply_gradients(parameters, optimizers, config, step=0, loss=1.0).grad_norm
    first_moments = [moment for name, moment in optimizers.state_tensors().items() if name.endswith(".exp_avg")]
    length = math.sqrt(sum(float(moment.double().square().sum()) for moment in first_moments))
    assert length == pytest.approx(0.1 * (grad_clip or norm), rel=1e-4)


@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_an_update_that_is_not_finite_leaves_the_weights_and_shows_its_gradient(
    bad: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = Decoder(TINY.model, 1)

    def poisoned(loss_module: Any, batch: Any, **named: Any) -> float:
        loss = accumulate_gradients(loss_module, batch, **named)
        if bad == "gradient":
            model.get_parameter("norm.weight").grad[0] = math.nan  # type: ignore[index]
        return math.inf if bad == "loss" else loss

    monkeypatch.setattr(update_module, "accumulate_gradients", poisoned)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    module, optimizers = TrainedLoss(model, head_loss, "fp32"), Optimizers(model, TINY.training)
    result = update(module, optimizers, BATCH, TINY.training, micro_batch_size=0, seed=1, step=0)
    assert not result.is_finite
    assert all(torch.equal(parameter, one) for parameter, one in zip(model.parameters(), before, strict=True))
    assert all(parameter.grad is not None for parameter in model.parameters())  # to find the place by


def test_out_of_memory_is_raised_unless_there_is_something_smaller_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[int] = []

    def limited(loss_module: Any, batch: Any, *, micro_batch_size: int, **named: Any) -> float:
        tried.append(micro_batch_size)
        loss = accumulate_gradients(loss_module, batch, micro_batch_size=micro_batch_size, **named)
        if micro_batch_size != 2:
            raise MemoryError
        return loss

    def weights(size: int, **named: Any) -> list[Tensor]:
        model = Decoder(TINY.model, 1)
        module, optimizers = TrainedLoss(model, head_loss, "fp32"), Optimizers(model, TINY.training)
        update(module, optimizers, BATCH, TINY.training, micro_batch_size=size, seed=1, step=0, **named)
        return [parameter.detach() for parameter in model.parameters()]

    monkeypatch.setattr(update_module, "accumulate_gradients", limited)
    with pytest.raises(MemoryError):
        weights(8)
    sizes = iter([4, 2])
    found, expected = weights(8, smaller=lambda: next(sizes)), weights(2)
    assert tried == [8, 8, 4, 2, 2]
    assert all(map(torch.equal, found, expected))  # nothing of the failed attempts is left


@pytest.mark.parametrize("micro_batch_size", [0, 1, 3])
def test_no_two_rows_of_a_reproducible_batch_share_their_dropout(micro_batch_size: int) -> None:
    """A batch of eight is cut into eight leaves: row by row, as micro-batches of one are, with the same masks."""
    config = TINY.with_values(dict.fromkeys(("embedding_dropout", "attention_dropout", "residual_dropout"), 0.3))
    model = Decoder(config.model, 1).train()
    module = TrainedLoss(model, head_loss, "fp32")
    by_leaves = tree_gradients(module, BATCH, micro_batch_size=micro_batch_size, seed=3, step=2)
    model.zero_grad()
    by_rows = accumulate_gradients(module, BATCH, micro_batch_size=1, seed=3, step=2)
    assert by_leaves == pytest.approx(by_rows, abs=1e-6)
    assert by_rows != pytest.approx(accumulate_gradients(module, BATCH, micro_batch_size=1, seed=3, step=3), abs=1e-4)


@given(st.integers(0, 4), st.integers(0, 10**6))
def test_a_tree_sum_adds_neighbours_first(levels: int, seed: int) -> None:
    addends = list(torch.randn(2**levels, 3, generator=torch.Generator().manual_seed(seed)))
    expected = [one.clone() for one in addends]
    while len(expected) > 1:
        expected = [left + right for left, right in zip(expected[::2], expected[1::2], strict=True)]
    (found,) = tree_sum([one.clone()] for one in addends)
    assert torch.equal(found, expected[0])


def test_a_gradient_as_small_as_the_constant_that_guards_the_division_is_clipped_as_torch_does() -> None:
    """3e-6 long, for 1e-6: times 1e-6 / (3e-6 + 1e-6)."""
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3e-6, 0.0])
    without = torch.nn.Parameter(torch.zeros(2))
    norm = gradient_norm([weight, without])
    clip_gradients_([weight, without], 1e-6, norm)
    assert weight.grad.tolist() == pytest.approx([0.75e-6, 0.0])
    assert without.grad is None


@pytest.mark.parametrize("step", [0, 3, 7])
def test_an_update_says_its_loss_its_norm_and_its_share_of_the_rate_and_forgets_the_gradient(step: int) -> None:
    """AdamW's first step moves each weight by the learning rate, here 0.01 times 1/4, 1, and the final 0.2."""
    share = {0: 0.25, 3: 1.0, 7: 0.2}[step]
    config = TrainConfig(
        optimizer="adamw", steps=8, warmup_steps=4, schedule="cosine", final_learning_rate=0.2, learning_rate=0.01,
        weight_decay=0.0, grad_clip=0.5,
    )  # fmt: skip
    model = model_with_gradients(1.0)
    norm = gradient_norm(list(model.parameters())).item()
    model.zero_grad()
    module, optimizers = TrainedLoss(model, head_loss, "fp32"), Optimizers(model, config)
    expected = accumulate_gradients(module, BATCH, micro_batch_size=0, seed=1, step=0)
    model.zero_grad()
    before = model.get_parameter("layers.1.feed_forward.up.weight").detach().clone()
    result = update(module, optimizers, BATCH, config, micro_batch_size=0, seed=1, step=step)
    found = (result.loss, result.grad_norm, result.learning_rate_factor)
    assert found == pytest.approx((expected, norm, share))
    assert norm > 0.5, "it is the norm before clipping"
    moved = (model.get_parameter("layers.1.feed_forward.up.weight").detach() - before).abs()
    assert moved.median().item() == pytest.approx(0.01 * share, rel=1e-3)
    assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("loss", "norm", "finite"),
    [(1.0, 2.0, True), (math.nan, 1.0, False), (1.0, math.inf, False), (-math.inf, 1.0, False), (1.0, math.nan, False)],
)
def test_an_update_is_finite_where_both_its_numbers_are(loss: float, norm: float, finite: bool) -> None:
    assert UpdateResult(loss, norm, 1.0).is_finite is finite


@pytest.mark.parametrize("reproducible", [False, True])
def test_the_batch_s_gradient_is_taken_as_the_setting_says(monkeypatch: pytest.MonkeyPatch, reproducible: bool) -> None:
    called: list[tuple[str, dict[str, Any]]] = []

    def spy(name: str) -> Any:
        def gradients(loss_module: Any, batch: Any, **named: Any) -> float:
            called.append((name, named))
            return math.nan

        return gradients

    for name in ("tree_gradients", "accumulate_gradients"):
        monkeypatch.setattr(update_module, name, spy(name))
    config = TINY.with_values({"reproducible": reproducible}).training
    model = Decoder(TINY.model, 1)
    given: dict[str, Any] = {"micro_batch_size": 3, "seed": 5, "step": 2, "group": None}
    update(TrainedLoss(model, head_loss, "fp32"), Optimizers(model, config), BATCH, config, **given)
    assert called == [("tree_gradients" if reproducible else "accumulate_gradients", given)]


def test_another_error_is_raised_though_there_is_something_smaller_to_try(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: Any, **named: Any) -> float:
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(update_module, "accumulate_gradients", broken)
    model = Decoder(TINY.model, 1)
    module, optimizers = TrainedLoss(model, head_loss, "fp32"), Optimizers(model, TINY.training)
    with pytest.raises(RuntimeError, match="multiplied"):
        update(
            module, optimizers, BATCH, TINY.training, micro_batch_size=8, seed=1, step=0,
            smaller=lambda: pytest.fail("memory did not run out"),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "says_so"),
    [
        (torch.OutOfMemoryError("CUDA"), True),
        (MemoryError("anything"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), True),
        (RuntimeError("memory format"), False),
        (ValueError("out of memory"), False),
        (KeyboardInterrupt("out of memory"), False),
    ],
)
def test_an_allocation_that_failed_is_told_from_other_errors(error: BaseException, says_so: bool) -> None:
    assert is_out_of_memory(error) is says_so


@pytest.mark.parametrize(
    ("batch_size", "leaves", "possible"),
    [(8, 8, {1, 2, 4, 8}), (16, 8, {1, 2, 4, 8}), (12, 4, {1, 2, 4}), (6, 2, {1, 2}), (7, 1, {1})],
)
def test_so_many_processes_can_share_the_leaves(batch_size: int, leaves: int, possible: set[int]) -> None:
    assert number_of_leaves(batch_size) == leaves
    named = ", ".join(str(number) for number in sorted(possible))
    for processes in range(1, 10):
        if processes in possible:
            refuse_uneven(batch_size, processes)
        else:
            with pytest.raises(
                SettingError, match=rf"^{processes} processes .* batch_size {batch_size}; {named} can\.$"
            ):
                refuse_uneven(batch_size, processes)


def test_gradients_are_taken_away_and_a_missing_one_is_zeros() -> None:
    module = torch.nn.Linear(2, 3)
    module.weight.grad = torch.ones(3, 2)
    weight, bias = pop_gradients(module)
    assert (weight.tolist(), bias.tolist()) == ([[1.0, 1.0]] * 3, [0.0] * 3)
    assert [parameter.grad for parameter in module.parameters()] == [None, None]


def test_one_thread_computes_until_the_end_however_it_comes() -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        with pytest.raises(ValueError, match="end"), one_thread():  # noqa: PT012
            assert torch.get_num_threads() == 1
            raise ValueError("end")
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize(("rank", "size"), [(0, 1), (1, 2), (2, 4)])
@pytest.mark.parametrize("micro_batch_size", [0, 1])
def test_a_process_computes_its_leaves_of_two_rows_with_their_own_numbers(
    monkeypatch: pytest.MonkeyPatch, rank: int, size: int, micro_batch_size: int
) -> None:
    asked: list[tuple[int, int, int]] = []

    def gradients(loss_module: Any, batch: Any, *, rows: slice, first: int, group: ProcessGroup, **named: Any) -> float:
        assert named == {"micro_batch_size": micro_batch_size, "seed": 4, "step": 6}
        assert group.size == 1
        asked.append((rows.start, rows.stop, first))
        for parameter in loss_module.parameters():
            parameter.grad = torch.ones_like(parameter)
        return 1.0

    monkeypatch.setattr(reproducible_module, "accumulate_gradients", gradients)
    monkeypatch.setattr(reproducible_module, "sum_between", lambda gradients, group: None)
    pretend_exchange(monkeypatch)
    batch = loader(TINY.with_values({"batch_size": 16})).batch(0)
    module = torch.nn.Linear(1, 1)
    mine = 8 // size
    loss = tree_gradients(
        module, batch, micro_batch_size=micro_batch_size, seed=4, step=6, group=ProcessGroup(rank, size)
    )
    per_leaf = 2 if micro_batch_size else 1
    assert asked == [(2 * leaf, 2 * leaf + 2, per_leaf * leaf) for leaf in range(rank * mine, (rank + 1) * mine)]
    assert loss == mine
    assert module.weight.grad is not None
    assert module.weight.grad.item() == mine
