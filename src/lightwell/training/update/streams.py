"""Separate random streams, each computed from the run's seed and a position, so that none can shift another.

Initialisation, data order, dropout and samples draw from streams of their own. A stream's seed at any step follows from
(seed, name, counters) alone: nothing of it has to be saved, and a run resumes bit-equal from any step.
"""

from __future__ import annotations

import hashlib


def stream_seed(seed: int, name: str, *counters: int) -> int:
    """Return a 63-bit seed for the stream `name` at `counters`, e.g. ("dropout", step, micro_batch)."""
    key = "/".join([str(seed), name, *map(str, counters)])
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") >> 1
