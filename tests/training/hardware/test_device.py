"""What the machine gives: memory that stays with the process for as long as it should, and how much is free."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from lightwell.training.hardware import device, meminfo
from lightwell.training.hardware.device import available_memory

PROGRAM = """
import torch
from pathlib import Path
from lightwell.training.hardware.device import freed_memory_kept

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

def gained():  # MiB that stay with the process after a tensor of 64 MiB has come and gone
    before = resident()
    assert torch.ones(16 * 2**20)[-1] == 1
    return resident() - before

with freed_memory_kept():
    kept, inside = gained(), resident()
given_back = inside - resident()
try:
    with freed_memory_kept():
        raise ZeroDivisionError
except ZeroDivisionError:
    print(kept, given_back, gained())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be told to keep freed memory")
def test_freed_memory_is_kept_within_and_goes_back_afterwards_also_when_something_breaks() -> None:
    """In a process of its own: where the heap of this one ends depends on the tests before."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    kept, given_back, afterwards = map(float, done.stdout.split())
    assert kept > 50
    assert given_back > 50
    assert afterwards < 10


def test_available_memory_is_what_the_system_says_and_all_there_is_where_it_does_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu = torch.device("cpu")
    total = meminfo.meminfo("MemTotal")
    assert 0 < available_memory(cpu) <= (total or sys.maxsize)
    monkeypatch.setattr(device, "meminfo", lambda name: None)
    assert available_memory(cpu) == pytest.approx(total or available_memory(cpu), rel=0.05)


def test_available_memory_is_what_is_available_and_not_all_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "meminfo", {"MemTotal": 100, "MemAvailable": 40}.get)
    assert available_memory(torch.device("cpu")) == 40
