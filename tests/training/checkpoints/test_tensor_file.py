"""Writing a safetensors file: what safetensors reads from it is what went in, on any file system."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightwell.training.checkpoints import tensor_file
from lightwell.training.checkpoints.tensor_file import BLOCK, CHUNK, DTYPES, write_tensors
from small import raising, system_error

SHAPES = st.lists(st.integers(0, 9), max_size=3)
NAMES, KINDS = st.text(min_size=1, max_size=12), st.tuples(st.sampled_from(list(DTYPES)), SHAPES)
TENSORS = st.dictionaries(NAMES, KINDS, max_size=6)


@given(TENSORS, st.sampled_from([BLOCK, 2 * BLOCK, CHUNK]))
@settings(deadline=None, max_examples=60)
def test_safetensors_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, kinds: dict[str, tuple[torch.dtype, list[int]]], chunk: int
) -> None:
    torch.manual_seed(0)
    tensors = {name: (100 * torch.randn(shape)).to(dtype) for name, (dtype, shape) in kinds.items()}
    path = tmp_path_factory.mktemp("file") / "a.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tensor_file, "CHUNK", chunk)
        found = write_tensors(path, tensors)
    assert found == hashlib.sha256(path.read_bytes()).hexdigest()
    read = safetensors.torch.load_file(path)
    assert read.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert read[name].dtype == tensor.dtype
        assert read[name].shape == tensor.shape
        assert torch.equal(read[name].view(-1).view(torch.uint8), tensor.view(-1).view(torch.uint8)), name


def test_tensors_across_chunks_and_views(tmp_path: Path) -> None:
    big = torch.randn(3, CHUNK // 4 + 5)
    tensors = {"turned": big.t(), "part": big[1:], "scalar": torch.tensor(3.0), "flag": torch.tensor([True])}
    write_tensors(tmp_path / "a", tensors)
    read = safetensors.torch.load_file(tmp_path / "a")
    assert all(torch.equal(read[name], tensor) for name, tensor in tensors.items())


def test_a_file_system_that_only_writes_through_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, tried = os.open, []

    def without_direct(path: Path, flags: int, mode: int = 0o777) -> int:
        tried.append(flags & os.O_DIRECT)
        if flags & os.O_DIRECT:
            raise system_error(errno.EINVAL)
        return real(path, flags, mode)

    tensors = {"a": torch.randn(1000)}
    expected = write_tensors(tmp_path / "direct", tensors)
    monkeypatch.setattr(os, "open", without_direct)
    assert write_tensors(tmp_path / "cached", tensors) == expected
    assert tried == [os.O_DIRECT, 0]


def test_a_file_system_that_refuses_direct_writes_only_when_they_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.write

    def without_direct(descriptor: int, data: memoryview) -> int:
        if fcntl.fcntl(descriptor, fcntl.F_GETFL) & os.O_DIRECT:
            raise system_error(errno.EINVAL)
        return real(descriptor, data)

    tensors = {"a": torch.randn(CHUNK // 2)}
    expected = write_tensors(tmp_path / "direct", tensors)
    monkeypatch.setattr(os, "write", without_direct)
    assert write_tensors(tmp_path / "cached", tensors) == expected
    assert (tmp_path / "cached").read_bytes() == (tmp_path / "direct").read_bytes()


@pytest.mark.parametrize("most", [1000, BLOCK + 1, 100_000, 1 << 20])
def test_writes_that_come_up_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    real = os.write
    tensors = {"a": torch.randn(300_000)}
    expected = write_tensors(tmp_path / "whole", tensors)
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, data[:most]))
    assert write_tensors(tmp_path / "short", tensors) == expected
    assert (tmp_path / "short").read_bytes() == (tmp_path / "whole").read_bytes()


def test_a_file_has_the_rights_that_the_umask_allows(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_tensors(tmp_path / "a", {"a": torch.zeros(1)})
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def test_the_bytes_are_those_that_safetensors_writes(tmp_path: Path) -> None:
    """Widest numbers first, then by name, behind a header of a multiple of eight bytes."""
    for length in range(1, 9):
        tensors = {
            "b" * length: torch.arange(3, dtype=torch.float32), "a": torch.ones(2, 2), "wide": torch.arange(2),
            "flag": torch.tensor([True]), "half": torch.ones(3, dtype=torch.bfloat16),
        }  # fmt: skip
        write_tensors(tmp_path / "a", tensors)
        content = (tmp_path / "a").read_bytes()
        assert content == safetensors.torch.save(tensors)
        assert int.from_bytes(content[:8], "little") % 8 == 0


def test_a_longer_file_that_was_there_is_gone(tmp_path: Path) -> None:
    write_tensors(tmp_path / "a", {"a": torch.zeros(9999)})
    write_tensors(tmp_path / "a", {"a": torch.ones(2)})
    assert safetensors.torch.load_file(tmp_path / "a")["a"].tolist() == [1.0, 1.0]
    assert (tmp_path / "a").stat().st_size < 200


def test_a_file_has_its_length_before_it_is_synced_and_is_closed_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def noted(name: str, real: Any) -> Any:
        def call(*given: Any) -> Any:
            order.append(name)
            return real(*given)

        return call

    for name in ("write", "ftruncate", "fsync", "close"):
        monkeypatch.setattr(os, name, noted(name, getattr(os, name)))
    write_tensors(tmp_path / "a", {"a": torch.zeros(5)})
    assert order == ["write", "ftruncate", "fsync", "close"]


@pytest.mark.parametrize(
    ("refused", "falls_back"), [(errno.EOPNOTSUPP, True), (errno.EINVAL, True), (errno.EACCES, False)]
)
def test_only_a_refusal_of_direct_writes_is_got_around(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: int, falls_back: bool
) -> None:
    real = os.open

    def opened(path: Path, flags: int, mode: int = 0o777) -> int:
        if flags & os.O_DIRECT:
            raise system_error(refused)
        return real(path, flags, mode)

    monkeypatch.setattr(os, "open", opened)
    if falls_back:
        write_tensors(tmp_path / "a", {"a": torch.zeros(5)})
        assert safetensors.torch.load_file(tmp_path / "a")["a"].tolist() == [0.0] * 5
    else:
        with pytest.raises(PermissionError):
            write_tensors(tmp_path / "a", {"a": torch.zeros(5)})


def test_a_refusal_that_stays_is_raised_and_the_file_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[int] = []
    real = os.close

    def close(descriptor: int) -> None:
        closed.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "write", raising(system_error(errno.EINVAL)))
    monkeypatch.setattr(os, "close", close)
    with pytest.raises(OSError, match="Invalid argument"):
        write_tensors(tmp_path / "a", {"a": torch.zeros(5)})
    assert len(closed) == 1
