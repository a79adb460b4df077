"""The files of one checkpoint: tensors in safetensors, plain values in JSON, and a SHA-256 of each.

Where a model is sharded over several processes, each writes a file of its own, with full tensors, as other tools write
large models: model-00001-of-00004.safetensors. What it wrote stands in a record beside, which the main process, which
completes the checkpoint, waits for and removes; nothing but the folder itself is needed to agree.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from lightwell.atomic import sync, write_file
from lightwell.errors import RunError

if TYPE_CHECKING:
    from torch import Tensor

MODEL, TRAINING, STATE = "model", "training", "state.json"
"""What the weights' files and those of the optimizer's state are called, without what follows; and the plain values."""
WAIT = 0.02
"""Seconds between looks for what the other processes wrote."""


@dataclass(frozen=True)
class Shard:
    """The share of a checkpoint that one of `world_size` processes writes."""

    rank: int = 0
    world_size: int = 1

    def file(self, kind: str) -> str:
        """Return the name of a file of this shard, e.g. model.safetensors, or model-00001-of-00002.safetensors."""
        return f"{kind}{f'-{self.rank + 1:05d}-of-{self.world_size:05d}' if self.world_size > 1 else ''}.safetensors"

    @property
    def record(self) -> str:
        """Return the name of the file with the hashes of what it wrote."""
        return f"shard-{self.rank + 1:05d}.json"


UNSHARDED = Shard()


def write_shard(
    folder: Path, shard: Shard, model: Mapping[str, Tensor], training: Mapping[str, Tensor]
) -> dict[str, str]:
    """Write a process's two files, synced; return their hashes, which other processes find in a record beside.

    Raises:
        OSError: the disk is full, or another failure of the file system.
    """
    from lightwell.training.checkpoints.tensor_file import write_tensors

    names = shard.file(MODEL), shard.file(TRAINING)
    hashes = {
        name: write_tensors(folder / name, tensors) for name, tensors in zip(names, (model, training), strict=True)
    }
    if shard.world_size > 1:
        write_file(folder / shard.record, json.dumps(hashes).encode())
    return hashes


def gather_hashes(folder: Path, world_size: int, given_up: Callable[[], bool]) -> dict[str, str]:
    """Return the hashes of all processes' files, once all have written; nothing where it is given up before."""
    hashes: dict[str, str] = {}
    for rank in range(world_size):
        record = folder / Shard(rank, world_size).record
        while not record.exists():
            if given_up():
                return {}
            time.sleep(WAIT)
        hashes.update(json.loads(record.read_bytes()))
        record.unlink()
    return hashes


def write_state(folder: Path, step: int, state: Mapping[str, Any], hashes: Mapping[str, str]) -> None:
    """Write state.json, synced: the plain values, and the hashes, its own too."""
    # Through JSON and back, so that the hash is of what a reader will see (tuples as lists, keys as texts).
    record = json.loads(json.dumps({**state, "step": step, "sha256": dict(hashes)}))
    record["sha256"][STATE] = record_hash(record)
    path = folder / STATE
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    sync(path)


def verified_state(folder: Path, *kinds: str) -> dict[str, Any]:
    """Return the content of state.json, after it and the files of these kinds have been held against their hashes.

    Raises:
        RunError: one is missing, damaged or cannot be read; it is named.
    """
    path = folder / STATE
    try:
        record = json.loads(path.read_bytes())
        hashes = dict(record["sha256"])
        if hashes.pop(STATE) != record_hash({**record, "sha256": hashes}):
            raise ValueError
        for name in sorted(hashes):
            path = folder / name
            if kind_of(name) in kinds and sha256(path) != hashes[name]:
                raise ValueError
    except FileNotFoundError:
        raise RunError(f"The checkpoint {folder} is damaged: {path.name} is missing.") from None
    except OSError as error:
        raise RunError(f"The checkpoint {folder} cannot be read: {path.name} ({reason(error)}).") from None
    except (ValueError, KeyError, TypeError):  # not JSON, not ours, or not what was written
        raise RunError(f"The checkpoint {folder} is damaged: {path.name} is not what was written.") from None
    return dict(record)


def kind_of(name: str) -> str:
    """Return model or training, for a file of either; else nothing."""
    match = re.fullmatch(r"([a-z]+)(-\d+-of-\d+)?\.safetensors", name)
    return match[1] if match else ""


class Tensors(Mapping[str, "Tensor"]):
    """The tensors of some files by name, on the CPU; each is read when it is asked for, so that memory holds but one.

    Raises:
        SafetensorError, OSError: a file is no safetensors, or cannot be read.
    """

    def __init__(self, paths: list[Path]) -> None:
        from safetensors import safe_open

        files: list[Any] = [safe_open(path, framework="pt") for path in paths]
        self._file_of = {name: file for file in files for name in file.keys()}  # noqa: SIM118, it is no mapping

    def __getitem__(self, name: str) -> Tensor:
        tensor: Tensor = self._file_of[name].get_tensor(name)
        return tensor

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)


def record_hash(record: Mapping[str, Any]) -> str:
    """Return the SHA-256 of plain values."""
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def reason(error: OSError | SafetensorError) -> str:
    """Return what went wrong, in the system's words."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
