"""The scaling law against figures of the papers, and the constants that it is used with against figures by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwell.model.config import ModelConfig
from lightwell.training.planning.scaling_law import SMALL_MODELS, ScalingLaw, block_parameters

HOFFMANN = ScalingLaw(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28)


@pytest.mark.parametrize(
    ("parameters", "tokens", "loss"),
    [(70e9, 1.4e12, 1.9366), (280e9, 300e9, 1.9933)],  # Chinchilla and Gopher
    ids=["Chinchilla", "Gopher"],
)
def test_with_hoffmanns_constants_it_is_hoffmanns_law(parameters: float, tokens: float, loss: float) -> None:
    law = HOFFMANN.loss(parameters=parameters, tokens=tokens, unique_tokens=tokens, context_length=2048)
    assert law == pytest.approx(loss, abs=1e-4)


@pytest.mark.parametrize(
    ("passes", "worth"),
    [(0.5, 0.5), (1, 1.0), (2, 1.968204), (4, 3.725711), (40, 15.169080), (1e9, 16.39)],
)
def test_passes_over_a_text_are_worth_what_muennighoff_says(passes: float, worth: float) -> None:
    """One pass is worth itself, four nearly four, and no number of them more than 1 + R*."""
    assert HOFFMANN.effective_tokens(passes * 1e6, 1e6) == pytest.approx(worth * 1e6, rel=1e-5)


@pytest.mark.parametrize(
    ("n_layers", "d_model", "context_length", "tokens", "loss"),
    [(1, 128, 128, 1e6, 3.668859), (4, 256, 128, 2e7, 2.877963), (6, 512, 256, 1e8, 2.756543)],
)
def test_the_constants_for_small_models(
    n_layers: int, d_model: int, context_length: int, tokens: float, loss: float
) -> None:
    """For a text of two million tokens."""
    model = ModelConfig(n_layers=n_layers, d_model=d_model, n_heads=2, context_length=context_length)
    assert block_parameters(model) == 12 * n_layers * d_model**2
    predicted = SMALL_MODELS.loss(
        parameters=block_parameters(model), tokens=tokens, unique_tokens=2e6, context_length=context_length
    )
    assert predicted == pytest.approx(loss, abs=1e-6)


@given(st.floats(1e4, 1e9), st.floats(1e4, 1e10), st.floats(1e4, 1e10))
def test_it_falls_with_parameters_tokens_and_context(parameters: float, tokens: float, unique: float) -> None:
    def loss(parameters: float, tokens: float, unique_tokens: float, context_length: int = 128) -> float:
        return SMALL_MODELS.loss(
            parameters=parameters, tokens=tokens, unique_tokens=unique_tokens, context_length=context_length
        )

    here = loss(parameters, tokens, unique)
    assert loss(2 * parameters, tokens, unique) < here
    assert loss(parameters, 2 * tokens, unique) <= here
    assert loss(parameters, tokens, 2 * unique) <= here
    assert loss(parameters, tokens, unique, 256) < here


def test_the_laws_are_not_edited_by_accident() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SMALL_MODELS.E = math.nan  # type: ignore[misc]
