"""A run: the folder that holds everything about one training, readable with any text editor.

    runs/NAME/config.toml      what repeats it                   tokenizer.json    its vocabulary
              machine.json     where it was begun
              metrics.jsonl    a line per step and evaluation    samples.jsonl     what the model wrote along the way
              references.json  what its loss is compared with    incidents.jsonl   what went wrong, if anything
              checkpoints/     see checkpoint.py

This module needs no torch, so that `lightwell runs` and `show` answer at once.
"""

from __future__ import annotations

import difflib
import functools
import json
import os
import shutil
from pathlib import Path
from typing import Any, Self

from lightwell.arguments import checked
from lightwell.atomic import replace_folder, restore_folder, sync
from lightwell.errors import RunError, SettingError
from lightwell.plain_json import plain_json
from lightwell.text import own_folders
from lightwell.text.config import TextConfig
from lightwell.text.paths import expanded
from lightwell.tokens.tokenizer import Tokenizer
from lightwell.training.hardware.host import describe_host
from lightwell.training.runs.best import best_evaluation
from lightwell.training.runs.plot import about_run, picture_of
from lightwell.training.runs.records import Records, write_run_file
from lightwell.training.runs.references import References
from lightwell.training.settings.config import RunConfig
from lightwell.views import Picture, html, lines, number

CONFIG, TOKENIZER, REFERENCES = own_folders.CONFIG, "tokenizer.json", "references.json"
METRICS, SAMPLES, CHECKPOINTS = "metrics.jsonl", "samples.jsonl", own_folders.CHECKPOINTS
INCIDENTS = "incidents.jsonl"
MACHINE = "machine.json"


class Run:
    """One run on disk."""

    @checked
    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Open a run.

        Raises:
            RunError: there is no such folder (the nearest run is offered), or it is not a run.
        """
        self.path = expanded(path)
        if not self.path.is_dir():
            raise RunError(f"There is no run {self.path}.{_nearest_run(self.path)}")
        for name in (CONFIG, TOKENIZER):
            if not (self.path / name).is_file():
                raise RunError(f"{self.path} is not a run: it has no {name}.{_nearest_run(self.path)}")
        self._metrics, self._samples = Records(self.path / METRICS), Records(self.path / SAMPLES)
        self._incidents = Records(self.path / INCIDENTS)

    @classmethod
    def create(cls, path: Path | str, config: RunConfig, tokenizer: Tokenizer, force: bool = False) -> Self:
        """Make a new run; `force` lets it take the place of an old one, which goes once the new one stands.

        Raises:
            RunError: as `refuse_to_overwrite`, or the folder cannot be written.
        """
        path = Path(path)
        refuse_to_overwrite(path, force)
        beside, aside = path.with_name(f".{path.name}.new"), path.with_name(f".{path.name}.old")
        if aside.exists() and not path.exists():
            restore_folder(path, aside)
            refuse_to_overwrite(path, force)
        try:
            shutil.rmtree(beside, ignore_errors=True)
            (beside / CHECKPOINTS).mkdir(parents=True)
            (beside / CONFIG).write_text(config.to_toml(), encoding="utf-8")
            tokenizer.save(beside / TOKENIZER)
            (beside / MACHINE).write_text(f"{plain_json(describe_host(), indent=1)}\n", encoding="utf-8")
            for written in beside.iterdir():
                sync(written)
            replace_folder(beside, path, aside)
        except OSError as error:
            raise RunError(
                f"The run {path} could not be created ({error.strerror or error}); choose another --out."
            ) from None
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        return cls(path)

    def __fspath__(self) -> str:
        """Return the folder, so that a run can be given wherever a path can."""
        return str(self.path)

    @property
    def name(self) -> str:
        """Return the folder's own name."""
        return self.path.resolve().name

    @property
    def checkpoints(self) -> Path:
        """Return the folder of the checkpoints."""
        return self.path / CHECKPOINTS

    @functools.cached_property
    def config(self) -> RunConfig:
        """Return the resolved configuration.

        Raises:
            RunError: config.toml says something that is not allowed.
        """
        try:
            return RunConfig.from_toml(self.path / CONFIG)
        except SettingError as error:
            raise RunError(f"The run {self.path} has a configuration that does not hold: {error}") from None

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer that it was trained with."""
        return Tokenizer.load(self.path / TOKENIZER)

    def plot(self) -> Picture:
        """Return the curve as a picture, which a notebook shows; `.save(path)` writes it."""
        return picture_of(self)

    def __repr__(self) -> str:
        return lines(f"Run {self.path}", self._about())

    def _repr_html_(self) -> str:
        return html(f"Run {self.path}", self._about())

    def _about(self) -> list[tuple[str, str]]:
        """Return what is shown of it: four lines that tell it from others."""
        metrics = self.metrics()
        steps = [record["step"] for record in metrics if "validation_loss" not in record]
        best = best_evaluation(metrics)
        loss = "not evaluated yet"
        if best:
            loss = f"{number(best['validation_loss'])} nats per token at step {best['step']:,}"
            if "validation_bits_per_byte" in best:
                loss += f", {number(best['validation_bits_per_byte'])} bits per byte"
        return [
            ("model", about_run(self.config)),
            ("steps", f"{steps[-1] if steps else 0:,} of {self.config.training.steps:,}"),
            ("best held-out loss", loss),
            ("next", f"lw.load({str(self.path)!r}).generate()"),
        ]

    def metrics(self) -> list[dict[str, Any]]:
        """Return the records of metrics.jsonl, in the order of writing; a last line that was cut off is left out."""
        return self._metrics.read()

    def samples(self) -> list[dict[str, Any]]:
        """Return the records of samples.jsonl, likewise."""
        return self._samples.read()

    def append_metric(self, record: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl: all of it, or, when that fails, nothing.

        Raises:
            RunError: the disk is full.
        """
        self._metrics.append(record)

    def append_sample(self, record: dict[str, Any]) -> None:
        """Add a line to samples.jsonl, likewise."""
        self._samples.append(record)

    def incidents(self) -> list[dict[str, Any]]:
        """Return the records of incidents.jsonl (incidents.py), likewise; usually there are none."""
        return self._incidents.read()

    def append_incident(self, record: dict[str, Any]) -> None:
        """Add a line to incidents.jsonl, likewise."""
        self._incidents.append(record)

    def references(self) -> dict[str, float]:
        """Return the reference losses, as `References.to_dict`; empty where none were measured.

        Raises:
            RunError: the file is damaged.
        """
        path = self.path / REFERENCES
        try:
            return dict(json.loads(path.read_bytes())) if path.is_file() else {}
        except (ValueError, TypeError):
            raise RunError(f"{path} is damaged; remove it, and `lightwell resume {self.path}` makes it.") from None

    def machine(self) -> dict[str, Any]:
        """Return the machine that it was begun on, as `describe_host`; empty where that is not known."""
        try:
            return dict(json.loads((self.path / MACHINE).read_bytes()))
        except (OSError, ValueError, TypeError):
            return {}

    def write_references(self, references: References) -> None:
        """Keep the reference losses with the run.

        Raises:
            RunError: the disk is full, or another failure of the file system.
        """
        write_run_file(self.path / REFERENCES, f"{plain_json(references.to_dict(), indent=1)}\n".encode())

    def write_config(self, config: RunConfig) -> None:
        """Put another configuration in the place of the run's own, whole or not at all.

        Raises:
            RunError: the disk is full, or another failure of the file system.
        """
        self.__dict__.pop("config", None)  # what was read before
        write_run_file(self.path / CONFIG, config.to_toml().encode())

    def truncate(self, step: int) -> None:
        """Drop the records after `step`: a resumed run writes them again, without gap or duplicate."""
        self._metrics.truncate(step)
        self._samples.truncate(step)
        self._incidents.truncate(step)

    def sync(self) -> None:
        """Wait until the records are on the disk itself; before a checkpoint, so that none before it can be missing."""
        self._metrics.sync()
        self._samples.sync()
        self._incidents.sync()
        sync(self.path)  # their names, too


