"""What is found on a machine, with one that is pretended."""

from __future__ import annotations

import ctypes
import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightwell.errors import SettingError
from lightwell.training.hardware import host, machine, meminfo
from lightwell.training.hardware.device import (
    available_memory,
    compute_dtype,
    freed_memory_kept,
    has_bf16,
    memory_bytes,
    random_state_kept,
    resolve_device,
    resolve_precision,
)

CPU, CUDA, MPS = (torch.device(kind) for kind in ("cpu", "cuda", "mps"))


@pytest.mark.parametrize(
    ("cuda", "mps", "auto"), [(True, True, "cuda"), (True, False, "cuda"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_takes_the_best_device_and_what_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, auto: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert resolve_device("auto").type == auto
    assert resolve_device("cpu").type == "cpu"
    for name, there in (("cuda", cuda), ("mps", mps)):
        if there:
            assert resolve_device(name).type == name
        else:
            with pytest.raises(SettingError, match=f"device is {name}, which torch .* use --device cpu"):
                resolve_device(name)


@pytest.mark.parametrize(
    ("capabilities", "found"),
    [({}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True), ({"avx512_bf16": False}, False)],
)
def test_bf16_is_taken_where_the_hardware_has_it(
    monkeypatch: pytest.MonkeyPatch, capabilities: dict[str, bool], found: bool
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert has_bf16(CPU) == found
    assert resolve_precision("auto", CPU) == ("bf16" if found else "fp32")
    assert [resolve_precision(name, CPU) for name in ("fp32", "bf16")] == ["fp32", "bf16"]
    assert not has_bf16(MPS)
    asked: list[bool] = []

    def supported(including_emulation: bool) -> bool:
        asked.append(including_emulation)
        return found

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert has_bf16(CUDA) == found
    assert asked == [False]


def test_products_are_in_bf16_only_where_it_was_asked_for() -> None:
    assert [compute_dtype(name) for name in ("bf16", "fp32", "auto")] == [torch.bfloat16, torch.float32, torch.float32]


def test_random_state_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_rng_state()
    with random_state_kept(CPU):
        torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    kept: list[Any] = []
    monkeypatch.setattr(torch.random, "fork_rng", lambda devices: kept.append(devices))
    random_state_kept(CUDA)
    random_state_kept(CPU)
    assert kept == [[CUDA], []]


@pytest.mark.parametrize(("platform", "peak"), [("linux", 5 * 1024), ("darwin", 5)])
def test_peak_memory_is_in_bytes(monkeypatch: pytest.MonkeyPatch, platform: str, peak: int) -> None:
    monkeypatch.setattr("resource.getrusage", lambda who: SimpleNamespace(ru_maxrss=5))
    monkeypatch.setattr(sys, "platform", platform)
    assert memory_bytes(CPU) == peak


def test_memory_of_a_gpu_is_asked_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 9)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3, 8))
    assert (memory_bytes(CUDA), available_memory(CUDA)) == (9, 3)


def test_glibc_is_told_to_keep_memory_and_afterwards_its_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, ...]] = []
    library = SimpleNamespace(mallopt=lambda *call: told.append(call), malloc_trim=lambda pad: told.append((pad,)))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    monkeypatch.setattr(sys, "platform", "linux")
    with pytest.raises(ZeroDivisionError), freed_memory_kept():
        raise ZeroDivisionError
    assert told[:3] == [(-4, 0), (-1, 2**31 - 1), (-2, 67_108_864)]
    assert told[3:] == [(-4, 65_536), (-1, 131_072), (-2, 131_072), (0,)]
    told.clear()
    monkeypatch.setattr(sys, "platform", "darwin")
    with freed_memory_kept():
        pass
    assert told == []


def test_entries_of_meminfo_are_in_kib_and_found_by_their_whole_name(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = "MemTotalOther:  1 kB\nMemTotal:       16 kB\nMemFree:  3 kB\nMemAvailable:    7 kB\n"
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: lines)
    assert [meminfo.meminfo(name) for name in ("MemTotal", "MemAvailable", "Mem")] == [16_384, 7_168, None]

    def unreadable(self: Path, encoding: str) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", unreadable)
    assert meminfo.meminfo("MemTotal") is None


