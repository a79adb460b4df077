from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from decoders import decoder, text, watch
from lab_house import card_of, context_of
from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.rate_search import TunedArm
from lightwell.lab.experiments.trial import Trained
from lightwell.lab.notes.self_attention import experiment as self_attention
from lightwell.lab.notes.self_attention import influence, saturation


@pytest.fixture(scope="module")
def found() -> list[dict[str, Any]]:
    return saturation.saturation(64, seed=3)


def test_what_was_measured_before_is_measured_again(found: list[dict[str, Any]]) -> None:
    broken = [law.text for law in self_attention.random_laws(found) if not law.holds]
    assert broken == []


def test_a_division_by_the_wrong_number_is_found(found: list[dict[str, Any]]) -> None:
    """Planted: what is called unscaled was scaled."""
    planted = [{**row, "unscaled": row["scaled"]} for row in found]
    assert sum(not law.holds for law in self_attention.random_laws(planted)) > 8
    wide = [{**row, "std": row["std"] * math.sqrt(1.2)} for row in found]
    assert not self_attention.random_laws(wide)[0].holds


@settings(max_examples=30)
@given(st.lists(st.floats(-20, 20), min_size=2, max_size=12))
def test_the_gradient_of_softmax_is_that_of_its_matrix(scores: list[float]) -> None:
    row = torch.tensor(scores, dtype=torch.float64)
    p = row.softmax(dim=-1)
    jacobian = torch.func.jacrev(lambda x: x.softmax(dim=-1))(row)
    assert torch.allclose(jacobian, torch.diag(p) - torch.outer(p, p), atol=1e-12)
    norm = saturation.jacobian_norm(p[None])
    assert norm.item() == pytest.approx(float(jacobian.norm()), abs=1e-7)


def test_saturated_and_even_rows() -> None:
    one_hot = torch.tensor([[0.0, 1000.0, 0.0, 0.0]])
    assert saturation.row_numbers(one_hot) == {"saturated": 1.0, "entropy": 0.0, "gradient": 0.0}
    even = saturation.row_numbers(torch.zeros(3, 4))
    assert even["saturated"] == 0.0
    assert even["entropy"] == pytest.approx(1.0)


def test_the_crossing_lies_where_the_gradients_are_equal() -> None:
    rows = [{"size": d, "unscaled": {"gradient": 64.0 / d}, "scaled": {"gradient": 1.0}} for d in (16, 32, 128)]
    assert saturation.crossing(rows) == pytest.approx(64.0)
    assert math.isnan(saturation.crossing(rows[:2]))


def test_the_unscaled_arm_is_softmax_of_the_products_themselves() -> None:
    model, tap, seen = decoder(attention="explicit"), self_attention.unscaled(), {}

    def look(name: str, value: Tensor) -> Tensor:
        seen[name] = tap(name, value)
        return seen[name]

    model(text(), tap=look)
    for layer in range(2):
        q, k, weights = (seen[f"layers.{layer}.attention.{name}"] for name in ("q", "k", "weights"))
        products = (q @ k.transpose(-2, -1)).masked_fill(~model.causal_mask, -math.inf)
        assert torch.allclose(weights, products.softmax(dim=-1), atol=1e-6)


def test_within_rows_the_order_is_kept_and_a_constant_changes_nothing() -> None:
    view = influence.inside(decoder(attention="explicit"), text(B=1))
    assert all(law.holds for law in self_attention.trained_laws(view["heads"]))
    assert len(view["heads"]) == len(view["edges"]) == 8


def test_a_symmetric_form_has_no_asymmetry_and_breaks_its_law() -> None:
    """Planted: queries and keys are the same, and positions do not count."""
    model = decoder(attention="explicit", positions="none", qk_norm=False)
    with torch.no_grad():
        for block in model.layers:
            weight = block.attention.qkv.weight  # type: ignore[union-attr]
            weight[24:48] = weight[:24]  # type: ignore[index, operator]
    heads = influence.inside(model, text(B=1))["heads"]
    assert max(head["asymmetry"] for head in heads) < 1e-6
    broken = [law.text for law in self_attention.trained_laws(heads) if not law.holds]
    assert len(broken) == 1
    assert broken[0].startswith("Asymmetry")


