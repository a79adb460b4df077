"""In which order what a run writes reaches the disk: records before the checkpoint that counts on them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lightwell.training.runs.records import Records
from small import small_run, write_text


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """What happens on the disk, in order: ("sync", path) and ("rename", path that it is put at)."""
    events: list[tuple[str, str]] = []
    fsync, rename, replace = os.fsync, os.rename, os.replace

    def synced(descriptor: int) -> None:
        events.append(("sync", str(Path(f"/proc/self/fd/{descriptor}").readlink())))
        fsync(descriptor)

    def renamed(real: object) -> object:
        def do(source: str, target: str) -> None:
            events.append(("rename", str(target)))
            real(source, target)  # type: ignore[operator]

        return do

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "rename", renamed(rename))
    monkeypatch.setattr(os, "replace", renamed(replace))
    return events


def test_records_are_on_the_disk_before_each_checkpoint_is(tmp_path: Path, disk: list[tuple[str, str]]) -> None:
    run = small_run(write_text(tmp_path / "text"), tmp_path / "run", checkpoint_every=2, eval_every=2, sample_every=2)
    begin = 0
    for step in (2, 4, 6):
        end = disk.index(("rename", str(run.checkpoints / f"{step:08d}")))
        before = disk[begin:end]  # since the checkpoint before
        for name in ("metrics.jsonl", "samples.jsonl"):
            assert ("sync", str(run.path / name)) in before, (step, name)
        assert ("sync", str(run.path)) in before
        tensors = [at for at, (kind, path) in enumerate(before) if kind == "sync" and path.endswith(".safetensors")]
        assert before.index(("sync", str(run.path / "metrics.jsonl"))) < min(tensors)
        begin = end
        assert disk[end + 1] == ("sync", str(run.checkpoints))  # and the name is on the disk before old ones go


def test_a_cut_record_is_synced_renamed_and_its_folder_synced(tmp_path: Path, disk: list[tuple[str, str]]) -> None:
    records = Records(tmp_path / "metrics.jsonl")
    for step in (1, 2):
        records.append({"step": step})
    disk.clear()
    records.truncate(1)
    (synced, partial), *after = disk
    assert synced == "sync"
    assert Path(partial).parent == tmp_path
    assert after == [("rename", str(records.path)), ("sync", str(tmp_path))]
    assert records.read() == [{"step": 1}]
