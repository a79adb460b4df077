"""The picture of a run: its losses against the reference lines, and below them learning rate and gradient norm.

Every line is named at its right end in its own colour, so that there is no legend to look up. The colours are Okabe and
Ito's (2008), which colour-blind people can tell apart, and the order of the names says the same without colour.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from lightwell.errors import RunError
from lightwell.text.config import TextConfig
from lightwell.training.runs.best import Metrics, best_evaluation
from lightwell.training.settings.config import RunConfig
from lightwell.training.settings.presets import preset_like
from lightwell.views import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRAINING, HELD_OUT, RATE, NORM = "#0072B2", "#D55E00", "#009E73", "#A6578A"  # the last one darkened to be readable
INK, GREY, FAINT = "#222222", "#6E6E6E", "#E4E4E4"
CORPUS_TITLES = {"bible": "King James Bible", "stdlib": "Python's standard library"}
REFERENCES = {"uniform": "uniform, ln V", "unigram_loss": "unigram", "bigram_loss": "bigram"}

STYLE: Any = {  # matplotlib types each of its settings by name
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that the picture is the same on every machine
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": GREY,
    "axes.edgecolor": "#BBBBBB",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.axisbelow": True,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "svg.hashsalt": "lightwell",  # and no date below: the same run gives the same bytes
}
_NAMES_AT = 1.13  # in widths of the axes: where the lines are named, right of the scale of bits per byte
_LINE_HEIGHT = 0.052  # of the loss axes: names stand at least this far apart
_FEW = 40  # up to so many points are drawn with markers and not smoothed


@dataclass(frozen=True)
class _Name:
    """A line's name and the height at which the line ends."""

    y: float
    text: str
    colour: str
    bold: bool = False


def plot_run(
    metrics: Metrics,
    references: Mapping[str, float],
    path_png: Path,
    path_svg: Path,
    title: str = "Training",
    *,
    about: str = "",
    muon: float = 0.0,
) -> None:
    """Draw a run into two files, for the eye (PNG) and for documents (SVG); the same input gives the same SVG.

    metrics: the records of metrics.jsonl, in any number. references: `References.to_dict()`, or a part of it; without
    bytes_per_token there is no scale of bits per byte. about: what was trained on what, beside the title. muon: how
    many times the recorded learning rate, which is AdamW's, that of Muon is; 0 where Muon is not used.

    Raises:
        RunError: a file could not be written.
    """
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        figure = figure_of(metrics, references, title, about, muon)
        try:
            figure.savefig(path_png, dpi=170)
            figure.savefig(path_svg, metadata={"Date": None})
        except OSError as error:
            raise RunError(f"The plot {path_png} could not be written ({error.strerror or error}).") from None


