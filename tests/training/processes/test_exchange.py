"""How a process joins its group and exchanges numbers, with a group that is pretended."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist

from lightwell.errors import LeftAloneError, SettingError
from lightwell.training.processes import process_group
from lightwell.training.processes.process_group import ProcessGroup, init_distributed
from lightwell.training.processes.sharded_tensors import (
    copy_full_,
    full_tensor,
    is_distributed,
    local,
    local_bytes,
    local_rows,
    shard_like,
)

OTHER = [0.0, 1.0, -3.0]
"""What the other process has."""


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    told: list[Any] = []

    def all_reduce(tensor: torch.Tensor, operation: Any) -> None:
        told.append((tensor.dtype, len(tensor)))
        other = torch.tensor(OTHER[: len(tensor)], dtype=tensor.dtype)
        tensor.copy_(tensor + other if operation == dist.ReduceOp.SUM else torch.maximum(tensor, other))

    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    monkeypatch.setattr(dist, "init_process_group", lambda backend: told.append(backend))
    monkeypatch.setattr(dist, "destroy_process_group", lambda: told.append("destroyed"))
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(process_group, "gc", SimpleNamespace(collect=lambda: told.append("collected")))
    return told


def test_numbers_of_two_processes(events: list[Any]) -> None:
    first, second = ProcessGroup(0, 2), ProcessGroup(1, 2)
    assert first.all_reduce_sum([1.0, 0.1, 2.0]) == [1.0, 1.1, -1.0]
    assert first.all_reduce_any([False, False, False]) == [False, True, False]
    assert first.all_reduce_any([True, True, True]) == [True, True, True]
    assert second.broadcast([5.0, 6.0]) == [0.0, 1.0]  # its own are not the main process's
    assert first.broadcast([5.0]) == [5.0]
    assert {kind for kind, _ in events} == {torch.float64}
    assert (first.is_main, second.is_main) == (True, False)
    first.barrier()
    assert events[-1] == (torch.float64, 1)


def test_one_alone_joins_nothing(events: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with init_distributed(torch.device("meta")) as group:
        assert (group.rank, group.size, group.device.type) == (0, 1, "meta")
    assert events == []


def test_a_group_is_joined_waited_for_and_left(events: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with init_distributed(torch.device("cpu")) as group:
        assert (group.rank, group.size, group.device.type) == (1, 2, "cpu")
        assert events == ["gloo"]
    assert events == ["gloo", (torch.float64, 1), "collected", "destroyed"]


def test_each_process_of_a_machine_has_a_gpu_of_its_own(events: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "set_device", events.append)
    monkeypatch.setattr(ProcessGroup, "barrier", lambda self: None)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "3")
    with init_distributed(torch.device("cuda")) as group:
        assert group.device == torch.device("cuda", 3)
    assert events[:2] == [torch.device("cuda", 3), "nccl"]
    with pytest.raises(SettingError, match="device is mps"), init_distributed(torch.device("mps")):
        pass


@pytest.mark.parametrize(
    "words", ["Connection closed by peer", "Connection reset by peer", "Broken pipe", "ncclRemoteError"]
)
def test_an_exchange_that_broke_means_that_another_has_ended(
    events: list[Any], monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(LeftAloneError), init_distributed(torch.device("cpu")):
        raise RuntimeError(f"gloo: {words} [127.0.0.1]")
    assert events == ["gloo", "collected", "destroyed"]
    with pytest.raises(RuntimeError, match="another reason"), init_distributed(torch.device("cpu")):
        raise RuntimeError("another reason")
    assert events[3:] == ["gloo", "collected", "destroyed"]


def test_a_plain_tensor_is_its_own_shard() -> None:
    tensor = torch.arange(6.0).reshape(3, 2)
    assert not is_distributed(tensor)
    assert local(tensor) is tensor
    assert full_tensor(tensor) is tensor
    assert local_rows(tensor) == slice(0, 3)
    assert shard_like(tensor, torch.zeros(3, 2)) is tensor
    copied = torch.zeros(3, 2, requires_grad=True)
    copy_full_(tensor, copied)
    assert torch.equal(copied, tensor)
    assert local_bytes([tensor, tensor.double()]) == 24 + 48
