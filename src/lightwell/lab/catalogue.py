"""The experiment of each note, in the module of the same name, imported when it is asked for."""

from __future__ import annotations

import importlib

from lightwell.errors import SettingError
from lightwell.lab.experiments.experiment import Experiment
from lightwell.lab.experiments.notes import NOTES
from lightwell.settings import nearest


def experiment(name: str) -> Experiment:
    """Return the experiment of a note.

    Raises:
        SettingError: there is no such note; the nearest is offered.
    """
    if name not in NOTES:
        raise SettingError(f"There is no note {name}; there are {', '.join(NOTES)}.{nearest(name, NOTES)}")
    found: Experiment = importlib.import_module(f"lightwell.lab.notes.{name.replace('-', '_')}.experiment").EXPERIMENT
    return found
