"""Naming the first number that is not finite."""

from __future__ import annotations

from typing import Any, Literal

import pytest
import torch

from lightwell.batches.batch import Batch
from lightwell.model.config import ModelConfig
from lightwell.model.decoder import Decoder
from lightwell.training.update.finite import first_non_finite

BATCH = Batch(torch.arange(12).view(2, 6), torch.arange(1, 13).view(2, 6))


def decoder(attention: Literal["explicit", "fused"] = "fused") -> Decoder:
    return Decoder(
        ModelConfig(
            vocab_size=13,
            context_length=6,
            n_layers=3,
            n_heads=2,
            d_model=16,
            qk_norm=False,
            attention=attention,
            residual_dropout=0.5,
        )
    )


def test_a_healthy_model_leaves_only_the_loss() -> None:
    assert first_non_finite(decoder(), [BATCH]) == "the loss"


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_weight(value: float) -> None:
    model = decoder()
    with torch.no_grad():
        model.get_parameter("layers.1.attention.qkv.weight")[3, 3] = value
    assert first_non_finite(model, [BATCH]) == "the weight layers.1.attention.qkv.weight"


@pytest.mark.parametrize("attention", ["explicit", "fused"])
def test_an_intermediate_that_overflows(attention: Literal["explicit", "fused"]) -> None:
    model = decoder(attention)
    with torch.no_grad():
        model.get_parameter("layers.2.attention.qkv.weight").mul_(1e25)
    assert first_non_finite(model, [BATCH]) == "layers.2.attention.scores"


def test_an_activation_that_overflows() -> None:
    model = decoder()
    with torch.no_grad():
        model.get_parameter("layers.0.feed_forward.up.weight").mul_(1e30)
    assert first_non_finite(model, [BATCH]) == "layers.0.feed_forward.activations"


def test_a_gradient_in_the_order_of_the_backward_pass() -> None:
    model = decoder()
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    for name in ("layers.0.attention.qkv.weight", "layers.1.feed_forward.down.weight"):
        model.get_parameter(name).grad = torch.full_like(model.get_parameter(name), float("nan"))
    assert first_non_finite(model, [BATCH]) == "the gradient of layers.1.feed_forward.down.weight"


def test_looking_changes_neither_mode_gradient_nor_random_state() -> None:
    model = decoder().train()
    before = torch.get_rng_state()
    first_non_finite(model, [BATCH])
    assert torch.equal(torch.get_rng_state(), before)
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_documents_are_heeded() -> None:
    documents = torch.tensor([[0, 0, 0, 1, 1, 1]] * 2, dtype=torch.int32)
    assert first_non_finite(decoder("explicit"), [Batch(BATCH.inputs, BATCH.targets, documents)]) == "the loss"


def test_a_weight_comes_before_what_it_breaks_and_the_first_of_several_is_named() -> None:
    model = decoder()
    with torch.no_grad():
        for name in ("layers.2.feed_forward.up.weight", "layers.0.attention.output.weight"):
            model.get_parameter(name)[0, 0] = float("-inf")
    parameter = model.get_parameter("norm.weight")
    parameter.grad = torch.full_like(parameter, float("nan"))
    assert first_non_finite(model, [BATCH]) == "the weight layers.0.attention.output.weight"


def test_the_forward_pass_comes_before_the_gradients() -> None:
    model = decoder()
    with torch.no_grad():
        model.get_parameter("layers.2.attention.qkv.weight").mul_(1e25)
    parameter = model.get_parameter("norm.weight")
    parameter.grad = torch.full_like(parameter, float("nan"))
    assert first_non_finite(model, [BATCH]) == "layers.2.attention.scores"


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_one_entry_of_one_gradient_is_enough_and_others_may_be_missing(value: float) -> None:
    model = decoder()
    parameter = model.get_parameter("layers.0.attention.qkv.weight")
    parameter.grad = torch.zeros_like(parameter)
    parameter.grad[1, 2] = value
    assert first_non_finite(model, [BATCH]) == "the gradient of layers.0.attention.qkv.weight"


def test_every_micro_batch_is_looked_at_as_it_was_trained_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the first that breaks, with its documents and in the precision that was asked for."""
    seen: list[tuple[Any, ...]] = []

    def forward(self: Decoder, tokens: Any, *, documents: Any, dtype: Any, tap: Any) -> None:
        seen.append((tokens, documents, dtype, torch.is_grad_enabled()))
        tap("early.masked", torch.tensor([float("-inf")]))
        tap("positions", torch.tensor([1]))
        tap("fine", torch.ones(2))
        if len(seen) == 2:
            tap("broken", torch.tensor([1.0, float("inf")]))
            tap("later", torch.tensor([float("nan")]))

    monkeypatch.setattr(Decoder, "forward", forward)
    documents = torch.zeros(2, 6, dtype=torch.int32)
    batches = [Batch(BATCH.inputs + row, BATCH.targets, documents) for row in range(3)]
    assert first_non_finite(decoder(), batches, torch.bfloat16) == "broken"
    assert [int(one[0][0, 0]) for one in seen] == [0, 1]
    assert all(one[1] is documents and one[2] is torch.bfloat16 and not one[3] for one in seen)
