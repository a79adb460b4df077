"""The notes that there are: a folder of lab/notes/ each, found by looking.

    NOTE/note.py          NOTE, the words; there is no torch in it
    NOTE/experiment.py    EXPERIMENT, imported when it is asked for

A folder with these two is all that another note needs.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

from lightwell.errors import SettingError
from lightwell.lab import notes as folders
from lightwell.lab.experiments.note import Note
from lightwell.settings import nearest

if TYPE_CHECKING:
    from lightwell.lab.experiments.experiment import Experiment


def notes() -> dict[str, Note]:
    """Return the words of all notes by name, in the order of their numbers."""
    names = [module.name for module in pkgutil.iter_modules(folders.__path__) if module.ispkg]
    words: list[Note] = [importlib.import_module(f"{folders.__name__}.{name}.note").NOTE for name in names]
    return {note.name: note for note in sorted(words, key=lambda note: (note.number, note.name))}


def experiment(name: str) -> Experiment[Any]:
    """Return the experiment of a note.

    Raises:
        SettingError: there is no such note; the nearest is offered.
    """
    names = list(notes())
    if name not in names:
        raise SettingError(f"There is no note {name}; there are {', '.join(names)}.{nearest(name, names)}")
    module = importlib.import_module(f"{folders.__name__}.{name.replace('-', '_')}.experiment")
    experiment: Experiment[Any] = module.EXPERIMENT
    return experiment
