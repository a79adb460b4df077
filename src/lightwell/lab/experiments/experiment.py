"""What an experiment is: a note, the trainings that it plans, what it measures, and the pictures of it.

    context       what it may use (context.py)
    plan       the trainings it is going to ask for, so that their number and length are known before the start
    run        laws and claims with their verdicts, and all numbers, from trainings and measurements
    draw       pictures, from those numbers alone

`run` is an ordinary function that asks the context for one result after the other; since finished results are looked up,
calling it again after a kill goes on where it was.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.note import Note
from lightwell.lab.experiments.trial import Change, Look, Trial
from lightwell.lab.verdicts.verdict import Claim, Law

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Findings:
    """What an experiment found."""

    laws: Sequence[Law] = ()
    claims: Sequence[Claim] = ()
    data: Mapping[str, Any] = field(default_factory=dict)
    """Every number, as plain values; the pictures are drawn from it."""
    timings: Mapping[str, Any] = field(default_factory=dict)
    """Those that differ each time."""
    remarks: Sequence[str] = ()
    """What a reader has to know about how it was done."""


@dataclass(frozen=True)
class Picture:
    """A figure that can be understood without the text."""

    name: str
    """Of its files, without ending."""
    caption: str
    figure: Figure


@dataclass(frozen=True)
class Experiment:
    """One note's."""

    note: Note
    plan: Callable[[ExperimentContext], list[Trial]]
    run: Callable[[ExperimentContext], Findings]
    draw: Callable[[Mapping[str, Any], Mapping[str, Any]], list[Picture]]
    """data and timings of the findings -> pictures."""
    changes: Mapping[str, Change] = field(default_factory=dict)
    looks: Mapping[str, Look] = field(default_factory=dict)
