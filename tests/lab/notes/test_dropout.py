"""The note on dropout: sums of rows, modes, the crossing, and the whole experiment on a tiny text."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from decoders import decoder, text
from lab_house import context_of, numbers_of
from lightwell.batches.evaluation import evaluation_batches
from lightwell.lab.cards.card import make_card
from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.prefix import prefix_of, tokens_for
from lightwell.lab.notes.dropout import experiment as dropout
from lightwell.lab.notes.dropout import row_sums
from lightwell.lab.verdicts.crossing import crossing_of, falls_at
from lightwell.lab.verdicts.verdict import overall
from lightwell.model.dropout import Dropout, DropoutMask, sample_dropout_mask
from lightwell.training.runs.evaluation import evaluate, true_byte_lengths


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trained model's rows are summed over 1024 draws, not 4096."""
    monkeypatch.setattr(row_sums, "PASSES", 16)


def context_for(folder: Path, name: str = "glance", seeds: int = 2) -> ExperimentContext:
    """Without dropout but for that of the arms."""
    without: dict[str, Any] = dict.fromkeys(("embedding_dropout", "attention_dropout", "residual_dropout"), 0.0)
    context = context_of("dropout", folder, name, documents=30, steps=12, micro_batch_size=0, **without)
    return dataclasses.replace(context, budget=dataclasses.replace(context.budget, seeds=seeds))


def test_the_experiment_end_to_end_and_again_from_what_is_kept(tmp_path: Path) -> None:
    context = context_for(tmp_path)
    findings = dropout.EXPERIMENT.run(context)
    assert len(dropout.EXPERIMENT.plan(context)) == context.store.made
    pictures = dropout.EXPERIMENT.draw(json.loads(json.dumps(findings.data)), {})
    assert [picture.name for picture in pictures] == ["masks", "row-sums", "crossover"]
    again = context_for(tmp_path)
    second = dropout.EXPERIMENT.run(again)
    assert again.store.made == 0
    cards = [make_card(dropout.EXPERIMENT.note, found, context, [], "", 0.0).to_json() for found in (findings, second)]
    assert cards[0] == cards[1]
    broken = [law.text for law in findings.laws if not law.holds and "on trained text" not in law.text]
    assert not broken


def test_more_passes_come_from_a_shorter_text_at_equal_tokens(tmp_path: Path) -> None:
    context = context_for(tmp_path)
    cells = dropout.cells_of(context)
    trained = {cell: context.train(dropout.cell_trial(context, cell, 1e-3, seed=1)) for cell in cells}
    assert len({found.tokens for found in trained.values()}) == 1
    for cell, found in trained.items():
        assert found.effective_epochs == pytest.approx(cell.epochs, rel=0.2)  # whole windows of a tiny text
    assert {cell.epochs for cell in cells} == {1.0, 20.0}


def test_at_night_there_are_other_amounts_and_places_with_fewer_seeds(tmp_path: Path) -> None:
    context = context_for(tmp_path, "night", seeds=8)
    cells = dropout.cells_of(context)
    assert {cell.p for cell in cells} == {0.0, 0.1, 0.2, 0.4}
    assert {len(dropout.seeds_of(context, cell)) for cell in cells if cell.counts} == {8}
    others = [cell for cell in cells if not cell.counts]
    assert {len(dropout.seeds_of(context, cell)) for cell in others} == {2}
    assert {dropout.settings_of(context, cell)["residual_dropout"] for cell in others if not cell.everywhere} == {0.0}


def test_a_text_too_short_for_one_pass_begins_with_the_fewest_that_there_are(tmp_path: Path) -> None:
    context = context_for(tmp_path)
    context.corpus = prefix_of(context.corpus, 401)
    fewest = dropout.presented(context) / 401
    assert dropout.epochs_of(context) == [fewest, 20.0]
    claims = dropout.claims_of({fewest: [0.1, 0.1], 20.0: [-0.1, -0.1]})
    assert claims[1].text.startswith(f"In {fewest:.3g} passes")


def test_the_beginning_of_a_text_is_what_is_trained_on_and_held_out_stays(tmp_path: Path) -> None:
    corpus = context_for(tmp_path).corpus
    part = prefix_of(corpus, 100)
    np.testing.assert_array_equal(part.train.tokens, np.asarray(corpus.train.tokens)[:100])
    assert part.held_out is corpus.held_out
    assert part.digest != corpus.digest
    assert part.train.offsets[-1] == 99
    assert prefix_of(corpus, 0) is corpus


