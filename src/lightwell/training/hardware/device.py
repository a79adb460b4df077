"""Where to compute, and in which precision: `auto` resolved by what the machine has."""

from __future__ import annotations

import ctypes
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Literal, TypeAlias

import torch

from lightwell.errors import SettingError
from lightwell.training.hardware.meminfo import meminfo

Device: TypeAlias = Literal["auto", "cpu", "cuda", "mps"]
"""Where to compute; auto takes a GPU where there is one."""


def resolve_device(name: str) -> torch.device:
    """Return the device that `auto`, cpu, cuda or mps means here.

    Raises:
        SettingError: this machine, or this build of torch, does not have it.
    """
    available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next(kind for kind in ("cuda", "mps", "cpu") if available[kind])
    if not available[name]:
        raise SettingError(f"device is {name}, which torch {torch.__version__} does not find here; use --device cpu.")
    return torch.device(name)


def has_bf16(device: torch.device) -> bool:
    """Return whether the device multiplies bf16 matrices in hardware; elsewhere bf16 is slower than fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    return False


def resolve_precision(name: str, device: torch.device) -> str:
    """Return fp32 or bf16: for `auto`, bf16 where the hardware has it."""
    return ("bf16" if has_bf16(device) else "fp32") if name == "auto" else name


def compute_dtype(precision: str) -> torch.dtype:
    """Return what products and the residual stream are computed in.

    Weights, norms, softmax and loss are in fp32 regardless. `auto` counts as fp32 here: a run resolves it first.
    """
    return torch.bfloat16 if precision == "bf16" else torch.float32


def random_state_kept(device: torch.device) -> AbstractContextManager[None]:
    """Put the caller's global generators, that of the GPU in use too, back afterwards to where they were."""
    return torch.random.fork_rng(devices=[device] if device.type == "cuda" else [])


def memory_bytes(device: torch.device) -> int:
    """Return the peak memory of this process so far: of the GPU where it computes there, else resident memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in KiB


@contextmanager
def freed_memory_kept() -> Iterator[None]:
    """Inside it, memory that tensors free stays with the process for the next ones (Linux with glibc only).

    glibc gives large blocks back to the system at once, and getting them again, page by page, took a fifth of an eager
    training step (docs/decisions.md). Afterwards what is free goes back, and glibc's documented defaults hold again,
    but for its habit of raising the size from which blocks count as large, which any setting ends for good.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        yield
        return
    mmap_max, trim_threshold, top_pad = -4, -1, -2  # malloc.h
    mallopt(mmap_max, 0)
    mallopt(trim_threshold, 2**31 - 1)
    mallopt(top_pad, 64 * 2**20)
    try:
        yield
    finally:
        mallopt(mmap_max, 65536)
        mallopt(trim_threshold, 128 * 2**10)
        mallopt(top_pad, 128 * 2**10)
        ctypes.CDLL(None).malloc_trim(0)


def available_memory(device: torch.device) -> int:
    """Return bytes that a run may still take: free memory of the GPU, or of the machine (macOS: all of it).

    Swap is left out, and so are the limits of a container.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    return meminfo("MemAvailable") or os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
