"""What a measurement was made on: numbers without it mean nothing."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

from lightwell.corpus.workers import available_cpus
from lightwell.training.hardware.meminfo import meminfo


def describe_host() -> dict[str, Any]:
    """Return the CPU, its cores and memory, and the system."""
    return {
        "processor": _cpu_name(),
        "cores": available_cpus(),
        "memory_bytes": meminfo("MemTotal"),
        "system": f"{platform.system()} {'.'.join(platform.release().split('.')[:2])}",  # not whose build it is
        "python": platform.python_version(),
        "threads": os.environ.get("OMP_NUM_THREADS", ""),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
