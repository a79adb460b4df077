"""The pictures of causal attention: the control beside the model, what each prediction depends on, random tokens."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from typing import Any

from lightwell.lab.cards.figures import COLOURS, LACKING, LACKING_WORDS, drawable, new_figure
from lightwell.lab.experiments.experiment import Picture
from lightwell.training.runs.plot import GREY, INK

MASKED, UNMASKED = "causal mask", "no mask"


def draw(data: Mapping[str, Any], timings: Mapping[str, Any]) -> list[Picture]:
    """Draw the reach, the control and the random tokens."""
    return [control(data), reach(data), random_tokens(data)]


def control(data: Mapping[str, Any]) -> Picture:
    """Draw losses along training, where they end, and what is written."""
    figure = new_figure(
        "The loss with and without the mask, as it is trained and as a text is written",
        "Held-out text, dropout off. Written with the mask, as every text is, at temperature 0.8.",
        columns=3, width=12.0, height=4.4,
    )  # fmt: skip
    curve, points, words = figure.axes
    for name, colour in ((MASKED, COLOURS[0]), (UNMASKED, COLOURS[1])):
        for line in data["curves"][name]:
            curve.plot(*zip(*line, strict=True), color=colour, linewidth=1.4)
        step, loss = data["curves"][name][0][-1]
        below = -16 if name == UNMASKED and loss > 0.2 * data["uniform"] else 7  # both curves fall
        curve.annotate(name, (step, loss), xytext=(-4, below), textcoords="offset points", ha="right", color=colour)
    curve.set_xlabel("step")
    curve.set_ylabel("held-out loss, nats per token")
    curve.set_ylim(bottom=0.0)
    curve.set_title("while it is trained", loc="left", fontsize=9, color=INK)
    ends = [
        ("mask", data["losses"][MASKED], COLOURS[0]),
        ("no mask:\nas trained", data["losses"][UNMASKED], COLOURS[1]),
        ("no mask:\nscored with it", data["scored_with_mask"], COLOURS[2]),
    ]
    for place, (_, losses, colour) in enumerate(ends):
        points.plot([place] * len(losses), losses, "o", color=colour, markersize=5, alpha=0.75)
        mean = sum(losses) / len(losses)
        points.annotate(f"{mean:.2f}", (place, mean), xytext=(9, -3), textcoords="offset points", color=colour)
    points.set_xticks(range(3), [name for name, _, _ in ends])
    points.set_xlim(-0.4, 2.6)
    points.axhline(data["uniform"], color=GREY, linewidth=0.9, linestyle="--")
    points.annotate("ln V: nothing learned", (-0.35, data["uniform"]), xytext=(0, 4), textcoords="offset points",
                    color=GREY, fontsize=8)  # fmt: skip
    points.set_ylim(0.0, 1.12 * max(data["uniform"], *data["scored_with_mask"]))
    points.set_title("at the end, each seed", loc="left", fontsize=9, color=INK)
    words.axis("off")
    start = " ".join(_printable(data["opening"]).split())
    words.set_title(f'what they write after "... {start[-24:]}"', loc="left", fontsize=9, color=INK)
    for name, colour, top in ((MASKED, COLOURS[0], 0.98), (UNMASKED, COLOURS[2], 0.48)):
        lines = textwrap.wrap(_printable(data["texts"][name][1]), 44)[:6] or ["(it ends at once)"]
        words.text(0.0, top, f"trained with {name}" if name == MASKED else "trained without, written with the mask",
                   transform=words.transAxes, va="top", color=colour, fontsize=8.5, fontweight="bold")  # fmt: skip
        words.text(0.0, top - 0.065, "\n".join(lines), transform=words.transAxes, va="top", fontsize=8, color=INK,
                   )  # fmt: skip
    caption = (
        "The control reads the next token from its own inputs, so its loss says nothing about language: the same "
        "weights are far worse when the future is hidden, as it is whenever a text is written."
    )
    if LACKING in start + "".join(_printable(data["texts"][name][1]) for name in (MASKED, UNMASKED)):
        caption += LACKING_WORDS
    return Picture("control", caption, figure)


def reach(data: Mapping[str, Any]) -> Picture:
    """Draw what each prediction depends on."""
    figure = new_figure(
        "What each prediction depends on: with the mask, nothing to the right of the diagonal",
        "Norm of the derivative of prediction i by the embedding of token j, relative to the largest of its row; "
        "random tokens, trained models; white is exactly 0",
        columns=2, width=9.0, height=4.8,
    )  # fmt: skip
    import numpy as np

    for axes, name in zip(figure.axes, (MASKED, UNMASKED), strict=True):
        sizes = np.array(data["maps"][name])
        image = axes.imshow(np.ma.masked_equal(sizes, 0.0), cmap="viridis", vmin=0.0, vmax=1.0, interpolation="nearest")
        axes.grid(False)
        count = int((np.triu(sizes, 1) > 0).sum())
        axes.set_title(f"{name}: {count} of {len(sizes) * (len(sizes) - 1) // 2} later tokens count", loc="left",
                       fontsize=9, color=INK)  # fmt: skip
        axes.set_xlabel("input token j, position")
        axes.set_ylabel("prediction i, position")
    figure.colorbar(image, ax=figure.axes, shrink=0.8, label="share of the row's largest")
    caption = (
        "With the mask a prediction depends on its own and earlier tokens only; without it, on all of them, and so "
        "also on the very token that it is to predict."
    )
    return Picture("reach", caption, figure)


def random_tokens(data: Mapping[str, Any]) -> Picture:
    """Draw the loss on random tokens against its bound."""
    figure = new_figure(
        "Random tokens cannot be predicted: a loss below the line would be a leak",
        "A model with the mask, trained on tokens drawn alike from the whole vocabulary, none of them seen twice",
    )
    axes, bound = figure.axes[0], data["uniform"]
    losses = data["random"]["batch_losses"]
    axes.plot(range(1, len(losses) + 1), losses, color=COLOURS[5], linewidth=0.8, alpha=0.6)
    axes.plot(*zip(*data["random"]["validations"], strict=True), "o-", color=COLOURS[0], markersize=4)
    axes.axhline(bound, color=COLOURS[1], linewidth=1.4)
    axes.annotate(f"ln V = {bound:.3f}", (len(losses), bound), xytext=(0, -13), textcoords="offset points", ha="right",
                  color=COLOURS[1])  # fmt: skip
    step, loss = data["random"]["validations"][-1]
    axes.annotate(f"held-out: {loss:.3f}", (step, loss), xytext=(0, 9), textcoords="offset points", ha="right",
                  color=COLOURS[0])  # fmt: skip
    highest = max(range(len(losses)), key=losses.__getitem__)
    axes.annotate("each batch", (highest + 1, losses[highest]), xytext=(8, 0), textcoords="offset points",
                  color=COLOURS[5])  # fmt: skip
    low, high = min(bound - 0.05, *losses, loss), max(*losses, loss)
    axes.set_ylim(low - 0.1 * (high - low), high + 0.15 * (high - low))
    axes.set_xlabel("step")
    axes.set_ylabel("loss, nats per token")
    caption = (
        "With a causal mask no training can bring the loss of random tokens below ln V; a model that sees the next "
        "token can, which makes this a test of the whole training, data and targets included."
    )
    return Picture("random", caption, figure)


def _printable(text: str) -> str:
    return drawable("".join(sign if sign.isprintable() else " " for sign in text))
