"""What the machine gives: memory that stays with the process for as long as it should, and how much is free."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import pytest
import torch

from lightwell.training.hardware import device, meminfo
from lightwell.training.hardware.device import available_memory, freed_memory_kept

MIB = 2**20


def resident() -> int:
    """Bytes of this process in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def gained_by_a_large_tensor() -> int:
    """Bytes that stay with the process after a tensor of 64 MiB has come and gone."""
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)  # what earlier tests freed would serve it, and nothing would be gained
    before = resident()
    tensor = torch.ones(16 * MIB)
    assert tensor[-1] == 1
    del tensor
    return resident() - before


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told to keep freed memory")
def test_freed_memory_is_kept_within_and_goes_back_afterwards() -> None:
    with freed_memory_kept():
        kept = gained_by_a_large_tensor()
        inside = resident()
    assert kept > 50 * MIB
    assert inside - resident() > 50 * MIB
    assert gained_by_a_large_tensor() < 10 * MIB


def test_the_caller_keeps_its_memory_settings_when_something_breaks_within() -> None:
    with pytest.raises(ZeroDivisionError), freed_memory_kept():
        raise ZeroDivisionError
    if sys.platform == "linux":
        assert gained_by_a_large_tensor() < 10 * MIB


def test_available_memory_is_what_the_system_says_and_all_there_is_where_it_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    total = meminfo.meminfo("MemTotal")
    assert 0 < available_memory(cpu) <= (total or sys.maxsize)
    monkeypatch.setattr(device, "meminfo", lambda name: None)
    assert available_memory(cpu) == pytest.approx(total or available_memory(cpu), rel=0.05)
