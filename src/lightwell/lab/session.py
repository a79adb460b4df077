"""A session of the lab: some notes on one text and one budget, from the plan to the cards on disk.

    FOLDER/trials, FOLDER/measures      every result, under the hash of what decides it (store.py)
    FOLDER/NOTE-BUDGET/                 card.json, card.md, card.html, and the pictures
    FOLDER/index.md, index.html         all cards that are there

Finished results are never made again, so that a session that was stopped or killed goes on with the same command.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from lightwell.errors import RunError
from lightwell.lab import page, shown
from lightwell.lab.budget import BUDGETS, Budget
from lightwell.lab.card import Card, make_card
from lightwell.lab.catalogue import experiment
from lightwell.lab.desk import Desk
from lightwell.lab.experiment import Experiment, Picture
from lightwell.lab.figures import drawing, save_figure
from lightwell.lab.notes import NOTES
from lightwell.lab.store import Store, make_folder
from lightwell.lab.trial import Laboratory, Trial
from lightwell.text.prepare import Corpus
from lightwell.training.config import RunConfig
from lightwell.training.device import freed_memory_kept, random_state_kept, resolve_device
from lightwell.training.records import write_whole

PACE_STEPS = 7
"""Steps whose time says how long the rest will take."""


@dataclass(frozen=True)
class NotePlan:
    """What one note's experiment is going to train."""

    note: str
    arms: int
    seeds: int
    trainings: int
    finished: int
    """Of them, those whose result is there already."""
    tokens: int
    """To be trained on, in those that are left."""
    seconds: float
    """For them, by the pace of the base configuration."""


@dataclass
class Session:
    """Some notes on one text."""

    names: Sequence[str]
    config: RunConfig
    corpus: Corpus
    budget: Budget
    folder: Path
    command: Callable[[str], str]
    """The command line that makes one note's card."""
    seed: int = 1
    """The first of the seeds that count."""
    told: Callable[[float, float], None] = lambda done, of: None
    """Hears how many tokens of how many are trained."""
    cards: list[Card] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Store(self.folder, self.corpus.digest)
        self._done, self._all = 0.0, 0.0

    def desk(self, name: str) -> tuple[Experiment, Desk]:
        """A note's experiment, and the desk that it works at."""
        found = experiment(name)
        desk = Desk(
            name, self.config, self.corpus, self.budget, self.store, self.seed, found.changes, found.looks, self._heard
        )  # fmt: skip
        return found, desk

    def plan(self) -> list[NotePlan]:
        """What is going to be trained, note by note."""
        pace = self._seconds_per_token()
        plans = []
        for name in self.names:
            found, desk = self.desk(name)
            trials = found.plan(desk)
            left = [trial for trial in trials if not self.store.has_trained(name, trial)]
            tokens = sum(map(tokens_of, left))
            arms, seeds = {trial.arm for trial in trials}, {trial.seed for trial in trials}
            plans.append(
                NotePlan(
                    name,
                    len(arms),
                    len(seeds),
                    len(trials),
                    len(trials) - len(left),
                    tokens,
                    pace * sum(map(cost_of, left)),
                )
            )
        self._all = float(sum(plan.tokens for plan in plans))
        return plans

    def run(self, done: Callable[[Card], None]) -> list[Card]:
        """Carry the notes out, one after the other; each card is written and handed over as soon as it is there.

        Raises:
            RunError: a result or a card could not be written; finished results are kept.
            TrainingError: a training's loss is not finite.
        """
        for name in self.names:
            started = time.monotonic()
            found, desk = self.desk(name)
            findings = found.run(desk)
            with drawing():
                pictures = found.draw(findings.data, findings.timings)
            card = make_card(found.note, findings, desk, pictures, self.command(name), time.monotonic() - started)
            write_card(card, pictures, self.folder_of(name))
            self.cards.append(card)
            done(card)
        self._write_index()
        return self.cards

    def folder_of(self, name: str) -> Path:
        """Where a note's card is."""
        return self.folder / f"{name}-{self.budget.name}"

    def _write_index(self) -> None:
        cards = kept_cards(self.folder)
        table = shown.overview([card for card, _ in cards], [folder.name for _, folder in cards])
        write_whole(self.folder / "index.md", table.encode())
        whole = page.page(cards, "Lightwell's lab: what was noted, and what was measured")
        write_whole(self.folder / "index.html", whole.encode())

    def _heard(self, trial: Trial) -> None:
        self._done += tokens_of(trial)
        self.told(min(self._done, self._all), self._all)

    def _seconds_per_token(self) -> float:
        """Of a training step of the base configuration, the first one left out."""
        trial = Trial("pace", 0, self.config)
        times = []
        with random_state_kept(resolve_device(self.config.training.device)), freed_memory_kept():
            here = Laboratory(trial, self.corpus)
            for number in range(1 + PACE_STEPS):
                started = time.perf_counter()
                here.step(number)
                times.append(time.perf_counter() - started)
        return statistics.median(times[1:]) / tokens_per_step(trial)


def kept_cards(folder: Path) -> list[tuple[Card, Path]]:
    """All cards below a session's folder, each with its own folder, by note and by budget.

    What is no card of this version is left out.
    """
    found = []
    for note in NOTES:
        for budget in BUDGETS:
            place = folder / f"{note}-{budget}"
            try:
                found.append((Card.from_dict(json.loads((place / "card.json").read_bytes())), place))
            except (OSError, ValueError, KeyError, TypeError):
                continue
    return found


def tokens_per_step(trial: Trial) -> int:
    """Tokens of a batch."""
    return trial.config.batches.batch_size * trial.config.model.context_length


def tokens_of(trial: Trial) -> int:
    """Tokens that a training sees."""
    return trial.config.training.steps * tokens_per_step(trial)


SCORED_BESIDE = 0.35
"""What scoring a token costs, beside training on it."""


def cost_of(trial: Trial) -> float:
    """A training's tokens and its evaluations, as tokens that are trained on."""
    return tokens_of(trial) + SCORED_BESIDE * 11 * trial.config.training.eval_tokens


def write_card(card: Card, pictures: Sequence[Picture], folder: Path) -> None:
    """A card's files, in a folder of its own.

    Raises:
        RunError: one could not be written.
    """
    make_folder(folder)
    for picture in pictures:
        save_figure(picture.figure, folder, picture.name)
    write_whole(folder / "card.json", card.to_json().encode())
    write_whole(folder / "card.md", shown.markdown(card).encode())
    try:
        whole = page.page([(card, folder)], card.note.title)
    except OSError as error:
        raise RunError(f"A picture in {folder} cannot be read ({error.strerror or error}).") from None
    write_whole(folder / "card.html", whole.encode())
