"""Checkpoints: a folder that exists whole or not at all, and says when it is damaged.

    checkpoints/00000500/model.safetensors      the weights
                         training.safetensors   the optimizer's state, and whatever tensors the trainer adds
                         state.json             step, data position, random streams, and the SHA-256 of each file

Of a sharded model there are several files of the first two kinds (files.py).

A checkpoint is written as 00000500.partial, every file synced to disk, then renamed: a name without a suffix is
complete whatever happens to the machine. When a step is saved again, the old folder waits as 00000500.replaced until
the new one stands. Damage after that (a flipped bit, a cut or missing file) is found by the hashes; state.json carries
its own too.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from safetensors import SafetensorError

from lightwell.atomic import replace_folder
from lightwell.errors import RunError
from lightwell.training.checkpoints.files import (
    MODEL,
    TRAINING,
    UNSHARDED,
    Shard,
    Tensors,
    gather_hashes,
    kind_of,
    reason,
    verified_state,
    write_shard,
    write_state,
)

if TYPE_CHECKING:
    from torch import Tensor

_COMPLETE = re.compile(r"(\d{8,})(\.replaced)?")


@dataclass(frozen=True)
class Weights:
    """What a model needs of one checkpoint, verified."""

    step: int
    """Updates done when it was saved."""
    model: Mapping[str, Tensor]
    """The weights by parameter name, on the CPU, each read when it is asked for."""
    state: dict[str, Any]
    """The plain values that the trainer saved."""


@dataclass(frozen=True)
class Checkpoint(Weights):
    """All that one checkpoint holds, verified: what training goes on from."""

    training: Mapping[str, Tensor]
    """The optimizer's state, and whatever tensors the trainer added."""


Found = TypeVar("Found", bound=Weights)


def save_checkpoint(
    checkpoints: Path,
    step: int,
    model: Mapping[str, Tensor],
    training: Mapping[str, Tensor],
    state: dict[str, Any],
    *,
    shard: Shard = UNSHARDED,
    given_up: Callable[[], bool] = lambda: False,
) -> Path:
    """Write checkpoints/<step, 8 digits>/ and return it; it is complete and on disk when this returns.

    model and training: tensors that share no memory. state: plain values, without the names step and sha256.
    shard: of several processes, which this is. Each writes its tensors into the folder that the first one has begun
    (`begin_checkpoint`); the first one waits for the others, unless it has `given_up`, and completes it.

    Raises:
        RunError: the disk is full, or another failure of the file system; earlier checkpoints are as they were.
    """
    assert not {"step", "sha256"} & state.keys(), "step and sha256 are the checkpoint's own"
    folder = checkpoints / f"{step:08d}"
    partial = folder.with_suffix(".partial")
    try:
        if shard.world_size == 1:
            begin_checkpoint(checkpoints, step)
        hashes = write_shard(partial, shard, model, training)
        if shard.rank:
            return folder
        if shard.world_size > 1:
            hashes = gather_hashes(partial, shard.world_size, given_up)
        if hashes:
            write_state(partial, step, state, hashes)
            replace_folder(partial, folder, folder.with_suffix(".replaced"))
    except OSError as error:
        raise RunError(_could_not_be_written(folder, error)) from None
    finally:
        if not shard.rank:
            shutil.rmtree(partial, ignore_errors=True)
    return folder


def begin_checkpoint(checkpoints: Path, step: int) -> None:
    """Make the folder in which a checkpoint is written, and remove what killed processes left of others.

    Raises:
        RunError: the disk is full, or another failure of the file system.
    """
    try:
        checkpoints.mkdir(parents=True, exist_ok=True)
        for leftover in checkpoints.glob("*.partial"):
            shutil.rmtree(leftover, ignore_errors=True)
        (checkpoints / f"{step:08d}.partial").mkdir()
    except OSError as error:
        raise RunError(_could_not_be_written(checkpoints / f"{step:08d}", error)) from None


def _could_not_be_written(folder: Path, error: OSError) -> str:
    return (
        f"The checkpoint {folder} could not be written ({reason(error)}); the earlier ones are untouched: "
        "free some space or mend the disk, then resume the run."
    )


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
    """Return the newest checkpoint that is whole; for each damaged one before it is found, `say` gets a sentence.

    Raises:
        RunError: there is none.
    """
    return _newest(checkpoints, say, load_checkpoint)


def newest_weights(checkpoints: Path, say: Callable[[str], None]) -> Weights:
    """Return the newest weights that are whole, found as `newest_checkpoint` finds a checkpoint.

    Raises:
        RunError: there are none.
    """
    return _newest(checkpoints, say, load_checkpoint_weights)


def checkpoint_steps(checkpoints: Path) -> list[int]:
    """Return the steps of the checkpoints that are there, oldest first, without looking whether they are damaged."""
    return sorted({_step_of(folder) for folder in _folders(checkpoints)})


def checkpoint_folder(checkpoints: Path, step: int) -> Path:
    """Return where the checkpoint of `step` is, or would be."""
    folder = checkpoints / f"{step:08d}"
    replaced = folder.with_suffix(".replaced")
    return replaced if replaced.is_dir() and not folder.is_dir() else folder


def prune(checkpoints: Path, keep: int, best_step: int | None, every: int = 0, written: int | None = None) -> None:
    """Remove all but the `keep` newest checkpoints, that of `best_step`, and those at multiples of `every` (0: none).

    The only one that is whole is never removed. written: the step of one that has just been written and synced, which
    is known to be whole and is not read again.

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
    if doomed and not any(_step_of(folder) == written or _is_whole(folder) for folder in reversed(kept)):
        last_whole = next((folder for folder in reversed(doomed) if _is_whole(folder)), None)
        doomed = [folder for folder in doomed if folder != last_whole]
    for folder in doomed:
        # Renamed first, so that a removal that stops halfway leaves no folder that looks like a checkpoint.
        leftover = checkpoints / f"{folder.name}.partial"
        try:
            folder.rename(leftover)
        except OSError as error:
            raise RunError(f"The old checkpoint {folder} could not be removed ({reason(error)}).") from None
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
                raise RunError(f"The damaged checkpoint {folder} could not be set aside ({reason(error)}).") from None


def _read(folder: Path, *kinds: str) -> tuple[int, dict[str, Any], list[Tensors]]:
    """Return the step, the plain values and the tensors of these kinds, all verified."""
    if not folder.is_dir():
        steps = ", ".join(str(step) for step in checkpoint_steps(folder.parent))
        raise RunError(
            f"There is no checkpoint {folder}; {f'there are those of steps {steps}' if steps else 'none is'}."
        )
    record = verified_state(folder, *kinds)
    try:
        tensors = [Tensors([folder / name for name in record["sha256"] if kind_of(name) == kind]) for kind in kinds]
    except (OSError, SafetensorError) as error:
        raise RunError(f"The checkpoint {folder} cannot be read ({reason(error)}).") from None
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
    """Return the complete checkpoints, oldest first; one that waits to be replaced comes before the one that replaces
    it.
    """
    found = [path for path in checkpoints.glob("*") if path.is_dir() and _COMPLETE.fullmatch(path.name)]
    return sorted(found, key=lambda path: (_step_of(path), path.suffix == ""))


def _step_of(folder: Path) -> int:
    return int(folder.stem)


def _is_whole(folder: Path) -> bool:
    try:
        verified_state(folder, MODEL, TRAINING)
    except RunError:
        return False
    return True
