"""Naming the first number that is not finite."""

from __future__ import annotations

from typing import Literal

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
