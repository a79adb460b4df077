"""From a note to its card: what is planned, made, kept and written; and that nothing is made twice."""

from __future__ import annotations

import errno
import html.parser
import json
import math
import warnings
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lab_house import BRIEF, laboratory, with_seeds
from lightwell.errors import RunError, SettingError, TrainingError
from lightwell.lab import catalogue
from lightwell.lab.cards import page, shown
from lightwell.lab.cards.card import Card, bits_of_a_nat, make_card
from lightwell.lab.cards.figures import LACKING, draw_paired, drawable, drawing, new_figure, save_figure
from lightwell.lab.experiments import sources
from lightwell.lab.experiments.budget import budget_of
from lightwell.lab.experiments.context import ExperimentContext, differences
from lightwell.lab.experiments.experiment import Experiment, Findings, Picture
from lightwell.lab.experiments.rate_search import LearningRateSearch, tune_and_train
from lightwell.lab.experiments.setup import base_config, opened
from lightwell.lab.experiments.store import UNTRAINED, Store
from lightwell.lab.experiments.trial import Trained, Trial, train_trial
from lightwell.lab.session import Session, kept_cards
from lightwell.lab.verdicts.verdict import Claim, Law, Rule
from lightwell.training.runs.listener import Listener
from small import raising, system_error, write_text

NOTES = catalogue.notes()
RULE = Rule("lower", 0.02)


def trainings(context: ExperimentContext) -> list[list[Trained]]:
    return [context.trained(arm, activation=arm) for arm in ("relu", "gelu")]


def findings(context: ExperimentContext, trained: list[list[Trained]]) -> Findings:
    relu, gelu = trained
    gaps = differences([trained.loss for trained in relu], [trained.loss for trained in gelu])
    drawn = context.measure("drawn", lambda: [1, 2])
    return Findings(
        laws=[Law.near("one < two & so on", drawn[0], 1, 0)],
        claims=[Claim.of("relu is lower", RULE, gaps)],
        data={"gaps": gaps},
        timings={"relu": [trained.seconds for trained in relu]},
    )


def draw(data: Any, timings: Any) -> list[Picture]:
    figure = new_figure("The differences")
    draw_paired(figure.axes[0], [data["gaps"]], "black")
    return [Picture("gaps", 'Each seed\'s difference, "paired" & shown', figure)]


@pytest.fixture
def two_arms(monkeypatch: pytest.MonkeyPatch) -> None:
    """The note on activations with a small experiment in the place of its own."""
    made = Experiment(NOTES["activation"], trainings, findings, draw)
    monkeypatch.setattr("lightwell.lab.session.experiment", lambda name: made)


def once(session: Session) -> dict[str, Any]:
    session.plan()
    card: dict[str, Any] = json.loads(session.run(lambda card: None)[0].to_json())
    return card


@pytest.mark.usefixtures("two_arms")
def test_the_same_seed_gives_the_same_card_and_another_seed_another(tmp_path: Path) -> None:
    one, again = once(laboratory(tmp_path, "activation")), once(laboratory(tmp_path, "activation", out="other"))
    other = once(laboratory(tmp_path, "activation", out="third", seed=5))
    for card in (one, again, other):
        del card["timings"]
    assert json.dumps(one) == json.dumps(again)
    assert one["data"] != other["data"]


@pytest.mark.usefixtures("two_arms")
def test_nothing_is_made_twice(tmp_path: Path) -> None:
    first = laboratory(tmp_path, "activation")
    planned = first.plan()[0]
    assert (planned.arms, planned.seeds, planned.trainings, planned.finished) == (2, 2, 4, 0)
    assert planned.tokens == 4 * BRIEF.steps * 4 * 16
    card = once(first)
    assert first.store.made == 5
    second = laboratory(tmp_path, "activation")
    assert (second.plan()[0].finished, second.plan()[0].tokens) == (4, 0)
    assert once(second)["data"] == card["data"]
    assert second.store.made == 0


def planned(session: Session) -> tuple[Any, ...]:
    return astuple(session.plan()[0])


