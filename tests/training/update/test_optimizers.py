"""Who is decayed, who goes to Muon, and a state that survives the disk bit for bit."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor

from lightwell.errors import RunError
from lightwell.model.config import ModelConfig
from lightwell.model.decoder import Decoder
from lightwell.training.settings.config import TrainConfig
from lightwell.training.update.optimizers import Optimizers

SHAPE = ModelConfig(
    vocab_size=17, context_length=8, n_layers=2, n_heads=2, d_model=16, positions="learned", norm="layernorm", bias=True
)


def take_steps(model: Decoder, optimizers: Optimizers, first: int, last: int) -> None:
    """Steps whose gradients follow from the step's number alone."""
    for step in range(first, last):
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(17, (2, 9), generator=generator)
        logits = model(tokens[:, :-1])
        torch.nn.functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten()).backward()  # type: ignore[no-untyped-call]
        optimizers.set_factor(1.0 - 0.05 * step)
        optimizers.step()
        optimizers.zero_grad()


def weights(model: Decoder) -> dict[str, Tensor]:
    return {name: parameter.detach().clone() for name, parameter in model.named_parameters()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def after_one_step_without_gradient(
    factor: float = 1.0, **settings: Any
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Weights before and after a step whose gradients are 0, so that only the decay acts."""
    model = Decoder(SHAPE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)
            parameter.grad = torch.zeros_like(parameter)
    before = weights(model)
    optimizers = Optimizers(model, TrainConfig(**settings))
    optimizers.set_factor(0.25)
    optimizers.set_factor(factor)  # of the peak, not of the factor before
    optimizers.step()
    return before, weights(model)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_matrices_decay_and_gains_and_biases_do_not(optimizer: str) -> None:
    rates = {"learning_rate": 0.1, "muon_learning_rate": 0.1}
    before, after = after_one_step_without_gradient(optimizer=optimizer, weight_decay=0.5, **rates)
    for name in before:
        expected = 0.95 if before[name].dim() == 2 else 1.0
        assert torch.allclose(after[name], torch.tensor(expected)), name


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_no_weight_decay_changes_nothing(optimizer: str) -> None:
    before, after = after_one_step_without_gradient(optimizer=optimizer, weight_decay=0.0)
    assert equal(before, after)


def test_muon_takes_the_matrices_of_the_blocks_and_adamw_the_rest() -> None:
    model = Decoder(SHAPE)
    optimizers = Optimizers(model, TrainConfig(optimizer="muon"))
    take_steps(model, optimizers, 0, 1)
    with_momentum = {name.rpartition(".")[0] for name in optimizers.state_tensors() if "momentum_buffer" in name}
    matrices = ["attention.qkv", "attention.output", "feed_forward.up", "feed_forward.down"]
    assert with_momentum == {f"layers.{layer}.{matrix}.weight" for layer in range(2) for matrix in matrices}
    with_moments = {name.rpartition(".")[0] for name in optimizers.state_tensors() if name.endswith("exp_avg_sq")}
    assert with_moments | with_momentum == weights(model).keys()
    assert not with_moments & with_momentum


def test_muon_moves_a_matrix_by_nearly_its_learning_rate_in_every_direction() -> None:
    model = Decoder(SHAPE)
    before = weights(model)
    config = TrainConfig(optimizer="muon", muon_learning_rate=0.03, weight_decay=0.0)
    take_steps(model, Optimizers(model, config), 0, 1)
    name = "layers.0.attention.output.weight"
    lengths = torch.linalg.svdvals(weights(model)[name] - before[name])
    assert 0.5 * 0.03 < lengths.median() < 1.5 * 0.03


def test_learning_rates_follow_the_factor() -> None:
    rates = {"learning_rate": 0.1, "muon_learning_rate": 0.2}
    _, after = after_one_step_without_gradient(factor=0.5, optimizer="muon", weight_decay=1.0, **rates)
    assert torch.allclose(after["token_embedding.weight"], torch.tensor(0.95))
    assert torch.allclose(after["layers.1.feed_forward.down.weight"], torch.tensor(0.9))


def test_factor_zero_leaves_the_weights() -> None:
    model = Decoder(SHAPE)
    before = weights(model)
    optimizers = Optimizers(model, TrainConfig())
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers.set_factor(0.0)
    optimizers.step()
    assert equal(before, weights(model))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("stop", [0, 1, 4])
def test_saved_and_loaded_state_goes_on_bit_for_bit(optimizer: str, stop: int) -> None:
    config = TrainConfig(optimizer=optimizer)  # type: ignore[arg-type]
    straight = Decoder(SHAPE)
    take_steps(straight, Optimizers(straight, config), 0, 8)

    stopped = Decoder(SHAPE)
    optimizers = Optimizers(stopped, config)
    take_steps(stopped, optimizers, 0, stop)
    on_disk = save(optimizers.state_tensors())
    resumed = copy.deepcopy(stopped)
    fresh = Optimizers(resumed, config)
    fresh.load_state_tensors(load(on_disk))
    assert equal(optimizers.state_tensors(), fresh.state_tensors())
    take_steps(resumed, fresh, stop, 8)
    assert equal(weights(straight), weights(resumed))


def test_loaded_state_is_a_copy() -> None:
    model = Decoder(SHAPE)
    optimizers = Optimizers(model, TrainConfig())
    take_steps(model, optimizers, 0, 1)
    saved = {name: tensor.clone() for name, tensor in optimizers.state_tensors().items()}
    kept = {name: tensor.clone() for name, tensor in saved.items()}
    other = Optimizers(model, TrainConfig())
    other.load_state_tensors(saved)
    take_steps(model, other, 1, 2)
    assert equal(saved, kept)


def test_a_tied_head_has_one_state() -> None:
    model = Decoder(SHAPE)
    optimizers = Optimizers(model, TrainConfig())
    take_steps(model, optimizers, 0, 1)
    assert len(optimizers.state_tensors()) == 3 * len(weights(model))


def test_state_of_another_model_or_optimizer_is_refused() -> None:
    model = Decoder(SHAPE)
    muon = Optimizers(model, TrainConfig(optimizer="muon"))
    take_steps(model, muon, 0, 1)
    state = muon.state_tensors()
    with pytest.raises(RunError, match="momentum_buffer"):
        Optimizers(model, TrainConfig()).load_state_tensors(state)
    with pytest.raises(RunError, match=r"lacks token_embedding.weight.exp_avg"):
        muon.load_state_tensors({name: tensor for name, tensor in state.items() if not name.endswith("exp_avg")})
    with pytest.raises(RunError, match="shape"):
        muon.load_state_tensors({**state, "norm.weight.exp_avg": torch.zeros(3)})


@pytest.mark.parametrize("betas", [(0.9, 0.95), (0.5, 0.7)])
def test_adamw_is_torch_s_in_double_precision_with_its_betas(betas: tuple[float, float]) -> None:
    model = Decoder(SHAPE, 1)
    reference = copy.deepcopy(model).double()
    config = TrainConfig(optimizer="adamw", learning_rate=0.01, weight_decay=0.1, beta1=betas[0], beta2=betas[1])
    ours = Optimizers(model, config)
    groups = [
        {"params": [one for one in reference.parameters() if one.dim() == dimensions], "weight_decay": decay}
        for dimensions, decay in ((2, 0.1), (1, 0.0))
    ]
    theirs = torch.optim.AdamW(groups, lr=0.01, betas=betas, eps=1e-8)
    for step in range(5):
        for number, (one, other) in enumerate(zip(model.parameters(), reference.parameters(), strict=True)):
            generator = torch.Generator().manual_seed(100 * step + number)
            one.grad = torch.randn(one.shape, generator=generator)
            other.grad = one.grad.double()
        ours.step()
        theirs.step()
    for one, other in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(one.double(), other, atol=2e-6, rtol=1e-5)


def test_a_state_that_is_refused_leaves_the_one_that_was_there() -> None:
    model = Decoder(SHAPE)
    optimizers = Optimizers(model, TrainConfig(optimizer="adamw"))
    take_steps(model, optimizers, 0, 2)
    before = {name: tensor.clone() for name, tensor in optimizers.state_tensors().items()}
    other = {name: tensor + 1 for name, tensor in before.items()}
    last = list(other)[-1]
    for wrong in (
        {name: tensor for name, tensor in other.items() if name != last},
        {**other, "norm.weight.exp_avg": torch.zeros(3)},
        {**other, "norm.gain.exp_avg": torch.zeros(16)},
    ):
        with pytest.raises(RunError, match=r"saved optimizer state (lacks|of|has) "):
            optimizers.load_state_tensors(wrong)
        assert equal(optimizers.state_tensors(), before)
    optimizers.load_state_tensors(other)
    assert equal(optimizers.state_tensors(), other)
    optimizers.load_state_tensors({})  # from before the first step
    assert not optimizers.state_tensors()


def test_what_is_refused_is_named_with_both_shapes() -> None:
    model = Decoder(SHAPE)
    optimizers = Optimizers(model, TrainConfig(optimizer="adamw"))
    with pytest.raises(RunError, match=r"of norm\.weight\.exp_avg has the shape \(3,\), but the parameter has \(16,\)"):
        optimizers.load_state_tensors({"norm.weight.exp_avg": torch.zeros(3)})


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_gradients_are_forgotten_altogether(optimizer: str) -> None:
    model = Decoder(SHAPE)
    optimizers = Optimizers(model, TrainConfig(optimizer=optimizer))  # type: ignore[arg-type]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers.zero_grad()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_state_is_the_live_one() -> None:
    model = Decoder(SHAPE)
    optimizers = Optimizers(model, TrainConfig())
    take_steps(model, optimizers, 0, 1)
    held = optimizers.state_tensors()
    steps = {name: tensor.item() for name, tensor in held.items() if name.endswith(".step")}
    take_steps(model, optimizers, 1, 2)
    assert {name: held[name].item() for name in steps} == {name: step + 1 for name, step in steps.items()}
