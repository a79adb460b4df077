"""Taps: every intermediate of the formula passes through one by name, so that it can be watched or replaced.

The model calls `x = tap("name", x)` where the formula gives a quantity its name. `passthrough` returns x unchanged and
costs nothing (torch.compile removes it). A tap that records sees exactly the tensors that flow; a tap that returns
something else intervenes.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Tap = Callable[[str, Tensor], Tensor]

# What each dimension of an intermediate means, by the last part of its name.
AXES: dict[str, tuple[str, ...]] = {
    "tokens": ("batch", "time"),
    "token_embeddings": ("batch", "time", "model"),
    "position_embeddings": ("batch", "time", "model"),
    "embeddings": ("batch", "time", "model"),
    "input": ("batch", "time", "model"),
    "q": ("batch", "head", "query", "dim"),
    "k": ("batch", "kv_head", "key", "dim"),
    "v": ("batch", "kv_head", "key", "dim"),
    "scores": ("batch", "head", "query", "key"),
    "scaled": ("batch", "head", "query", "key"),
    "masked": ("batch", "head", "query", "key"),
    "weights": ("batch", "head", "query", "key"),
    "dropped": ("batch", "head", "query", "key"),
    "values": ("batch", "head", "query", "dim"),
    "gate": ("batch", "time", "hidden"),
    "hidden": ("batch", "time", "hidden"),
    "activations": ("batch", "time", "hidden"),
    "output": ("batch", "time", "model"),
    "residual_middle": ("batch", "time", "model"),
    "residual": ("batch", "time", "model"),
    "normed": ("batch", "time", "model"),
    "logits": ("batch", "time", "vocabulary"),
}


def passthrough(name: str, value: Tensor) -> Tensor:
    """Return the value unchanged: the tap that does nothing."""
    return value


class ChangeWatcher:
    """A tap that passes everything on to another one, and notes whether that changed anything."""

    def __init__(self, tap: Tap) -> None:
        self._tap = tap
        self.changed = False
        """Whether something else came back, or the same tensor with other values."""

    def __call__(self, name: str, value: Tensor) -> Tensor:
        """Return what the tap returns."""
        before = _mark(value)
        result = self._tap(name, value)
        self.changed = self.changed or result is not value or not _same(before, value)
        return result


def _mark(value: Tensor) -> int | Tensor:
    """Return how often a tensor was changed in place; a copy where torch does not count that (inference mode)."""
    return value.clone() if value.is_inference() else value._version


def _same(mark: int | Tensor, value: Tensor) -> bool:
    """Return whether a tensor is what it was when it was marked."""
    if isinstance(mark, Tensor):
        return torch.equal(mark, value)
    return mark == value._version


def recording(into: dict[str, Tensor], containing: str = "") -> Tap:
    """Return a tap that keeps, in `into`, what flows under the names containing this text, and changes nothing."""

    def record(name: str, value: Tensor) -> Tensor:
        if containing in name:
            into[name] = value
        return value

    return record


def under(tap: Tap, prefix: str) -> Tap:
    """Return the tap for a module inside the model: names get `prefix.` before them."""
    if tap is passthrough:
        return passthrough
    return lambda name, value: tap(f"{prefix}.{name}", value)
