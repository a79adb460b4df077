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
    begin_checkpoint,
    checkpoint_folder,
    checkpoint_steps,
    load_checkpoint,
    load_checkpoint_weights,
    newest_checkpoint,
    newest_weights,
    prune,
    save_checkpoint,
    set_aside_after,
)
from lightwell.training.checkpoints.files import Shard, Tensors, kind_of, reason, record_hash, write_shard
from small import system_error

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


@pytest.mark.parametrize(
    ("shard", "model", "training", "record"),
    [
        (Shard(), "model.safetensors", "training.safetensors", "shard-00001.json"),
        (Shard(0, 2), "model-00001-of-00002.safetensors", "training-00001-of-00002.safetensors", "shard-00001.json"),
        (Shard(11, 16), "model-00012-of-00016.safetensors", "training-00012-of-00016.safetensors", "shard-00012.json"),
    ],
)
def test_files_are_named_after_their_share(shard: Shard, model: str, training: str, record: str) -> None:
    assert (shard.file("model"), shard.file("training"), shard.record) == (model, training, record)
    assert (kind_of(model), kind_of(training)) == ("model", "training")


@pytest.mark.parametrize(
    "name", ["state.json", "model.safetensors.old", "model-1.safetensors", "Model.safetensors", ""]
)
def test_other_names_are_of_no_kind(name: str) -> None:
    assert kind_of(name) == ""


def test_several_processes_write_one_checkpoint_that_the_first_completes(tmp_path: Path) -> None:
    begin_checkpoint(tmp_path, 5)
    partial, folder = tmp_path / "00000005.partial", tmp_path / "00000005"
    asked: list[bool] = []

    def given_up() -> bool:
        """Asked while the record of the second process is not there: it is then written."""
        asked.append(True)
        if len(asked) == 2:
            save_checkpoint(tmp_path, 5, {"b": torch.ones(3)}, {"m": torch.ones(1)}, {"other": 1}, shard=Shard(1, 2))
            assert sorted(path.name for path in partial.iterdir()) == [
                "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "shard-00002.json",
                "training-00001-of-00002.safetensors", "training-00002-of-00002.safetensors",
            ]  # fmt: skip
            assert not folder.exists()
        return False

    written = save_checkpoint(tmp_path, 5, {"a": torch.zeros(2)}, {}, {"x": 1}, shard=Shard(0, 2), given_up=given_up)
    assert (written, len(asked)) == (folder, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["00000005"]
    assert not list(folder.glob("shard-*"))
    loaded = load_checkpoint(folder)
    assert (loaded.state, sorted(loaded.model), sorted(loaded.training)) == ({"x": 1}, ["a", "b"], ["m"])
    assert loaded.model["b"].tolist() == [1.0, 1.0, 1.0]
    flip_a_bit(folder / "model-00002-of-00002.safetensors")
    with pytest.raises(RunError, match=r"damaged: model-00002-of-00002\.safetensors is not what was written"):
        load_checkpoint_weights(folder)


def test_a_checkpoint_that_is_given_up_leaves_nothing_and_the_one_before(tmp_path: Path) -> None:
    save(tmp_path, 3)
    begin_checkpoint(tmp_path, 5)
    save_checkpoint(tmp_path, 5, tensors(5), {}, {}, shard=Shard(0, 2), given_up=lambda: True)
    assert [path.name for path in tmp_path.iterdir()] == ["00000003"]


@pytest.mark.parametrize("name", ["step", "sha256"])
def test_the_checkpoint_s_own_names_are_not_for_others(tmp_path: Path, name: str) -> None:
    with pytest.raises(AssertionError, match="own"):
        save_checkpoint(tmp_path, 1, {}, {}, {name: 1})


def test_nine_digits_come_after_eight(tmp_path: Path) -> None:
    for step in (100_000_000, 99_999_999, 20):
        save_checkpoint(tmp_path, step, {}, {}, {})
    assert checkpoint_steps(tmp_path) == [20, 99_999_999, 100_000_000]
    assert newest_checkpoint(tmp_path, silent).step == 100_000_000
    (tmp_path / "0000021").mkdir()  # too few digits
    (tmp_path / "00000022.damaged").mkdir()
    (tmp_path / "00000023").touch()
    assert checkpoint_steps(tmp_path) == [20, 99_999_999, 100_000_000]


@pytest.mark.parametrize(("damages", "used"), [([30], 20), ([30, 20], 10)])
def test_each_damaged_one_is_said_newest_first_with_the_one_that_is_used(
    tmp_path: Path, damages: list[int], used: int
) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step)
    for step in damages:
        flip_a_bit(tmp_path / f"{step:08d}" / "model.safetensors")
    said: list[str] = []
    assert newest_checkpoint(tmp_path, said.append).step == used
    for sentence, step in zip(said, damages, strict=True):
        what = f"{step:08d} is damaged: model.safetensors is not what was written."
        assert sentence.endswith(f"{what} The one of step {used} is used instead.")


def test_a_missing_step_names_all_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"There is no checkpoint .*00000011; none is\."):
        load_checkpoint(checkpoint_folder(tmp_path, 11))
    for step in (200, 10):
        save(tmp_path, step)
    with pytest.raises(RunError, match=r"00000011; there are those of steps 10, 200\."):
        load_checkpoint(checkpoint_folder(tmp_path, 11))


