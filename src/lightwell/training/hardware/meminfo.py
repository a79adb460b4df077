"""What Linux says about the machine's memory; no torch is needed for that."""

from __future__ import annotations

from pathlib import Path


def meminfo(name: str) -> int | None:
    """Return bytes of one entry of /proc/meminfo, e.g. MemTotal, or MemAvailable; None where the system does not say.

    MemAvailable is what can be had without swapping, memory that only caches files included. The limits of a container
    are not in it.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()  # in KiB
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:")), None)