def test_the_host_says_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: "model : 5\nmodel name\t: A: 1 GHz\nmodel name : B\n")
    monkeypatch.setattr(host, "meminfo", {"MemTotal": 5, "MemAvailable": 3}.get)
    monkeypatch.setattr(host, "available_cpus", lambda: 3)
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.release", lambda: "6.12.3-mine")
    monkeypatch.setattr("platform.python_version", lambda: "3.11.1")
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert host.describe_host() == {
        "processor": "A: 1 GHz", "cores": 3, "memory_bytes": 5, "system": "Linux 6.12", "python": "3.11.1",
        "threads": "7",
    }  # fmt: skip
    monkeypatch.setattr(Path, "read_text", lambda self, encoding: "")
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: "x86")
    assert host.describe_host()["processor"] == "x86"


def test_the_machine_is_put_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "a").write_bytes(b"12345")
    (tmp_path / "deep" / "b").write_bytes(b"123")
    speeds = {torch.float32: 50.0, torch.bfloat16: 20.0}
    pretended: dict[str, Callable[..., Any]] = {
        "cache_folder": lambda: tmp_path,
        "resolve_device": lambda name: MPS if name == "auto" else CPU,
        "available_cpus": lambda: 6,
        "has_bf16": lambda device: device.type == "mps",
        "_gflops": lambda device, dtype: speeds[dtype],
    }
    for name, function in pretended.items():
        monkeypatch.setattr(machine, name, function)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(total=9, used=2, free=7))
    found = machine.examine()
    assert (found.build, found.device, found.cores, found.threads, found.bf16_in_hardware) == (
        "CUDA 12.8", "mps", 6, 4, True,
    )  # fmt: skip
    assert (found.gflops_fp32, found.gflops_bf16) == (50.0, 20.0)
    assert (found.cache_folder, found.cache_bytes, found.disk_free_bytes) == (str(tmp_path), 8, 7)
    monkeypatch.setattr(torch.version, "cuda", None)
    assert machine.examine().build == "CPU"


def test_the_devices_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"H{number}")
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert machine._devices()[1:] == ["cuda:0 (H0)", "cuda:1 (H1)", "mps (Apple GPU)"]


def test_speed_is_two_cubes_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock is a tenth of a second after the one before: two products fit, and it ends at 0.4 s."""
    looks = iter(range(100))
    monkeypatch.setattr(machine, "SIZE", 8)
    monkeypatch.setattr(machine, "time", SimpleNamespace(perf_counter=lambda: next(looks) / 10 + 1e-9))
    monkeypatch.setattr(machine, "SECONDS", 0.25)
    assert machine._gflops(CPU, torch.float32) == pytest.approx(2 * 8**3 * 2 / 0.4 / 1e9)


HEALTHY = machine.Machine(
    python="3.11", torch="2.10", build="CPU", devices=["cpu"], device="cpu", cores=4, threads=4, bf16_in_hardware=True,
    gflops_fp32=50.0, gflops_bf16=50.0, cache_folder="/", cache_bytes=0, disk_free_bytes=2 * 10**9,
)  # fmt: skip


@pytest.mark.parametrize(
    "fine",
    [
        {},
        {"build": "CUDA 12.8", "device": "cuda"},
        {"device": "mps", "threads": 1},
        {"gflops_bf16": 1.0, "bf16_in_hardware": False},
    ],
    ids=str,
)
def test_what_is_as_it_should_be_gets_no_advice(fine: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_nvidia_gpu", lambda: False)
    monkeypatch.setattr("os.access", lambda *_: True)
    assert dataclasses.replace(HEALTHY, **fine).advice() == []
    assert len(dataclasses.replace(HEALTHY, disk_free_bytes=2 * 10**9 - 1).advice()) == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "9")
    assert "export OMP_NUM_THREADS=4" in dataclasses.replace(HEALTHY, threads=9).advice()[0]


def test_of_a_folder_that_is_not_there_the_nearest_above_counts(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    assert machine._existing(tmp_path / "a") == tmp_path / "a"
    assert machine._existing(tmp_path / "a" / "b" / "c") == tmp_path / "a"


def test_each_speed_is_of_its_own_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    speeds = {torch.float32: 32.0, torch.bfloat16: 16.0}
    monkeypatch.setattr(machine, "_gflops", lambda device, dtype: speeds[dtype])
    found = machine.examine()
    assert (found.gflops_fp32, found.gflops_bf16) == (32.0, 16.0)
