"""The plan of preparing a large corpus: its sources, its units, and the folder in which the work is kept.

    plan = make_plan(config, vocab_size, folder)     looks at the sources and cuts them into units
    take_folder(plan, force=False)                   makes the folder, or finds what was done in it before
    tokenizer = plan_tokenizer(plan)                 from the folder, or made now and written there

A plan is known by its fingerprint, a hash of the settings and of every source's path, size and time of change: what
was done under another one is never mixed with this.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lightwell.atomic import write_file
from lightwell.corpus.manifest import FORMAT, MANIFEST, PLAN, TOKENIZER, prepared_folder
from lightwell.corpus.shards import write_json
from lightwell.corpus.units.cutting import UNIT_BYTES, Unit, cut_in_units
from lightwell.corpus.units.encoding import RECORDS, SHARDS, TRAIN, Work, document_key
from lightwell.corpus.units.reading import Findings, read_unit
from lightwell.errors import SettingError, TextError
from lightwell.text.config import TextConfig
from lightwell.text.sources import Sources, find_sources
from lightwell.tokens.loading import CONFIG_FILE
from lightwell.tokens.tokenizer import KINDS, Tokenizer, make_tokenizer

SAMPLE_BYTES = 32 << 20
"""Text that a tokenizer is trained on: far more than a vocabulary of 32,000 needs, and a matter of seconds."""
SAMPLED_UNITS = 64
"""Units, evenly spread over the corpus, that the sample is taken from."""
NOTE = "tokenizer.note.json"
"""In the folder of records: how much text the tokenizer was trained on."""


@dataclass(frozen=True)
class Plan:
    """What is to be done: the sources, cut into units, and the settings."""

    config: TextConfig
    vocab_size: int
    sources: Sources
    units: list[Unit]
    work: Work
    settings: dict[str, Any]

    @property
    def folder(self) -> Path:
        """Return where all of it goes."""
        return self.work.folder

    @property
    def bytes(self) -> int:
        """Return how many bytes of text there are, about."""
        return sum(unit.size for unit in self.units)


def make_plan(config: TextConfig, vocab_size: int, folder: Path, unit_bytes: int = UNIT_BYTES) -> Plan:
    """Find the sources and cut them into units; nothing is written.

    Raises:
        SettingError: no text is named, or the tokenizer is misspelt.
        TextError: a text is missing, not readable or prepared already, or no text is found.
    """
    if not config.paths:
        raise SettingError("prepare needs a text; name files, folders or globs.")
    if prepared_folder(config.paths):
        raise TextError(f"{config.paths[0]} is prepared already; `lightwell train {config.paths[0]}` learns from it.")
    settings: dict[str, Any] = {**config.to_dict(), "vocab_size": vocab_size, "unit_bytes": unit_bytes}
    del settings["corpus"]
    asked = hashlib.sha256(json.dumps(settings).encode())
    if config.tokenizer not in KINDS:
        asked.update(make_tokenizer(config, vocab_size, ()).fingerprint.encode())
    sources = find_sources(config.paths)
    units = cut_in_units(sources, unit_bytes)
    if not units:
        reason = f": {sources.skipped[0][0]} {sources.skipped[0][1]}" if sources.skipped else ""
        raise TextError(f"There is no text to read in {', '.join(config.paths)}{reason}.")
    for source in sources.files:
        with contextlib.suppress(OSError):  # found and not readable, and so in no unit
            about = source.path.stat()
            real = os.fsencode(os.path.realpath(source.path))
            asked.update(real + f" {about.st_size} {about.st_mtime_ns}\n".encode())
    work = Work(folder, config.text_field, config.validation_fraction, unit_bytes, asked.hexdigest())
    return Plan(config, vocab_size, sources, units, work, settings)


def take_folder(plan: Plan, *, force: bool = False) -> None:
    """Make the folder, or make sure that what is in it was begun by the same plan; with `force` begin anew.

    Raises:
        TextError: other things are in the folder, or what another plan has made.
        OSError: the folder cannot be written.
    """
    folder = plan.folder
    if folder.is_file():
        raise TextError(f"{folder} is a file; name a folder with --out.")
    if folder.is_dir() and any(folder.iterdir()):
        if not (folder / PLAN).is_file():
            raise TextError(f"{folder} is not empty and holds no prepared text; choose another folder with --out.")
        begun = _begun(folder)
        if force or not _anything_done(folder):
            _clear(folder)
        else:
            _compare(plan, folder, begun)
    for room in (folder, folder / SHARDS, folder / RECORDS):
        room.mkdir(parents=True, exist_ok=True)
    if not (folder / PLAN).is_file():
        about = {"format": FORMAT, "settings": plan.settings, "fingerprint": plan.work.fingerprint}
        write_json(folder / PLAN, {**about, "sources": len(plan.sources.files), "units": len(plan.units)})


def plan_tokenizer(plan: Plan) -> Tokenizer:
    """Return the tokenizer of the folder; the first time it is made, and written there.

    One that is trained sees documents of the training side only, up to `SAMPLE_BYTES`, of units all over the corpus.

    Raises:
        TextError: the tokenizer cannot be loaded, or cannot have so many tokens.
        OSError: the folder cannot be written.
    """
    path = plan.folder / TOKENIZER
    if path.is_file():
        return Tokenizer.load(path)
    texts: list[str] = []
    if plan.config.tokenizer in ("bpe", "character"):
        findings = Findings()
        texts = list(_sample(plan, findings))
        if not texts:
            raise TextError(
                f"There is no training text for a tokenizer to learn from{first_skipped(plan, findings)}; "
                "lower --validation-fraction, or choose --tokenizer byte."
            )
    tokenizer = make_tokenizer(plan.config, plan.vocab_size, texts)
    write_json(plan.folder / RECORDS / NOTE, {"bytes": sum(len(text.encode()) for text in texts)})
    beside = plan.folder / RECORDS / "tokenizer"
    beside.mkdir(exist_ok=True)
    tokenizer.save(beside / TOKENIZER)
    for name in (CONFIG_FILE, TOKENIZER):  # the tokenizer itself last: where it is, everything is
        if (beside / name).is_file():
            write_file(plan.folder / name, (beside / name).read_bytes())
    return tokenizer


def sampled_bytes(plan: Plan) -> int:
    """Return how many bytes of text the tokenizer was trained on; 0 where it was not trained."""
    sampled: int = json.loads((plan.folder / RECORDS / NOTE).read_text(encoding="utf-8"))["bytes"]
    return sampled


def first_skipped(plan: Plan, findings: Findings) -> str:
    """Return the first file that was skipped and why, in brackets; nothing where none was."""
    skipped = [*plan.sources.skipped, *((one.source, one.reason) for one in findings.skipped)]
    return f" ({skipped[0][0]} {skipped[0][1]})" if skipped else ""


def _sample(plan: Plan, findings: Findings) -> Iterator[str]:
    count = min(SAMPLED_UNITS, len(plan.units))
    for number in range(count):
        unit = plan.units[number * len(plan.units) // count]
        left = SAMPLE_BYTES // count
        blocks = read_unit(unit, plan.work.text_field, plan.work.unit_bytes, findings)
        for text in itertools.chain.from_iterable(blocks):
            key, size = document_key(text)
            if plan.work.side_of(key) == TRAIN:
                yield text[:left]
                left -= size
            if left <= 0:
                break


def _begun(folder: Path) -> dict[str, Any]:
    """Return what the folder's plan.json says; a file of that name may be anybody's, and then nothing is touched."""
    try:
        begun = json.loads((folder / PLAN).read_text(encoding="utf-8"))
        return {"format": begun["format"], "fingerprint": begun["fingerprint"], "settings": dict(begun["settings"])}
    except (OSError, ValueError, KeyError, TypeError):
        raise TextError(
            f"{folder / PLAN} is damaged, or not of `lightwell prepare`; choose another folder with --out, "
            "or remove this one by hand."
        ) from None


def _anything_done(folder: Path) -> bool:
    """Return whether anything but the plan was made; else another plan may take its place."""
    return any((folder / name).is_file() for name in (MANIFEST, TOKENIZER)) or any(
        path.is_file() for room in (SHARDS, RECORDS) for path in (folder / room).glob("*.*")
    )


def _compare(plan: Plan, folder: Path, begun: dict[str, Any]) -> None:
    """Make sure that the folder was begun by the same plan."""
    settings = begun["settings"]
    if begun["fingerprint"] == plan.work.fingerprint:
        return
    now = json.loads(json.dumps(plan.settings))
    other = [name for name in now if settings.get(name) != now[name]]
    if other:
        name = other[0]
        what = f"was prepared with another {name} ({settings.get(name)!r}, not {now[name]!r})"
    else:
        what = "was prepared from files that have changed since"
    raise TextError(f"{folder} {what}; choose another folder with --out, or begin anew with --force.")


OURS = {
    SHARDS: re.compile(r"(train|validation)-\d+(-\d+)?\.(tokens|offsets|keys)(\.\d+\.unfinished)?"),
    RECORDS: re.compile(r"(\d+\.json|tokenizer\.note\.json)(\.\d+\.unfinished)?|reference-only"),
}
"""The files that preparing makes in its two folders."""


def is_ours(path: Path) -> bool:
    """Return whether a file in one of the two folders is of those that preparing makes."""
    return OURS[path.parent.name].fullmatch(path.name) is not None


def clear_records(folder: Path) -> None:
    """Remove what only the work needed, apart from shards."""
    for path in filter(is_ours, (folder / RECORDS).glob("*")):
        path.unlink()
    for name in (TOKENIZER, CONFIG_FILE):
        (folder / RECORDS / "tokenizer" / name).unlink(missing_ok=True)
    _remove_empty(folder / RECORDS / "tokenizer", folder / RECORDS)


def _clear(folder: Path) -> None:
    """Remove what preparing has made, and nothing else."""
    for name in (MANIFEST, TOKENIZER, CONFIG_FILE):
        (folder / name).unlink(missing_ok=True)
    clear_records(folder)
    for path in filter(is_ours, (folder / SHARDS).glob("*")):
        path.unlink()
    _remove_empty(folder / SHARDS)
    (folder / PLAN).unlink(missing_ok=True)


def _remove_empty(*folders: Path) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # not there, or with something of somebody else's in it
            folder.rmdir()
