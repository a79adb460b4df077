"""Muon: directions made orthogonal, stacks that change nothing, and queries, keys and values apart."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from lightwell.model.config import ModelConfig
from lightwell.model.decoder import Decoder
from lightwell.training.settings.config import TrainConfig
from lightwell.training.update.muon import Muon, orthogonal
from lightwell.training.update.optimizers import Optimizers


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 10**6))
def test_directions_are_nearly_orthogonal_and_point_where_the_momentum_does(rows: int, columns: int, seed: int) -> None:
    matrix = torch.randn(1, rows, columns, generator=torch.Generator().manual_seed(seed))
    found = orthogonal(matrix)[0]
    u, lengths, v = torch.linalg.svd(matrix[0], full_matrices=False)
    clear = lengths > 0.05 * lengths.norm()  # five rounds do not lift what is close to nothing
    aligned = torch.diagonal(u.T @ found @ v.T)[clear]
    assert ((aligned > 0.5) & (aligned < 1.5)).all()


def moved(weights: list[Tensor], parts: list[tuple[int, ...]], steps: int = 3) -> list[Tensor]:
    """The weights after some steps whose gradients follow from the weight's own shape and the step."""
    parameters = [nn.Parameter(weight.clone()) for weight in weights]
    optimizer = Muon(parameters, parts, lr=0.1, momentum=0.9, weight_decay=0.1, dtype=torch.float32)
    for step in range(steps):
        for parameter in parameters:
            generator = torch.Generator().manual_seed(step + parameter.shape[0])
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return [parameter.detach() for parameter in parameters]


def test_a_stack_of_equal_shapes_moves_as_each_matrix_alone() -> None:
    weights = [torch.randn(8, 4), torch.randn(8, 4), torch.randn(4, 8)]
    together = moved(weights, [(8,), (8,), (4,)])
    alone = [moved([weight], [(len(weight),)])[0] for weight in weights]
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


def test_parts_of_a_weight_move_as_matrices_of_their_own() -> None:
    weight = torch.randn(12, 4)
    gradient = torch.randn(12, 4)

    def step(weights: list[Tensor], parts: list[tuple[int, ...]], gradients: list[Tensor]) -> Tensor:
        parameters = [nn.Parameter(one.clone()) for one in weights]
        for parameter, one in zip(parameters, gradients, strict=True):
            parameter.grad = one.clone()
        Muon(parameters, parts, lr=0.1, momentum=0.9, weight_decay=0.0, dtype=torch.float32).step()
        return torch.cat([parameter.detach() for parameter in parameters])

    in_one = step([weight], [(4, 4, 4)], [gradient])
    apart = step(list(torch.split(weight, 4)), [(4,)] * 3, list(torch.split(gradient, 4)))
    torch.testing.assert_close(in_one, apart, atol=1e-6, rtol=1e-6)
    assert not torch.allclose(in_one, step([weight], [(12,)], [gradient]))


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_queries_keys_and_values_are_taken_apart_in_a_model(kv_heads: int) -> None:
    """Scaling the gradient of the keys alone changes nothing for queries and values: directions have no length."""

    def weights(scale: float) -> Tensor:
        model = Decoder(ModelConfig(vocab_size=11, n_layers=1, n_heads=4, n_kv_heads=kv_heads, d_model=16))
        optimizers = Optimizers(model, TrainConfig(optimizer="muon"))
        weight = model.get_parameter("layers.0.attention.qkv.weight")
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
        weight.grad[16 : 16 + 4 * kv_heads] *= scale
        optimizers.step()
        return weight.detach()

    torch.testing.assert_close(weights(1.0), weights(1000.0), atol=1e-4, rtol=1e-3)


