"""An array whose axes have names, and whose positions along them have labels where there are any."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from torch import Tensor

from lightwell.errors import SettingError
from lightwell.settings import nearest


@dataclass(frozen=True, eq=False)
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
            if not -self.shape[axis] <= position < self.shape[axis]:
                raise SettingError(f"{axis} is {position}, but the axis has {self.shape[axis]} positions.")
        index = tuple(where.get(axis, slice(None)) for axis in self.axes)
        kept = tuple(axis for axis in self.axes if axis not in where)
        labels = {axis: texts for axis, texts in self.labels.items() if axis in kept}
        return NamedArray(self.values[index], kept, labels)

    def numpy(self) -> np.ndarray:
        """Return the values as a numpy array; bf16 as fp32, since numpy has none."""
        plain = self.values.detach().cpu()
        array: np.ndarray = (plain.float() if plain.is_floating_point() else plain).numpy()
        return array

    def __repr__(self) -> str:
        sizes = ", ".join(f"{axis} {size}" for axis, size in self.shape.items())
        return f"NamedArray({sizes or 'one value'}; {str(self.values.dtype).removeprefix('torch.')})"
