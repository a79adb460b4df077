"""What an experiment is given: budgets, seeds, trainings with all their settings, and what is looked up."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from lab_house import laboratory, with_seeds
from lightwell.errors import RunError, SettingError
from lightwell.lab.catalogue import experiment
from lightwell.lab.catalogue import notes as all_notes
from lightwell.lab.experiments.budget import BUDGETS, Budget, budget_of
from lightwell.lab.experiments.context import ExperimentContext, differences
from lightwell.lab.experiments.experiment import Experiment, Findings
from lightwell.lab.experiments.rate_search import LearningRateSearch, edge_words, tune_and_train, tuning_words
from lightwell.lab.experiments.setup import BASE, FIXED, base_config
from lightwell.lab.experiments.store import UNTRAINED, Store, make_folder
from lightwell.lab.experiments.trial import Trained, Trial
from lightwell.lab.session import Session
from lightwell.training.settings.compose import compose

NOTES = all_notes()


@pytest.fixture
def context(tmp_path: Path) -> ExperimentContext:
    return laboratory(tmp_path).context("buffer")[1]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The arguments of every training, which takes no time and ends with a loss of its rate alone."""
    asked: list[tuple[Any, ...]] = []

    def planted(trial: Trial, *rest: Any) -> Trained:
        asked.append((trial, *rest))
        loss = (trial.config.training.learning_rate / 0.01 - 1.0) ** 2
        return dataclasses.replace(UNTRAINED, loss=loss, train_loss=0.0, bits_per_byte=0.0, effective_epochs=1.0)

    monkeypatch.setattr("lightwell.lab.experiments.context.train_trial", planted)
    return asked


def test_the_budgets_by_value() -> None:
    assert {name: dataclasses.astuple(budget) for name, budget in BUDGETS.items()} == {
        "glance": ("glance", 2, 120, 1, 32), "coffee": ("coffee", 3, 360, 3, 64), "night": ("night", 8, 1000, 3, 128),
    }  # fmt: skip
    assert list(BUDGETS) == ["glance", "coffee", "night"], "from the shortest to the longest"
    assert budget_of("night") is BUDGETS["night"]
    with pytest.raises(SettingError, match="There is no budget day; there are glance, coffee, night"):
        budget_of("day")


@pytest.mark.parametrize("preset", ["", "tiny"])
def test_what_every_experiment_starts_from(preset: str) -> None:
    budget = Budget("glance", seeds=1, steps=77, rates=1, draws=1)
    config = base_config([], preset, "bible", budget)
    for name, value in (FIXED if preset else {**BASE, **FIXED}).items():
        assert config.with_values({name: value}) == config, name
    assert config.training.steps == 77
    assert config.text.corpus == "bible"
    plain = compose((), preset_name=preset, settings={"corpus": "bible"})
    assert (config.model.d_model == plain.model.d_model) == bool(preset)
    assert base_config(["a.txt"], preset, "", budget).text.paths[0].endswith("a.txt")


def test_the_seeds_that_count_begin_with_the_first(tmp_path: Path) -> None:
    _, context = laboratory(tmp_path, seed=5, budget=with_seeds(3)).context("buffer")
    assert list(context.seeds) == [5, 6, 7]
    assert LearningRateSearch(context, "a", {}).trial(0.1).seed == 1005


def test_a_training_is_asked_for_with_all_of_its_settings(context: ExperimentContext) -> None:
    made = context.trial("a", 3, change="c", probe="p", probes=4, prefix_tokens=50, weight_decay=0.3)
    assert made == Trial("a", 3, context.config.with_values({"weight_decay": 0.3}), "c", "p", 4, 50)
    assert context.trial("a", 3) == Trial("a", 3, context.config, "", "", 0, 0)


def test_a_training_goes_through_its_change_and_its_probe(
    context: ExperimentContext, asked: list[tuple[Any, ...]]
) -> None:
    heard: list[Trial] = []
    context.changes = {"c": lambda: None, "other": lambda: None}  # type: ignore[dict-item, return-value]
    context.probes = {"p": lambda *given: None, "other": lambda *given: None}
    context.on_progress = heard.append
    trials = [
        context.trial("a", 1), context.trial("b", 1, change="c"), context.trial("c", 1, probe="p", probes=1),
    ]  # fmt: skip
    for _ in range(2):  # the second time all are looked up: nothing is trained, and nothing is heard
        for trial in trials:
            context.train(trial)
        assert asked == [
            (trials[0], context.corpus, None, None),
            (trials[1], context.corpus, context.changes["c"], None),
            (trials[2], context.corpus, None, context.probes["p"]),
        ]
        assert heard == trials


