"""The pictures of note 1: the line of the noise, the agreement of two batches, memory, and losses at equal what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from lightwell.lab.cards.figures import COLOURS, draw_paired, new_figure
from lightwell.lab.experiments.experiment import Picture
from lightwell.lab.notes.batch_size.gradients import foretold, scale_words, share_of_pool
from lightwell.training.runs.plot import GREY, INK

APART = 0.13
"""The share of the width of the axes between neighbours, for points of one batch size."""


def draw(data: Mapping[str, Any], timings: Mapping[str, Any]) -> list[Picture]:
    """From the numbers alone."""
    return [noise_picture(data), agreement_picture(data), memory_picture(data), losses_picture(data, timings)]


def noise_picture(data: Mapping[str, Any]) -> Picture:
    """|G_B|^2 against 1/B, a panel for each state."""
    states = data["noise"]
    figure = new_figure(
        "The squared length of a batch's gradient against 1/B, beside the straight line that theory says",
        "small points: single batches; large ones: their means; dashed: |G|^2, what would be left of an endless batch",
        columns=len(states), width=4.6 * len(states), height=4.4,
    )  # fmt: skip
    for axes, state, colour in zip(figure.axes, states, COLOURS, strict=False):
        inverse = [1.0 / B for B in state["sizes"]]
        squared, line = np.array(state["squared"]), state["line"]
        for x, column in zip(inverse, squared.T, strict=True):
            axes.plot([x] * len(column), column, ".", color=colour, alpha=0.22, markersize=4)
        axes.plot(inverse, squared.mean(axis=0), "o", color=colour, markersize=6, zorder=3)
        axes.plot([0, 1], [line["signal"], line["signal"] + line["noise"]], color=colour, zorder=2)
        axes.axhline(line["signal"], color=GREY, linewidth=0.9, linestyle="--")
        top = float(np.quantile(squared, 0.995)) * 1.1
        axes.set_ylim(0, top)
        axes.set_xticks(inverse[:4], [f"1/{B}" if B > 1 else "1" for B in state["sizes"][:4]])
        axes.set_xlabel("1/B, B sequences in a batch")
        axes.set_ylabel("|G_B|²")
        axes.set_title(state["name"], loc="left", fontsize=10, color=colour)
        words = (
            f"R² = {line['r_squared']:.4f}\n"
            f"noise scale in sequences: {scale_words(line)}\n"
            f"by two sizes: {scale_words(state['two_sizes'])}"
        )
        axes.text(0.03, 0.97, words, transform=axes.transAxes, va="top", color=INK, fontsize=8.5)
    caption = (
        "Weights are fixed. The slope is tr(Sigma), how much single sequences differ, the intercept |G|², and their "
        "ratio the noise scale: the batch size at which noise and signal are equal."
    )
    return Picture("noise", caption, figure)


def agreement_picture(data: Mapping[str, Any]) -> Picture:
    """Draw the cosine of two batches that share nothing."""
    figure = new_figure(
        "How far two batches agree on where to go, by their size",
        "points: mean cosine of two batches without a common sequence, 95 % of them within the bars; "
        "lines: 1 / (1 + B_simple / B)",
    )
    axes = figure.axes[0]
    for number, (state, colour) in enumerate(zip(data["noise"], COLOURS, strict=False)):
        cosines = np.array(state["cosines"])
        low, high = np.quantile(cosines, [0.025, 0.975], axis=0)
        moved = np.array(state["sizes"]) * (1.0 + 0.05 * number)
        axes.vlines(moved, low, high, color=colour, linewidth=1.4, alpha=0.6)
        axes.plot(moved, cosines.mean(axis=0), "o", color=colour)
        B = np.geomspace(state["sizes"][0], state["sizes"][-1], 80)
        axes.plot(B, [foretold(share_of_pool(state["of_pool"]), each) for each in B], color=colour, linewidth=1.2)
        axes.annotate(
            state["name"], (B[-1], foretold(share_of_pool(state["of_pool"]), B[-1])), xytext=(18, -5),
            textcoords="offset points", color=colour, annotation_clip=False,
        )  # fmt: skip
    axes.set_xscale("log", base=2)
    axes.set_xticks(data["sizes"], [str(B) for B in data["sizes"]])
    axes.set_xlim(0.85, data["sizes"][-1] * 2.6)
    axes.set_ylim(min(0.0, axes.get_ylim()[0]), 1.02)
    axes.set_xlabel("sequences in each batch, B")
    axes.set_ylabel("cosine of the two gradients")
    caption = (
        "1 would be full agreement, 0 none. The noise scale of the other picture foretells it; as training goes on, "
        "it takes larger batches to agree."
    )
    return Picture("agreement", caption, figure)


def memory_picture(data: Mapping[str, Any]) -> Picture:
    """Draw the bytes saved for the backward pass."""
    figure = new_figure("What a batch keeps in memory for its backward pass, by its size")
    axes = figure.axes[0]
    sizes, megabytes = data["sizes"], [size / 1e6 for size in data["memory"]]
    axes.plot(sizes, megabytes, "o-", color=COLOURS[0])
    axes.annotate(
        f"the whole batch at once: {megabytes[-1]:.0f} MB at B = {sizes[-1]}", (sizes[-1], megabytes[-1]),
        xytext=(-12, 3), textcoords="offset points", ha="right", color=COLOURS[0],
    )  # fmt: skip
    part = megabytes[2]
    held = [min(part, size) for size in megabytes]
    axes.plot(sizes, held, "o-", color=COLOURS[1])
    axes.annotate(
        f"in micro-batches of {sizes[2]}: {part:.1f} MB, the same gradient", (sizes[-1], part), xytext=(-10, 8),
        textcoords="offset points", ha="right", color=COLOURS[1],
    )  # fmt: skip
    axes.set_xticks(sizes[2:], [str(B) for B in sizes[2:]])
    axes.set_ylim(0, None)
    axes.set_xlabel("sequences in a batch, B")
    axes.set_ylabel("MB saved for the backward pass")
    worst = max(data["micro_batches"]["equal"], data["micro_batches"]["unequal"])
    caption = (
        f"Weights left out. Micro-batches cap it, and their gradients add up to that of the batch (to {worst:.1e} of "
        "its length), so that memory is no reason for a small batch_size."
    )
    return Picture("memory", caption, figure)


def losses_picture(data: Mapping[str, Any], timings: Mapping[str, Any]) -> Picture:
    """Held-out losses at equal steps, tokens and seconds."""
    arms = data["arms"]
    panels = [
        (f"equal steps: {arms[data['equal_steps'][0]]['steps']:,}", [arms[name] for name in data["equal_steps"]]),
        (f"equal tokens: {arms[data['equal_tokens'][0]]['tokens']:,}", [arms[name] for name in data["equal_tokens"]]),
        (f"equal seconds: {timings['equal_seconds']:.2g}", timings["equal_seconds_arms"]),
    ]
    shown = [(title, [arm["size"] for arm in arms], [arm["loss"] for arm in arms]) for title, arms in panels]
    figure = new_figure(
        "The held-out loss by batch size, at equal steps, equal tokens and equal seconds",
        "each point is a training; diamonds: means; lines join the same seed. Lower is better.",
        columns=3, width=10.5,
    )  # fmt: skip
    low = min(min(losses) for _, _, arms in shown for losses in arms)
    high = max(max(losses) for _, _, arms in shown for losses in arms)
    margin = 0.08 * (high - low) or 0.1
    for axes, colour, (title, sizes, losses) in zip(figure.axes, COLOURS, shown, strict=False):
        means = draw_paired(axes, losses, colour)
        for place, (mean, following) in enumerate(zip(means, [*means[1:], means[-1]], strict=True)):
            above = 5 if following <= mean else -14  # off the line to the next one
            axes.annotate(f"{mean:.3f}", (place, mean), xytext=(9, above), textcoords="offset points", color=INK)
        axes.set_xticks(range(len(sizes)), [str(size) for size in sizes])
        axes.set_xlim(-0.4, len(sizes) - 0.4)
        axes.set_ylim(low - margin, high + margin)
        axes.set_title(title, loc="left", fontsize=10, color=colour)
        axes.set_xlabel("batch size, sequences")
    figure.axes[0].set_ylabel("held-out loss, nats per token")
    caption = (
        "At equal steps a larger batch has seen more text; at equal tokens a smaller one has made more updates; "
        "seconds are this machine's. Each training ends with its learning rate decayed."
    )
    return Picture("losses", caption, figure)