def test_a_head_whose_values_go_nowhere_has_attention_but_no_influence() -> None:
    """Planted: the first head of the first layer has no way out."""
    model = decoder(attention="explicit")
    with torch.no_grad():
        model.layers[0].attention.output.weight[:, :6] = 0.0  # type: ignore[union-attr, operator]
    silent, other = influence.inside(model, text(B=1))["edges"][:2]
    assert np.array(silent["weight"])[1:].max() > 0.1
    assert np.abs(silent["moved"]).max() == 0.0
    assert np.abs(silent["effect"]).max() < 1e-9
    assert np.array(other["effect"]).max() > 1e-4


def test_what_an_edge_moves_is_what_it_adds_to_the_output() -> None:
    """The first query has one edge in each head, so with one head that edge is the whole output."""
    model, tokens = decoder(attention="explicit", n_heads=1, n_layers=1), text(B=1)
    seen = watch(model, tokens)
    moved = influence.inside(model, tokens)["edges"][0]["moved"]
    assert moved[0][0] == pytest.approx(float(seen["layers.0.attention.output"][0, 0].detach().norm()), rel=1e-5)


def test_removing_an_edge_is_what_a_mask_without_it_does() -> None:
    model, tokens = decoder(attention="explicit", n_heads=1, n_layers=1), text(B=1)
    effect = influence.inside(model, tokens)["edges"][0]["effect"]
    base = model(tokens)[0].double().log_softmax(dim=-1)
    model.causal_mask = model.causal_mask.clone()
    model.causal_mask[7, 2] = False
    without = model(tokens)[0].double().log_softmax(dim=-1)
    divergence = (base.exp() * (base - without)).sum(dim=-1)
    assert effect[7][2] == pytest.approx(float(divergence.detach().sum()), rel=1e-4)
    assert int((divergence.abs() > 1e-9).sum()) == 1  # with one layer, only that query's own prediction


@settings(max_examples=30)
@given(st.lists(st.integers(-50, 50), min_size=3, max_size=20, unique=True))
def test_rank_correlation_is_that_of_the_order_alone(values: list[int]) -> None:
    x = np.array(values, dtype=float)
    assert influence.rank_correlation(x, np.exp(x / 10)) == pytest.approx(1.0)
    assert influence.rank_correlation(x, -(x**3)) == pytest.approx(-1.0)
    assert influence.rank_correlation(x, np.ones_like(x)) == 0.0


def trained(loss: float) -> Trained:
    return Trained(loss, 0.0, 0.0, [], [], [], 0, 0.0, 0, 0.0)


@pytest.mark.parametrize(("gain", "kind"), [(0.3, "supported"), (0.0, "no difference"), (-0.3, "contradicted")])
def test_a_planted_gain_gets_its_verdict(gain: float, kind: str) -> None:
    noise = np.random.default_rng(1).normal(0.0, 0.005, size=(2, 8))
    scaled = TunedArm(0.01, [trained(3.0 - gain + each) for each in noise[0]])
    unscaled = TunedArm(0.01, [trained(3.0 + each) for each in noise[1]])
    assert self_attention.claim_of(self_attention.Pair(64, False, scaled, unscaled)).verdict.kind == kind


def context_for(folder: Path, name: str = "glance", rates: int = 1) -> ExperimentContext:
    """A context with a tiny text and a tiny model."""
    return context_of("self-attention", folder, name, rates=rates, draws=32)


def test_the_whole_experiment_twice(tmp_path: Path) -> None:
    cards = []
    for made in (9, 0):
        context = context_for(tmp_path)
        assert len(self_attention.EXPERIMENT.plan(context)) == 8
        findings = self_attention.EXPERIMENT.run(context)
        assert context.store.made == made  # one of them the measurement without a model
        planned = self_attention.EXPERIMENT.plan(context)
        assert all(context.store.has_trained("self-attention", trial) for trial in planned)
        cards.append(card_of(context, findings))
    assert cards[0] == cards[1]


def test_larger_budgets_have_more_arms_and_a_learning_rate_for_each(tmp_path: Path) -> None:
    coffee, night = (
        self_attention.EXPERIMENT.plan(context_for(tmp_path, name, rates=3)) for name in ("coffee", "night")
    )
    assert len(coffee) == 3 * 2 * (3 + 2)
    assert len(night) == 6 * 2 * (3 + 2)
    unit = [trial for trial in night if "unit variance" in trial.arm]
    assert {trial.config.model.init_std for trial in unit} == {1 / math.sqrt(16)}
    assert {trial.change for trial in night if trial.arm.startswith("unscaled")} == {"unscaled"}