def test_an_arm_is_trained_on_each_seed_that_counts(context: ExperimentContext, asked: list[tuple[Any, ...]]) -> None:
    context.budget = with_seeds(3)
    assert len(context.trained("a", weight_decay=0.25)) == 3
    assert [(trial.seed, trial.config.training.weight_decay) for trial, *_ in asked] == [
        (1, 0.25),
        (2, 0.25),
        (3, 0.25),
    ]


def test_a_measurement_is_made_again_where_what_decides_it_changes(context: ExperimentContext) -> None:
    made = context.store.made
    assert context.measure("m", lambda: 1, seed=1, sizes=[1, 2]) == 1
    assert context.measure("m", lambda: 2, sizes=[1, 2], seed=1) == 1  # in whatever order
    others = [
        dataclasses.replace(context, config=context.config.with_values({"weight_decay": 0.3})),
        dataclasses.replace(context, budget=with_seeds(2, draws=9)),
        dataclasses.replace(context, note="dropout"),
    ]
    assert [other.measure("m", lambda: 3, seed=1, sizes=[1, 2]) for other in others] == [3, 3, 3]
    assert context.measure("m", lambda: 4, seed=2, sizes=[1, 2]) == 4
    assert context.measure("n", lambda: 5, seed=1, sizes=[1, 2]) == 5
    more_seeds = dataclasses.replace(context, budget=with_seeds(7))
    assert more_seeds.measure("m", lambda: 6, seed=1, sizes=[1, 2]) == 1
    assert context.store.made - made == 6


def test_differences_are_the_first_less_the_second_seed_by_seed() -> None:
    assert differences([3.0, 5.0], [1.0, 7.0]) == [2.0, -2.0]
    with pytest.raises(ValueError, match="shorter"):
        differences([1.0, 2.0], [1.0])


def test_what_cannot_be_measured_here_is_refused_before_anything_is_planned(context: ExperimentContext) -> None:
    def refuse(context: ExperimentContext) -> None:
        raise SettingError("too large")

    def trainings(context: ExperimentContext) -> None:
        raise AssertionError("it was planned")

    made = Experiment(NOTES["buffer"], trainings, lambda *_: Findings(), lambda *_: [], check=refuse)
    with pytest.raises(SettingError, match="too large"):
        made.plan(context)


def test_a_plan_leaves_the_choices_of_a_run_alone(context: ExperimentContext, asked: list[tuple[Any, ...]]) -> None:
    context.budget = with_seeds(2, rates=3)
    made = Experiment(NOTES["buffer"], lambda c: tune_and_train(c, "a", {}), lambda *_: Findings(), lambda *_: [])
    assert len(made.plan(context)) == 5
    assert (asked, context.tunings) == ([], {})
    made.run(context)
    chosen = dict(context.tunings)
    assert list(chosen) == ["a"]
    assert len(made.plan(context)) == 5
    assert context.tunings == chosen


def test_a_tuned_arm_is_probed_on_the_seeds_that_count_alone(
    context: ExperimentContext, asked: list[tuple[Any, ...]]
) -> None:
    context.budget = with_seeds(2, rates=3)
    context.probes = {"p": lambda *given: None}
    tuned = tune_and_train(context, "a", {"weight_decay": 0.25}, base=0.03, probing={"probe": "p", "probes": 4})
    assert tuned.rate == pytest.approx(0.01)
    assert tuned.losses == [run.loss for run in tuned.runs] == pytest.approx([0.0, 0.0])
    rates = [trial.config.training.learning_rate for trial, *_ in asked]
    assert rates == pytest.approx([0.01, 0.03, 0.09, 0.01 / 3, 0.01, 0.01])
    assert [(trial.seed, trial.probe, trial.probes) for trial, *_ in asked] == [
        *[(1001, "", 0)] * 4, (1, "p", 4), (2, "p", 4),
    ]  # fmt: skip
    assert {trial.config.training.weight_decay for trial, *_ in asked} == {0.25}
    assert context.tunings["a"]["tried"] == [
        (pytest.approx(rate), pytest.approx((rate / 0.01 - 1) ** 2)) for rate in (0.01 / 3, 0.01, 0.03, 0.09)
    ]


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [1]), (2, [1 / 3, 1]), (3, [1 / 3, 1, 3]), (4, [1 / 9, 1 / 3, 1, 3])]
)
def test_the_grid_lies_around_its_base(context: ExperimentContext, count: int, expected: list[float]) -> None:
    context.budget = with_seeds(2, rates=count)
    rate = context.config.training.learning_rate
    assert LearningRateSearch(context, "a", {}, 0.5).grid == pytest.approx([0.5 * each for each in expected])
    assert LearningRateSearch(context, "a", {}).grid == pytest.approx([rate * each for each in expected])


