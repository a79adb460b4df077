"""What an experiment is: a note, the trainings that it asks for, what they show, and the pictures of it.

    trainings    asks the context for every training, and hands their results on
    findings     laws and claims with their verdicts, and all numbers, from those results and from measurements
    draw         pictures, from those numbers alone

All three are ordinary functions from top to bottom: finished results are looked up, so that after a kill the same call
goes on where it was. A plan is `trainings` with a store that only records what it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.note import Note
from lightwell.lab.experiments.rate_search import TUNING_SEED
from lightwell.lab.experiments.store import RecordingStore
from lightwell.lab.experiments.trial import Change, Probe, Text, Trial
from lightwell.lab.verdicts.verdict import Claim, Law

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Results = TypeVar("Results")
"""What an experiment makes of its trainings, in a form of its own."""


@dataclass(frozen=True)
class Findings:
    """What an experiment showed."""

    laws: Sequence[Law] = ()
    claims: Sequence[Claim] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    """Every number, as plain values; the pictures are drawn from it."""
    timings: Mapping[str, Any] = field(default_factory=dict)
    """Numbers that differ each time."""
    remarks: Sequence[str] = ()
    """What a reader has to know about how it was done."""


@dataclass(frozen=True)
class Picture:
    """A figure that can be understood without the text."""

    name: str
    """The name of its files, without ending."""
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Experiment(Generic[Results]):
    """The experiment of one note."""

    note: Note
    trainings: Callable[[ExperimentContext], Results]
    findings: Callable[[ExperimentContext, Results], Findings]
    draw: Callable[[Mapping[str, Any], Mapping[str, Any]], list[Picture]]
    """The pictures, from the data and the timings of the findings."""
    changes: Mapping[str, Change] = field(default_factory=dict)
    probes: Mapping[str, Probe] = field(default_factory=dict)
    texts: Mapping[str, Text] = field(default_factory=dict)
    """Texts that it makes, by name; a trial names its own, so that whoever trains it has it."""
    check: Callable[[ExperimentContext], None] = lambda context: None
    """Called before anything is planned; it raises SettingError where the experiment cannot be made here."""

    def plan(self, context: ExperimentContext) -> list[Trial]:
        """Return the trainings that a run will ask for, each once; those beyond a grid of learning rates are left out.

        Where a result decides what is asked for next, it is used if it is finished; else the base rate stands for the
        best one.

        Raises:
            SettingError: the experiment cannot be made here.
        """
        self.check(context)
        return self._asked(context).requests

    def unfinished(self, context: ExperimentContext) -> list[Trial]:
        """Return the trainings that a run asks for next and that have no result yet, each once."""
        store = self._asked(context)
        asked = [*store.requests, *(trial for trial in store.beyond if trial not in store.requests)]
        missing = [trial for trial in asked if not store.has_trained(context.note, trial)]
        # At a rate that is only guessed, a training may be one that nobody asks for once the rate is chosen.
        return [trial for trial in missing if trial.seed >= TUNING_SEED] if store.guesses else missing

    def run(self, context: ExperimentContext) -> Findings:
        """Train, measure and judge."""
        return self.findings(context, self.trainings(context))

    def _asked(self, context: ExperimentContext) -> RecordingStore:
        store = RecordingStore(context.store.folder, context.store.corpus)
        self.trainings(replace(context, store=store, tunings={}))
        return store
