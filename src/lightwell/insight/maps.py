"""Attention maps and other intermediates as pictures: one panel for each head, tokens along the axes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from lightwell.errors import SettingError
from lightwell.insight.named import NamedArray
from lightwell.views import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_PANELS = 16
MOST_LABELS = 40
"""Tokens up to which each is written beside its row and column."""


def draw(name: str, array: NamedArray) -> Picture:
    """Return a picture of an intermediate of one text: an image of its last two axes for each head.

    Raises:
        SettingError: it is of several texts, or has fewer than two axes.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if array.shape.get("batch", 1) != 1:
        raise SettingError(f"{name} is of {array.shape['batch']} texts; select one of them with .select(batch=0).")
    array = array.select(batch=0) if "batch" in array.axes else array
    if len(array.axes) not in (2, 3):
        raise SettingError(f"{name} has the axes {', '.join(array.axes) or 'none'}; a picture needs two, or three.")
    values = array.numpy()
    values = values[None] if values.ndim == 2 else values
    shown = values[:MOST_PANELS]
    columns = math.ceil(math.sqrt(len(shown)))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(1.2 + 3.1 * columns, 1.2 + 3.1 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    left_out = f" (the first {MOST_PANELS} of {len(values)} heads)" if len(values) > MOST_PANELS else ""
    figure.suptitle(f"{name}{left_out}", fontsize=10, parse_math=False)
    finite = shown[np.isfinite(shown)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    for number, (axes, panel) in enumerate(
        zip(figure.subplots(rows, columns, squeeze=False).flat, shown, strict=False)
    ):
        image = axes.imshow(panel, cmap="viridis", vmin=low, vmax=high, aspect="auto")
        if len(values) > 1:
            axes.set_title(f"{array.axes[0]} {number}", fontsize=9)
        _label(axes, array)
    for axes in figure.axes[len(shown) :]:
        axes.set_visible(False)
    figure.colorbar(image, ax=figure.axes, shrink=0.6)
    return Picture(figure)


def _label(axes: Axes, array: NamedArray) -> None:
    vertical, horizontal = array.axes[-2:]
    axes.set_ylabel(vertical, fontsize=8)
    axes.set_xlabel(horizontal, fontsize=8)
    for axis, name, turned in ((axes.yaxis, vertical, 0), (axes.xaxis, horizontal, 90)):
        labels = array.labels.get(name, ())
        if labels and len(labels) <= MOST_LABELS:
            axis.set_ticks(range(len(labels)), list(labels), fontsize=7, rotation=turned, parse_math=False)
        else:
            axis.set_tick_params(labelsize=7)
