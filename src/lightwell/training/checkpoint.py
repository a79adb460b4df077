"""Checkpoints: a folder that exists whole or not at all, and says when it is damaged.

    checkpoints/00000500/model.safetensors      the weights
                         training.safetensors   the optimizer's state, and whatever tensors the trainer adds
                         state.json             step, data position, random streams, and the SHA-256 of each file

A checkpoint is written as 00000500.partial, every file synced to disk, then renamed: a name without a suffix is
complete whatever happens to the machine. When a step is saved again, the old folder waits as 00000500.replaced until
the new one stands. Damage after that (a flipped bit, a cut or missing file) is found by the hashes; state.json carries
its own too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors import SafetensorError

from lightwell.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

MODEL, TRAINING, STATE = "model.safetensors", "training.safetensors", "state.json"
_COMPLETE = re.compile(r"(\d{8,})(\.replaced)?")


@dataclass(frozen=True)
class Weights:
    """What a model needs of one checkpoint, verified."""

    step: int
    """Updates done when it was saved."""
    model: dict[str, Tensor]
    """The weights by parameter name, on the CPU."""
    state: dict[str, Any]
    """The plain values that the trainer saved."""


@dataclass(frozen=True)
class Checkpoint(Weights):
    """All that one checkpoint holds, verified: what training goes on from."""

    training: dict[str, Tensor]
    """The optimizer's state, and whatever tensors the trainer added."""


Found = TypeVar("Found", bound=Weights)


def save_checkpoint(
    checkpoints: Path, step: int, model: dict[str, Tensor], training: dict[str, Tensor], state: dict[str, Any]
) -> Path:
    """Write checkpoints/<step, 8 digits>/ and return it; it is complete and on disk when this returns.

    model and training: tensors that share no memory. state: plain values, without the names step and sha256.

    Raises:
        RunError: the disk is full, or another failure of the file system; earlier checkpoints are as they were.
    """
    assert not {"step", "sha256"} & state.keys(), "step and sha256 are the checkpoint's own"
    folder = checkpoints / f"{step:08d}"
    partial = folder.with_suffix(".partial")
    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
        for leftover in checkpoints.glob("*.partial"):  # of a process that was killed while it wrote
            shutil.rmtree(leftover, ignore_errors=True)
        _write(partial, step, model, training, state)
        _put_in_place(partial, folder)
    except (OSError, SafetensorError) as error:
        raise RunError(
            f"The checkpoint {folder} could not be written ({_reason(error)}); the earlier ones are untouched: "
            "free some space or mend the disk, then resume the run."
        ) from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def load_checkpoint(folder: Path) -> Checkpoint:
    """Read one checkpoint, after its files have been held against their hashes.

    Raises:
        RunError: it is missing or damaged; the sentence names the file.
    """
    step, state, (model, training) = _read(folder, MODEL, TRAINING)
    return Checkpoint(step, model, state, training)


def load_checkpoint_weights(folder: Path) -> Weights:
    """Read the weights of one checkpoint, verified; the optimizer's state, twice as large, is not looked at.

    Raises:
        RunError: model.safetensors or state.json is missing or damaged; the sentence names the file.
    """
    step, state, (model,) = _read(folder, MODEL)
    return Weights(step, model, state)


def newest_checkpoint(checkpoints: Path, say: Callable[[str], None]) -> Checkpoint:
    """The newest checkpoint that is whole; for each damaged one before it is found, `say` gets a sentence.

    Raises:
        RunError: there is none.
    """
    return _newest(checkpoints, say, load_checkpoint)


def newest_weights(checkpoints: Path, say: Callable[[str], None]) -> Weights:
    """The newest weights that are whole, found as `newest_checkpoint` finds a checkpoint.

    Raises:
        RunError: there are none.
    """
    return _newest(checkpoints, say, load_checkpoint_weights)


def checkpoint_steps(checkpoints: Path) -> list[int]:
    """The steps of the checkpoints that are there, oldest first, without looking whether they are damaged."""
    return sorted({_step_of(folder) for folder in _folders(checkpoints)})


def checkpoint_folder(checkpoints: Path, step: int) -> Path:
    """Where the checkpoint of `step` is, or would be."""
    folder = checkpoints / f"{step:08d}"
    replaced = folder.with_suffix(".replaced")
    return replaced if replaced.is_dir() and not folder.is_dir() else folder


def prune(checkpoints: Path, keep: int, best_step: int | None, every: int = 0) -> None:
    """Remove all but the `keep` newest checkpoints, that of `best_step`, and those at multiples of `every` (0: none).

    The only one that is whole is never removed.

    Raises:
        RunError: a checkpoint could not be removed.
    """
    folders = _folders(checkpoints)
    kept = folders[-keep:] + [
        folder
        for folder in folders[:-keep]
        if _step_of(folder) == best_step or (every and not _step_of(folder) % every)
    ]
    doomed = [folder for folder in folders if folder not in kept]
    if doomed and not any(_is_whole(folder) for folder in reversed(kept)):
        last_whole = next((folder for folder in reversed(doomed) if _is_whole(folder)), None)
        doomed = [folder for folder in doomed if folder != last_whole]
    for folder in doomed:
        # Renamed first, so that a removal that stops halfway leaves no folder that looks like a checkpoint.
        leftover = checkpoints / f"{folder.name}.partial"
        try:
            folder.rename(leftover)
        except OSError as error:
            raise RunError(f"The old checkpoint {folder} could not be removed ({_reason(error)}).") from None
        shutil.rmtree(leftover, ignore_errors=True)


