"""Checkpoints exist whole or not at all, and damage is found and named."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from lightwell.errors import RunError
from lightwell.training.checkpoints import files as checkpoint_files
from lightwell.training.checkpoints import tensor_file
from lightwell.training.checkpoints.checkpoint import (
    Checkpoint,
    checkpoint_folder,
    checkpoint_steps,
    load_checkpoint,
    load_checkpoint_weights,
    newest_checkpoint,
    newest_weights,
    prune,
    save_checkpoint,
)
from lightwell.training.checkpoints.files import Shard, write_shard

FILES = ["model.safetensors", "training.safetensors", "state.json"]


def tensors(step: int) -> dict[str, Tensor]:
    return {"a.weight": torch.full((3, 4), float(step)), "scalar": torch.tensor(float(step)), "odd": torch.eye(3).t()}


def save(checkpoints: Path, step: int) -> Path:
    state = {"loss": 0.1 * step, "seen": [1, 2], "best": None}
    return save_checkpoint(checkpoints, step, tensors(step), {"m": torch.arange(step)}, state)


def silent(sentence: str) -> None:
    raise AssertionError(f"nothing should be said, but: {sentence}")


def is_that_of(found: Checkpoint, step: int) -> bool:
    same = all(torch.equal(found.model[name], tensor) for name, tensor in tensors(step).items())
    return found.step == step and same and torch.equal(found.training["m"], torch.arange(step))


def flip_a_bit(path: Path, at: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * (len(content) - 1))] ^= 0b100
    path.write_bytes(content)


def halve(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def test_round_trip(tmp_path: Path) -> None:
    folder = save(tmp_path / "checkpoints", 500)
    assert folder == tmp_path / "checkpoints" / "00000500"
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    loaded = load_checkpoint(folder)
    assert is_that_of(loaded, 500)
    assert loaded.state == {"loss": 0.1 * 500, "seen": [1, 2], "best": None}


def test_state_says_the_step_and_the_hash_of_each_file(tmp_path: Path) -> None:
    record = json.loads((save(tmp_path, 7) / "state.json").read_text())
    assert record["step"] == 7
    assert sorted(record["sha256"]) == sorted(FILES)


def test_empty_training_state_can_be_saved(tmp_path: Path) -> None:
    assert len(load_checkpoint(save_checkpoint(tmp_path, 0, tensors(0), {}, {})).training) == 0


def test_other_users_may_read_it_as_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        folder = save(tmp_path, 1)
    finally:
        os.umask(before)
    assert {(folder / name).stat().st_mode & 0o777 for name in FILES} == {0o644}


def test_every_file_and_both_folders_are_synced_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []

    def note(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().name)

    monkeypatch.setattr(os, "fsync", note)
    save(tmp_path, 3)
    assert synced == ["model.safetensors", "training.safetensors", "state.json", "00000003.partial", tmp_path.name]


def damaged(folder: Path, name: str, damage: Callable[[Path], None]) -> Path:
    """The newest of two checkpoints, with damage to one of its files."""
    save(folder, 10)
    newest = save(folder, 20)
    damage(newest / name)
    return newest


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [flip_a_bit, halve, Path.unlink])
def test_damage_is_named_and_the_checkpoint_before_is_used(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    newest = damaged(tmp_path, name, damage)
    with pytest.raises(RunError, match=name):
        load_checkpoint(newest)
    said: list[str] = []
    assert is_that_of(newest_checkpoint(tmp_path, said.append), 10)
    assert len(said) == 1
    assert name in said[0]
    assert "step 10 is used" in said[0]


@pytest.mark.parametrize("name", ["model.safetensors", "state.json"])
@pytest.mark.parametrize("damage", [flip_a_bit, halve, Path.unlink])
def test_damaged_weights_are_named_and_those_before_are_used(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    newest = damaged(tmp_path, name, damage)
    with pytest.raises(RunError, match=name):
        load_checkpoint_weights(newest)
    said: list[str] = []
    assert newest_weights(tmp_path, said.append).step == 10
    assert len(said) == 1
    assert "step 10 is used" in said[0]


@pytest.mark.parametrize("damage", [flip_a_bit, halve, Path.unlink])
def test_weights_need_no_optimizer_state(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    save(tmp_path, 10)
    newest = save(tmp_path, 20)
    whole = load_checkpoint(newest)
    damage(newest / "training.safetensors")
    weights = newest_weights(tmp_path, silent)
    assert (weights.step, weights.state) == (20, whole.state)
    assert all(torch.equal(weights.model[name], tensor) for name, tensor in tensors(20).items())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), at=st.floats(0, 1), bit=st.integers(0, 7))
def test_no_flipped_bit_goes_unnoticed(tmp_path: Path, name: str, at: float, bit: int) -> None:
    folder = checkpoint_folder(tmp_path, 4)
    if not folder.exists():
        save(tmp_path, 4)
    path = folder / name
    whole = path.read_bytes()
    content = bytearray(whole)
    content[int(at * (len(content) - 1))] ^= 1 << bit
    path.write_bytes(content)
    try:
        assert is_that_of(load_checkpoint(folder), 4)  # a bit of white space in state.json means nothing
        assert name == "state.json"
        assert json.loads(content) == json.loads(whole)
    except RunError as error:
        assert name in str(error)  # noqa: PT017 - either outcome is checked
    finally:
        path.write_bytes(whole)


def test_newest_of_several_and_nothing_to_say(tmp_path: Path) -> None:
    for step in (10, 200, 30):
        save(tmp_path, step)
    assert is_that_of(newest_checkpoint(tmp_path, silent), 200)
    assert checkpoint_steps(tmp_path) == [10, 30, 200]


def test_none_and_none_whole(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no checkpoint"):
        newest_checkpoint(tmp_path / "missing", silent)
    flip_a_bit(save(tmp_path, 1) / "model.safetensors")
    with pytest.raises(RunError, match="whole"):
        newest_checkpoint(tmp_path, silent)


def test_a_missing_step_is_answered_with_those_that_exist(tmp_path: Path) -> None:
    save(tmp_path, 10)
    with pytest.raises(RunError, match="steps 10"):
        load_checkpoint(checkpoint_folder(tmp_path, 11))


def test_saving_a_step_again_replaces_it(tmp_path: Path) -> None:
    flip_a_bit(save(tmp_path, 5) / "model.safetensors")
    save(tmp_path, 5)
    assert is_that_of(newest_checkpoint(tmp_path, silent), 5)
    assert [path.name for path in tmp_path.iterdir()] == ["00000005"]


def test_what_a_killed_writer_left_is_no_checkpoint_and_goes_at_the_next_save(tmp_path: Path) -> None:
    save(tmp_path, 1)
    shutil.copytree(tmp_path / "00000001", tmp_path / "00000002.partial")
    assert checkpoint_steps(tmp_path) == [1]
    save(tmp_path, 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000001", "00000003"]


def test_a_writer_killed_between_the_two_renames_loses_nothing(tmp_path: Path) -> None:
    save(tmp_path, 5).rename(tmp_path / "00000005.replaced")
    assert checkpoint_steps(tmp_path) == [5]
    assert is_that_of(newest_checkpoint(tmp_path, silent), 5)
    assert is_that_of(load_checkpoint(checkpoint_folder(tmp_path, 5)), 5)


# What can fail while a checkpoint is written: (object, attribute, how many calls go well first).
CALLS: list[tuple[Any, str, int]] = [
    (Path, "mkdir", 0),
    (Path, "mkdir", 1),
    *[(os, name, count) for name in ("write", "ftruncate") for count in (0, 1)],
    *[(tensor_file, "_opened", count) for count in (0, 1)],
    *[(os, "fsync", count) for count in range(5)],
    (Path, "write_text", 0),
    (Path, "rename", 0),
]


@contextmanager
def failing(target: Any, name: str, good_calls: int, error: BaseException) -> Iterator[None]:
    """Let a call fail after so many that go well, and all later ones."""
    real, calls = getattr(target, name), 0

    def call(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls > good_calls:
            raise error
        return real(*arguments, **keywords)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, call)
        yield


@pytest.mark.parametrize(("target", "name", "good_calls"), CALLS)
@pytest.mark.parametrize("step", [20, 10])  # a new checkpoint, and one that is saved again
def test_whatever_call_fails_the_earlier_checkpoints_stay_good(
    tmp_path: Path, target: Any, name: str, good_calls: int, step: int
) -> None:
    save(tmp_path, 5)
    save(tmp_path, 10)
    with failing(target, name, good_calls, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))):
        with pytest.raises(RunError, match=r"No space left on device.*free some space"):
            save(tmp_path, step)
    assert is_that_of(load_checkpoint(checkpoint_folder(tmp_path, 5)), 5)
    assert is_that_of(load_checkpoint(checkpoint_folder(tmp_path, 10)), 10)
    assert not list(tmp_path.glob("*.partial"))
    save(tmp_path, step)
    assert is_that_of(newest_checkpoint(tmp_path, silent), max(step, 10))


@pytest.mark.parametrize(("target", "name", "good_calls"), [*CALLS, (Path, "rename", 1)])
def test_an_interrupt_at_any_call_leaves_no_ruins(tmp_path: Path, target: Any, name: str, good_calls: int) -> None:
    save(tmp_path, 10)
    with failing(target, name, good_calls, KeyboardInterrupt()):
        with pytest.raises(KeyboardInterrupt):
            save(tmp_path, 10)
    assert is_that_of(newest_checkpoint(tmp_path, silent), 10)
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("limit", [100_000, 5_000_001, 8 << 20])
def test_a_really_limited_disk(tmp_path: Path, limit: int) -> None:
    save(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(RunError, match="File too large"):
            save_checkpoint(tmp_path, 2, {"big": torch.zeros(limit // 4 + 1000)}, {}, {})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert is_that_of(newest_checkpoint(tmp_path, silent), 1)
    assert [path.name for path in tmp_path.iterdir()] == ["00000001"]


def test_prune_keeps_the_newest_and_the_best(tmp_path: Path) -> None:
    for step in (10, 20, 30, 40, 50):
        save(tmp_path, step)
    prune(tmp_path, keep=2, best_step=20)
    assert checkpoint_steps(tmp_path) == [20, 40, 50]
    prune(tmp_path, keep=1, best_step=None)
    assert checkpoint_steps(tmp_path) == [50]
    prune(tmp_path, keep=3, best_step=10)
    assert checkpoint_steps(tmp_path) == [50]


def test_prune_keeps_multiples_for_good(tmp_path: Path) -> None:
    for step in (10, 15, 20, 25, 30):
        save(tmp_path, step)
    prune(tmp_path, keep=1, best_step=None, every=20)
    assert checkpoint_steps(tmp_path) == [20, 30]


@settings(max_examples=25, deadline=None)
@given(
    damaged=st.lists(st.booleans(), min_size=1, max_size=5),
    keep=st.integers(1, 5),
    best=st.one_of(st.none(), st.integers(0, 4)),
)
def test_prune_never_removes_the_only_whole_one(
    tmp_path_factory: pytest.TempPathFactory, damaged: list[bool], keep: int, best: int | None
) -> None:
    checkpoints = tmp_path_factory.mktemp("checkpoints")
    for step, broken in enumerate(damaged):
        folder = save(checkpoints, step)
        if broken:
            flip_a_bit(folder / "training.safetensors")
    prune(checkpoints, keep, best)
    left = checkpoint_steps(checkpoints)
    assert set(range(len(damaged))[-keep:]) <= set(left)
    if not all(damaged):
        assert not all(damaged[step] for step in left)
        newest_checkpoint(checkpoints, lambda sentence: None)


def test_prune_does_not_read_again_what_was_just_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step)
    read: set[str] = set()
    real = checkpoint_files.sha256

    def noted(path: Path) -> str:
        read.add(path.parent.name)
        return real(path)

    monkeypatch.setattr(checkpoint_files, "sha256", noted)
    prune(tmp_path, keep=2, best_step=None, written=30)
    assert checkpoint_steps(tmp_path) == [20, 30]
    assert not read
    prune(tmp_path, keep=1, best_step=None)
    assert read == {"00000030"}


def test_a_removal_that_stops_halfway_leaves_no_damaged_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    monkeypatch.setattr(shutil, "rmtree", lambda path, ignore_errors=False: None)
    prune(tmp_path, keep=1, best_step=None)
    assert checkpoint_steps(tmp_path) == [2]


def test_an_old_checkpoint_that_cannot_be_removed_is_said(tmp_path: Path) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    with failing(Path, "rename", 0, PermissionError(errno.EACCES, os.strerror(errno.EACCES))):
        with pytest.raises(RunError, match="00000001 could not be removed"):
            prune(tmp_path, keep=1, best_step=None)
    assert is_that_of(newest_checkpoint(tmp_path, silent), 2)


def test_the_note_of_a_process_is_put_in_place_in_one_go(tmp_path: Path) -> None:
    """A note that is opened under its own name could be read half-written; through a link, that would show."""
    shard, elsewhere = Shard(1, 2), tmp_path / "elsewhere"
    note = tmp_path / shard.record
    note.symlink_to(elsewhere)
    hashes = write_shard(tmp_path, shard, tensors(1), {})
    assert not elsewhere.exists()
    assert not note.is_symlink()
    assert json.loads(note.read_bytes()) == hashes


def test_the_checkpoint_that_replaces_another_counts_and_not_the_replaced_one(tmp_path: Path) -> None:
    """A stop between the two leaves both: the new one is the newest, the old one the one before it."""
    old, checkpoints = save(tmp_path / "old", 10), tmp_path / "checkpoints"
    save_checkpoint(checkpoints, 10, tensors(11), {}, {})
    old.rename(checkpoints / "00000010.replaced")
    assert newest_checkpoint(checkpoints, silent).model["scalar"] == 11
    flip_a_bit(checkpoints / "00000010" / "model.safetensors")
    said: list[str] = []
    assert newest_checkpoint(checkpoints, said.append).model["scalar"] == 10
    assert len(said) == 1