def test_a_training_on_a_part_is_kept_apart_from_one_on_the_whole(tmp_path: Path) -> None:
    context = context_for(tmp_path)
    whole, part = (
        context.train(context.trial("a", 1)),
        context.train(context.trial("a", 1, prefix_tokens=tokens_for(200, 16, 1.0))),
    )
    assert context.store.made == 2
    assert whole.loss != part.loss
    assert part.effective_epochs > whole.effective_epochs


@given(st.integers(1, 400), st.integers(1, 64), st.sampled_from([1, 2, 5, 20, 60]))
@settings(max_examples=50, deadline=None)
def test_so_many_windows_make_so_many_passes(windows: int, length: int, epochs: int) -> None:
    presented = windows * length * epochs
    assert tokens_for(presented, length, epochs) == windows * length + 1


def test_row_sums_of_the_models_own_dropout_follow_the_law() -> None:
    model = decoder(attention_dropout=0.1).train()
    torch.manual_seed(0)
    rows = row_sums.row_sums(model, text(1), 64)
    laws = dropout.row_laws(rows)
    assert all(law.holds for law in laws)
    assert rows["dropped"] == pytest.approx(0.1, abs=0.005)
    assert rows["predicted"][0][0] == pytest.approx(1 / 3, abs=1e-3)
    row = row_sums.FirstAttention(model, text(1)).draw()[0][0, 1, 5].double()
    assert rows["predicted"][1][5] == pytest.approx(math.sqrt(0.1 / 0.9 * float((row * row).sum())), rel=1e-3)


@pytest.mark.parametrize("kept_share", [1.0, 0.8])
def test_weights_that_are_not_rescaled_break_the_law_of_row_sums(
    monkeypatch: pytest.MonkeyPatch, kept_share: float
) -> None:
    def unscaled(shape: tuple[int, ...], p: float, device: torch.device) -> DropoutMask:
        return DropoutMask(sample_dropout_mask(shape, p, device).mask, kept_share)

    monkeypatch.setattr("lightwell.model.attention.sample_dropout_mask", unscaled)
    torch.manual_seed(0)
    laws = dropout.row_laws(row_sums.row_sums(decoder(attention_dropout=0.1).train(), text(1), passes=8))
    broken = {law.text.split(" ")[0] for law in laws if not law.holds}
    assert {"Mean", "Kept"} <= broken
    assert overall(laws, []) == "contradicted"


def test_a_mask_shared_by_a_whole_row_breaks_the_law_of_the_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    def shared(shape: tuple[int, ...], p: float, device: torch.device) -> DropoutMask:
        kept = sample_dropout_mask((*shape[:-1], 1), p, device)
        return DropoutMask(kept.mask.expand(shape), kept.probability)

    monkeypatch.setattr("lightwell.model.attention.sample_dropout_mask", shared)
    torch.manual_seed(0)
    laws = dropout.row_laws(row_sums.row_sums(decoder(attention_dropout=0.1).train(), text(1), passes=8))
    assert [law.text.split(" ")[0] for law in laws if not law.holds] == ["Measured", "Measured"]


def test_a_dropout_that_stays_on_in_evaluation_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    model = decoder(attention_dropout=0.2, residual_dropout=0.2)
    assert row_sums.repeats(model.eval(), text())
    assert not row_sums.repeats(model.train(), text())
    monkeypatch.setattr(Dropout, "forward", lambda self, x: sample_dropout_mask(x.shape, 0.2, x.device)(x))
    assert not row_sums.repeats(model.eval(), text())
    modes = [{"on": 2.0, "off": 1.9, "evaluation repeats": row_sums.repeats(model, text()), "training repeats": False}]
    assert overall(dropout.mode_laws(modes), []) == "contradicted"


def test_the_loss_with_dropout_off_is_that_of_evaluation_and_the_one_with_it_on_is_another(tmp_path: Path) -> None:
    context = context_for(tmp_path)
    corpus = context.corpus
    model = decoder(attention_dropout=0.4, residual_dropout=0.4, vocab_size=context.config.model.vocab_size)
    torch.nn.init.normal_(
        model.token_embedding.weight, std=1.0
    )  # as peaked as a trained model's, so that dropout shows
    modes = row_sums.probe_modes(model, corpus, context.config)
    batches = evaluation_batches(corpus.train, model.config.context_length, 32, max_tokens=row_sums.SCORED)
    off = evaluate(model, batches, true_byte_lengths(corpus.train, corpus.tokenizer.byte_lengths)).nats_per_token
    assert modes["off"] == pytest.approx(off, rel=1e-6)
    assert abs(modes["on"] - off) > 0.01
    assert (modes["evaluation repeats"], modes["training repeats"]) == (True, False)