def reference_step(weight: Tensor, mean: Tensor, gradient: Tensor, momentum: float) -> tuple[Tensor, Tensor]:
    """Muon as Jordan 2024 writes it, for one matrix in double precision; lr 0.1, weight decay 0.1."""
    mean = momentum * mean + (1 - momentum) * gradient
    x = momentum * mean + (1 - momentum) * gradient  # Nesterov's look ahead
    x = x / x.norm()
    for _ in range(5):
        a = x @ x.T
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    scale = max(1.0, weight.size(0) / weight.size(1)) ** 0.5
    return weight * (1 - 0.1 * 0.1) - 0.1 * scale * x, mean


@pytest.mark.parametrize("shape", [(8, 4), (4, 8), (6, 6)])
@pytest.mark.parametrize("momentum", [0.95, 0.5])
def test_several_steps_are_those_of_the_reference(shape: tuple[int, int], momentum: float) -> None:
    parameter = nn.Parameter(torch.randn(shape, generator=torch.Generator().manual_seed(0)))
    expected, mean = parameter.detach().double(), torch.zeros(shape, dtype=torch.float64)
    muon = Muon([parameter], [shape[:1]], lr=0.1, momentum=momentum, weight_decay=0.1, dtype=torch.float32)
    for step in range(1, 5):
        parameter.grad = torch.randn(shape, generator=torch.Generator().manual_seed(step))
        expected, mean = reference_step(expected, mean, parameter.grad.double(), momentum)
        muon.step()
    torch.testing.assert_close(parameter.detach().double(), expected, atol=1e-4, rtol=1e-3)


def test_a_weight_without_a_gradient_stays_as_it_is() -> None:
    moving, still = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4, 4))
    muon = Muon([moving, still], [(4,), (4,)], lr=0.1, momentum=0.9, weight_decay=0.5, dtype=torch.float32)
    muon.step()
    assert torch.equal(moving, torch.ones(4, 4))
    moving.grad = torch.eye(4)
    muon.step()
    assert not torch.equal(moving, torch.ones(4, 4))
    assert torch.equal(still, torch.ones(4, 4))
    assert not muon.state[still]


def five_rounds(x: float) -> float:
    """What becomes of a singular value, by Jordan's polynomial."""
    for _ in range(5):
        x = 3.4445 * x - 4.7750 * x**3 + 2.0315 * x**5
    return x


def test_singular_values_go_through_five_rounds_of_jordan_s_polynomial() -> None:
    """A diagonal matrix stays one, so that each value goes its way alone; four to one, for both shapes."""
    for rows, columns in ((3, 2), (2, 3)):
        matrix = torch.zeros(1, rows, columns, dtype=torch.float64)
        matrix[0, 0, 0], matrix[0, 1, 1] = 4.0, -1.0
        found = orthogonal(matrix)[0]
        for at, value in enumerate((4.0, -1.0)):
            assert found[at, at].item() == pytest.approx(five_rounds(value / 17.0**0.5), rel=1e-6)


def test_a_matrix_close_to_nothing_is_divided_by_more_than_its_length() -> None:
    """Of the length 1e-7 it enters the rounds as a half."""
    found = orthogonal(torch.tensor([[[1e-7, 0.0], [0.0, 0.0]]], dtype=torch.float64))
    assert found[0].flatten().tolist() == pytest.approx([five_rounds(0.5), 0.0, 0.0, 0.0], rel=1e-5)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_directions_are_computed_in_the_precision_of_the_run(
    monkeypatch: pytest.MonkeyPatch, precision: str, dtype: torch.dtype
) -> None:
    seen: list[torch.dtype] = []

    def spy(matrices: Tensor) -> Tensor:
        seen.append(matrices.dtype)
        return orthogonal(matrices)

    monkeypatch.setattr("lightwell.training.update.muon.orthogonal", spy)
    model = Decoder(ModelConfig(vocab_size=11, n_layers=1, n_heads=2, d_model=8))
    optimizers = Optimizers(model, TrainConfig(optimizer="muon", precision=precision))  # type: ignore[arg-type]
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizers.step()
    assert set(seen) == {dtype}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
