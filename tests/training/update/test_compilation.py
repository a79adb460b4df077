"""When compiling pays: the two sides of each border, on machines with a compiler and without."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import torch

from lightwell.errors import SettingError
from lightwell.training.update import compilation
from lightwell.training.update.compilation import (
    compile_in_time,
    compiling_pays,
    expected_seconds,
    has_compiler,
    refuse_compile,
    resolve_compile,
)

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))


@pytest.fixture(params=[True, False], ids=["a compiler", "no compiler"])
def there(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether the machine has a compiler."""
    monkeypatch.setattr(compilation, "has_compiler", lambda device: request.param)
    return bool(request.param)


def test_a_compiled_step_takes_less_and_the_first_one_waits() -> None:
    assert expected_seconds("off", 2.7) == (2.7, 0.0)
    assert expected_seconds("on", 2.7) == pytest.approx((2.0, 30.0))


@pytest.mark.parametrize(
    ("device", "precision", "flops"), [(CPU, "bf16", 4e13), (CUDA, "fp32", 5e15), (MPS, "fp32", 1e15)]
)
def test_auto_compiles_from_so_many_flops_on(there: bool, device: torch.device, precision: str, flops: float) -> None:
    assert resolve_compile("auto", device, precision, flops) == ("on" if there else "off")
    assert resolve_compile("auto", device, precision, 0.999 * flops) == "off"
    assert resolve_compile("on", device, precision, 0.0) == "on"
    assert resolve_compile("off", device, precision, 1e30) == "off"


@pytest.mark.parametrize(
    ("device", "precision", "pays"),
    [(CPU, "bf16", True), (CPU, "fp32", False), (CUDA, "bf16", True), (CUDA, "fp32", True), (MPS, "fp32", True)],
)
def test_on_a_cpu_only_bf16_gains(there: bool, device: torch.device, precision: str, pays: bool) -> None:
    assert compiling_pays(device, precision) == (pays and there)


def test_in_a_given_time_it_pays_once_the_wait_is_made_up_for(there: bool) -> None:
    """The same number of steps fit into S seconds where (S - 30) * 1.35 = S, at S = 115.7."""
    assert compile_in_time("auto", CPU, "bf16", 0.5, 115.0) == "off"
    assert compile_in_time("auto", CPU, "bf16", 0.5, 116.5) == ("on" if there else "off")
    assert compile_in_time("auto", CPU, "fp32", 0.5, 1e6) == "off"
    assert compile_in_time("on", CPU, "fp32", 0.5, 1.0) == "on"
    assert compile_in_time("off", CPU, "bf16", 0.5, 1e6) == "off"


def test_what_cannot_be_compiled_is_refused_only_where_it_is_asked_for(there: bool) -> None:
    refuse_compile("off", CPU)
    refuse_compile("auto", CPU)
    if there:
        refuse_compile("on", CPU)
    else:
        with pytest.raises(SettingError, match=r"compile is on, but there is no C\+\+ compiler.*--compile off"):
            refuse_compile("on", CPU)


@pytest.mark.parametrize(
    ("device", "platform", "installed", "headers", "found"),
    [
        (CPU, "linux", {"g++"}, True, True),
        (CPU, "linux", {"g++"}, False, False),
        (CPU, "linux", {"clang++", "gcc"}, True, False),
        (CPU, "darwin", {"clang++"}, True, True),
        (CPU, "darwin", {"g++"}, True, False),
        (CUDA, "linux", {"gcc"}, True, True),
        (CUDA, "linux", {"clang"}, True, True),
        (CUDA, "linux", {"cc"}, True, True),
        (CUDA, "linux", {"g++"}, True, False),
        (CUDA, "linux", {"gcc"}, False, False),
        (MPS, "darwin", set(), False, True),
    ],
)
def test_each_device_has_compilers_of_its_own(
    monkeypatch: pytest.MonkeyPatch,
    device: torch.device,
    platform: str,
    installed: set[str],
    headers: bool,
    found: bool,
) -> None:
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    asked: list[Path] = []

    def is_file(path: Path) -> bool:
        asked.append(path)
        return headers

    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(shutil, "which", lambda name: name if name in installed else None)
    monkeypatch.setattr(Path, "is_file", is_file)
    assert has_compiler(device) is found
    assert {path.name for path in asked} <= {"Python.h"}


def test_a_compiler_named_for_one_language_is_none_for_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: name if name == "mine" else None)
    monkeypatch.setattr(Path, "is_file", lambda path: True)
    for variable, device, other in (("CC", CUDA, CPU), ("CXX", CPU, CUDA)):
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv(variable, "mine")
        assert has_compiler(device)
        assert not has_compiler(other)