def find_run(name: str | os.PathLike[str]) -> Path:
    """Return a run's folder: a run is meant by its path, or by its bare name where it is in runs/."""
    path = expanded(name)
    inside = Path("runs") / path
    return inside if not (path / CONFIG).is_file() and (inside / CONFIG).is_file() else path


def refuse_to_overwrite(path: Path, force: bool = False) -> None:
    """Raise where a new run at `path` would destroy something; an empty folder is nothing, a run goes only by force.

    Raises:
        RunError: a run is there (without force), or anything else.
    """
    if not path.name:
        raise RunError(f"{path} is no name for a run; give a folder that is not there yet, e.g. runs/mine.")
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not all((path / name).is_file() for name in (CONFIG, TOKENIZER)):  # others have a config.toml, too
        raise RunError(f"{path} exists and is not a run, so nothing there is overwritten; choose another --out.")
    if not force:
        raise RunError(
            f"The run {path} exists already; go on with `lightwell resume {path}`, choose another --out, "
            "or replace it with --force."
        )


def list_runs(folder: Path | str) -> list[Run]:
    """Return the runs in a folder, the one that was last written to first."""
    folder = Path(folder)
    paths = [path for path in _subfolders(folder) if (path / CONFIG).is_file() and (path / TOKENIZER).is_file()]
    return [Run(path) for path in sorted(paths, key=_last_written, reverse=True)]


def new_run_path(config: TextConfig, folder: Path | str = "runs") -> Path:
    """Return where a run goes that was given no name: after its text, and -2, -3 ... where that is taken."""
    name = _text_name(config)
    candidate, number = Path(folder) / name, 1
    while candidate.exists():
        number += 1
        candidate = Path(folder) / f"{name}-{number}"
    return candidate


def _text_name(config: TextConfig) -> str:
    """Return the name of a text: my_notes for my_notes/, verdict for verdict.txt.gz, notes for notes/**/*.md."""
    if not config.paths:
        return config.corpus
    plain = [part for part in Path(config.paths[0]).parts if not set(part) & set("*?[")]
    path = Path(*plain).resolve()
    name = path.name if path.is_dir() else path.name.split(".")[0]
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name).strip("-.") or "text"


def _nearest_run(path: Path) -> str:
    """Return a sentence that offers the nearest run beside `path` or in runs/, or says which runs there are."""
    folders = dict.fromkeys([path.parent, Path("runs")])
    runs = [run for folder in folders for run in _subfolders(folder) if (run / CONFIG).is_file()]
    if not runs:
        return " No run is there yet; `lightwell train` makes one."
    by_name = {run.name: run for run in runs}
    close = difflib.get_close_matches(path.name, by_name, n=1)
    return f" Did you mean {by_name[close[0]]}?" if close else f" There are {', '.join(sorted(map(str, runs)))}."


def _subfolders(folder: Path) -> list[Path]:
    try:
        return [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError:
        return []


def _last_written(path: Path) -> float:
    metrics = path / METRICS
    return (metrics if metrics.exists() else path / CONFIG).stat().st_mtime
