"""Folders that Lightwell itself has written, known by what is in them: they lie among texts, and are none."""

from __future__ import annotations

import re
from pathlib import Path

SHARDS, PLAN, MANIFEST = "shards", "plan.json", "manifest.json"
"""What text that `prepare` has made, or is making, is known by."""
CONFIG, CHECKPOINTS = "config.toml", "checkpoints"
"""What a run is known by."""
LAB_RESULTS = ("trials", "measures")
CARD = ("card.json", "card.md", "card.html")
RUN, PREPARED, LAB = "is a run", "is prepared text", "holds results of the lab"
_RESULT = re.compile(r"[0-9a-f]{32}\.json")


def own_folder(folder: Path) -> str:
    """Return what a folder of Lightwell's is, as a reason that completes "it ..."; empty where it is none."""
    try:
        if (folder / CHECKPOINTS).is_dir() and (folder / CONFIG).is_file():
            return RUN
        if is_prepared(folder):
            return PREPARED
        if is_lab(folder):
            return LAB
    except OSError:  # it may not be entered, which whoever enters it finds, too
        pass
    return ""


def is_prepared(folder: Path) -> bool:
    """Return whether a folder holds text that `prepare` has made, finished or not."""
    return (folder / SHARDS).is_dir() and any((folder / name).is_file() for name in (PLAN, MANIFEST))


def is_lab(folder: Path) -> bool:
    """Return whether a folder is one of the lab: with results, or a single card."""
    return all((folder / name).is_file() for name in CARD) or has_results(folder)


def has_results(folder: Path) -> bool:
    """Return whether a folder holds results of the lab."""
    kept = (path.name for kind in LAB_RESULTS if (folder / kind).is_dir() for path in (folder / kind).iterdir())
    return any(map(_RESULT.fullmatch, kept))