def figure_of(metrics: Metrics, references: Mapping[str, float], title: str, about: str, muon: float) -> Figure:
    """Return the figure of a run; the arguments are those of `plot_run`."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(9.0, 6.4))
        FigureCanvasAgg(figure)
        loss, rate, norm = figure.subplots(3, 1, sharex=True, height_ratios=(6.0, 1.0, 1.0))
        figure.subplots_adjust(left=0.075, right=0.715, top=0.865, bottom=0.08, hspace=0.16)
        _draw_loss(loss, metrics, references)
        _draw_rate(rate, metrics, muon)
        _draw_small(norm, metrics, "grad_norm", "gradient norm", NORM, logarithmic=True)
        _draw_steps(norm, metrics)
        _draw_title(figure, title, about, metrics)
    return figure


def _draw_loss(axes: Axes, metrics: Metrics, references: Mapping[str, float]) -> None:
    names: list[_Name] = []
    for key, text in REFERENCES.items():
        if key in references:
            axes.axhline(references[key], color="#9A9A9A", linewidth=0.9, dashes=(5, 3), zorder=1)
            names.append(_Name(references[key], text, GREY))
    smooth = _draw_training(axes, metrics, names)
    scores = _draw_held_out(axes, metrics, names)
    values = [*smooth, *scores, *(name.y for name in names)]
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    margin = 0.05 * (high - low) or 0.5
    axes.set_ylim(low - margin, high + margin)
    axes.set_ylabel("loss, nats per token")
    if not values:
        axes.set_yticks([])
    axes.yaxis.grid(True, color=FAINT, linewidth=0.7)
    axes.tick_params(length=0)
    _name_lines(axes, names)
    if references.get("bytes_per_token"):
        per_byte = 1.0 / math.log(2) / references["bytes_per_token"]
        right = axes.secondary_yaxis("right", functions=(_times(per_byte), _times(1.0 / per_byte)))
        right.set_ylabel("bits per byte", rotation=270, labelpad=15)
        right.tick_params(length=0)
        right.spines["right"].set_visible(False)
    axes.spines["right"].set_visible(False)


def _draw_training(axes: Axes, metrics: Metrics, names: list[_Name]) -> list[float]:
    """Return the loss of each batch, thin, and its running mean; returns the latter."""
    steps, losses = _series(metrics, "loss")
    if not steps:
        return []
    if len(steps) <= _FEW:
        smooth = losses
        axes.plot(steps, losses, color=TRAINING, linewidth=1.6, marker="o", markersize=3, zorder=3)
    else:
        smooth = running_mean(losses, min(len(losses) // 50, 50))
        axes.plot(steps, losses, color=TRAINING, linewidth=0.6, alpha=0.35, zorder=2)
        axes.plot(steps, smooth, color=TRAINING, linewidth=1.8, zorder=3)
    names.append(_Name(smooth[-1], "training", TRAINING, bold=True))
    return smooth


def _draw_held_out(axes: Axes, metrics: Metrics, names: list[_Name]) -> list[float]:
    """Draw the held-out loss of each evaluation, and a ring around the best where the last is not it; return them.

    That of the untrained model stands alone: a line from it to the next one would tell of losses that nobody measured.
    """
    steps, scores = _series(metrics, "validation_loss")
    if not steps:
        return []
    size = 5.0 if len(steps) <= _FEW else 0.0
    trained = 1 if steps[0] == 0 and len(steps) > 1 else 0
    line: Any = {"color": HELD_OUT, "linewidth": 1.4, "marker": "o", "markeredgecolor": "white", "zorder": 4}
    if trained:
        axes.plot(steps[:1], scores[:1], **line, markersize=5.0)
    axes.plot(steps[trained:], scores[trained:], **line, markersize=size)
    best = best_evaluation(metrics)
    if best and best["validation_loss"] < scores[-1]:
        at = (best["step"], best["validation_loss"])
        axes.scatter(*at, s=70, facecolors="none", edgecolors=HELD_OUT, linewidths=1.4, zorder=5)
        axes.annotate(
            f"best {best['validation_loss']:.3f}",
            at,
            xytext=(0, 10),
            textcoords="offset points",
            ha="center",
            color=HELD_OUT,
            weight="bold",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0},
            zorder=5,
        )
    names.append(_Name(scores[-1], "held out", HELD_OUT, bold=True))
    return scores


def _draw_rate(axes: Axes, metrics: Metrics, muon: float) -> None:
    """Draw the learning rate; where Muon is used its own, and fainter that of AdamW, which has the embeddings."""
    if not muon:
        _draw_small(axes, metrics, "learning_rate", "learning rate", RATE, logarithmic=False)
        return
    rates = [{**record, "muon": muon * record["learning_rate"]} for record in metrics if "learning_rate" in record]
    _draw_small(axes, rates, "muon", "learning rate of Muon", RATE, logarithmic=False)
    steps, values = _series(rates, "learning_rate")
    axes.plot(steps, values, color=RATE, linewidth=0.8, alpha=0.6, dashes=(3, 2))
    if values:
        axes.set_ylim(0.0, (max(1.0, muon) * max(values) or 1.0) * 1.15)
    axes.text(_NAMES_AT, 0.12, "dashed: of AdamW", transform=axes.transAxes, color=RATE, size=8, va="center")


def _draw_small(axes: Axes, metrics: Metrics, key: str, name: str, colour: str, *, logarithmic: bool) -> None:
    steps, values = _series(metrics, key)
    if logarithmic and any(value > 0 for value in values):
        axes.set_yscale("log", nonpositive="mask")
    marker = "o" if len(steps) <= _FEW else ""
    axes.plot(steps, values, color=colour, linewidth=1.0, marker=marker, markersize=2.5)
    if steps and not logarithmic:
        axes.set_ylim(0.0, (max(values) or 1.0) * 1.15)
    ends = (min(values) if logarithmic else 0.0, max(values)) if values else ()
    axes.set_yticks(ends, [f"{end:.2g}" for end in ends])
    axes.set_yticks([], minor=True)
    axes.tick_params(length=0, labelsize=8)
    axes.spines["right"].set_visible(False)
    axes.text(_NAMES_AT, 0.5, name, transform=axes.transAxes, color=colour, weight="bold", va="center")


def _draw_steps(axes: Axes, metrics: Metrics) -> None:
    """The scale of steps, from the first record to the last."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    first = min((record["step"] for record in metrics), default=0)
    last = max((record["step"] for record in metrics), default=1)
    margin = 0.01 * (last - first) or 0.5
    axes.set_xlim(first - margin, last + margin)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.set_xlabel("step")


