"""Compilation by torch.compile, one region at a time: a block, the same for all layers, and the head with the loss.

The whole model in one piece runs at the same speed and takes several times as long to translate (docs/decisions.md).
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from lightwell.errors import SettingError
from lightwell.model.decoder import Decoder
from lightwell.training.update.loss import HeadLoss, head_loss

WORTH_IT = {"cpu": 4e13, "cuda": 5e15, "mps": 1e15}
"""Model FLOPs from which a run gains more by compiling than it waits for it: two or three minutes of training.

Measured on a CPU (docs/decisions.md); estimated for GPUs, on which nothing was measured.
"""
COMPILED = 1.35
"""How much faster a compiled step is than an eager one, on a CPU (docs/decisions.md)."""
COMPILATION = 30.0
"""Seconds until the first step is compiled: 10 to 45 on the machines where it was measured."""


def expected_seconds(compiled: str, eager: float) -> tuple[float, float]:
    """Return what a step of `eager` seconds is expected to take with compile on or off, and the wait before the first
    one.
    """
    return (eager / COMPILED, COMPILATION) if compiled == "on" else (eager, 0.0)


def resolve_compile(choice: str, device: torch.device, precision: str, flops: float) -> str:
    """Return on or off; auto compiles a run of so many model FLOPs if that pays, and a compiler is there."""
    if choice != "auto":
        return choice
    return "on" if flops >= WORTH_IT[device.type] and compiling_pays(device, precision) else "off"


def compile_in_time(choice: str, device: torch.device, precision: str, eager: float, seconds: float) -> str:
    """Return on or off; auto takes what makes more steps in so many seconds; eager: seconds of a step with off."""
    if choice != "auto":
        return choice
    per_step, wait = expected_seconds("on", eager)
    more = (seconds - wait) / per_step > seconds / eager
    return "on" if more and compiling_pays(device, precision) else "off"


def compiling_pays(device: torch.device, precision: str) -> bool:
    """Return whether compiled steps are faster, however long the run: on a CPU in bf16 only, where products are fast.

    In fp32 the products take nearly all of a step there, and nothing is gained (docs/decisions.md).
    """
    return has_compiler(device) and (device.type != "cpu" or precision == "bf16")


def refuse_compile(choice: str, device: torch.device) -> None:
    """Make sure that what is asked for can be done.

    Raises:
        SettingError: compile is on, and there is nothing to compile with.
    """
    if choice == "on" and not has_compiler(device):
        raise SettingError(
            "compile is on, but there is no C++ compiler with Python's headers, which torch.compile needs; "
            "install them (on Debian: g++ and python3-dev), or use --compile off."
        )


def has_compiler(device: torch.device) -> bool:
    """Return whether torch.compile finds what it needs: Python's headers, and the compiler that it would call.

    For a CPU that is $CXX, or else g++ (clang++ on macOS); for a GPU, a C compiler builds Triton's launcher.
    """
    if device.type == "mps":
        return True  # Metal compiles by itself
    if device.type == "cpu":
        compilers = [os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")]
    else:
        compilers = [os.environ["CC"]] if os.environ.get("CC") else ["gcc", "clang", "cc"]
    headers = Path(sysconfig.get_path("include")) / "Python.h"
    return headers.is_file() and any(shutil.which(name) for name in compilers)


OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {"fallback_random": True}
"""Dropout draws the same masks as without compiling; on a CPU that is faster, too."""


def compile_for_training(model: Decoder) -> HeadLoss:
    """Make the model's blocks run compiled from now on, and return the compiled loss to go with them.

    Each shape is translated when it first occurs, which takes seconds; none is left dynamic, which would be slower.
    """
    torch.compiler.reset()  # models of other shapes in this process would count against torch's limit of translations
    model.compile_blocks(dynamic=False, options=OPTIONS)
    compiled: HeadLoss = torch.compile(head_loss, dynamic=False, options=OPTIONS)
    return compiled


def eager() -> AbstractContextManager[None]:
    """Let compiled code run as its Python says: for passes too few, or of too many shapes, to translate."""
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance
