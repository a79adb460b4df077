"""The pictures of the note on dropout."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lightwell.lab.cards.figures import COLOURS, LACKING, LACKING_WORDS, drawable, new_figure
from lightwell.lab.experiments.experiment import Picture
from lightwell.training.runs.plot import FAINT, GREY, INK

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw(data: Mapping[str, Any], timings: Mapping[str, Any]) -> list[Picture]:
    """Draw two masks, sums of rows, and what dropout does to the held-out loss."""
    return [draw_masks(data["rows"]), draw_sums(data["rows"]), draw_effects(data)]


def draw_masks(rows: Mapping[str, Any]) -> Picture:
    """Draw the same weights before dropout, and after two draws of the mask."""
    figure = new_figure(
        f"Dropout {rows['p']:.2g} on the same attention weights, twice: each draw takes others, and sums leave 1",
        f"first layer, head {rows['head'] + 1} of a trained model on held-out text; a row is a token that attends; "
        "the number at its end is the sum of its weights",
        columns=3, width=11.0, height=4.4,
    )  # fmt: skip
    panels = [("before dropout", rows["before"]), *zip(("one draw", "another draw"), rows["masked"], strict=True)]
    words = [drawable(repr(word)[1:-1].replace(" ", "\u00b7")) for word in rows["words"]]
    before = np.array(rows["before"])
    for axes, (title, weights) in zip(figure.axes, panels, strict=True):
        _draw_weights(axes, np.array(weights), before)
        axes.set_title(title, fontsize=9, color=INK)
        axes.set_xlabel("attended token, by its place")
    figure.axes[0].set_yticks(range(len(words)), words, fontsize=6.5)
    for axes in figure.axes[1:]:
        axes.set_yticks([])
    caption = (
        "Darker is more weight. A crossed-out square is a weight that the mask took; the others have grown by "
        f"1/(1-p) = {1 / (1 - rows['p']):.3f}. The numbers are the rows' sums."
    )
    if any(LACKING in word for word in words):
        caption += LACKING_WORDS
    return Picture("masks", caption, figure)


def _draw_weights(axes: Axes, weights: Any, before: Any) -> None:
    axes.grid(False)
    shown = np.ma.masked_where(np.triu(np.ones_like(weights), 1) > 0, weights)
    axes.imshow(np.sqrt(shown), cmap="Blues", vmin=0.0, vmax=1.0, aspect="equal")
    gone = np.argwhere((weights == 0.0) & (before > 0.0))
    axes.plot(gone[:, 1], gone[:, 0], "x", color=COLOURS[1], markersize=3.5, markeredgewidth=0.9)
    for row, total in enumerate(weights.sum(axis=1)):
        axes.text(row + 0.8, row, f"{total:.2f}", fontsize=6, va="center", color=GREY, clip_on=False)
    axes.spines[:].set_visible(False)


def draw_sums(rows: Mapping[str, Any]) -> Picture:
    """Draw the predicted against the measured spread, and the mean of each row's sum."""
    figure = new_figure(
        f"A row's sum stays 1 on average, and spreads as predicted ({rows['draws']:,} draws of the mask)",
        f"each point is one row of attention weights of real text, dropout {rows['p']:.2g}",
        columns=2, width=10.0,
    )  # fmt: skip
    mean, spread, predicted = (np.array(rows[name]) for name in ("mean", "spread", "predicted"))
    left, right = figure.axes
    top = 1.12 * float(max(predicted.max(), spread.max()))
    left.plot([0, top], [0, top], color=GREY, linewidth=0.9, zorder=1)
    left.plot(predicted, spread, "o", color=COLOURS[0], markersize=3, alpha=0.6, markeredgewidth=0)
    left.annotate(
        f"the first row, one weight: {predicted[0, 0]:.4f} predicted,\n{spread[:, 0].mean():.4f} measured",
        (predicted[0, 0], spread[:, 0].mean()), xytext=(0.97, 0.30), textcoords="axes fraction", ha="right",
        color=INK, va="top", arrowprops={"arrowstyle": "-", "color": GREY, "linewidth": 0.7},
    )  # fmt: skip
    left.text(0.30 * top, 0.34 * top, "equal", color=GREY, rotation=38, ha="center")
    left.set_xlim(0.0, top)
    left.set_ylim(0.0, top)
    left.set_xlabel("predicted standard deviation, sqrt(p/(1-p) x sum of squared weights)")
    left.set_ylabel("measured standard deviation of the row's sum")
    place = np.arange(mean.shape[1])
    error = 4.0 * predicted.max(axis=0) / np.sqrt(rows["draws"])
    right.fill_between(place, 1.0 - error, 1.0 + error, color=FAINT, linewidth=0)
    right.axhline(1.0, color=GREY, linewidth=0.9)
    for head in mean:
        right.plot(place, head, "o", color=COLOURS[0], markersize=3, alpha=0.6, markeredgewidth=0)
    right.text(place[-1], 1.0 + error.max() * 0.97, "grey: 1, with 4 standard errors", color=GREY, ha="right", va="top")
    right.set_xlabel("place of the row's token in the window")
    right.set_ylabel("mean of the row's sum")
    caption = (
        "Left: the spread of a row's sum over draws of the mask lies on the line of the formula; a row with all its "
        "weight in one place spreads most. Right: on average each sum stays 1."
    )
    return Picture("row-sums", caption, figure)