def test_the_choice_of_the_rate_in_words(context: ExperimentContext) -> None:
    assert "not retuned" in tuning_words(context)
    context.budget = with_seeds(2, rates=3)
    context.config = context.config.with_values({"learning_rate": 0.03})
    assert "the best of 0.01, 0.03, 0.09 on a seed" in tuning_words(context)
    assert "up to 2 beyond" in tuning_words(context)
    tunings = {
        name: {"tried": [], "chosen": chosen, "at_the_edge": edge}
        for name, chosen, edge in (("a", 0.0123456, True), ("b", 0.5, False), ("c", 3.0, True))
    }
    assert edge_words(tunings) == ["At the edge of what was tried, the best learning rate of: a (0.0123); c (3)."]
    assert edge_words({"b": tunings["b"]}) == []


def test_a_result_that_cannot_be_read_or_kept_is_a_sentence(tmp_path: Path, context: ExperimentContext) -> None:
    kept = Store(tmp_path / "store", "text")
    kept.measured("buffer", "m", {}, lambda: 1)
    (path,) = (tmp_path / "store" / "measures").iterdir()
    path.unlink()
    path.mkdir()  # a folder where a file should be
    with pytest.raises(RunError, match=r"The result .* cannot be read \(Is a directory\)"):
        kept.measured("buffer", "m", {}, lambda: 1)
    (tmp_path / "file").write_text("")
    made: list[int] = []
    with pytest.raises(RunError, match=r"could not be made \(.+\); choose another --out"):
        Store(tmp_path / "file", "text").measured("buffer", "m", {}, lambda: made.append(1))
    with pytest.raises(RunError, match="choose another --out"):
        make_folder(tmp_path / "file" / "below")
    make_folder(tmp_path / "one" / "two")
    make_folder(tmp_path / "one" / "two")
    assert (tmp_path / "one" / "two").is_dir()


def test_a_damaged_result_is_made_again_and_one_whose_making_fails_is_not_there(tmp_path: Path) -> None:
    kept = Store(tmp_path, "text")
    kept.measured("buffer", "m", {}, lambda: [1])
    (path,) = (tmp_path / "measures").iterdir()
    path.write_text("[1")
    with pytest.raises(ZeroDivisionError):
        kept.measured("buffer", "m", {}, lambda: 1 / 0)
    assert not path.exists()
    assert kept.made == 1
    assert kept.measured("buffer", "m", {}, lambda: [2]) == [2]
    assert (kept.made, path.read_text()) == (2, "[2]")


@pytest.mark.parametrize("budget", ["glance", "coffee", "night"])
@pytest.mark.parametrize("name", [name for name in NOTES if name != "buffer"])
def test_a_run_asks_for_what_its_plan_says_and_a_plan_after_it_has_nothing_left(
    tmp_path: Path, name: str, budget: str, asked: list[tuple[Any, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With trainings that take no time; the base rate is the best, so that no grid is widened."""
    monkeypatch.setattr(
        "lightwell.lab.notes.batch_size.experiment.seconds_per_step",
        lambda trials, *_: {size: [float(size) ** 0.5] for size in trials},
    )
    monkeypatch.setattr(Session, "_seconds_per_token", lambda self: 0.0)

    def made() -> Session:
        settings = {"name": budget, "steps": 40, "rates": BUDGETS[budget].rates}
        return laboratory(tmp_path, name, budget=with_seeds(2, **settings))

    session = made()
    before = session.plan()[0]
    planned = experiment(name).plan(session.context(name)[1])
    _, context = session.context(name)
    heard: list[Trial] = []
    context.on_progress = heard.append
    experiment(name).trainings(context)
    after = made().plan()[0]
    assert (before.finished, before.trainings) == (0, len(planned))
    assert (after.finished, after.tokens, after.seconds) == (after.trainings, 0, 0.0)
    assert [trial for trial, *_ in asked] == heard
    unwidened = all(not tuning["at_the_edge"] for tuning in context.tunings.values())
    assert unwidened or budget == "glance" or name == "batch-size"
    if name != "batch-size":  # its rates are around others
        counted = {(trial.arm, trial.seed, trial.prefix_tokens) for trial in planned}
        assert {(trial.arm, trial.seed, trial.prefix_tokens) for trial in heard} == counted
        assert len(heard) == len(planned)