def _draw_title(figure: Figure, title: str, about: str, metrics: Metrics) -> None:
    figure.text(0.075, 0.965, title, size=14, weight="bold", va="center", parse_math=False)
    for height, line in ((0.926, about), (0.893, _summary(metrics))):
        if line:
            figure.text(0.075, height, line, size=9.5, color=GREY, va="center", parse_math=False)


def _summary(metrics: Metrics) -> str:
    """Return the run in one line, e.g. "best held-out loss 1.53 bits per byte · 900 steps · 5 min 12 s"."""
    if not metrics:
        return "nothing recorded yet"
    parts = []
    steps = max(record["step"] for record in metrics)
    if best := best_evaluation(metrics):
        parts.append(f"best held-out loss {best['validation_loss']:.3f} nats per token")
        if "validation_bits_per_byte" in best:
            parts[-1] += f" ({best['validation_bits_per_byte']:.3f} bits per byte)"
        if best["step"] < steps:
            parts[-1] += f" at step {best['step']:,}"
    parts.append(f"{steps:,} steps")
    tokens = max(record.get("tokens_seen", 0) for record in metrics)
    if tokens:
        parts.append(f"{tokens / 1e6:.3g} M tokens" if tokens >= 1e6 else f"{tokens:,} tokens")
    seconds = max(record.get("seconds", 0.0) for record in metrics)
    if seconds:
        parts.append(_duration(round(seconds)))
    return "  ·  ".join(parts)


def _duration(seconds: int) -> str:
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


def _name_lines(axes: Axes, names: list[_Name]) -> None:
    """Write each line's value and name beside its end, moved apart where two would touch."""
    low, high = axes.get_ylim()
    ordered = sorted(names, key=lambda name: name.y)
    heights = spread([(name.y - low) / (high - low) for name in ordered], _LINE_HEIGHT)
    for name, height in zip(ordered, heights, strict=True):
        axes.text(
            _NAMES_AT,
            height,
            f"{name.y:.3f}  {name.text}",
            transform=axes.transAxes,
            color=name.colour,
            weight="bold" if name.bold else "normal",
            va="center",
        )


