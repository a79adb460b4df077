"""The picture of the note on buffers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lightwell.lab.cards.figures import COLOURS, new_figure
from lightwell.lab.experiments.experiment import Picture

WAYS = ("persistent buffer", "buffer", "plain attribute")
"""The ways to hold a mask that are drawn."""


def draw(data: Mapping[str, Any], timings: Mapping[str, Any]) -> list[Picture]:
    """Return the bytes that a mask adds to a checkpoint, by context length and by how it is held."""
    figure = new_figure(
        f"What a causal mask in each of {data['layers']} layers adds to every checkpoint",
        "fp32; safetensors files of a module with the mask, less one without",
    )
    axes = figure.axes[0]
    for held, colour in zip(WAYS, COLOURS, strict=False):
        grown = [
            data["layers"] * (size - none) / 1e6
            for size, none in zip(data["sizes"][held], data["sizes"]["none"], strict=True)
        ]
        axes.plot(data["contexts"], grown, "o-", color=colour, label=held)
        above = 22 if held == "plain attribute" else 8  # it lies on the buffer's line
        axes.annotate(
            f"{held}: {grown[-1]:.1f} MB", (data["contexts"][-1], grown[-1]), xytext=(-6, above),
            textcoords="offset points", ha="right", color=colour,
        )  # fmt: skip
    axes.set_xlabel("context length, tokens")
    axes.set_ylabel("MB in a checkpoint")
    caption = (
        "Only a persistent buffer is in the file, and it grows with the square of the context length. "
        "A non-persistent buffer moves with the model and costs nothing there."
    )
    return [Picture("bytes", caption, figure)]
