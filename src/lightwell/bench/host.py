"""What a measurement was made on: numbers without it mean nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any


def describe_host() -> dict[str, Any]:
    """The processor, its cores and memory, and the system."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_bytes": _memory("MemTotal"),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",  # not whose build it is
        "python": platform.python_version(),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
    }


def available_bytes() -> int | None:
    """Memory that can be had without swapping; None where the system does not say."""
    return _memory("MemAvailable")


def _memory(name: str) -> int | None:
    lines = _lines("/proc/meminfo")  # in KiB
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)


def _processor() -> str:
    names = [line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