def spread(heights: Sequence[float], apart: float) -> list[float]:
    """Ascending heights in [0, 1], moved as little as needed to be `apart` from each other, in the same order."""
    groups: list[list[float]] = []  # of heights that stand together, evenly, around their mean
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _bottom(groups[-1], apart) < _bottom(groups[-2], apart) + len(groups[-2]) * apart:
            groups[-2:] = [groups[-2] + groups[-1]]
    return [_bottom(group, apart) + index * apart for group in groups for index in range(len(group))]


def _bottom(group: Sequence[float], apart: float) -> float:
    """Return where the lowest of a group stands, so that none leaves [0, 1]."""
    length = apart * (len(group) - 1)
    return min(max(sum(group) / len(group) - length / 2, 0.0), 1.0 - length)


def running_mean(values: Sequence[float], half: int) -> list[float]:
    """Return the mean over `half` values to each side; fewer at the ends, at the start (where the curve is steep)
    evenly.
    """
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    reach = np.minimum(half, at)
    first, end = at - reach, np.minimum(at + reach + 1, len(values))
    return list(map(float, (sums[end] - sums[first]) / (end - first)))


def _times(factor: float) -> Callable[[Any], Any]:
    return lambda values: values * factor


def _series(metrics: Metrics, key: str) -> tuple[list[int], list[float]]:
    records = [record for record in metrics if key in record and math.isfinite(record[key])]
    return [int(record["step"]) for record in records], [float(record[key]) for record in records]


class Drawable(Protocol):
    """What a run is to its picture."""

    @property
    def name(self) -> str:
        """Return its name."""
        ...

    @property
    def config(self) -> RunConfig:
        """Return its settings."""
        ...

    path: Path

    def metrics(self) -> list[dict[str, Any]]:
        """Return its records."""
        ...

    def references(self) -> dict[str, float]:
        """Return its reference lines."""
        ...


def muon_factor(config: RunConfig) -> float:
    """Return how many times AdamW's learning rate that of Muon is; 0 where Muon is not used."""
    training = config.training
    return training.muon_learning_rate / training.learning_rate if training.optimizer == "muon" else 0.0


def draw_run(run: Drawable) -> tuple[Path, Path]:
    """Draw the run's curve as curve.png and curve.svg in its folder, and return where they are.

    Raises:
        RunError: the pictures could not be written.
    """
    png, svg = run.path / "curve.png", run.path / "curve.svg"
    about, muon = about_run(run.config), muon_factor(run.config)
    plot_run(run.metrics(), run.references(), png, svg, run.name, about=about, muon=muon)
    return png, svg


def picture_of(run: Drawable) -> Picture:
    """Return the run's curve as a picture, for a notebook."""
    about, muon = about_run(run.config), muon_factor(run.config)
    return Picture(figure_of(run.metrics(), run.references(), run.name, about, muon))


def about_run(config: RunConfig) -> str:
    """Return what a run trains on what, in a line: the text, the size of the model, its layers and width."""
    model, preset = config.model, preset_like(config)
    layers = f"{model.n_layers} layer{'s' if model.n_layers > 1 else ''} of {model.d_model}"
    size = model.parameter_count()
    parameters = f"{size / 1e6:.1f} M" if size >= 1e6 else f"{size:,}"
    named = f" (preset {preset})" if preset else ""
    text = text_in_short(config.text)
    return f"{text}  ·  {parameters} parameters, {layers}, context {model.context_length:,}{named}"


def text_in_short(text: TextConfig) -> str:
    """Return the name of a text: that of the corpus, or of the first path and how many more there are."""
    if not text.paths:
        return CORPUS_TITLES[text.corpus]
    more = f" and {len(text.paths) - 1} more" if len(text.paths) > 1 else ""
    return f"{shortened(Path(text.paths[0]).name or text.paths[0], 40)}{more}"


def shortened(name: str, most: int) -> str:
    """Return a name of at most so many characters; of a longer one the beginning and the end, with ... between."""
    half = (most - 3) // 2
    return name if len(name) <= most else f"{name[:half]}...{name[-half:]}"