def test_those_after_a_step_are_set_aside_and_no_others(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step)
    (tmp_path / "00000030.damaged").mkdir()
    (tmp_path / "00000030.damaged" / "old").touch()
    set_aside_after(tmp_path, 20)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00000010", "00000020", "00000030.damaged"]
    assert sorted(path.name for path in (tmp_path / "00000030.damaged").iterdir()) == sorted(FILES)
    with failing(Path, "rename", 0, system_error(errno.EACCES)):
        with pytest.raises(
            RunError, match=r"damaged checkpoint .*00000020 could not be set aside \(Permission denied\)"
        ):
            set_aside_after(tmp_path, 10)
    assert checkpoint_steps(tmp_path) == [10, 20]


@pytest.mark.parametrize(
    ("broken", "keep", "best", "every", "written", "left"),
    [
        ([], 1, None, 0, None, [50]),
        ([], 2, 10, 0, None, [10, 40, 50]),
        ([], 1, None, 20, None, [20, 40, 50]),
        ([], 9, None, 0, None, [10, 20, 30, 40, 50]),
        ([], 5, None, 0, None, [10, 20, 30, 40, 50]),
        ([50], 1, None, 0, None, [40, 50]),  # the newest whole one stays
        ([50, 40], 1, None, 0, None, [30, 50]),
        ([50], 1, 10, 0, None, [10, 50]),  # one that is kept is whole
        ([50], 1, None, 0, 50, [50]),  # known to be whole
        ([50], 1, None, 0, 40, [40, 50]),  # what was written is not kept: the others are looked at
        ([10, 20, 30, 40, 50], 2, None, 0, None, [40, 50]),
    ],
)
def test_what_is_left_after_pruning(
    tmp_path: Path, broken: list[int], keep: int, best: int | None, every: int, written: int | None, left: list[int]
) -> None:
    for step in (10, 20, 30, 40, 50):
        save(tmp_path, step)
    for step in broken:
        flip_a_bit(tmp_path / f"{step:08d}" / "training.safetensors")
    prune(tmp_path, keep, best, every, written)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{step:08d}" for step in left]


def test_a_folder_that_waits_to_be_replaced_is_used_only_where_no_other_is(tmp_path: Path) -> None:
    folder, replaced = tmp_path / "00000005", tmp_path / "00000005.replaced"
    assert checkpoint_folder(tmp_path, 5) == folder
    replaced.mkdir()
    assert checkpoint_folder(tmp_path, 5) == replaced
    folder.mkdir()
    assert checkpoint_folder(tmp_path, 5) == folder


@pytest.mark.parametrize("content", [b"{}", b"[]", b"7", b"nonsense", b'{"sha256": {}}', b'{"sha256": 3}', b"\xff"])
def test_a_state_that_is_none_of_ours_is_damaged(tmp_path: Path, content: bytes) -> None:
    folder = save(tmp_path, 1)
    (folder / "state.json").write_bytes(content)
    with pytest.raises(RunError, match=r"damaged: state\.json is not what was written"):
        load_checkpoint(folder)


def test_a_file_that_cannot_be_read_is_told_from_a_damaged_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path, 1)
    (folder / "training.safetensors").unlink()
    (folder / "training.safetensors").mkdir()
    with pytest.raises(RunError, match=r"cannot be read: training\.safetensors \(Is a directory\)"):
        load_checkpoint(folder)


def test_a_state_is_hashed_as_it_is_read(tmp_path: Path) -> None:
    """Tuples are lists then, and keys texts."""
    folder = save_checkpoint(tmp_path, 2, {}, {}, {"pair": (1, 2), "by": {3: "x"}, "word": "f\u00e4llt"})
    assert load_checkpoint(folder).state == {"pair": [1, 2], "by": {"3": "x"}, "word": "f\u00e4llt"}
    record = json.loads((folder / "state.json").read_bytes())
    own = record["sha256"].pop("state.json")
    assert own == record_hash(record)
    assert record_hash({"b": 1, "a": 2}) == record_hash({"a": 2, "b": 1}) != record_hash({"a": 1, "b": 2})


def test_the_tensors_of_several_files_are_one_mapping(tmp_path: Path) -> None:
    hashes = [write_shard(tmp_path, Shard(rank, 2), {f"t{rank}": torch.full((2,), rank)}, {}) for rank in range(2)]
    found = Tensors([tmp_path / name for written in hashes for name in written if kind_of(name) == "model"])
    assert (sorted(found), len(found)) == (["t0", "t1"], 2)
    assert found["t1"].tolist() == [1, 1]


def test_a_reason_is_what_the_system_says_or_else_the_error() -> None:
    assert reason(OSError(errno.ENOSPC, "No space left on device")) == "No space left on device"
    assert reason(OSError("a bare one")) == "a bare one"


def test_a_folder_that_cannot_be_begun_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"00000005 could not be written \(.*\); the earlier ones are untouched"):
        begin_checkpoint(tmp_path / "file", 5)
    for leftover in ("00000001.partial", "00000005.partial"):
        (tmp_path / "own" / leftover).mkdir(parents=True)
        (tmp_path / "own" / leftover / "rest").touch()
    begin_checkpoint(tmp_path / "own", 5)
    assert [path.name for path in (tmp_path / "own").iterdir()] == ["00000005.partial"]
    assert not list((tmp_path / "own" / "00000005.partial").iterdir())
