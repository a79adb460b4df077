"""`lightwell lab`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, get_args

from cyclopts import Parameter

from lightwell.cli import words
from lightwell.cli.flags import Json
from lightwell.cli.printer import show
from lightwell.cli.progress import counting, progress
from lightwell.lab.catalogue import experiment, notes
from lightwell.lab.experiments.budget import BUDGETS, Budget, budget_of
from lightwell.plain_json import plain_json
from lightwell.training.settings.config import RunConfig

if TYPE_CHECKING:
    from lightwell.lab.cards.card import Card
    from lightwell.lab.session import NotePlan

CORPORA: tuple[str, ...] = get_args(RunConfig.all_fields()["corpus"][1].type)


def lab(
    note: Annotated[str, Parameter(help="The note to measure, or all; none lists them.", show_default=False)] = "",
    /,
    *,
    budget: Annotated[str, Parameter(help=f"How much it may take: {', '.join(BUDGETS)}.")] = "glance",
    corpus: Annotated[
        str, Parameter(help=f"{', '.join(CORPORA)}, or a file, folder or glob of your own.", metavar="TEXT")
    ] = "bible",
    preset: Annotated[
        str, Parameter(help="The model, by a preset; else the lab's own, which is tiny.", show_default=False)
    ] = "",
    seed: Annotated[int, Parameter(help="The first of the seeds that arms are repeated with.")] = 1,
    out: Annotated[
        Path | None, Parameter(help="Where results and cards go; else lab/ and the name of the text.", metavar="FOLDER")
    ] = None,
    json: Json = False,
) -> None:
    """Measure what the notes say, and give each a verdict."""
    if not note:
        if json:
            print(plain_json([each.to_dict() for each in notes().values()]))
        else:
            show(listing())
        return
    from lightwell.lab.cards import shown
    from lightwell.lab.experiments.setup import base_config, opened
    from lightwell.lab.experiments.store import refuse_foreign
    from lightwell.lab.session import Session
    from lightwell.lab.side_by_side import SideBySide, threads_for, workers_for

    chosen, names = budget_of(budget), list(notes()) if note == "all" else [note]
    for name in names:
        experiment(name)  # a name that is none is said before the text is read
    listener = progress()
    named = corpus in CORPORA
    asked = base_config([] if named else [corpus], preset, corpus if named else "", chosen)
    folder = out or Path("lab") / (corpus if named else Path(corpus.rstrip("/*")).stem or "text")
    refuse_foreign(folder)
    config, text = opened(asked, listener)

    def command(name: str) -> str:
        flags = [] if corpus == "bible" else ["--corpus", corpus]
        flags += ["--preset", preset] if preset else []
        flags += ["--seed", str(seed)] if seed != 1 else []
        return shlex.join(["lightwell", "lab", name, "--budget", chosen.name, *flags])

    workers = workers_for(config)
    with (
        counting("tokens") as on_progress,
        threads_for(workers),
        SideBySide(workers, asked, text.digest) as side_by_side,
    ):
        session = Session(
            names, config, text, chosen, folder, command, seed, preset, side_by_side,
            on_progress=lambda done, of: on_progress(int(done), max(1, int(of))),
        )  # fmt: skip
        listener.say(plan_table(session.plan(listener.say), chosen, workers))
        try:
            cards = session.run(lambda card: None if json else show(shown.plain(card)))
        except KeyboardInterrupt as stop:
            raise type(stop)("Stopped; what is finished is kept, and the same command goes on from there.") from None
    if json:
        print(plain_json([card.to_dict() for card in cards]))
        return
    if len(cards) > 1:
        show(f"\n{verdict_table(cards)}")
    show(f"\nSaved in  {folder}\nOpen      {folder / 'index.html'}")


def listing() -> str:
    """Return the notes, and how to measure them."""
    rows = [(name, note.sentence) for name, note in notes().items()]
    return f"{words.table(rows)}\n\nlightwell lab NOTE, or lightwell lab all; with --budget {', '.join(BUDGETS)}."


def verdict_table(cards: Sequence[Card]) -> str:
    """Return a row for each note: its verdict, and how many claims and laws speak for it."""
    from lightwell.lab.cards.card import WORDS
    from lightwell.lab.verdicts.statistics import FEWEST

    counted = {"supported": "for", "contradicted": "against", "no difference": "without a difference",
               "not settled": "open"}  # fmt: skip
    rows = [("note", "verdict", "claims about it", "laws that hold")]
    for card in cards:
        kinds = [claim.verdict.kind for claim in card.findings.claims if not claim.beside]
        claims = ", ".join(f"{kinds.count(kind)} {word}" for kind, word in counted.items() if kind in kinds)
        laws = [law.holds for law in card.findings.laws]
        holding = f"{sum(laws)} of {len(laws)}" if laws else ""
        rows.append((card.note.name, f"{WORDS[card.kind]}{'*' if card.exploratory else ''}", claims, holding))
    doubted = any(card.exploratory for card in cards)
    return words.table(rows) + (f"\n* exploratory: a verdict needs {FEWEST} seeds" if doubted else "")


def plan_table(plans: Sequence[NotePlan], budget: Budget, workers: int) -> str:
    """Return what is going to be done, before it is, and what it can show."""
    from lightwell.lab.experiments.rate_search import MOST_WIDENED
    from lightwell.lab.verdicts.statistics import smallest_effect

    rows = [("note", "arms", "seeds", "trainings", "finished before", "tokens", "time")]
    for plan in plans:
        counts = (str(number) for number in (plan.arms, plan.seeds, plan.trainings, plan.finished))
        rows.append((plan.note, *counts, words.short(plan.tokens), words.duration(plan.seconds)))  # type: ignore[arg-type]
    widened = f"An arm whose best learning rate is at an end of the grid is trained up to {MOST_WIDENED} times more.\n"
    total = words.duration(sum(plan.seconds for plan in plans))
    beside = f", {workers} side by side with a thread each" if workers > 1 else ""
    return (
        f"{words.table(rows, right=range(1, 7))}\n"
        f"About {total} of training in all{beside}, and some seconds of measuring for each note.\n"
        f"{widened if budget.rates > 1 else ''}"
        f"With {budget.seeds} seeds, an effect of {smallest_effect(budget.seeds):.2g} standard deviations of the "
        "paired differences is found four times in five.\n"
    )