@pytest.mark.usefixtures("two_arms")
def test_a_plan_by_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Session, "_seconds_per_token", lambda self: 0.5)
    session = laboratory(tmp_path, "activation")
    tokens = 3 * 4 * 16  # steps, sequences, their length
    scored = 11 * 200 * 0.35
    assert planned(session) == ("activation", 2, 2, 4, 0, 4 * tokens, pytest.approx(0.5 * 4 * (tokens + scored)))
    _, context = session.context("activation")
    context.train(context.trial("gelu", 2, activation="gelu"))
    assert planned(session) == ("activation", 2, 2, 4, 1, 3 * tokens, pytest.approx(0.5 * 3 * (tokens + scored)))
    context.trained("relu", activation="relu")
    context.train(context.trial("gelu", 1, activation="gelu"))
    assert planned(session) == ("activation", 2, 2, 4, 4, 0, pytest.approx(0.0))


@pytest.mark.parametrize(
    ("name", "budget", "counts"),
    [
        ("batch-size", "glance", (4, 2, 8)), ("batch-size", "coffee", (7, 2, 35)),
        ("stride", "glance", (5, 2, 10)), ("stride", "coffee", (8, 2, 25)),
        ("self-attention", "glance", (4, 2, 8)), ("self-attention", "coffee", (6, 2, 30)),
        ("causal", "glance", (3, 2, 5)), ("causal", "coffee", (3, 2, 5)),
        ("dropout", "glance", (5, 2, 9)), ("dropout", "coffee", (9, 2, 41)),
        ("buffer", "glance", (0, 0, 0)),
        ("activation", "glance", (3, 2, 6)), ("activation", "coffee", (7, 2, 35)),
    ],
)  # fmt: skip
def test_what_each_note_plans(
    tmp_path: Path, name: str, budget: str, counts: tuple[int, int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arms, seeds and trainings; a quick measure takes the place of the pace, by which seconds become steps."""
    monkeypatch.setattr(Session, "_seconds_per_token", lambda self: 0.0)
    monkeypatch.setattr(
        "lightwell.lab.notes.batch_size.experiment.seconds_per_step",
        lambda trials, *_: {size: [float(size) ** 0.5] for size in trials},
    )
    settings = {"name": budget, "steps": 40, "rates": 1 if budget == "glance" else 3}
    plan = laboratory(tmp_path, name, budget=with_seeds(2, **settings)).plan()[0]
    assert (plan.arms, plan.seeds, plan.trainings) == counts


@pytest.mark.usefixtures("two_arms")
def test_a_stopped_session_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = once(laboratory(tmp_path, "activation", out="whole"))
    heard: list[float] = []

    def stop_after_two(done: float, of: float) -> None:
        heard.append(done)
        if len(heard) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        once(laboratory(tmp_path, "activation", on_progress=stop_after_two))
    session = laboratory(tmp_path, "activation")
    assert session.plan()[0].finished == 2
    assert once(session)["data"] == whole["data"]
    assert session.store.made == 3


@pytest.mark.usefixtures("two_arms")
def test_a_result_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    whole = once(laboratory(tmp_path, "activation"))
    damaged = next((tmp_path / "lab" / "trials").glob("*.json"))
    damaged.write_bytes(damaged.read_bytes()[:40])
    session = laboratory(tmp_path, "activation")
    (planned,) = session.plan()
    assert (planned.trainings, planned.finished) == (4, 3), "a plan trains nothing, and takes nothing for finished"
    assert once(session)["data"] == whole["data"]
    assert session.store.made == 1


@pytest.mark.usefixtures("two_arms")
def test_a_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = laboratory(tmp_path, "activation")
    monkeypatch.setattr("lightwell.atomic.write_file", raising(system_error(errno.ENOSPC)))
    with pytest.raises(RunError, match="No space left on device"):
        session.run(lambda card: None)


class Tags(html.parser.HTMLParser):
    """Counts what is open, and notes what a page asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br"):
            self.open.append(tag)
        self.note(attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.note(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def note(self, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]
        self.ids += [value or "" for name, value in attrs if name == "id"]


@pytest.mark.usefixtures("two_arms")
def test_the_files_of_a_card(tmp_path: Path) -> None:
    session = laboratory(tmp_path, "activation")
    once(session)
    folder = session.folder_of("activation")
    files = {"card.json", "card.md", "card.html", "gaps.svg", "gaps.png", "gaps-narrow.webp"}
    assert {path.name for path in folder.iterdir()} == files
    card = json.loads((folder / "card.json").read_text())
    assert card["verdict"]["exploratory"]
    markdown = (folder / "card.md").read_text()
    for words in (NOTES["activation"].sentence, "gaps.svg", "lightwell lab activation", NOTES["activation"].exercise):
        assert words in markdown
    assert f"{card['claims'][0]['points'][1]:+.4g}" in markdown
    for path in (folder / "card.html", tmp_path / "lab" / "index.html"):
        tags, text = Tags(), path.read_text()
        tags.feed(text)
        assert not tags.open
        assert all(link.startswith(("#", "data:image/webp;base64,")) for link in tags.links), (
            "a page that needs something else"
        )
        assert len(tags.ids) == len(set(tags.ids))
        assert "one &lt; two &amp; so on" in text
        assert "<svg" in text
    assert "activation-glance/card.md" in (tmp_path / "lab" / "index.md").read_text()


@pytest.mark.usefixtures("two_arms")
def test_the_index_keeps_the_cards_of_earlier_sessions(tmp_path: Path) -> None:
    once(laboratory(tmp_path, "buffer"))
    once(laboratory(tmp_path, "activation"))
    index, whole = tmp_path / "lab" / "index.md", tmp_path / "lab" / "index.html"
    assert "buffer-glance/card.md" in index.read_text()
    tags = Tags()
    tags.feed(whole.read_text())
    assert {"buffer-glance", "activation-glance"} <= set(tags.ids)
    assert len(tags.ids) == len(set(tags.ids)), "pictures of two cards share an id"
    (tmp_path / "lab" / "buffer-glance" / "card.json").write_text('{"note": "of another version"}')
    once(laboratory(tmp_path, "activation"))
    assert "buffer-glance" not in index.read_text()
    strange = json.loads((tmp_path / "lab" / "activation-glance" / "card.json").read_text())
    strange["note"]["name"] = "a note of another version"
    (tmp_path / "lab" / "buffer-glance" / "card.json").write_text(json.dumps(strange))
    (tmp_path / "lab" / "activation-glance" / "gaps.svg").unlink()
    assert kept_cards(tmp_path / "lab") == []


@pytest.mark.usefixtures("two_arms")
def test_a_card_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    for name, seeds in (("activation", 2), ("buffer", 1)):  # one seed: an interval without ends
        session = laboratory(tmp_path, name, budget=with_seeds(seeds))
        card = session.run(lambda card: None)[0]
        text = (session.folder_of(name) / "card.json").read_text()
        again = Card.from_dict(json.loads(text))
        assert again.to_json() == text
        assert shown.plain(again) == shown.plain(card)
        assert shown.markdown(again) == shown.markdown(card)


@pytest.mark.usefixtures("two_arms")
def test_cards_of_another_preset_seed_or_text_have_a_folder_of_their_own(tmp_path: Path) -> None:
    plain = laboratory(tmp_path, "activation")
    once(plain)
    other = laboratory(tmp_path, "activation")
    assert other.folder_of("activation") == plain.folder_of("activation")
    other.preset, other.seed = "tiny", 7
    assert other.folder_of("activation").name == "activation-glance-tiny-seed-7"
    another = laboratory(tmp_path / "more", "activation", documents=30)
    another.folder = plain.folder
    assert another.folder_of("activation").name == f"activation-glance-{another.corpus.digest[:8]}"


class Row(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.cells: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "tr":
            self.cells.append(0)
        elif tag in ("td", "th"):
            self.cells[-1] += 1


def test_signs_of_a_user_s_text_do_not_break_a_card(tmp_path: Path) -> None:
    _, context = laboratory(tmp_path).context("buffer")
    laws = [Law.above("R^2 of |G_B|^2 against <b>1/B</b>", 0.99, 0.98), Law.fact("it moves", False, False)]
    claims = [Claim.of("a|b `c", RULE, [0.1, 0.2]), Claim.of("_d_ *e*", RULE, [0.1, 0.2], beside=True)]
    findings = Findings(laws=laws, claims=claims, remarks=["written: <script>|`$x$"])
    card = make_card(NOTES["buffer"], findings, context, [], "lightwell lab buffer", 1.0)
    tables = [line for line in shown.markdown(card).splitlines() if line.startswith("|")]
    assert len(tables) == 3 + 3 + 4
    assert {line.replace("\\|", "").count("|") for line in tables} == {5}
    assert "<script>" not in shown.markdown(card).replace("\\<", "")
    whole = page.page([(card, tmp_path)], "a")
    row = Row()
    row.feed(whole)
    assert set(row.cells) == {2, 3, 4}  # claims, their seeds, and laws
    assert "<script>" not in whole
    assert "no (expected: no)" in shown.plain(card)
    assert "bits per byte" in shown.plain(card)
    assert "written: <script>" in shown.plain(card)


def test_a_dollar_sign_and_a_sign_without_a_glyph_are_drawn(tmp_path: Path) -> None:
    with drawing(), warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = new_figure("of signs", "\u2260")
        figure.axes[0].set_title(drawable("$^$ $$ \u65e5 a\u00df"))
        save_figure(figure, tmp_path, "a")
    assert drawable("$\u65e5a") == rf"\${LACKING}a"


def test_a_training_that_diverges_is_made_once_and_other_notes_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverging(context: ExperimentContext) -> Trained:
        return context.train(context.trial("a", 1, learning_rate=1e30))

    def never(context: ExperimentContext, trained: Trained) -> Findings:
        raise AssertionError("it trained")

    made = {
        "buffer": Experiment(NOTES["buffer"], diverging, never, draw),
        "activation": Experiment(NOTES["activation"], trainings, findings, draw),
    }
    monkeypatch.setattr("lightwell.lab.session.experiment", made.__getitem__)
    for times in (1, 2):
        session = laboratory(tmp_path, "buffer", "activation")
        session.plan()
        with pytest.raises(TrainingError, match="No card for buffer: The gradient of arm a"):
            session.run(lambda card: None)
        assert [card.note.name for card in session.cards] == ["activation"]
        assert session.store.made == (6 if times == 1 else 0)


def test_each_module_of_the_experiments_either_measures_or_does_not() -> None:
    """A new module has to be put on one side, so that its results are made again when it changes."""
    judging = {"__init__", "budget", "context", "experiment", "note", "rate_search", "setup", "sources", "store"}
    there = {path.stem for path in Path(sources.__file__).parent.glob("*.py")}
    assert there == judging | set(sources.INSTRUMENTS)
    assert not judging & set(sources.INSTRUMENTS)


def test_a_change_of_a_note_s_measures_changes_its_key_alone() -> None:
    assert len({sources.sources_of(note) for note in ("", *NOTES)}) == 8


def test_a_vocabulary_that_the_text_does_not_support_is_made_smaller(tmp_path: Path) -> None:
    said: list[str] = []

    class Heard(Listener):
        def say(self, sentence: str) -> None:
            said.append(sentence)

    config = base_config([str(write_text(tmp_path / "text", documents=40))], "", "", BRIEF)
    config, corpus = opened(config.with_values({"vocab_size": 4000}), Heard())
    assert 257 <= config.model.vocab_size == corpus.tokenizer.vocab_size < 4000
    assert any(f"The vocabulary has {config.model.vocab_size:,} tokens" in sentence for sentence in said)


def test_a_number_that_is_none_leaves_the_card_whole(tmp_path: Path) -> None:
    _, context = laboratory(tmp_path).context("buffer")
    laws = [Law.near("a", math.nan, 1.0, 0.1)]
    findings = Findings(laws=laws, data={"a": [math.inf, (1.0, math.nan)]}, timings={"b": -math.inf})
    card = make_card(NOTES["buffer"], findings, context, [], "lightwell lab buffer", 1.0)
    values = json.loads(card.to_json())
    assert (values["data"], values["timings"]["b"]) == ({"a": [None, [1.0, None]], "learning_rates": {}}, None)
    assert values["verdict"]["kind"] == "contradicted"


def test_a_plain_training_serves_every_note_and_another_setting_makes_another(tmp_path: Path) -> None:
    session = laboratory(tmp_path)
    _, context = session.context("buffer")
    one = context.trained("a")
    session.store.made = 0
    same = ExperimentContext("dropout", context.config, context.corpus, context.budget, context.store)
    assert same.trained("called otherwise") == one
    assert session.store.made == 0
    assert same.trained("a", residual_dropout=0.5)[0].loss != one[0].loss
    assert not Store(session.folder, "another text").has_trained("buffer", context.trial("a", 1))


def test_arms_share_initialisation_order_and_tokens(tmp_path: Path) -> None:
    _, context = laboratory(tmp_path).context("buffer")
    one, other = context.train(context.trial("a", 1)), context.train(context.trial("b", 1, learning_rate=1e-9))
    assert one.batch_losses[0] == other.batch_losses[0]
    assert one.loss != other.loss
    assert context.train(context.trial("a", 2)).batch_losses[0] != one.batch_losses[0]


def planned_rates(context: ExperimentContext, base: float = 1e-4) -> list[float]:
    """The learning rates of all trainings that a plan of one tuned arm counts."""
    tuned = Experiment(
        NOTES["buffer"], lambda context: tune_and_train(context, "a", {}, base), lambda *_: Findings(), draw
    )
    return [rate_of(trial) for trial in tuned.plan(context)]


def rate_of(trial: Trial) -> float:
    return trial.config.training.learning_rate


def test_the_learning_rate_is_chosen_on_a_seed_that_does_not_count(tmp_path: Path) -> None:
    _, context = laboratory(tmp_path, budget=with_seeds(2, steps=12, rates=3)).context("buffer")
    search = LearningRateSearch(context, "a", {}, base=1e-4)
    assert search.trial(1.0).seed not in context.seeds
    assert search.grid == pytest.approx([1e-4 / 3, 1e-4, 3e-4])
    assert planned_rates(context) == pytest.approx([1e-4 / 3, 1e-4, 3e-4, 1e-4, 1e-4])  # nothing is finished
    assert context.store.made == 0
    assert search.best() == pytest.approx(2.7e-3)  # the base is far below the best, so that the grid is widened
    assert list(search.losses()) == pytest.approx([1e-4 / 3, 1e-4, 3e-4, 9e-4, 2.7e-3])
    assert planned_rates(context) == pytest.approx([1e-4 / 3, 1e-4, 3e-4, 2.7e-3, 2.7e-3])
    assert context.store.made == 5


def test_a_rate_at_which_training_diverges_is_not_the_best_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, context = laboratory(tmp_path, budget=with_seeds(2, rates=3)).context("buffer")
    train = context.train

    def diverging(trial: Trial, **settings: Any) -> Trained:
        if rate_of(trial) > 2e-4:
            raise TrainingError("The loss is inf.")
        return train(trial, **settings)

    monkeypatch.setattr(context, "train", diverging)
    assert LearningRateSearch(context, "a", {}, base=1e-4).best() == pytest.approx(1e-4)


def test_a_plan_knows_of_a_rate_that_diverged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverging(trial: Trial, *rest: Any) -> Trained:
        if rate_of(trial) > 2e-4:
            raise TrainingError("The loss is inf.")
        return train_trial(trial, *rest)

    monkeypatch.setattr("lightwell.lab.experiments.context.train_trial", diverging)
    _, context = laboratory(tmp_path, budget=with_seeds(2, rates=3)).context("buffer")
    assert LearningRateSearch(context, "a", {}, base=1e-4).best() == pytest.approx(1e-4)
    made = context.store.made
    assert planned_rates(context) == pytest.approx([1e-4 / 3, 1e-4, 3e-4, 1e-4, 1e-4])
    assert context.store.made == made


@pytest.mark.parametrize(
    ("best", "tried"),
    [(1.0, [1 / 3, 1, 3]), (3.0, [1 / 3, 1, 3, 9]), (0.12, [1 / 27, 1 / 9, 1 / 3, 1, 3]), (1e9, [1 / 3, 1, 3, 9, 27])],
)  # fmt: skip
def test_a_grid_is_widened_until_its_best_lies_inside_or_enough_is_enough(
    best: float, tried: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []

    def planted(trial: Trial, *, planned: bool) -> Trained:
        asked.append(rate_of(trial))
        return replace(UNTRAINED, loss=abs(math.log(rate_of(trial) / best)))

    _, context = laboratory(tmp_path, budget=with_seeds(2, rates=3)).context("buffer")
    monkeypatch.setattr(context, "train", planted)
    search = LearningRateSearch(context, "a", {}, base=1.0)
    losses = search.losses()
    assert list(losses) == pytest.approx(tried)
    assert list(losses.values()) == pytest.approx([abs(math.log(rate / best)) for rate in tried])
    assert sorted(asked) == pytest.approx(tried)  # each once
    chosen = min(tried, key=lambda rate: abs(math.log(rate / best)))
    assert search.best() == pytest.approx(chosen)
    assert context.tunings["a"]["at_the_edge"] == (chosen in (min(tried), max(tried)))


def test_a_rate_that_diverges_in_its_last_update_is_not_chosen_nor_asked_for_again(tmp_path: Path) -> None:
    _, context = laboratory(tmp_path, budget=with_seeds(2, steps=1, rates=3)).context("buffer")
    search = LearningRateSearch(context, "a", {"warmup_steps": 0}, base=1e38)
    losses = search.losses()
    assert losses[max(losses)] == math.inf
    assert all(not math.isnan(loss) for loss in losses.values())
    made = context.store.made
    assert made == len(losses)
    assert search.losses() == losses
    assert context.store.made == made
    assert 1e38 in planned_rates(context, base=1e38)


def test_a_budget_with_one_rate_tries_none(tmp_path: Path) -> None:
    _, context = laboratory(tmp_path).context("buffer")
    search = LearningRateSearch(context, "a", {}, base=0.125)
    assert (search.losses(), search.best(), context.tunings) == ({}, 0.125, {})
    assert LearningRateSearch(context, "a", {}).best() == context.config.training.learning_rate
    assert context.store.made == 0


def test_progress_counts_the_trainings_that_widen_a_grid(tmp_path: Path) -> None:
    heard: list[tuple[float, float]] = []
    budget = with_seeds(2, steps=4, rates=3)
    session = laboratory(tmp_path, "dropout", budget=budget, on_progress=lambda *tokens: heard.append(tokens))
    planned = session.plan()[0].tokens
    session.run(lambda card: None)
    assert heard[-1][0] == heard[-1][1] > planned  # so small a model and so few steps want higher rates
    assert all(done < of for done, of in heard[:-1])


def test_unknown_names_are_refused_with_the_nearest() -> None:
    with pytest.raises(SettingError, match="Did you mean stride"):
        catalogue.experiment("strid")
    with pytest.raises(SettingError, match="Did you mean coffee"):
        budget_of("cofee")


@pytest.mark.parametrize("name", NOTES)
def test_the_code_that_a_note_names_is_there(name: str) -> None:
    note = NOTES[name]
    source = (Path(__file__).parents[2] / "src" / "lightwell" / note.file).read_text()
    last = note.function.rpartition(".")[2]
    assert any(f"{word} {last}{end}" in source for word, end in (("def", "("), ("class", "("), ("class", ":")))


@pytest.mark.parametrize("name", NOTES)
def test_no_word_of_a_note_is_torn(name: str) -> None:
    for words in NOTES[name].to_dict().values():
        assert "- " not in words.replace(" - ", "")
        assert "  " not in words


def test_figures_have_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with drawing():
            figure = draw({"gaps": [0.1, 0.2]}, {})[0].figure
        save_figure(figure, tmp_path, name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_nat_in_bits_per_byte_is_of_the_held_out_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, context = laboratory(tmp_path).context("buffer")
    lengths = 1.0 + np.arange(context.corpus.tokenizer.vocab_size)  # another number of bytes for every token
    monkeypatch.setattr("lightwell.lab.cards.card.true_byte_lengths", lambda tokens, byte_lengths: lengths)
    tokens = context.corpus.held_out
    counted = tokens.take(np.arange(1, min(context.config.training.eval_tokens + 1, len(tokens))))
    assert bits_of_a_nat(context) == pytest.approx(len(counted) / (math.log(2) * lengths[counted].sum()), rel=1e-9)