def set_aside_after(checkpoints: Path, step: int) -> None:
    """Rename the checkpoints after `step`, which could not be used, so that they are not taken for the newest ones.

    Raises:
        RunError: one could not be renamed.
    """
    for folder in _folders(checkpoints):
        if _step_of(folder) > step:
            aside = folder.with_name(f"{folder.name}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            try:
                folder.rename(aside)
            except OSError as error:
                raise RunError(f"The damaged checkpoint {folder} could not be set aside ({_reason(error)}).") from None


def _write(
    partial: Path, step: int, model: dict[str, Tensor], training: dict[str, Tensor], state: dict[str, Any]
) -> None:
    """All three files, synced, and the folder's own entries too."""
    from safetensors.torch import save_file

    partial.mkdir()
    hashes: dict[str, str] = {}
    for name, tensors in ((MODEL, model), (TRAINING, training)):
        path = partial / name
        save_file({key: tensor.detach().contiguous() for key, tensor in tensors.items()}, path)
        # safetensors makes files that only their owner can read; the folder knows what the user's umask allows.
        path.chmod(stat.S_IMODE(partial.stat().st_mode) & 0o666)
        sync(path)
        hashes[name] = _sha256(path)
    # Through JSON and back, so that the hash is of what a reader will see (tuples as lists, keys as texts).
    record = json.loads(json.dumps({**state, "step": step, "sha256": hashes}))
    record["sha256"][STATE] = _record_hash(record)
    path = partial / STATE
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sync(path)
    sync(partial)


def _put_in_place(partial: Path, folder: Path) -> None:
    replaced = folder.with_suffix(".replaced")
    if folder.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        folder.rename(replaced)
    try:
        partial.rename(folder)
    except OSError:
        if replaced.exists():
            replaced.rename(folder)
        raise
    sync(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _read(folder: Path, *names: str) -> tuple[int, dict[str, Any], list[dict[str, Tensor]]]:
    """The step, the plain values and the tensors of the named files, all verified."""
    if not folder.is_dir():
        steps = ", ".join(str(step) for step in checkpoint_steps(folder.parent))
        raise RunError(
            f"There is no checkpoint {folder}; {f'there are those of steps {steps}' if steps else 'none is'}."
        )
    record = _verified_state(folder, *names)
    from safetensors.torch import load_file  # brings torch, which listing checkpoints can do without

    try:
        tensors = [load_file(folder / name) for name in names]
    except (OSError, SafetensorError) as error:
        raise RunError(f"The checkpoint {folder} cannot be read ({_reason(error)}).") from None
    return record["step"], {name: record[name] for name in record if name not in ("step", "sha256")}, tensors


def _newest(checkpoints: Path, say: Callable[[str], None], read: Callable[[Path], Found]) -> Found:
    damaged: list[str] = []
    for folder in reversed(_folders(checkpoints)):
        try:
            checkpoint = read(folder)
        except RunError as error:
            damaged.append(str(error))
            continue
        for sentence in damaged:
            say(f"{sentence} The one of step {checkpoint.step} is used instead.")
        return checkpoint
    if damaged:
        raise RunError(f"No checkpoint in {checkpoints} is whole; train the run again. {damaged[0]}")
    raise RunError(f"There is no checkpoint in {checkpoints} yet; train the run first.")


def _folders(checkpoints: Path) -> list[Path]:
    """The complete checkpoints, oldest first; one that waits to be replaced comes before the one that replaces it."""
    found = [path for path in checkpoints.glob("*") if path.is_dir() and _COMPLETE.fullmatch(path.name)]
    return sorted(found, key=lambda path: (_step_of(path), path.suffix == ""))


def _step_of(folder: Path) -> int:
    return int(folder.stem)


def _is_whole(folder: Path) -> bool:
    try:
        _verified_state(folder, MODEL, TRAINING)
    except RunError:
        return False
    return True


def _verified_state(folder: Path, *names: str) -> dict[str, Any]:
    """The content of state.json, after it and the named files have been held against their hashes."""
    path = folder / STATE
    try:
        record = json.loads(path.read_bytes())
        hashes = dict(record["sha256"])
        if hashes.pop(STATE) != _record_hash({**record, "sha256": hashes}):
            raise ValueError
        for name in names:
            path = folder / name
            if _sha256(path) != hashes[name]:
                raise ValueError
    except FileNotFoundError:
        raise RunError(f"The checkpoint {folder} is damaged: {path.name} is missing.") from None
    except OSError as error:
        raise RunError(f"The checkpoint {folder} cannot be read: {path.name} ({_reason(error)}).") from None
    except (ValueError, KeyError, TypeError):  # not JSON, not ours, or not what was written
        raise RunError(f"The checkpoint {folder} is damaged: {path.name} is not what was written.") from None
    return dict(record)


def _record_hash(record: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk itself."""
    if os.name == "nt" and path.is_dir():  # Windows opens no folders, and orders its renames by itself
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError | SafetensorError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
