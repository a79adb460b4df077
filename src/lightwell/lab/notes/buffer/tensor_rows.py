"""Every tensor of a module: what kind it is, where it lies, what it weighs, whether it is saved, whether it moves.

A parameter is learned, saved and moved. A buffer is moved, and saved where it is persistent. A tensor that is a plain
attribute is neither: `.to(device)` does not know of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from torch import Tensor, nn

Kind = Literal["parameter", "persistent buffer", "buffer", "plain attribute"]


@dataclass(frozen=True)
class TensorRow:
    """One tensor of a module."""

    name: str
    kind: Kind
    shape: tuple[int, ...]
    dtype: str
    device: str
    bytes: int
    saved: bool
    """Whether it is in the state_dict, and so in a checkpoint."""
    moved: bool
    """Whether `.to(device)` moves it."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def tensor_table(module: nn.Module) -> list[TensorRow]:
    """Return a row for each tensor that a module and its parts hold, shared ones once; any nn.Module will do."""
    rows: list[TensorRow] = []
    known: set[int] = set()
    for name, kind, tensor in _tensors(module):
        if id(tensor) in known:
            continue
        known.add(id(tensor))
        saved, moved = kind in ("parameter", "persistent buffer"), kind != "plain attribute"
        dtype = str(tensor.dtype).removeprefix("torch.")
        rows.append(TensorRow(name, kind, tuple(tensor.shape), dtype, str(tensor.device), tensor.nbytes, saved, moved))
    return rows


def _tensors(module: nn.Module) -> Iterator[tuple[str, Kind, Tensor]]:
    for prefix, part in module.named_modules():
        dot = f"{prefix}." if prefix else ""
        for name, parameter in part._parameters.items():
            if parameter is not None:
                yield dot + name, "parameter", parameter
        for name, buffer in part._buffers.items():
            if buffer is not None:
                kind: Kind = "buffer" if name in part._non_persistent_buffers_set else "persistent buffer"
                yield dot + name, kind, buffer
        for name, value in vars(part).items():
            if not name.startswith("_") or isinstance(value, Tensor):
                for place, tensor in _inside(dot + name, value):
                    yield place, "plain attribute", tensor


def _inside(name: str, value: object) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of an attribute: itself, or what lists, tuples and dicts hold."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, list | tuple):
        for i, item in enumerate(value):
            yield from _inside(f"{name}[{i}]", item)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _inside(f"{name}[{key!r}]", item)
