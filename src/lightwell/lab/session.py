"""A session of the lab: some notes on one text and one budget, from the plan to the cards on disk.

    FOLDER/trials, FOLDER/measures      every result, under the hash of what decides it (store.py)
    FOLDER/NOTE-BUDGET.../              card.json, card.md, card.html, and the pictures
    FOLDER/index.md, index.html         all cards that are there

Finished results are never made again, so that a session that was stopped or killed goes on with the same command.
"""

from __future__ import annotations

import json
import statistics
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightwell.corpus.corpus import Corpus
from lightwell.errors import RunError, TrainingError
from lightwell.lab.cards import page, shown
from lightwell.lab.cards.card import Card, make_card
from lightwell.lab.cards.figures import drawing, save_figure, save_stacked, stacking
from lightwell.lab.catalogue import experiment, notes
from lightwell.lab.experiments.budget import BUDGETS, Budget
from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.experiment import Experiment, Picture
from lightwell.lab.experiments.rate_search import TUNING_SEED
from lightwell.lab.experiments.store import Store, make_folder
from lightwell.lab.experiments.trial import Trial, TrialRunner
from lightwell.lab.side_by_side import SideBySide
from lightwell.training.hardware.device import freed_memory_kept, random_state_kept, resolve_device
from lightwell.training.runs.records import write_run_file
from lightwell.training.settings.config import RunConfig

PACE_STEPS, PACE_SECONDS = 7, 10.0
"""Steps whose time says how long the rest will take; fewer where they have taken so long."""
SCORED_BESIDE = 0.35
"""The cost of scoring a token, as a share of that of training on it."""


@dataclass(frozen=True)
class NotePlan:
    """What one note's experiment is going to train."""

    note: str
    arms: int
    seeds: int
    trainings: int
    finished: int
    """Trainings whose result is there already."""
    tokens: int
    """Tokens of the trainings that are left, repeats counted."""
    seconds: float
    """The time of those, by the pace of the base configuration."""


@dataclass
class Session:
    """Some notes on one text and one budget."""

    names: Sequence[str]
    config: RunConfig
    corpus: Corpus
    budget: Budget
    folder: Path
    command: Callable[[str], str]
    """The command line that makes one note's card."""
    seed: int = 1
    """The first of the seeds that count."""
    preset: str = ""
    """The preset of the base configuration, where it is not the lab's own."""
    side_by_side: SideBySide | None = None
    """What trains several models at a time; None trains one after another."""
    on_progress: Callable[[float, float], None] = lambda done, of: None
    """Called with the number of tokens that are trained, and of all that there are."""
    cards: list[Card] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.store = Store(self.folder, self.corpus.digest)
        self._done, self._all = 0.0, 0.0
        self._waiting: Counter[tuple[str, int]] = Counter()

    def context(self, name: str) -> tuple[Experiment[Any], ExperimentContext]:
        """Return a note's experiment, and the context that it works with."""
        made = experiment(name)
        context = ExperimentContext(
            name, self.config, self.corpus, self.budget, self.store, self.seed, made.changes, made.probes, made.texts,
            on_progress=self._trained,
        )  # fmt: skip
        return made, context

    def plan(self, say: Callable[[str], None] = lambda sentence: None) -> list[NotePlan]:
        """Return what is going to be trained, note by note; for its time a few steps are timed, where any are left.

        say: called with a sentence when steps are timed.

        Raises:
            RunError: the folder for the results cannot be made.
            SettingError: what is to be measured does not fit into memory.
        """
        make_folder(self.folder)
        trials, left = {}, {}
        for name in self.names:
            experiment_of_note, context = self.context(name)
            trials[name] = experiment_of_note.plan(context)
            left[name] = [trial for trial in trials[name] if not self.store.has_trained(name, trial)]
        waiting = [trial for planned in left.values() for trial in planned]
        self._all = float(sum(map(tokens_of, waiting)))
        self._waiting = Counter((trial.arm, trial.seed) for trial in waiting)
        pace = 0.0
        if waiting:
            say("A few steps are timed, for the plan.")
            pace = self._seconds_per_token() / (self.side_by_side.workers if self.side_by_side else 1)
        return [note_plan(name, trials[name], left[name], pace) for name in self.names]

    def run(self, done: Callable[[Card], None]) -> list[Card]:
        """Carry the notes out, one after the other; each card is written and handed over as soon as it is there.

        Raises:
            RunError: a result or a card could not be written; finished results are kept.
            TrainingError: trainings of some notes diverged; the others were carried out.
        """
        failed: list[str] = []
        for name in self.names:
            started = time.monotonic()
            experiment_of_note, context = self.context(name)
            try:
                if self.side_by_side:
                    self.side_by_side.train(experiment_of_note, context)
                findings = experiment_of_note.run(context)
            except TrainingError as diverged:
                failed.append(f"{name}: {diverged}")
                continue
            with drawing():
                pictures = experiment_of_note.draw(findings.data, findings.timings)
                with stacking():
                    narrow = experiment_of_note.draw(findings.data, findings.timings)
            seconds = time.monotonic() - started
            card = make_card(experiment_of_note.note, findings, context, pictures, self.command(name), seconds)
            write_card(card, pictures, self.folder_of(name), narrow)
            self.cards.append(card)
            done(card)
            self._write_index()
        if failed:
            raise TrainingError(f"No card for {' '.join(failed)} A lower learning rate may help: take a --preset.")
        return self.cards

    def folder_of(self, name: str) -> Path:
        """Return where a note's card is: beside those of other budgets, presets, seeds and texts."""
        others = (self.preset, f"seed-{self.seed}" if self.seed != 1 else "")
        place = self.folder / "-".join([name, self.budget.name, *filter(None, others)])
        if (card := kept_card(place)) and card.provenance["data_hash"] != self.corpus.digest:
            place = place.with_name(f"{place.name}-{self.corpus.digest[:8]}")
        return place

    def _write_index(self) -> None:
        cards = kept_cards(self.folder)
        write_run_file(self.folder / "index.md", shown.overview(cards).encode())
        html = page.page(cards, "Lightwell's lab: what was noted, and what was measured")
        write_run_file(self.folder / "index.html", html.encode())

    def _trained(self, trial: Trial) -> None:
        self._done += tokens_of(trial)
        if self._waiting[trial.arm, trial.seed] > 0:
            self._waiting[trial.arm, trial.seed] -= 1
        else:  # a learning rate beyond the grid, which no plan could know
            self._all += tokens_of(trial)
        self.on_progress(self._done, self._all)

    def _seconds_per_token(self) -> float:
        """Return the pace of the base configuration's training steps, the first one left out."""
        trial = Trial("pace", 0, self.config)
        times: list[float] = []
        with random_state_kept(resolve_device(self.config.training.device)), freed_memory_kept():
            laboratory = TrialRunner(trial, self.corpus)
            for number in range(1 + PACE_STEPS):
                if number > 1 and sum(times) > PACE_SECONDS:
                    break
                started = time.perf_counter()
                laboratory.step(number)
                times.append(time.perf_counter() - started)
        return statistics.median(times[1:]) / tokens_per_step(trial)


