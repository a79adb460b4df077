"""The note on ReLU: zeros, dead units, matched parameters, and the whole experiment on a tiny text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from decoders import decoder
from lab_house import context_of, numbers_of
from lightwell.lab.cards.card import make_card
from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.rate_search import TunedArm
from lightwell.lab.experiments.trial import Trained
from lightwell.lab.notes.activation import experiment as activation
from lightwell.lab.notes.activation import zeros
from lightwell.lab.verdicts.verdict import overall
from lightwell.model.config import GATED
from lightwell.model.decoder import Block, Decoder
from lightwell.model.feed_forward import NONLINEARITY, FeedForward


def context_for(folder: Path, name: str = "glance", rates: int = 1, **settings: Any) -> ExperimentContext:
    """At d_model 24, two thirds of the width is a whole number of eights."""
    wanted = {"d_model": 24, "steps": 10, "micro_batch_size": 0, **settings}
    return context_of("activation", folder, name, rates=rates, **wanted)


def feed_forward_of(model: Decoder, layer: int) -> FeedForward:
    block = model.layers[layer]
    assert isinstance(block, Block)
    return block.feed_forward


@pytest.mark.parametrize(("name", "rates"), [("glance", 1), ("coffee", 3)])
def test_the_experiment_end_to_end_and_again_from_what_is_kept(tmp_path: Path, name: str, rates: int) -> None:
    context = context_for(tmp_path, name, rates, steps=4)
    findings = activation.EXPERIMENT.run(context)
    arms = activation.arms_of(context)
    wide = 0 if name == "glance" else len(activation.WIDE)
    assert len(activation.EXPERIMENT.plan(context)) == (len(arms) + wide) * (2 + (rates if rates > 1 else 0))
    assert all(context.store.has_trained(context.note, trial) for trial in activation.EXPERIMENT.plan(context))
    assert ("wide" in findings.data) == any("begin at" in claim.text for claim in findings.claims) == (wide > 0)
    pictures = activation.EXPERIMENT.draw(json.loads(json.dumps(findings.data)), {})
    assert [picture.name for picture in pictures] == ["zeros", "curves", "losses"]
    again = context_for(tmp_path, name, rates, steps=4)
    second = activation.EXPERIMENT.run(again)
    assert again.store.made == 0
    note = activation.EXPERIMENT.note
    cards = [make_card(note, found, context, [], "", 0.0).to_json() for found in (findings, second)]
    assert cards[0] == cards[1]
    assert set(findings.timings["seconds per token"]) == set(arms)
    assert all(law.holds for law in findings.laws if "Parameters" in law.text or "lowest" in law.text)


def test_a_dead_unit_is_counted_and_one_that_is_active_once_is_not(tmp_path: Path) -> None:
    context = context_for(tmp_path, activation="relu", bias=True)
    model = Decoder(context.config.model, 1)
    assert [row["dead"] for row in zeros.probe_zeros(model, context.corpus, context.config)] == [0, 0]
    with torch.no_grad():
        up = feed_forward_of(model, 1).up
        up.bias[3] = -1e3
        up.weight[7] = 0.0  # with a bias of 0: its output is exactly 0
    rows = zeros.probe_zeros(model, context.corpus, context.config)
    assert [row["dead"] for row in rows] == [0, 2]
    values = torch.zeros(1000, 2)
    values[500, 0] = 1e-9
    assert zeros.count_zeros(values)["dead"] == 1


@pytest.mark.parametrize("threshold", [1e-6, 1e-4])
def test_an_activation_with_a_threshold_just_above_zero_is_not_called_exact_zero(threshold: float) -> None:
    x = torch.randn(2000, 8, generator=torch.Generator().manual_seed(1))
    floored = zeros.count_zeros(x.clamp(min=threshold))
    assert floored["zero"] == 0.0
    assert floored["near"] == pytest.approx(0.5, abs=0.02)
    assert floored["dead"] == 0
    rectified = zeros.count_zeros(x.relu())
    assert rectified["zero"] == pytest.approx(0.5, abs=0.02)


def test_such_an_activation_breaks_the_laws_of_the_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def floored(x: Tensor) -> Tensor:
        return x.clamp(min=1e-5)

    monkeypatch.setitem(NONLINEARITY, "relu", floored)
    findings = activation.EXPERIMENT.run(context_for(tmp_path))
    broken = [law.text for law in findings.laws if not law.holds and "ReLU's" in law.text and "zeros" in law.text]
    assert broken == ["Exact zeros among ReLU's outputs at initialisation"]
    assert overall(findings.laws, findings.claims) == "contradicted"


@given(st.integers(0, 20), st.integers(1, 30))
def test_zeros_that_are_put_in_are_found_to_the_last_one(zero: int, other: int) -> None:
    values = torch.cat([torch.zeros(zero), torch.linspace(-2.0, -1.0, other)])[:, None]
    found = zeros.count_zeros(values)
    assert found["zero"] == pytest.approx(zero / (zero + other))
    assert found["negative"] == pytest.approx(other / (zero + other))
    assert found["dead"] == 0
    assert sum(zeros.histogram(values)) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["relu", "relu2"])
def test_half_of_the_outputs_are_zero_at_initialisation(tmp_path: Path, kind: str) -> None:
    context = context_for(tmp_path, activation=kind, d_model=48)
    rows = zeros.probe_zeros(Decoder(context.config.model, 1), context.corpus, context.config)
    assert sum(row["zero"] for row in rows) / len(rows) == pytest.approx(0.5, abs=0.04)
    assert all(row["lowest"] == 0.0 for row in rows)


def test_what_is_looked_at_is_what_the_model_computes_and_looking_leaves_it_as_it_was(tmp_path: Path) -> None:
    context = context_for(tmp_path, activation="swiglu")
    model = decoder(vocab_size=context.config.model.vocab_size, activation="swiglu", d_model=24).train()
    before = torch.get_rng_state()
    values, gates = zeros.hidden_values(model, context.corpus)
    layer = feed_forward_of(model, 0)
    assert (
        values[0].shape
        == gates[0].shape
        == (min(zeros.TOKENS, len(context.corpus.held_out) - 1), layer.up.out_features)
    )
    assert zeros.probe_zeros(model, context.corpus, context.config)[0]["zero"] == 0.0
    assert model.training
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(("base", "d_ff"), [("relu", 0), ("relu", 240), ("swiglu", 0), ("swiglu", 160)])
def test_all_arms_have_the_same_parameters_whatever_the_base_is(tmp_path: Path, base: str, d_ff: int) -> None:
    context = context_for(tmp_path, activation=base, d_ff=d_ff, d_model=48)
    configs = {arm: context.config.with_values(activation.settings_of(context, arm)).model for arm in activation.ARMS}
    counts = {arm: config.parameter_count() for arm, config in configs.items()}
    assert max(counts.values()) / min(counts.values()) < 1.02
    assert all(configs[arm].ff_width < configs["relu"].ff_width for arm in activation.ARMS if arm in GATED)


def trained(loss: float, start: float, end: float) -> Trained:
    probed = [(step, [{"zero": zero, "negative": 0.4}]) for step, zero in ((0, start), (10, end))]
    return Trained(loss, 1.0, loss, [], [], probed, 1, 1.0, 1, 0.0)


def arm(runs: list[Trained]) -> TunedArm:
    return TunedArm(0.01, runs)


def test_planted_effects_of_the_gate_and_of_training_are_found() -> None:
    noise = [0.001 * each for each in (-3, 1, 2, -2, 3, -1, 0, 2)]
    found = {
        "relu": arm([trained(3.0 + each, 0.5, 0.7 + each) for each in noise]),
        "gelu": arm([trained(3.0 - each, 0.0, 0.0) for each in noise]),
        "swiglu": arm([trained(2.95 - each, 0.0, 0.0) for each in noise]),
    }
    claims = activation.claims_of(found)
    assert [claim.verdict.kind for claim in claims] == ["supported"] * 7
    found["gelu"] = arm([trained(3.1, 0.0, 0.3) for _ in noise])
    kinds = {claim.text: claim.verdict.kind for claim in activation.claims_of(found)}
    assert kinds["GELU ends with the held-out loss of ReLU, within 0.02"] == "contradicted"
    assert kinds["After training, next to none of GELU's outputs are exactly 0"] == "contradicted"


def test_made_twice_from_nothing_the_numbers_are_the_same(tmp_path: Path) -> None:
    found = []
    for place in ("first", "second"):
        context = context_for(tmp_path / place)
        findings = activation.EXPERIMENT.run(context)
        assert context.store.made > 0
        found.append(numbers_of(findings))
    assert found[0] == found[1]
