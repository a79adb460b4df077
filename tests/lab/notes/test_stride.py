"""Note 2: exposures are exact, a loader that repeats and a split that comes too late are found; and the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lab_house import card_of, context_of
from lightwell.batches.config import BatchConfig
from lightwell.batches.evaluation import evaluation_batches
from lightwell.batches.loader import BatchLoader
from lightwell.batches.order import Integers
from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.setup import FIXED
from lightwell.lab.experiments.trial import Trained
from lightwell.lab.notes.stride import experiment as stride
from lightwell.lab.notes.stride.arms import Arm, Arms, name_of, settings_of
from lightwell.lab.notes.stride.exposure import (
    epoch_batches,
    exposure_laws,
    exposure_row,
    exposures,
    interior,
    numbered,
)
from lightwell.lab.notes.stride.leaks import (
    leak_laws,
    shared_documents,
    shared_tokens,
    split_after_windowing,
    word_for_word,
)
from lightwell.tokens.token_file import TokenFile

STEPS = 12


def context_for(folder: Path, name: str = "glance") -> ExperimentContext:
    """Next to no steps."""
    return context_of("stride", folder, name, documents=30, **FIXED, micro_batch_size=0, steps=STEPS)


def words(count: int) -> TokenFile:
    """A text whose ids are its positions."""
    return TokenFile.from_ids(np.arange(count), vocab_size=count)


def loader(count: int, L: int, s: int, **settings: object) -> BatchLoader:
    """Over such a text."""
    return BatchLoader(words(count), BatchConfig(batch_size=7, stride=s, **settings), L, seed=3)  # type: ignore[arg-type]


@given(st.integers(2, 12), st.integers(1, 15), st.integers(2, 80))
def test_exposures_are_those_of_the_windows_written_out(L: int, s: int, more: int) -> None:
    found = loader(L + more, L, s)
    counts = exposures(found)
    expected = np.zeros(L + more, dtype=int)
    for start in range(0, L + more - L, s):
        expected[start + 1 : start + L + 1] += 1
    assert counts.tolist() == expected.tolist()
    assert found.windows == -(-more // s)
    inside = interior(counts, found.windows, L, s)
    if s <= L and L % s == 0:
        assert set(inside.tolist()) <= {L // s}
    assert all(law.holds for law in exposure_laws([exposure_row(found, L, s)], L))


def test_several_epochs_show_each_token_as_often_more() -> None:
    found = loader(100, 8, 4)
    assert (exposures(found, epochs=3) == 3 * exposures(found)).all()


@pytest.mark.parametrize(("s", "left_out"), [(9, 1), (16, 8)])
def test_a_stride_beyond_the_context_leaves_tokens_out(s: int, left_out: int) -> None:
    row = exposure_row(loader(200, 8, s), 8, s)
    assert row["between"] == left_out * (row["windows"] - 1) > 0


class Repeating(BatchLoader):
    """Shows the even windows twice and the odd ones never."""

    def windows_of(self, step: int) -> tuple[Integers, Integers]:
        epochs, numbers = super().windows_of(step)
        return epochs, numbers // 2 * 2


def test_a_loader_that_repeats_is_found_by_its_exposures() -> None:
    planted = Repeating(words(400), BatchConfig(batch_size=7, stride=8), 8, seed=3)
    row = exposure_row(planted, 8, 8)
    assert row["inside"] == [0, 2]
    assert [law.holds for law in exposure_laws([row], 8)] == [True, False]
    assert all(law.holds for law in exposure_laws([exposure_row(loader(400, 8, 8), 8, 8)], 8))


def test_random_offsets_show_some_tokens_often_and_others_never() -> None:
    row = exposure_row(loader(400, 8, 2, sampler="random"), 8, 2, random=True)
    assert len(row["times"]) > 3
    assert row["mean"] == pytest.approx(row["windows"] * 8 / 399)


@given(st.integers(1, 7))
def test_a_split_after_windowing_is_found(s: int) -> None:
    before, after = split_after_windowing(words(300), 8, s)
    assert shared_tokens([before], [after]) > 0


def test_a_split_before_windowing_shares_nothing_and_one_token_too_many_is_found() -> None:
    training, L = numbered(words(200), 0, 400), 8
    for first, shared in ((200, 0), (199, 1)):
        held_out = numbered(words(101), first, 400)
        overlapping = BatchLoader(training, BatchConfig(batch_size=16, stride=1), L, seed=1)
        found = shared_tokens(epoch_batches(overlapping), evaluation_batches(held_out, L, 16, stride=4))
        assert found == shared
    leaks = {"documents": 0, "held_out_documents": 9, "shared": 1, "shared_late": 5}
    assert [law.holds for law in leak_laws(leaks)] == [True, False, True]


def test_a_held_out_document_that_is_trained_on_is_found() -> None:
    training, clean = (TokenFile.from_ids(np.arange(60) % 50 + first, vocab_size=200, offsets=[0, 20, 40, 59])
                       for first in (0, 100))  # fmt: skip
    assert shared_documents(training, clean) == (0, 3)
    leaking = TokenFile.from_ids(training.tokens[:41], vocab_size=200, offsets=[0, 20, 40])
    assert shared_documents(training, leaking) == (2, 2)
    leaks = {"documents": 2, "held_out_documents": 2, "shared": 0, "shared_late": 5}
    assert not leak_laws(leaks)[0].holds


def test_padding_is_no_token_that_is_shared() -> None:
    held_out = numbered(words(5), 300, 400)
    training = BatchLoader(numbered(words(200), 0, 400), BatchConfig(batch_size=16), 8, seed=1)
    assert shared_tokens(epoch_batches(training), evaluation_batches(held_out, 8, 16)) == 0


def test_a_stretch_that_was_copied_is_found() -> None:
    draw = np.random.default_rng(2)
    training, held_out = draw.integers(50, size=400), draw.integers(50, size=80)
    held_out[16:24] = training[101:109]
    files = [TokenFile.from_ids(ids, vocab_size=50) for ids in (training, held_out)]
    assert word_for_word(files[0], files[1], 8) == (1, 10)
    assert word_for_word(files[0], files[1], 500) == (0, 0)


def test_the_store_knows_parts_of_a_text_apart(tmp_path: Path) -> None:
    context = context_for(tmp_path)
    context.train(context.trial("whole", 1, steps=2))
    assert context.store.has_trained(context.note, context.trial("again", 1, steps=2))
    assert not context.store.has_trained(context.note, context.trial("part", 1, steps=2, prefix_tokens=100))


def trained(loss: float, gap: float) -> Trained:
    """A result of which only these matter."""
    return Trained(loss, 0.0, loss - gap, [], [], [], 1, 1.0, 1, 1.0)


def test_planted_results_give_the_planted_verdicts(tmp_path: Path) -> None:
    """Repetition overfits and overlap does nothing: then the note holds at equal epochs only."""
    context = context_for(tmp_path, "night")
    arms = Arms.of(context)
    noise = np.random.default_rng(1).normal(0.0, 0.003, (len(arms.all), 8))
    results = {arm: [trained(3.0 + 0.1 * arm.units + each, 0.2 * arm.units + each) for each in row]
               for arm, row in zip(arms.all, noise, strict=True)}  # fmt: skip
    kinds = [claim.verdict.kind for claim in stride.claims_of(context, arms, results)]
    assert kinds == ["supported", "supported", "no difference", "no difference", "no difference"]


def test_arms_of_equal_tokens_take_equal_steps(tmp_path: Path) -> None:
    context = context_for(tmp_path, "night")
    arms = Arms.of(context)
    assert len({settings_of(context, arm)["steps"] for arm in arms.equal_tokens}) == 1
    assert settings_of(context, arms.equal_epochs[-1])["stride"] == 2
    assert len({name_of(context, arm) for arm in arms.all}) == len(arms.all) == 10


def test_the_whole_experiment_runs_and_is_found_again(tmp_path: Path) -> None:
    context = context_for(tmp_path)
    findings = stride.EXPERIMENT.run(context)
    assert all(context.store.has_trained(context.note, trial) for trial in stride.EXPERIMENT.plan(context))
    assert len(list((tmp_path / "lab" / "trials").iterdir())) == len(stride.EXPERIMENT.plan(context))
    assert all(law.holds for law in findings.laws)
    again = context_for(tmp_path)
    assert card_of(again, stride.EXPERIMENT.run(again)) == card_of(context, findings)
    assert (context.store.made > 0, again.store.made) == (True, 0)


def test_an_arm_s_rate_is_chosen_without_overlap_for_as_many_tokens() -> None:
    assert Arm(4, 1).plain == Arm(1, 4)
    assert Arm(2, 3).plain == Arm(1, 6)
    assert Arm(2, 3).units == Arm(2, 3).plain.units == 6
    assert Arm(4, 1, random=True).plain == Arm(1, 4)
