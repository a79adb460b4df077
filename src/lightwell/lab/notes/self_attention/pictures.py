"""The pictures of self-attention: saturation, order within rows, weight beside influence, trained pairs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lightwell.lab.cards.figures import COLOURS, new_figure
from lightwell.lab.experiments.experiment import Picture
from lightwell.training.runs.plot import GREY, INK

DECADES = 3
"""Decades that the maps' colours span."""
COLOUR = {"unscaled": COLOURS[1], "scaled": COLOURS[0]}


def draw(data: Mapping[str, Any], timings: Mapping[str, Any]) -> list[Picture]:
    """Draw rows, saturation, a head's influence and the trained pairs."""
    return [rows(data), saturation(data), influence(data), trained(data)]


def rows(data: Mapping[str, Any]) -> Picture:
    """Draw score against weight, a colour for each row."""
    figure = new_figure(
        "Within a row a higher score is a higher weight; across rows the same score is not",
        "The first head of the last layer of a trained model, on held-out text; each line a row, each point a key",
    )
    axes = figure.axes[0]
    lowest = min(min(row["scores"]) for row in data["rows"]) - 0.5
    names = []
    for row, colour in zip(data["rows"], COLOURS, strict=False):
        order = np.argsort(row["scores"])
        scores, weights = np.array(row["scores"])[order], np.array(row["weights"])[order]
        at_left = weights[0] * np.exp(lowest - scores[0])  # where the line's continuation meets the left edge
        axes.semilogy(scores, weights, "o-", color=colour, markersize=3.5, linewidth=0.9)
        axes.semilogy([lowest, scores[0]], [at_left, weights[0]], ":", color=colour, linewidth=0.9)
        names.append((at_left, f"query at {row['row']}", colour))
    height = 0.0
    for at_left, name, colour in sorted(names):  # from below, no name on top of another
        height = max(at_left, height * 1.5)
        axes.annotate(name, (lowest, height), xytext=(-4, -3), textcoords="offset points", ha="right", color=colour,
                      fontsize=8)  # fmt: skip
    axes.margins(x=0.12)
    axes.set_xlabel("score q . k / sqrt(d_k)")
    axes.set_ylabel("attention weight (log scale)")
    caption = (
        "On a log scale each row is a straight line of slope 1, since softmax only subtracts a constant from a row. "
        "The constants differ, so that scores of different rows cannot be compared."
    )
    return Picture("rows", caption, figure)


def saturation(data: Mapping[str, Any]) -> Picture:
    """Draw three numbers of softmax by head size."""
    figure = new_figure(
        f"Unscaled softmax saturates as heads grow; its gradient is the smaller one from d_k = {data['crossing']:.0f}",
        "64 keys, q and k of independent components of variance 1; no model",
        columns=3, width=12.0, height=4.0,
    )  # fmt: skip
    sizes = [row["size"] for row in data["saturation"]]
    ticks = [size for size in sizes if size & (size - 1) == 0]
    shown = (
        ("saturated", "share of rows with a weight above 0.99"),
        ("entropy", "mean entropy / ln 64 (1: all keys alike)"),
        ("gradient", "median norm of softmax's Jacobian"),
    )
    for axes, (name, title) in zip(figure.axes, shown, strict=True):
        for kind, colour in COLOUR.items():
            values = [row[kind][name] for row in data["saturation"]]
            axes.semilogx(sizes, values, "o-", color=colour, markersize=4, base=2)
            falling = kind == "unscaled" and name != "saturated"
            place, aside = (3, (8, 4)) if falling else (-1, (0, 8))
            axes.annotate(kind, (sizes[place], values[place]), xytext=aside, textcoords="offset points",
                          ha="left" if falling else "right", color=colour)  # fmt: skip
        axes.set_xticks(ticks, [str(size) for size in ticks])
        axes.minorticks_off()
        axes.set_ylim(0.0, {"saturated": 0.6, "entropy": 1.05, "gradient": 0.4}[name])
        axes.set_xlabel("head size d_k")
        axes.set_title(title, loc="left", fontsize=9, color=INK)
    figure.axes[2].axvline(data["crossing"], color=GREY, linewidth=0.9, linestyle="--")
    caption = (
        "Without the division rows become one-hot as heads grow. The gradient of softmax is larger unscaled for the "
        "small heads of a small model, and vanishes for large ones."
    )
    return Picture("saturation", caption, figure)


