"""The pictures of the note on ReLU."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lightwell.lab.cards.figures import COLOURS, new_figure
from lightwell.lab.experiments.experiment import Picture
from lightwell.lab.verdicts.statistics import paired_effect
from lightwell.training.runs.plot import FAINT, GREY, INK, spread

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOUR = dict(zip(("relu", "relu2", "gelu", "silu", "swiglu"), COLOURS, strict=False))


def draw(data: Mapping[str, Any], timings: Mapping[str, Any]) -> list[Picture]:
    """Draw zeros along training, the curves beside what flows in, and the losses."""
    return [draw_zeros(data), draw_curves(data), draw_losses(data, timings)]


def draw_zeros(data: Mapping[str, Any]) -> Picture:
    """Draw the share of exact zeros, layer by layer, along a training."""
    layers = len(next(iter(data["zeros"].values()))[0]["layers"])
    figure = new_figure(
        "How many of the feed-forward's hidden values are exactly 0, from initialisation to the end of training",
        f"share of values that are exactly 0.0, on the same {data['zeros']['relu'][0]['layers'][0]['tokens']:,.0f} "
        "held-out tokens; lines are means, points are seeds",
        columns=min(layers, 4), width=10.0,
    )  # fmt: skip
    for layer, axes in enumerate(figure.axes):
        ends = []
        for activation, along in data["zeros"].items():
            steps = [probed["step"] for probed in along]
            rows = [probed["layers"][layer] for probed in along]
            shares = [100.0 * row["zero"] for row in rows]
            axes.plot(steps, shares, color=COLOUR[activation], linewidth=1.6)
            for step, row in zip(steps, rows, strict=True):
                points = [100.0 * each for each in row["seeds"]]
                axes.plot([step] * len(points), points, "o", color=COLOUR[activation], markersize=2.5, alpha=0.6)
            ends.append((shares[-1], data["names"][activation], COLOUR[activation]))
        axes.set_ylim(-3.0, 103.0)
        _name_ends(axes, ends, "{name} {end:.0f} %")
        axes.set_title(f"layer {layer + 1}", fontsize=9, color=INK, loc="left")
        axes.set_xlabel("training step")
    figure.axes[0].set_ylabel("exact zeros among the hidden values, %")
    caption = (
        "Exact zeros in the feed-forward's hidden layer along training, one line for each activation. Zeros can be "
        "skipped; values that are only small cannot."
    )
    return Picture("zeros", caption, figure)


def draw_curves(data: Mapping[str, Any]) -> Picture:
    """Draw what flows in after training, and what the function makes of it."""
    shown = list(data["zeros"])
    figure = new_figure(
        "What flows into each nonlinearity after training, and what it makes of it",
        "grey: how often a value flows into the first layer's; line: what comes out (SwiGLU: the gate alone)",
        columns=len(shown), width=2.6 * max(3, len(shown)), height=3.4,
    )  # fmt: skip
    edges = np.array(data["edges"])
    for activation, axes in zip(shown, figure.axes, strict=True):
        row = data["zeros"][activation][-1]["layers"][0]
        heights = np.array(row["inflow"])
        twin = axes.twinx()
        twin.bar(edges[:-1], heights, width=np.diff(edges), align="edge", color=FAINT)
        twin.set_ylim(0.0, 1.25 * max(data_top(data, shown), 1e-9))
        twin.set_yticks([])
        twin.spines[:].set_visible(False)
        twin.set_zorder(0)
        axes.set_zorder(1)
        axes.patch.set_visible(False)
        x = np.linspace(edges[0], edges[-1], 400)
        axes.plot(x, CURVES[activation](x), color=COLOUR[activation], linewidth=2.0)
        axes.set_ylim(-0.5, 3.0)
        below = float(heights[edges[1:] <= 1e-9].sum())
        axes.set_title(f"{data['names'][activation]}: {100 * row['zero']:.0f} % exact zeros", fontsize=9, color=INK)
        axes.text(0.04, 0.93, f"{100 * below:.0f} % flow in\nbelow 0", transform=axes.transAxes, color=GREY, va="top")
        axes.set_xlabel("value that flows in")
    figure.axes[0].set_ylabel("value that comes out")
    caption = (
        "The more of the grey lies below 0, the more exact zeros ReLU and its square have. GELU and SiLU pass small "
        "negative values on, so that the same inflow leaves next to no zeros."
    )
    return Picture("curves", caption, figure)


def data_top(data: Mapping[str, Any], shown: Sequence[str]) -> float:
    """Return the highest bar of all histograms."""
    return max(float(max(data["zeros"][activation][-1]["layers"][0]["inflow"])) for activation in shown)


def _sigmoid(x: Any) -> Any:
    return 1.0 / (1.0 + np.exp(-x))


def _gelu(x: Any) -> Any:
    from scipy.special import ndtr

    return x * ndtr(x)


CURVES: dict[str, Callable[[Any], Any]] = {
    "relu": lambda x: np.maximum(x, 0.0),
    "relu2": lambda x: np.maximum(x, 0.0) ** 2,
    "gelu": _gelu,
    "silu": lambda x: x * _sigmoid(x),
    "swiglu": lambda x: x * _sigmoid(x),
}


def draw_losses(data: Mapping[str, Any], timings: Mapping[str, Any]) -> Picture:
    """Draw all losses of all seeds, and the paired differences to ReLU."""
    figure = new_figure(
        "Held-out loss of each activation at the same number of parameters, and what each differs by from ReLU",
        f"points are seeds, thin lines join a seed; bars are 95 % intervals of the paired difference; grey: within "
        f"{data['smallest']:g} nats",
        columns=2, width=10.5,
    )  # fmt: skip
    families = [("", data["losses"])]
    if "wide" in data:
        families.append(("\nwide\nstart", data["wide"]["losses"]))
    _draw_levels(figure.axes[0], data["names"], families)
    _draw_differences(figure.axes[1], data, families)
    caption = "Each seed's loss with each activation, and the differences to ReLU of the same seed with their interval."
    if len(families) > 1:
        caption += (
            f" A wide start: weights begin with a standard deviation of {data['wide']['std']:.3g} = 1/sqrt(d_model), "
            "and the difference is to ReLU with such a start."
        )
    return Picture("losses", caption, figure)


Families = Sequence[tuple[str, Mapping[str, Sequence[float]]]]
"""Arms that start alike: what their names end with, and the losses of each, seed by seed."""


def _draw_levels(axes: Axes, names: Mapping[str, str], families: Families) -> None:
    place, labels = 0, []
    for ending, losses in families:
        axes.plot(range(place, place + len(losses)), list(losses.values()), color=FAINT, linewidth=1.0, zorder=1)
        for activation, values in losses.items():
            colour, mean = COLOUR[activation], float(np.mean(values))
            axes.plot([place] * len(values), values, "o", color=colour, markersize=4, alpha=0.7)
            axes.plot([place - 0.25, place + 0.25], [mean] * 2, color=colour, linewidth=2.2)
            axes.annotate(f"{mean:.3f}", (place + 0.25, mean), xytext=(2, 0), textcoords="offset points", color=colour,
                          va="center", fontsize=8)  # fmt: skip
            labels.append(names[activation].replace("ReLU squared", "ReLU\nsquared") + ending)
            place += 1
    axes.set_xticks(range(place), labels, fontsize=8)
    axes.set_xlim(-0.5, place - 0.1)
    axes.set_ylabel("held-out loss, nats per token")


def _draw_differences(axes: Axes, data: Mapping[str, Any], families: Families) -> None:
    axes.axvspan(-data["smallest"], data["smallest"], color=FAINT, linewidth=0)
    axes.axvline(0.0, color=GREY, linewidth=0.9)
    rows = [
        (activation, data["names"][activation] + ending, np.subtract(values, losses["relu"]))
        for ending, losses in families
        for activation, values in losses.items()
        if activation != "relu"
    ]
    rows.reverse()  # the first one on top
    for place, (activation, _, points) in enumerate(rows):
        effect, colour = paired_effect(points.tolist()), COLOUR[activation]
        if effect.n >= 2:
            axes.plot([effect.low, effect.high], [place] * 2, color=colour, linewidth=2.2, alpha=0.6)
        axes.plot(points, [place + 0.15] * len(points), "o", color=colour, markersize=4)
        axes.plot([effect.mean], [place], "D", color=colour, markersize=6)
    farthest = max((float(np.abs(points).max()) for _, _, points in rows), default=0.0)
    reach = max(2.5 * data["smallest"], 1.6 * farthest)
    axes.set_xlim(-reach, reach)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_yticks(range(len(rows)), [name for _, name, _ in rows], color=INK)
    axes.set_xlabel("held-out loss less ReLU's, nats per token (left is better)")


def _name_ends(axes: Axes, ends: Sequence[tuple[float, str, str]], form: str) -> None:
    """Write each line's name beside its end, moved apart where two would touch."""
    low, high = axes.get_ylim()
    ordered = sorted(ends)
    heights = spread([(end - low) / (high - low) for end, _, _ in ordered], 0.06)
    for (end, name, colour), height in zip(ordered, heights, strict=True):
        axes.text(1.02, height, form.format(name=name, end=end), transform=axes.transAxes, color=colour, va="center")
