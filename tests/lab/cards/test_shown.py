"""A card in words and files, by value: intervals, outcomes, the machine, its folder, and what makes up its kind."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from lab_house import laboratory, with_seeds
from lightwell.cli.commands.lab import verdict_table
from lightwell.errors import RunError, SettingError, TrainingError
from lightwell.lab.cards import page, shown
from lightwell.lab.cards.card import WORDS, Card, bits_of_a_nat, make_card, provenance
from lightwell.lab.cards.figures import draw_paired, drawing, new_figure, save_figure, stacking
from lightwell.lab.catalogue import experiment, notes
from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.experiment import Experiment, Findings, Picture
from lightwell.lab.session import Session, cost_of, kept_card, kept_cards, note_plan, write_card
from lightwell.lab.verdicts.verdict import Claim, Law, Rule

NOTES = notes()
NATS, SHARE = Rule("lower", 0.02), Rule("higher", 0.02, "of the values")
LOWER = [-0.10, -0.11, -0.09, -0.10, -0.12, -0.10]


@pytest.fixture
def context(tmp_path: Path) -> ExperimentContext:
    return laboratory(tmp_path, budget=with_seeds(6)).context("buffer")[1]


def card_of(context: ExperimentContext, *claims: Claim, laws: Any = (), pictures: Any = (), **others: Any) -> Card:
    findings = Findings(laws=laws, claims=claims, remarks=["one remark"], **others)
    return make_card(NOTES["buffer"], findings, context, pictures, "lightwell lab buffer", 2.5)


def test_an_interval_and_its_points_in_words() -> None:
    claim = Claim.of("", NATS, LOWER)
    low, high = claim.verdict.low, claim.verdict.high
    assert shown.interval(claim, 0.5) == (f"-0.1033 [{low:+.4g}, {high:+.4g}] nats per token (-0.0517 bits per byte)")
    assert shown.interval(Claim.of("", SHARE, [0.5] * 6), 0.5) == "+0.5 [+0.5, +0.5] of the values"
    assert shown.interval(Claim.of("", NATS, [0.25]), 0.5) == "+0.25"
    assert shown.interval(Claim.of("", SHARE, [0.25, 0.25]), 0.5) == "+0.25 [+0.25, +0.25] of the values"
    assert shown.points(Claim.of("", NATS, [0.123456, -2.0])) == "+0.1235, -2"


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (LOWER, "supported: 0.103 nats per token lower"),
        (LOWER[:3], "supported (exploratory): 0.1 nats per token lower"),
        ([-each for each in LOWER[:3]], "contradicted (exploratory): 0.1 nats per token higher"),
        ([0.001] * 3, "no difference larger than 0.02 nats per token"),
        ([0.001] * 6, "no difference larger than 0.02 nats per token"),
        ([0.5], "not settled: a single run says nothing about how much runs differ"),
    ],
)
def test_an_outcome_in_words(points: list[float], words: str) -> None:
    assert shown.outcome(Claim.of("", NATS, points)) == words


def test_tables_are_of_claims_that_decide_then_those_beside_then_laws(context: ExperimentContext) -> None:
    about, beside = Claim.of("about", NATS, LOWER), Claim.of("beside", SHARE, [0.5] * 6, beside=True)
    laws = [Law.near("a law", 1.5, 1.0, 0.5), Law.fact("a fact", False, True)]
    card = card_of(context, beside, about, laws=laws)
    tables = shown.tables(card)
    assert [head[0] for head, _ in tables] == ["what the note claims", "beside the note", "law"]
    assert [[row[0] for row in rows] for _, rows in tables] == [["about"], ["beside"], ["a law", "a fact"]]
    assert tables[0][1][0][1:] == [shown.interval(about, card.bits), shown.points(about), shown.outcome(about)]
    assert tables[2][1] == [["a law", "1.5", "1 within 0.5", "holds"], ["a fact", "no", "yes", "broken"]]
    assert [head[0] for head, _ in shown.tables(card_of(context, about))] == ["what the note claims"]
    plain = shown.plain(card)
    assert plain.index("about") < plain.index("Beside the note:") < plain.index("a law: 1.5 (expected: 1 within 0.5)")
    assert "holds  a law" in plain
    assert "BROKEN  a fact: no (expected: yes)" in plain
    assert f"{shown.interval(beside, card.bits)}: {shown.outcome(beside)}" in " ".join(plain.split())
    assert "Beside" not in shown.plain(card_of(context, about))
    html = page.page([(card, Path("a-folder"))], "A <title>")
    assert html.count('<td class="broken" data-head="outcome">broken</td>') == 1
    assert '<span class="verdict contradicted">Contradicted</span>' in html
    assert "<title>A &lt;title&gt;</title>" in html
    assert '<article id="a-folder">' in html


def test_the_reason_of_a_verdict_is_broken_laws_then_claims_then_laws(context: ExperimentContext) -> None:
    held, broken = Law.near("a law", 1.0, 1.0, 0.5), Law.fact("a fact", False, True)
    yes, no = Claim.of("yes", NATS, LOWER), Claim.of("no", NATS, [-each for each in LOWER])
    beside = dataclasses.replace(no, beside=True)
    for claims, laws, words in (
        ([yes, no], [held, broken], "Broken: a fact: no, expected yes."),
        ([yes, beside], [held], "yes (0.103 nats per token lower)."),
        ([no, yes], [], "Supported: yes (0.103 nats per token lower). Contradicted: no (0.103 nats per token higher)."),
        ([beside], [held, held], "All 2 laws hold, the first of them: a law: 1."),
        ([], [], ""),
    ):
        card = card_of(context, *claims, laws=laws)
        assert shown.reason(card) == words
        assert words in shown.markdown(card).replace("\\", "")
        assert words in page.page([(card, Path("a"))], "")


def test_several_notes_end_in_a_table_with_a_row_for_each(context: ExperimentContext) -> None:
    yes, no, few = Claim.of("", NATS, LOWER), Claim.of("", NATS, [0.3] * 6), Claim.of("", NATS, LOWER[:3])
    laws = [Law.fact("a fact", True, True), Law.fact("another", True, True)]
    cards = [
        card_of(context, yes, no, dataclasses.replace(no, beside=True)),
        card_of(context, laws=laws),
        card_of(context, few, Claim.of("", NATS, [0.0] * 6), Claim.of("", NATS, [0.5]), laws=[laws[0]]),
    ]
    assert [" ".join(line.split()) for line in verdict_table(cards).splitlines()] == [
        "note verdict claims about it laws that hold",
        "buffer It depends 1 for, 1 against",
        "buffer Supported 2 of 2",
        "buffer It depends* 1 for, 1 without a difference, 1 open 1 of 1",
        "* exploratory: a verdict needs 6 seeds",
    ]
    assert len(verdict_table(cards[:2]).splitlines()) == 3


def test_a_page_of_several_cards_begins_with_each_note_its_verdict_and_the_reason(
    context: ExperimentContext, tmp_path: Path
) -> None:
    card = card_of(context, Claim.of("a claim", NATS, LOWER), laws=[Law.near("a law", 1.0, 1.0, 0.5)])
    night = dataclasses.replace(card, budget="night")
    html = page.page([(card, Path("one")), (night, Path("two"))], "The lab")
    head = html[html.index("<header") : html.index("</header>")]
    for words in ("<h1>The lab</h1>", 'href="#one"', 'href="#two"', "Supported", shown.reason(card), ">night<"):
        assert words in head
    assert html.count('<a href="#top">') == 2
    assert html.count("<details>") == html.count("</details>") == 2 * 3  # seeds, laws, how it was measured
    assert "prefers-color-scheme: dark" in html
    assert "<header" not in page.page([(card, Path("one"))], "One")


def test_a_narrow_page_has_the_panels_of_a_picture_one_below_another(
    context: ExperimentContext, tmp_path: Path
) -> None:
    with drawing():
        wide = [Picture("gaps", "the caption", new_figure("a title", columns=3))]
        with stacking():
            narrow = [Picture("gaps", "the caption", new_figure("a long title " * 8, columns=3))]
    wide_sizes, sizes = wide[0].figure.get_size_inches(), narrow[0].figure.get_size_inches()
    assert sizes[0] < wide_sizes[0]
    assert sizes[1] > 2 * wide_sizes[1]
    places = [axes.get_subplotspec().rowspan.start for axes in narrow[0].figure.axes]  # type: ignore[union-attr]
    assert places == [0, 1, 2]
    assert "\n" in narrow[0].figure.get_suptitle()
    card = card_of(context, pictures=wide)
    write_card(card, wide, tmp_path / "with", narrow)
    write_card(card, wide, tmp_path / "without")
    with_narrow, without = ((tmp_path / name / "card.html").read_text() for name in ("with", "without"))
    assert 'class="narrow" alt="the caption" src="data:image/webp;base64,' in with_narrow
    assert "<img" not in without
    assert with_narrow.count("<svg") == without.count("<svg") == 1


def test_claims_that_decide_make_a_card_exploratory_and_those_beside_do_not(context: ExperimentContext) -> None:
    few, enough = Claim.of("", NATS, LOWER[:3]), Claim.of("", NATS, LOWER)
    context.budget = with_seeds(3)
    assert card_of(context, few).headline == "Supported (exploratory: 3 seeds, a verdict needs 6)"
    context.budget = with_seeds(6)
    assert not card_of(context, enough, dataclasses.replace(few, beside=True)).exploratory
    assert card_of(context, Claim.of("", NATS, [0.0] * 6)).headline == WORDS["no difference"]
    html = page.page([(card_of(context, Claim.of("", NATS, [0.0] * 6)), Path("a"))], "")
    assert 'class="verdict no-difference"' in html


def test_what_a_card_was_made_on(context: ExperimentContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    made = provenance(context)
    settings = json.dumps(context.config.to_dict(), sort_keys=True)
    assert made["settings_hash"] == hashlib.sha256(settings.encode()).hexdigest()
    assert made["settings"] == context.config.to_dict()
    assert (made["tokens"], made["data_hash"]) == (len(context.corpus.train), context.corpus.digest)
    assert (made["text"], made["dtype"], made["seed"]) == ("the user's own", "fp32", 1)
    assert made["parameters"] == context.config.model.parameter_count()
    own = dataclasses.replace(context.config, text=dataclasses.replace(context.config.text, paths=(), corpus="bible"))
    assert provenance(dataclasses.replace(context, config=own))["text"] == "bible"
    words = shown.made_on(card_of(context))
    assert "budget glance, 6 seeds from 1 on" in words
    assert "1 thread, torch" in words
    assert f"{made['parameters']:,} parameters on {made['tokens']:,} tokens of the user's own." in words
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    assert "2 threads, torch" in shown.made_on(card_of(context))


@pytest.mark.parametrize("eval_tokens", [1, 5, 10**6])
def test_a_nat_in_bits_is_of_the_tokens_that_are_scored(context: ExperimentContext, eval_tokens: int) -> None:
    context.config = context.config.with_values({"eval_tokens": eval_tokens})
    held_out = context.corpus.held_out
    scored = held_out.tokens[1:][:eval_tokens].tolist()  # the first one is never a target
    size = sum(
        len(context.corpus.tokenizer.decode([token]).encode()) for token in scored if token != held_out.end_of_text
    )
    assert bits_of_a_nat(context) == pytest.approx(len(scored) / size / math.log(2), rel=1e-6)


def test_a_card_has_the_choices_and_the_pictures(context: ExperimentContext) -> None:
    context.tunings = {"an arm": {"tried": [(0.1, 2.0)], "chosen": 0.1, "at_the_edge": True}}
    with drawing():
        pictures = [Picture("gaps", "the caption", new_figure("a"))]
    card = card_of(context, pictures=pictures, data={"a": 1}, timings={"b": 2})
    assert card.findings.data == {"a": 1, "learning_rates": context.tunings}
    assert card.findings.remarks[0] == "one remark"
    assert "an arm (0.1)" in card.findings.remarks[1]
    plain = json.loads(card.to_json())
    assert plain["timings"] == {"whole": 2.5, "b": 2}
    assert plain["pictures"] == [{"name": "gaps", "caption": "the caption"}]
    assert plain["budget"] == {"name": "glance", "seeds": 6}
    read = Card.from_dict(plain)
    assert (read.seconds, read.findings.timings, read.pictures) == (2.5, {"b": 2}, (("gaps", "the caption"),))


def test_kept_cards_are_in_the_order_of_notes_budgets_and_folders(context: ExperimentContext, tmp_path: Path) -> None:
    written = [("b", "dropout", "coffee"), ("a", "dropout", "night"), ("d", "batch-size", "night"),
               ("c", "batch-size", "glance"), ("e", "batch-size", "glance")]  # fmt: skip
    for folder, name, budget in written:
        card = dataclasses.replace(card_of(context), note=NOTES[name], budget=budget)
        write_card(card, [], tmp_path / "lab" / folder)
    found = kept_cards(tmp_path / "lab")
    assert [folder.name for _, folder in found] == ["c", "e", "d", "b", "a"]
    lines = shown.overview(found).splitlines()
    assert [line.split(" | ")[-1] for line in lines[2:]] == ["glance |", "glance |", "night |", "coffee |", "night |"]
    assert lines[2].startswith(f"| [{NOTES['batch-size'].title}](c/card.md) | {NOTES['batch-size'].sentence} | Supp")
    write_card(dataclasses.replace(card_of(context), budget="a day"), [], tmp_path / "lab" / "f")
    assert kept_card(tmp_path / "lab" / "f") is None
    assert len(kept_cards(tmp_path / "lab")) == 5


def test_a_picture_that_cannot_be_written_or_read_is_a_sentence(context: ExperimentContext, tmp_path: Path) -> None:
    with drawing():
        figure = new_figure("a title", "below", columns=3, width=4.0, height=2.0)
    assert len(figure.axes) == 3
    assert figure.get_size_inches().tolist() == [4.0, 2.0]
    with pytest.raises(RunError, match=r"The picture .*a could not be written \(No such file"):
        save_figure(figure, tmp_path / "nowhere", "a")
    card = dataclasses.replace(card_of(context), pictures=(("lost", ""),))
    with pytest.raises(RunError, match=r"A picture in .* cannot be read \(No such file"):
        write_card(card, [], tmp_path / "made")


def test_paired_runs_are_drawn_arm_by_arm_with_their_means() -> None:
    axes = new_figure("a").axes[0]
    assert draw_paired(axes, [[1.0, 3.0], [5.0, 6.0]], "black") == [2.0, 5.5]
    assert [line.get_ydata().tolist() for line in axes.lines] == [[1.0, 5.0], [3.0, 6.0], [2.0, 5.5]]  # type: ignore[union-attr]


def test_every_note_that_fails_is_named_and_each_card_has_its_own_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]

    def run(name: str) -> Experiment[Any]:
        def trainings(context: ExperimentContext) -> None:
            clock[0] += 5.0
            if name != "causal":
                raise TrainingError("The loss is inf.")

        return Experiment(NOTES[name], trainings, lambda *_: Findings(), lambda *_: [])

    monkeypatch.setattr("lightwell.lab.session.experiment", run)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    session = laboratory(tmp_path, "buffer", "causal", "dropout")
    done: list[Card] = []
    with pytest.raises(
        TrainingError, match=r"No card for buffer: The loss is inf\. dropout: The loss is inf\. A lower"
    ):
        session.run(done.append)
    assert [(card.note.name, card.seconds, card.command) for card in done] == [("causal", 5.0, "lightwell lab causal")]
    assert session.cards == done


def test_steps_are_timed_where_any_are_left_and_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def timed(session: Session) -> float:
        asked.append(1)
        return 0.5

    monkeypatch.setattr(Session, "_seconds_per_token", timed)
    said: list[str] = []
    laboratory(tmp_path, "buffer").plan(said.append)
    assert (said, asked) == ([], [])
    laboratory(tmp_path, "causal").plan(said.append)
    assert len(said) == len(asked) == 1


def test_the_cost_of_a_training_counts_its_evaluations(context: ExperimentContext) -> None:
    trials = [context.trial("a", 1), context.trial("a", 1001), context.trial("b", 2)]
    tokens = 3 * 4 * 16
    assert cost_of(trials[0]) == pytest.approx(tokens + 0.35 * 11 * 200)
    plan = note_plan("buffer", trials, trials[1:], pace=2.0)
    assert (plan.arms, plan.seeds, plan.trainings, plan.finished, plan.tokens) == (2, 2, 3, 1, 2 * tokens)
    assert plan.seconds == pytest.approx(2.0 * 2 * (tokens + 0.35 * 11 * 200))
    edge = [context.trial("a", 999), context.trial("a", 1000)]
    assert note_plan("buffer", edge, edge, pace=1.0).seeds == 1


def test_an_unknown_note_is_told_which_there_are() -> None:
    with pytest.raises(SettingError, match="There is no note nothing; there are batch-size, stride, self-attention"):
        experiment("nothing")