def influence(data: Mapping[str, Any]) -> Picture:
    """Draw a head's weights, what they move, and what removing each does."""
    from matplotlib.colors import LogNorm

    shown = data["map"]
    figure = new_figure(
        f"Attention beside influence: their rank correlation is {shown['weight_rank']:.2f} in this head",
        f"Layer {shown['layer']}, head {shown['head']} of a trained model (the one whose edges matter most), held-out "
        "text; log scales, three decades down from the largest; the first query has no choice and is left out",
        columns=3, width=12.0, height=4.6,
    )  # fmt: skip
    titles = (
        ("weight", "attention weight a"),
        ("moved", f"|a v W_O|: moved (rank corr. {shown['moved_rank']:.2f})"),
        ("effect", "edge removed: change of predictions, nats"),
    )
    for axes, (name, title) in zip(figure.axes[:3], titles, strict=True):
        values = np.array(shown[name], dtype=float)
        values[np.triu_indices(len(values), 1)] = np.nan
        values[0] = np.nan
        top = max(float(np.nanmax(values)), 1e-30)
        scale = LogNorm(top * 10.0**-DECADES, top, clip=True)
        image = axes.imshow(values, cmap="viridis", norm=scale, interpolation="nearest")
        axes.set_xticks(range(0, len(values), 5))
        axes.set_yticks(range(0, len(values), 5))
        axes.grid(False)
        axes.set_title(title, loc="left", fontsize=9, color=INK)
        axes.set_xlabel("key j, position")
        figure.colorbar(image, ax=axes, shrink=0.75)
    figure.axes[0].set_ylabel("query i, position")
    caption = (
        "Left, what attention pictures show. Middle, the length of what each edge adds to the residual stream. Right, "
        "the KL divergence of the predictions, summed over all positions, where that one edge is taken away."
    )
    return Picture("influence", caption, figure)


def trained(data: Mapping[str, Any]) -> Picture:
    """Draw scaled less unscaled, by head size."""
    figure = new_figure(
        "What scaling brings a trained model: held-out loss, scaled less unscaled",
        "Each point a seed; below 0 scaling is better; the shaded zone counts as no difference",
        narrow=6.0,
    )
    axes = figure.axes[0]
    axes.axhspan(-0.02, 0.02, color=GREY, alpha=0.15, linewidth=0)
    axes.axhline(0.0, color=GREY, linewidth=0.9)
    labels = []
    for place, pair in enumerate(data["pairs"]):
        points = np.subtract(pair["scaled"], pair["unscaled"])
        colour = COLOURS[2] if pair["unit"] else COLOURS[0]
        axes.plot([place] * len(points), points, "o", color=colour, alpha=0.7)
        axes.plot([place - 0.15, place + 0.15], [points.mean()] * 2, color=colour, linewidth=2.2)
        axes.annotate(f"{points.mean():+.3f}", (place + 0.15, points.mean()), xytext=(5, -3),
                      textcoords="offset points", color=colour)  # fmt: skip
        labels.append(f"d_k = {pair['size']}" + ("\nunit variance\nat the start" if pair["unit"] else ""))
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.5, len(labels) - 0.3)
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -0.05), max(high, 0.05))
    axes.set_xlabel("head size, the number of heads fixed")
    axes.set_ylabel("nats per token")
    caption = "Each arm at the learning rate chosen for it, where the budget allows; see the claims for the intervals."
    return Picture("trained", caption, figure)
