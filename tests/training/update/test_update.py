"""One update: clipped to the norm asked for, left out where a number is not finite, done again in less memory."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightwell.model.decoder import Decoder
from lightwell.training.settings.config import TrainConfig
from lightwell.training.update import update as update_module
from lightwell.training.update.loss import TrainedLoss, accumulate_gradients, head_loss
from lightwell.training.update.optimizers import Optimizers
from lightwell.training.update.reproducible import tree_gradients, tree_sum
from lightwell.training.update.update import apply_gradients, clip_gradients_, gradient_norm, update
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
