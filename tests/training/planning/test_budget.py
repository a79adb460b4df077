"""The model for a time: more time never means a smaller one, and what was weighed is told."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from lightwell.corpus.corpus import Corpus, prepare
from lightwell.errors import SettingError
from lightwell.training.planning import budget
from lightwell.training.planning.budget import choose
from lightwell.training.planning.deadline import FIRST_STEPS, ending_seconds
from lightwell.training.planning.plan import Measured, flops_per_step
from lightwell.training.planning.resolve import make_loader, resolve
from lightwell.training.planning.scaling_law import SMALL_MODELS
from lightwell.training.runs.listener import Listener
from lightwell.training.settings.compose import compose
from lightwell.training.settings.config import RunConfig
from small import write_text

SPEED = 1e11  # model FLOPs in a second of the machine that these tests pretend to measure


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    folder = write_text(tmp_path_factory.mktemp("corpus") / "text", documents=40)
    return prepare(compose((str(folder),), settings={"tokenizer": "byte"}).text, 0)


@pytest.fixture
def pretended(monkeypatch: pytest.MonkeyPatch) -> list[RunConfig]:
    """Measurements that follow from the FLOPs alone; the list has what was measured."""
    measured: list[RunConfig] = []

    def measure(config: RunConfig, loader: Any, trials: int) -> Measured:
        measured.append(config)
        return Measured(flops_per_step(config) / SPEED, 10**6, 8 * config.model.parameter_count())

    monkeypatch.setattr(budget, "measure", measure)
    return measured


def automatic(minutes: float, **settings: Any) -> RunConfig:
    return compose(settings={"minutes": minutes, "vocab_size": 257, **settings})


def test_minutes_alone_leave_the_size_open_and_any_size_closes_it() -> None:
    assert automatic(1).training.size == "auto"
    assert automatic(1, n_layers=2).training.size == "given"
    assert compose(preset_name="tiny", settings={"minutes": 1}).training.size == "given"
    assert compose(settings={"steps": 5}).training.size == "given"
    with pytest.raises(SettingError, match="size is auto"):
        compose(settings={"steps": 5, "size": "auto"})
    with pytest.raises(SettingError, match="chooses d_model"):
        compose(settings={"minutes": 5, "size": "auto", "d_model": 64})


def test_more_time_means_no_smaller_model(corpus: Corpus, pretended: list[RunConfig]) -> None:
    sizes = [
        choose(automatic(minutes), corpus, time.monotonic() + 60 * minutes, make_loader)[0].parameters
        for minutes in (0.5, 5, 500)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_the_lowest_prediction_is_chosen_and_larger_ones_are_not_measured_for_long(
    corpus: Corpus, pretended: list[RunConfig]
) -> None:
    best, candidates = choose(automatic(1), corpus, time.monotonic() + 60, make_loader)
    assert best.loss == min(candidate.loss for candidate in candidates)
    assert len(pretended) == len(candidates) <= candidates.index(best) + 4  # two larger ones, and a longer context
    assert best.steps * flops_per_step(best.config) / SPEED < 60
    assert best.row()["steps"] == best.steps


def test_no_memory_and_no_time_are_told(
    corpus: Corpus, pretended: list[RunConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SettingError, match="too short"):
        choose(automatic(0.05), corpus, time.monotonic() + 3.1, make_loader)
    monkeypatch.setattr(budget, "available_memory", lambda device: 10**6)
    with pytest.raises(SettingError, match="memory"):
        choose(automatic(1), corpus, time.monotonic() + 60, make_loader)


def follow(monkeypatch: pytest.MonkeyPatch, curve: dict[tuple[int, int], float], contexts: dict[int, float]) -> None:
    """Predict these losses: by number of layers and width, and what is added for a context."""
    by_parameters = {12 * n_layers * d_model**2: loss for (n_layers, d_model), loss in curve.items()}

    def loss(*, parameters: int, tokens: float, unique_tokens: float, context_length: int) -> float:
        return by_parameters[parameters] + contexts[context_length]

    monkeypatch.setattr(budget, "SMALL_MODELS", SimpleNamespace(loss=loss))
    monkeypatch.setattr(budget, "available_memory", lambda device: 10**15)


@pytest.mark.parametrize(
    ("losses", "contexts", "measured", "chosen"),
    [
        ([5.0, 4.0, 4.5, 3.0, 3.5, 3.6, 1.0], {128: 0.0, 256: -0.1, 512: -0.2}, 8, (3, 192, 512)),
        ([5.0, 4.0, 4.5, 3.0, 3.5, 3.6, 1.0], {128: 0.0, 256: 0.1, 512: -0.2}, 7, (3, 192, 128)),
        ([5.0, 4.0, 4.5, 3.0, 3.5, 3.6, 1.0], {128: 0.0, 256: -0.2, 512: -0.1}, 8, (3, 192, 256)),
        ([5.0, 5.1, 5.2, 1.0], {128: 0.0, 256: 0.1}, 4, (1, 128, 128)),
    ],
    ids=["a bump, and the longest context", "a longer context is worse", "the longest is worse", "two worse end it"],
)
def test_the_search_goes_over_a_bump_and_ends_at_two_worse_shapes_or_one_worse_context(
    corpus: Corpus,
    pretended: list[RunConfig],
    monkeypatch: pytest.MonkeyPatch,
    losses: list[float],
    contexts: dict[int, float],
    measured: int,
    chosen: tuple[int, int, int],
) -> None:
    follow(monkeypatch, dict(zip(budget.SHAPES, losses, strict=False)), contexts)
    best, candidates = choose(automatic(500), corpus, time.monotonic() + 60 * 500, make_loader)
    assert len(pretended) == len(candidates) == measured
    assert (best.config.model.n_layers, best.config.model.d_model, best.config.model.context_length) == chosen


def test_a_candidate_is_predicted_from_its_parameters_tokens_and_passes(
    corpus: Corpus, pretended: list[RunConfig]
) -> None:
    _, candidates = choose(automatic(5), corpus, time.monotonic() + 300, make_loader)
    text = len(corpus.train.tokens)
    assert len(candidates) > 2
    for candidate in candidates:
        model, tokens = candidate.config.model, candidate.steps * budget.BATCH * candidate.config.model.context_length
        assert candidate.parameters == model.parameter_count()
        assert candidate.epochs == tokens / text > 1
        assert candidate.loss == SMALL_MODELS.loss(
            parameters=12 * model.n_layers * model.d_model**2,
            tokens=tokens,
            unique_tokens=text,
            context_length=model.context_length,
        )
        assert candidate.memory_bytes == (12 + 16) * candidate.parameters + 10**6
        assert candidate.config.training.eval_every == max(1, candidate.steps // 5)
        assert candidate.config.training.checkpoint_every == candidate.config.training.eval_every


@pytest.mark.parametrize(("missing", "measured"), [(0, 3), (2, 2)])  # bytes
def test_what_does_not_fit_into_seven_tenths_of_the_memory_is_not_measured(
    corpus: Corpus, pretended: list[RunConfig], monkeypatch: pytest.MonkeyPatch, missing: int, measured: int
) -> None:
    n_layers, d_model = budget.SHAPES[2]
    third = automatic(5).with_values({"n_layers": n_layers, "d_model": d_model, "n_heads": d_model // 64})
    needed = 28 * third.model.parameter_count() + 2 * 10**6  # twice the activations of the one before
    monkeypatch.setattr(budget, "available_memory", lambda device: (needed - missing) / 0.7 + 0.1)
    choose(automatic(5), corpus, time.monotonic() + 300, make_loader)
    shapes = [(config.model.n_layers, config.model.d_model) for config in pretended]
    assert shapes[:measured] == list(budget.SHAPES[:measured])
    assert budget.SHAPES[measured] not in shapes


def test_what_the_user_sets_is_left_alone(corpus: Corpus, pretended: list[RunConfig]) -> None:
    ends = time.monotonic() + 60
    usual, _ = choose(automatic(1), corpus, ends, make_loader)
    assert (usual.config.training.sample_every, usual.config.batches.micro_batch_size) == (0, 0)
    own, _ = choose(automatic(1, eval_every=7, sample_every=9, checkpoint_every=11), corpus, ends, make_loader)
    training = own.config.training
    assert (training.eval_every, training.sample_every, training.checkpoint_every) == (7, 9, 11)
    assert automatic(1, micro_batch_size=4).training.size == "given"


def test_a_text_shorter_than_the_usual_context_gets_a_shorter_one(tmp_path: Path, pretended: list[RunConfig]) -> None:
    (tmp_path / "short.txt").write_text("A short text. " * 8)
    short = prepare(compose((str(tmp_path / "short.txt"),), settings={"tokenizer": "byte"}).text, 0)
    best, _ = choose(automatic(1), short, time.monotonic() + 60, make_loader)
    assert best.config.model.context_length == len(short.train.tokens) - 1


def test_the_choice_is_told_and_resolved(corpus: Corpus, pretended: list[RunConfig]) -> None:
    told: list[tuple[list[dict[str, float]], int]] = []

    class Hears(Listener):
        def chose(self, rows: list[dict[str, float]], best: int) -> None:
            told.append((rows, best))

    config, _ = resolve(automatic(1, tokenizer="byte"), corpus, Hears())
    rows, best = told[0]
    assert (config.training.size, config.training.minutes) == ("given", 0)
    assert (config.model.n_layers, config.model.d_model) == (rows[best]["n_layers"], rows[best]["d_model"])
    assert config.training.steps == rows[best]["steps"]


def test_what_no_longer_fits_after_looking_is_left_out_and_looking_has_an_end(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = {"now": 0.0}

    def measure(config: RunConfig, loader: Any, trials: int) -> Measured:
        seconds = flops_per_step(config) / 3e9
        clock["now"] += (trials + 1) * seconds
        return Measured(seconds, 10**6, 8 * config.model.parameter_count())

    monkeypatch.setattr(budget, "measure", measure)
    monkeypatch.setattr("lightwell.training.planning.budget.time", SimpleNamespace(monotonic=lambda: clock["now"]))
    for minutes in (1, 3, 30):
        clock["now"] = 0.0
        best, candidates = choose(automatic(minutes), corpus, 60.0 * minutes, make_loader)
        smallest = 3 * flops_per_step(candidates[0].config) / 3e9
        assert clock["now"] <= smallest + budget.SEARCH_SHARE * 60 * minutes
        assert best in candidates


def test_evaluations_count_as_time(corpus: Corpus) -> None:
    """Also for a schedule whose number of steps cannot follow the clock."""
    config = automatic(1, schedule="cosine", eval_tokens=64_000, compile="off", precision="fp32")
    measured = Measured(0.1, 0, 0)
    held_out = len(corpus.held_out.tokens)
    rare = budget.fit(config.with_values({"eval_every": 0}), measured, 60.0, held_out).training.steps
    often = budget.fit(config.with_values({"eval_every": 1}), measured, 60.0, held_out).training.steps
    tokens = config.batches.batch_size * config.model.context_length
    evaluation, ending = 0.1 / 3 * held_out / tokens, ending_seconds(config.model.parameter_count())
    assert rare == pytest.approx((60.0 - ending - 2 * evaluation) / 0.1, abs=2)
    assert often == pytest.approx((60.0 - ending - 2 * evaluation) / (0.1 + evaluation), abs=2)


def test_with_time_the_context_grows_as_long_as_it_leaves_enough_steps(
    corpus: Corpus, pretended: list[RunConfig]
) -> None:
    def chosen(minutes: float) -> RunConfig:
        return choose(automatic(minutes), corpus, time.monotonic() + 60 * minutes, make_loader)[0].config

    little, much = chosen(0.5), chosen(500)
    assert little.model.context_length < much.model.context_length
    assert much.training.steps >= budget.ENOUGH_STEPS


def test_two_evaluations_are_left_out_of_the_time_and_the_fewest_steps_still_fit() -> None:
    """A step takes a tenth of a second; an evaluation of the tokens of 30 steps, a third of learning from them, one."""
    config = automatic(1, eval_tokens=30 * 16 * 128, eval_every=0, compile="off", precision="fp32")
    beside = ending_seconds(config.model.parameter_count()) + 2 * 1.0

    def steps(seconds: float) -> int:
        return budget.fit(config, Measured(0.1, 0, 0), beside + seconds, held_out=10**6).training.steps

    assert steps(5.05) == 50
    assert steps(0.55) == FIRST_STEPS
    with pytest.raises(SettingError, match="too short"):
        steps(0.45)


def test_compiling_is_waited_for_and_pays_afterwards() -> None:
    config = automatic(1, eval_tokens=1, eval_every=0, compile="on", precision="fp32")
    beside = ending_seconds(config.model.parameter_count())
    found = budget.fit(config, Measured(0.135, 0, 0), beside + 30 + 5.05, held_out=10**6).training
    assert (found.steps, found.compile) == (50, "on")
    with pytest.raises(SettingError, match=r"1 minutes are .*: 0 s are left of them, and a step takes 0.14 s"):
        budget.fit(config, Measured(0.135, 0, 0), -5.0, held_out=10**6)


def test_whether_to_compile_is_asked_with_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def answer(*question: Any) -> str:
        asked.append(question)
        return "off"

    monkeypatch.setattr(budget, "compile_in_time", answer)
    config = automatic(1, eval_tokens=30 * 16 * 128, compile="auto", precision="bf16", device="cpu")
    budget.fit(config, Measured(0.1, 0, 0), 20 + ending_seconds(config.model.parameter_count()), held_out=10**6)
    choice, device, precision, eager, left = asked[0]
    assert (choice, device.type, precision, eager) == ("auto", "cpu", "bf16", 0.1)
    assert left == pytest.approx(20 - 2)


@pytest.mark.parametrize(("steps", "measured"), [(1999, 4), (2000, 5)])
def test_a_longer_context_needs_a_thousand_steps(
    corpus: Corpus, pretended: list[RunConfig], monkeypatch: pytest.MonkeyPatch, steps: int, measured: int
) -> None:
    def fit(config: RunConfig, *_: Any) -> RunConfig:
        of_the_context = steps * 128 // config.model.context_length
        return config.with_values({"steps": of_the_context, "compile": "off"})

    monkeypatch.setattr(budget, "fit", fit)
    losses = dict(zip(budget.SHAPES, [5.0, 4.0, 4.1, 4.2], strict=False))
    follow(monkeypatch, losses, {128: 0.0, 256: -0.1, 512: -0.2})
    _, candidates = choose(automatic(5), corpus, time.monotonic() + 300, make_loader)
    assert len(candidates) == measured  # 512 would leave 500


@pytest.mark.parametrize(("more", "measured"), [(1e-6, 2), (-1e-6, 1)])
def test_the_search_may_take_eight_hundredths_of_the_time(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, more: float, measured: int
) -> None:
    """Two timed micro-batches and one before them, as slow as the FLOPs say."""
    config = automatic(5, compile="off")
    first, second = (budget._shaped(config, corpus, *shape, 128) for shape in budget.SHAPES[:2])
    monkeypatch.setattr(budget, "measure", lambda *_: Measured(1.0, 0, 0))
    monkeypatch.setattr(budget, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    share = 3 * flops_per_step(second) / flops_per_step(first)
    _, candidates = choose(config, corpus, 1000.0 + share * (1 + more) / 0.08, make_loader)
    assert len(candidates) == measured
    assert candidates[0].config.model.n_heads == 2
    assert candidates[0].tokens_per_second == 16 * 128


def test_a_row_has_every_figure_of_its_candidate() -> None:
    config = automatic(5, compile="off").with_values({"n_layers": 3, "d_model": 192, "n_heads": 3, "steps": 77})
    row = budget.Candidate(config, 11, 2.5, 13, 1.5, 3.5).row()
    assert row == {
        "n_layers": 3, "d_model": 192, "context_length": 128, "batch_size": 16, "parameters": 11,
        "tokens_per_second": 2.5, "memory_bytes": 13, "steps": 77, "epochs": 1.5, "predicted_loss": 3.5,
    }  # fmt: skip