def note_plan(name: str, trials: Sequence[Trial], left: Sequence[Trial], pace: float) -> NotePlan:
    """Return a note's line of the plan; pace: seconds for a token."""
    return NotePlan(
        name,
        arms=len({trial.arm for trial in trials}),
        seeds=len({trial.seed for trial in trials if trial.seed < TUNING_SEED}),
        trainings=len(trials),
        finished=len(trials) - len(left),
        tokens=sum(map(tokens_of, left)),
        seconds=pace * sum(map(cost_of, left)),
    )


def kept_card(folder: Path) -> Card | None:
    """Return the card in a folder; None where there is none of this version, or one of its pictures is gone."""
    try:
        card = Card.from_dict(json.loads((folder / "card.json").read_bytes()))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    complete = all((folder / f"{picture}.svg").is_file() for picture, _ in card.pictures)
    return card if complete and card.note.name in notes() and card.budget in BUDGETS else None


def kept_cards(folder: Path) -> list[tuple[Card, Path]]:
    """Return all cards below a session's folder, each with its own folder, by note and by budget."""
    cards = [(card, path.parent) for path in folder.glob("*/card.json") if (card := kept_card(path.parent))]
    names, budgets = list(notes()), list(BUDGETS)
    return sorted(cards, key=lambda one: (names.index(one[0].note.name), budgets.index(one[0].budget), one[1].name))


def tokens_per_step(trial: Trial) -> int:
    """Return the tokens of a batch."""
    return trial.config.batches.batch_size * trial.config.model.context_length


def tokens_of(trial: Trial) -> int:
    """Return the tokens that a training is on, repeats counted."""
    return trial.config.training.steps * tokens_per_step(trial)


def cost_of(trial: Trial) -> float:
    """Return a training's tokens and its evaluations, as tokens that are trained on."""
    return tokens_of(trial) + SCORED_BESIDE * 11 * trial.config.training.eval_tokens


def write_card(card: Card, pictures: Sequence[Picture], folder: Path, narrow: Sequence[Picture] = ()) -> None:
    """Write a card's files into a folder of its own; narrow: the pictures once more, their panels stacked.

    Raises:
        RunError: one could not be written.
    """
    make_folder(folder)
    for picture in pictures:
        save_figure(picture.figure, folder, picture.name)
    for picture in narrow:
        save_stacked(picture.figure, folder, picture.name)
    write_run_file(folder / "card.json", card.to_json().encode())
    write_run_file(folder / "card.md", shown.markdown(card).encode())
    try:
        html = page.page([(card, folder)], card.note.title)
    except OSError as error:
        raise RunError(f"A picture in {folder} cannot be read ({error.strerror or error}).") from None
    write_run_file(folder / "card.html", html.encode())
