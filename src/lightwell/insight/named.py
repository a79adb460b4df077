"""An array whose axes have names, and whose positions along them have labels where there are any."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor

from lightwell.errors import SettingError
from lightwell.settings import nearest, plain
from lightwell.views import html, lines


@dataclass(frozen=True, eq=False, repr=False)
class NamedArray:
    """One intermediate of a model: `values` with an axis name for each dimension.

    trace["layers.0.attention.weights"].select(batch=0, head=1, query=-1) is a row of attention weights over "key".
    """

    values: Tensor
    axes: tuple[str, ...]
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """The labels of each axis: what stands at each position, e.g. the text of each token along "key"."""

    def __post_init__(self) -> None:
        assert self.values.dim() == len(self.axes), f"{self.axes} for shape {tuple(self.values.shape)}"

    @property
    def shape(self) -> dict[str, int]:
        """Return the size of each axis, in order."""
        return dict(zip(self.axes, self.values.shape, strict=True))

    def select(self, **where: int) -> NamedArray:
        """Return what is at one position of each named axis; those axes are gone.

        Negative positions count from the end.

        Raises:
            SettingError: there is no such axis (the nearest is offered), or no such position along it.
        """
        for axis, position in where.items():
            if axis not in self.axes:
                raise SettingError(
                    f"There is no axis {axis}; there are {', '.join(self.axes)}.{nearest(axis, self.axes)}"
                )
            self._check_position(axis, position)
        index = tuple(where.get(axis, slice(None)) for axis in self.axes)
        kept = tuple(axis for axis in self.axes if axis not in where)
        labels = {axis: texts for axis, texts in self.labels.items() if axis in kept}
        return NamedArray(self.values[index], kept, labels)

    def numpy(self) -> np.ndarray:
        """Return the values as a numpy array; bf16 as fp32, since numpy has none."""
        plain = self.values.detach().cpu()
        array: np.ndarray = (plain.float() if plain.is_floating_point() else plain).numpy()
        return array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return the values for numpy: `np.asarray(array)`."""
        array = self.numpy()
        return array.astype(dtype) if dtype is not None else array.copy() if copy else array

    def __getitem__(self, where: Any) -> NamedArray:
        """Return a part by positions and slices in the order of the axes; an axis with one position is gone.

        Raises:
            SettingError: something else than whole numbers and slices forwards, too many, or a position that is not
                there.
        """
        parts = where if isinstance(where, tuple) else (where,)
        for axis, part in zip(self.axes, parts, strict=False):
            if isinstance(part, slice):
                _check_slice(axis, part)
            else:
                self._check_position(axis, part)
        if len(parts) > len(self.axes):
            raise SettingError(f"{len(parts)} positions are given, but there are {len(self.axes)} axes.")
        whole = [*parts, *[slice(None)] * (len(self.axes) - len(parts))]
        kept = tuple(axis for axis, part in zip(self.axes, whole, strict=True) if isinstance(part, slice))
        labels = {
            axis: self.labels[axis][part]
            for axis, part in zip(self.axes, whole, strict=True)
            if axis in self.labels and isinstance(part, slice)
        }
        return NamedArray(self.values[tuple(whole)], kept, labels)

    def __len__(self) -> int:
        return self.values.size(0) if self.axes else 0

    def __iter__(self) -> Iterator[NamedArray]:
        """Go through the positions of the first axis."""
        return (self[position] for position in range(len(self)))

    def _check_position(self, axis: str, position: Any) -> None:
        if not _is_whole(position):
            raise SettingError(f"{position!r} is no position along {axis}; give a whole number or a slice.")
        if not -self.shape[axis] <= position < self.shape[axis]:
            raise SettingError(f"{axis} is {position}, but the axis has {self.shape[axis]} positions.")

    def __repr__(self) -> str:
        return lines(self._title(), self._about())

    def _repr_html_(self) -> str:
        return html(self._title(), self._about())

    def _title(self) -> str:
        sizes = ", ".join(f"{axis} {size}" for axis, size in self.shape.items())
        return f"NamedArray({sizes or 'one value'}; {str(self.values.dtype).removeprefix('torch.')})"

    def _about(self) -> list[tuple[str, str]]:
        """Return its numbers in short."""
        values = self.numpy().ravel()
        if not values.size:
            return [("values", "none")]
        first = ", ".join(f"{value:.4g}" for value in values[:6]) + (", ..." if values.size > 6 else "")
        if values.size == 1:
            return [("value", first)]
        numbers = values.astype(np.float64)
        finite = numbers[np.isfinite(numbers)]
        about = [("values", first)]
        if finite.size:
            about.append(("from", f"{finite.min():.4g} to {finite.max():.4g}, mean {finite.mean():.4g}"))
        if finite.size < numbers.size:
            about.append(("infinite", f"{numbers.size - finite.size:,} of {numbers.size:,}"))
        return about


def _is_whole(value: Any) -> bool:
    return isinstance(plain(value), int) and not isinstance(plain(value), bool)


def _check_slice(axis: str, part: slice) -> None:
    ends = (part.start, part.stop, part.step)
    if not all(end is None or _is_whole(end) for end in ends) or (part.step is not None and part.step < 1):
        raise SettingError(f"{part!r} is no slice along {axis}; give whole numbers, and a step of 1 or more.")