def draw_effects(data: Mapping[str, Any]) -> Picture:
    """Draw the held-out loss by passes over the text, and the difference that dropout makes."""
    figure = new_figure(
        f"What dropout {data['p']:g} does to the held-out loss, by how often the text is repeated",
        f"every training sees {data['tokens']:,} tokens; points are seeds; bars are 95 % intervals; "
        f"grey: within {data['smallest']:g} nats",
        columns=2, width=11.0, height=4.6,
    )  # fmt: skip
    left, right = figure.axes
    _draw_losses(left, data)
    _draw_differences(right, data)
    places = [effect["epochs"] for effect in data["effects"]]
    for axes in (left, right):
        axes.set_xscale("log")
        axes.set_xticks(places, [f"{place:.3g}" for place in places])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("effective epochs: passes over the part of the text that is trained on")
    caption = (
        f"Left: held-out loss at the end, for each share p of dropout. Right: p = {data['p']:g} less p = 0, seed by "
        f"seed; below 0, dropout helps. The difference {data['crossing']['sentence']}."
    )
    return Picture("crossover", caption, figure)


def _draw_losses(axes: Axes, data: Mapping[str, Any]) -> None:
    arms: dict[tuple[float, bool], list[Mapping[str, Any]]] = {}
    for cell in data["cells"]:
        arms.setdefault((cell["p"], cell["everywhere"]), []).append(cell)
    ends = []
    for (p, everywhere), colour in zip(sorted(arms, key=lambda arm: (not arm[1], arm[0])), COLOURS, strict=False):
        cells = arms[p, everywhere]
        places = [cell["epochs"] for cell in cells]
        means = [float(np.mean(cell["losses"])) for cell in cells]
        axes.plot(places, means, "-" if everywhere else "--", color=colour, linewidth=1.5)
        for cell in cells:
            axes.plot(
                [cell["epochs"]] * len(cell["losses"]), cell["losses"], "o", color=colour, markersize=3, alpha=0.7
            )
        ends.append((means[-1], f"p = {p:g}" if everywhere else f"p = {p:g}, weights alone", colour))
    low, high = axes.get_ylim()
    height, last = low, max(cell["epochs"] for cell in data["cells"])
    for end, name, colour in sorted(ends):
        height = max(end, height + 0.05 * (high - low))
        axes.annotate(name, (last, height), xytext=(8, 0), textcoords="offset points", color=colour, va="center",
                      annotation_clip=False)  # fmt: skip
    axes.set_ylabel("held-out loss, nats per token")


def _draw_differences(axes: Axes, data: Mapping[str, Any]) -> None:
    colour = COLOURS[0]
    axes.axhspan(-data["smallest"], data["smallest"], color=FAINT, linewidth=0)
    axes.axhline(0.0, color=GREY, linewidth=0.9)
    crossing = data["crossing"]
    if crossing["at"] is not None:
        places = [effect["epochs"] for effect in data["effects"]]
        low, high = crossing["low"] or places[0], crossing["high"] or places[-1]
        axes.plot([low, high], [0.0, 0.0], color=COLOURS[1], linewidth=4, alpha=0.6, solid_capstyle="butt")
        axes.plot([crossing["at"]], [0.0], "D", color=COLOURS[1], markersize=6)
        axes.annotate(f"changes sign at {crossing['words']}", (crossing["at"], 0.0), xytext=(8, 12),
                      textcoords="offset points", color=COLOURS[1], ha="left")  # fmt: skip
    axes.plot([e["epochs"] for e in data["effects"]], [e["mean"] for e in data["effects"]], "-", color=colour)
    means = []
    for effect in data["effects"]:
        axes.plot([effect["epochs"]] * 2, [effect["low"], effect["high"]], color=colour, linewidth=2.0, alpha=0.5)
        axes.plot([effect["epochs"] * 1.04] * len(effect["points"]), effect["points"], "o", color=colour, markersize=3)
        means += [effect["mean"], *effect["points"]]
    span = max(max(means) - min(means), 4 * data["smallest"])
    axes.set_ylim(min([*means, 0.0]) - 0.4 * span, max([*means, 0.0]) + 0.4 * span)
    axes.set_ylabel(f"dropout {data['p']:g} less none, nats per token")