def test_probing_changes_neither_the_mode_nor_the_random_state(tmp_path: Path) -> None:
    context = context_for(tmp_path)
    model = decoder(attention_dropout=0.1, vocab_size=context.config.model.vocab_size).eval()
    state = torch.get_rng_state()
    first, second = (row_sums.probe_modes(model, context.corpus, context.config) for _ in range(2))
    assert first == second
    assert not model.training
    assert torch.equal(torch.get_rng_state(), state)


def test_the_place_where_a_line_falls_through_zero() -> None:
    assert falls_at([1.0, 4.0], [1.0, -1.0]) == pytest.approx(2.0)
    assert falls_at([1.0, 5.0, 20.0], [2.0, 1.0, 0.5]) == math.inf
    assert falls_at([1.0, 5.0, 20.0], [-2.0, -1.0, -0.5]) == -math.inf
    assert falls_at([1.0, 10.0, 1000.0], [2.0, 1.0, -1.0]) == pytest.approx(100.0)


@given(st.floats(1.5, 50.0), st.floats(0.01, 10.0))
@settings(max_examples=25, deadline=None)
def test_a_planted_crossing_is_found_whatever_the_slope(place: float, slope: float) -> None:
    epochs = [1.0, 5.0, 20.0, 60.0]
    effects = [[slope * (math.log(place) - math.log(each))] * 6 for each in epochs]
    crossing = crossing_of(epochs, effects, resamples=20)
    assert crossing.at == pytest.approx(place, rel=1e-6)
    assert crossing.low == pytest.approx(crossing.high)


def test_the_interval_of_a_crossing_widens_with_the_noise_and_says_when_there_is_none() -> None:
    epochs, noise = [1.0, 5.0, 20.0, 60.0], np.random.default_rng(0).normal(size=(4, 8))
    line = np.array([0.10, 0.04, -0.02, -0.06])[:, None]
    quiet, loud = (crossing_of(epochs, (line + scale * noise).tolist()) for scale in (0.001, 0.02))
    assert quiet.low < quiet.at < quiet.high
    assert quiet.high - quiet.low < loud.high - loud.low
    above = crossing_of(epochs, (line + 1.0 + 0.0 * noise).tolist())
    assert above.words() == "beyond the last"
    assert above.to_dict()["at"] is None
    assert above.found == 0.0
    assert above.sentence() == "is above 0 at the most passes that were measured"


@pytest.mark.parametrize("seeds", [6, 8])
def test_the_interval_of_a_crossing_holds_it_as_often_as_it_says(seeds: int) -> None:
    epochs, draw = [1.0, 5.0, 20.0, 60.0], np.random.default_rng(seeds)
    line = np.array([0.10, 0.04, -0.04, -0.10])[:, None]
    true, inside = falls_at(epochs, line[:, 0]), 0
    for _ in range(300):
        found = crossing_of(epochs, (line + draw.normal(scale=0.03, size=(4, seeds))).tolist(), resamples=300)
        inside += found.low <= true <= found.high
    assert inside / 300 > 0.92


def test_few_seeds_give_a_crossing_no_interval() -> None:
    found = crossing_of([1.0, 5.0], [[0.1, 0.1, 0.1], [-0.1, -0.1, -0.1]])
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert "few seeds" in found.sentence()


def test_the_verdict_depends_where_dropout_helps_with_repeats_and_costs_without() -> None:
    steady = np.linspace(-0.005, 0.005, 8)
    claims = dropout.claims_of({1.0: (0.1 + steady).tolist(), 60.0: (-0.1 + steady).tolist()})
    assert [claim.verdict.kind for claim in claims] == ["supported", "contradicted"]
    assert overall([], claims) == "conditional"


def test_made_twice_from_nothing_the_numbers_are_the_same(tmp_path: Path) -> None:
    found = []
    for place in ("first", "second"):
        context = context_for(tmp_path / place)
        findings = dropout.EXPERIMENT.run(context)
        assert context.store.made > 0
        found.append(numbers_of(findings))
    assert found[0] == found[1]


def test_a_text_that_is_passed_over_as_often_in_each_arm_has_one_claim() -> None:
    (claim,) = dropout.claims_of({20.3781: [-0.1, -0.1]})
    assert claim.text.startswith("In 20.4 passes over the text,")
