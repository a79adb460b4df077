"""The pictures of note 2: windows over one's own text, exposures, repetition against overlap, and scoring."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from lightwell.lab.cards.figures import COLOURS, LACKING, LACKING_WORDS, draw_paired, drawable, new_figure
from lightwell.lab.experiments.experiment import Picture
from lightwell.training.runs.plot import FAINT, GREY, INK

SHOWN = 8
"""Context length of the windows that are drawn, so that the tokens can be read."""


def draw(data: Mapping[str, Any], timings: Mapping[str, Any]) -> list[Picture]:
    """Draw windows, exposures, overfitting and scoring."""
    return [windows_picture(data), exposure_picture(data), overfitting_picture(data), scoring_picture(data)]


def windows_picture(data: Mapping[str, Any]) -> Picture:
    """Draw the first windows of four strides, over the first tokens of the text."""
    L = min(SHOWN, data["context_length"])
    pieces = [str(piece) for piece in data["pieces"]][: 2 * L + 2]
    strides = [L + 1, L, L // 2, L // 4]
    figure = new_figure(
        f"The first windows over this text, context length {L}: overlap shows the same tokens again",
        f"blocks: the targets of one window; under each stride, how often a token is a target of all windows that "
        f"begin here. Drawn with {L} tokens so that they can be read; trained with {data['context_length']}.",
        width=10.5, height=6.2, narrow=6.6,
    )  # fmt: skip
    axes = figure.axes[0]
    axes.grid(False)
    height, N = 0.0, len(pieces)
    for colour, stride in zip(COLOURS, strides, strict=False):
        starts = range(0, N - 1, stride)
        seen = np.zeros(N, dtype=int)
        top = height
        for row, start in enumerate(starts):
            end = min(start + L, N - 1)
            y = height - (row % (-(-L // stride) + (1 if stride > L else 0)))
            axes.barh(y, end - start, left=start + 0.5, height=0.72, color=colour, alpha=0.75, edgecolor="white")
            seen[start + 1 : end + 1] += 1
        rows = min(len(starts), -(-L // stride) + (1 if stride > L else 0))
        height -= rows
        for place in range(1, N):
            style: Any = {"color": GREY} if seen[place] else {"color": COLOURS[1], "fontweight": "bold"}
            axes.text(place, height, str(seen[place]), ha="center", va="center", fontsize=8, **style)
        words = {L: "L: each target once", L + 1: "L + 1: one is left out at each cut"}
        axes.text(-0.3, (top + height + 1) / 2, f"stride {words.get(stride, f'L/{L // stride}')}", ha="right",
                  va="center", color=colour, fontweight="bold")  # fmt: skip
        height -= 1.5
    for place, piece in enumerate(pieces):
        axes.text(place, 1.15, _visible(piece), ha="center", va="center", fontsize=8.5, color=INK)
    axes.set_xlim(-6.4, N - 0.3)
    axes.set_ylim(height + 0.9, 1.7)
    axes.axis("off")
    caption = (
        "A window predicts each of its targets from the tokens before it within the window. The first token of a text "
        "is never a target; with a stride of L + 1, neither is the one after each window."
    )
    if any(LACKING in _visible(piece) for piece in pieces):
        caption += LACKING_WORDS
    return Picture("windows", caption, figure)


def _visible(piece: str) -> str:
    """Return a token as it is drawn: spaces and line ends must be seen."""
    return drawable(piece.replace(" ", "·").replace("\n", "↵").replace("\t", "→"))


def exposure_picture(data: Mapping[str, Any]) -> Picture:
    """Draw how often tokens are targets: along the beginning of the text, and as shares of all tokens."""
    L = data["context_length"]
    rows = [row for row in data["exposures"] if row["stride"] <= L or row["stride"] == L + 1]
    figure = new_figure(
        "One epoch of the loader shows each token L / stride times",
        "counted off the batches of the loader; at the edges of the text fewer windows overlap",
        columns=2, width=10.5, height=4.6,
    )  # fmt: skip
    along, shares = figure.axes
    colours = [*COLOURS, "#B07AA1"]
    top = max(max(row["start"]) for row in rows if not row["random"])
    for row, colour in zip(rows, colours, strict=False):
        if row["random"]:
            continue
        along.plot(range(len(row["start"])), row["start"], drawstyle="steps-mid", color=colour)
        if row["stride"] > L:
            along.text(2 * L + 6, 0.12, f"stride {row['stride']}: one left out", color=colour, fontsize=8)
        else:
            along.annotate(f"stride {row['stride']}", (len(row["start"]) - 1, row["start"][-1]), xytext=(4, 2),
                           textcoords="offset points", color=colour, annotation_clip=False)  # fmt: skip
    along.set_xlim(0, 3 * L * 1.3)
    along.set_ylim(0, top * 1.1)
    along.set_xlabel("position in the text, tokens")
    along.set_ylabel("times a target in one epoch")
    for place, (row, colour) in enumerate(zip(rows, colours, strict=False)):
        total = sum(row["tokens"])
        for times, tokens in zip(row["times"], row["tokens"], strict=True):
            shares.barh(-place, 0.8, left=times - 0.4, height=0.75, color=colour, alpha=max(0.06, tokens / total))
            if tokens / total >= 0.001:
                shares.text(times, -place, _percent(tokens / total), ha="center", va="center", fontsize=7, color=INK)
    names = [f"random, as many\nas of stride {row['stride']}" if row["random"] else f"stride {row['stride']}"
             for row in rows]  # fmt: skip
    shares.set_yticks([-place for place in range(len(rows))], names, color=INK)
    shares.set_xlim(-0.6, max(top, max(max(row["times"]) for row in rows)) + 0.6)
    shares.set_xlabel("times a target in one epoch; numbers: % of tokens")
    caption = (
        "What is called one epoch is L / stride passes over the text. Random offsets show some tokens often and some "
        "never; a stride beyond L leaves tokens out for good."
    )
    return Picture("exposure", caption, figure)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}" if share > 0.02 else f"{100 * share:.1f}"


def overfitting_picture(data: Mapping[str, Any]) -> Picture:
    """Draw gap and held-out loss by passes over the text: overlap lies where plain repetition lies."""
    figure = new_figure(
        "Overlap (squares) beside as many passes over the text without it (circles)",
        "each small point is a training, open ones are means; a square on the line did nothing but repeat the text",
        columns=3, width=12.0, height=4.6,
    )  # fmt: skip
    gap, loss, tokens = figure.axes
    L, arms = data["context_length"], data["arms"]
    for axes, value, label in ((gap, "gap", "held-out less training loss, nats per token"),
                               (loss, "loss", "held-out loss, nats per token")):  # fmt: skip
        plain = sorted((arm for arm in arms if arm["ratio"] == 1), key=lambda arm: float(arm["effective_epochs"]))
        axes.plot([arm["effective_epochs"] for arm in plain], [np.mean(arm[value]) for arm in plain], color=COLOURS[0])
        for arm in plain:
            _points(axes, arm["effective_epochs"], arm[value], COLOURS[0], "o")
        once = [arm for arm in arms if arm["passes"] == 1 and not arm["random"] and arm["ratio"] > 1]
        for arm in once:
            _points(axes, arm["effective_epochs"] * 1.06, arm[value], COLOURS[1], "s")
            axes.annotate(f"stride L/{arm['ratio']}", (arm["effective_epochs"] * 1.06, max(arm[value])),
                          xytext=(0, 7), textcoords="offset points", color=COLOURS[1], ha="center",
                          fontsize=8)  # fmt: skip
        axes.set_xscale("log", base=2)
        ticks = [data["epochs"] * 2**i for i in range(8) if 2**i <= data["most"]]
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.set_xlim(ticks[0] / 1.35, ticks[-1] * 1.5)
        axes.margins(y=0.18)
        axes.set_xlabel("times that the text was seen (effective epochs)")
        axes.set_ylabel(label)
    gap.set_title(f"gap; squares: {data['epochs']} epochs of the loader", loc="left", fontsize=9, color=INK)
    loss.set_title(f"held-out loss; circles: stride {L}", loc="left", fontsize=9, color=INK)
    equal = sorted((arm for arm in arms if arm["ratio"] * arm["passes"] == data["most"]),
                   key=lambda arm: (bool(arm["random"]), int(arm["ratio"])))  # fmt: skip
    draw_paired(tokens, [arm["loss"] for arm in equal], COLOURS[2])
    labels = ["random\noffsets" if arm["random"] else f"L/{arm['ratio']}" if arm["ratio"] > 1 else "L" for arm in equal]
    tokens.set_xticks(range(len(equal)), labels)
    tokens.set_ylim(loss.get_ylim())
    tokens.set_xlim(-0.5, len(equal) - 0.5)
    tokens.set_xlabel("stride")
    tokens.set_title(f"held-out loss, equal tokens ({data['epochs'] * data['most']} times the text)", loc="left",
                     fontsize=9, color=INK)  # fmt: skip
    caption = (
        "Left and middle: the same points, by how often the text was really seen. Right: all strides for as many "
        "tokens; each line is a seed."
    )
    return Picture("overfitting", caption, figure)


def _points(axes: Any, x: float, values: Sequence[float], colour: str, marker: str) -> None:
    axes.plot([x] * len(values), values, marker, color=colour, markersize=4, alpha=0.6)
    axes.plot([x], [np.mean(values)], marker, color=colour, markersize=11, markerfacecolor="none", zorder=4)


def scoring_picture(data: Mapping[str, Any]) -> Picture:
    """Draw one model's held-out loss by evaluation stride."""
    L, evaluated = data["context_length"], data["evaluated"]
    strides = evaluated[0]["strides"]
    figure = new_figure(
        "One model's held-out loss, by the stride of the windows that it is scored in",
        "the same tokens, each scored once; a smaller stride gives each more context. A line for each seed.",
        width=7.5,
    )  # fmt: skip
    axes = figure.axes[0]
    for number, model in enumerate(evaluated):
        colour = COLOURS[number % len(COLOURS)]
        axes.plot(range(len(strides)), model["losses"], "o-", color=colour, linewidth=1.2)
        for place, value in enumerate(model["losses"]):
            if len(evaluated) <= 3:
                axes.annotate(f"{value:.3f}", (place, value), xytext=(0, 7), textcoords="offset points", ha="center",
                              color=colour, fontsize=8)  # fmt: skip
    least = [f"at least {L - stride + 1:,} in view" for stride in strides]
    axes.set_xticks(
        range(len(strides)), [f"stride {stride}\n{words}" for stride, words in zip(strides, least, strict=True)]
    )
    axes.set_xlim(-0.4, len(strides) - 0.6)
    axes.margins(y=0.2)
    axes.grid(True, color=FAINT, linewidth=0.7)
    axes.set_ylabel("held-out loss, nats per token")
    axes.set_xlabel("stride of the windows in evaluation, tokens")
    caption = "A smaller stride costs L / stride as much time. Losses compare only where they are scored alike."
    return Picture("scoring", caption, figure)
