"""The picture of a run, looked at through what can be measured: files, names, order, and no overlap."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from lightwell.errors import RunError
from lightwell.training.runs import plot
from lightwell.training.runs.plot import about_run, plot_run, running_mean, shortened, spread
from lightwell.training.settings.config import RunConfig

REFERENCES = {
    "uniform": 8.3,
    "unigram_entropy": 6.2,
    "bigram_entropy": 3.9,
    "unigram_loss": 6.3,
    "bigram_loss": 4.4,
    "bytes_per_token": 3.4,
}


def metrics(steps: int, eval_every: int) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = [{"step": 0, "validation_loss": 8.3, "validation_bits_per_byte": 3.5}]
    for step in range(1, steps + 1):
        loss = 3 + 5 * math.exp(-step / 30) + 0.1 * math.sin(7 * step)
        shares = {"learning_rate": 1e-3, "grad_norm": 1 + loss, "tokens_seen": 8192 * step, "seconds": 0.3 * step}
        records.append({"step": step, "loss": loss, **shares})
        if eval_every and step % eval_every == 0:
            records.append({"step": step, "validation_loss": loss + 0.2, "validation_bits_per_byte": 1.5})
    return records


def texts(svg: Path) -> list[str]:
    """The texts of an SVG; matplotlib draws them as paths and names them in comments."""
    return re.findall(r"<!-- (.*?) -->", svg.read_text(encoding="utf-8"))


CASES = {
    "ordinary": (metrics(300, 50), REFERENCES),
    "few points": (metrics(3, 2), REFERENCES),
    "one step": (metrics(1, 1), REFERENCES),
    "only the untrained evaluation": (metrics(0, 0), REFERENCES),
    "no validation": (metrics(100, 0)[1:], REFERENCES),
    "no references": (metrics(100, 10), {}),
    "a gradient of exactly zero": ([{"step": 1, "loss": 1.0, "learning_rate": 0.0, "grad_norm": 0.0}], REFERENCES),
    "nothing": ([], {}),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.filterwarnings("error")
def test_every_run_can_be_drawn(tmp_path: Path, case: str) -> None:
    records, references = CASES[case]
    png, svg = tmp_path / "curve.png", tmp_path / "curve.svg"
    plot_run(records, references, png, svg, title="a run")
    assert png.read_bytes().startswith(b"\x89PNG")
    assert {"a run", "step", "loss, nats per token"} <= set(texts(svg))
    assert ("bits per byte" in texts(svg)) == bool(references)


def test_the_same_run_gives_the_same_svg(tmp_path: Path) -> None:
    for name in ("a", "b"):
        plot_run(metrics(50, 10), REFERENCES, tmp_path / f"{name}.png", tmp_path / f"{name}.svg", title="a run")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()


def test_a_plot_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"curve.png could not be written"):
        plot_run([], {}, tmp_path / "missing" / "curve.png", tmp_path / "curve.svg", title="a run")


@given(st.lists(st.floats(0, 1), max_size=8))
def test_names_never_touch_keep_their_order_and_stay_inside(heights: list[float]) -> None:
    apart = 0.1
    placed = spread(sorted(heights), apart)
    assert len(placed) == len(heights)
    assert all(upper - lower >= apart - 1e-9 for lower, upper in itertools.pairwise(placed))
    assert all(-1e-9 <= height <= 1 + 1e-9 for height in placed)


def test_names_with_room_stay_where_their_lines_end() -> None:
    assert spread([0.1, 0.5, 0.9], 0.1) == pytest.approx([0.1, 0.5, 0.9])
    assert spread([0.5, 0.5], 0.1) == pytest.approx([0.45, 0.55])


def test_the_running_mean_starts_at_the_first_value_and_follows_a_line() -> None:
    line = [2.0 * value for value in range(20)]
    smooth = running_mean(line, 3)
    assert smooth[:17] == pytest.approx(line[:17])
    assert running_mean(line, 0) == line


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Draws a run and returns its figure, without writing it."""
    saved: list[tuple[Any, ...]] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **named: saved.append((self, path, named)))

    def draw(records: list[dict[str, Any]], references: dict[str, float] | None = None) -> Figure:
        saved.clear()
        plot_run(records, references or {}, Path("a.png"), Path("a.svg"), title="a run")
        assert [(path, named) for _, path, named in saved] == [
            (Path("a.png"), {"dpi": 170}), (Path("a.svg"), {"metadata": {"Date": None}}),
        ]  # fmt: skip
        figure: Figure = saved[0][0]
        return figure

    return draw


def summary(figure: Figure) -> str:
    title, line = (text.get_text() for text in figure.texts)
    assert title == "a run"
    return str(line)


SCORE = {"step": 0, "validation_loss": 3.25}


@pytest.mark.parametrize(
    ("records", "line"),
    [
        ([], "nothing recorded yet"),
        ([{"step": 1200}], "1,200 steps"),
        ([{"step": 1}, {"step": 0}], "1 steps"),
        ([SCORE], "best held-out loss 3.250 nats per token  ·  0 steps"),
        ([SCORE, {"step": 2}], "best held-out loss 3.250 nats per token at step 0  ·  2 steps"),
        (
            [{**SCORE, "step": 1500, "validation_bits_per_byte": 1.5}, {"step": 2000}],
            "best held-out loss 3.250 nats per token (1.500 bits per byte) at step 1,500  ·  2,000 steps",
        ),
        ([{"step": 1, "tokens_seen": 999_999}], "1 steps  ·  999,999 tokens"),
        ([{"step": 1, "tokens_seen": 1_000_000}], "1 steps  ·  1 M tokens"),
        ([{"step": 1, "tokens_seen": 7_372_800}, {"step": 2}], "2 steps  ·  7.37 M tokens"),
        ([{"step": 1, "seconds": 59.4}], "1 steps  ·  59 s"),
        ([{"step": 1, "seconds": 59.6}], "1 steps  ·  1 min 0 s"),
        ([{"step": 1, "seconds": 312.0}, {"step": 2}], "2 steps  ·  5 min 12 s"),
        ([{"step": 1, "seconds": 3599.0}], "1 steps  ·  59 min 59 s"),
        ([{"step": 1, "seconds": 3600.0}], "1 steps  ·  1 h 0 min"),
        ([{"step": 1, "seconds": 94_199.0}], "1 steps  ·  26 h 9 min"),
    ],
)
def test_a_run_in_one_line(drawn: Any, records: list[dict[str, Any]], line: str) -> None:
    assert summary(drawn(records)) == line


def test_curves_are_the_records_and_the_scales_leave_a_twentieth(drawn: Any) -> None:
    records: list[dict[str, Any]] = [
        {"step": step, "loss": 6.0 - step, "learning_rate": 0.002 * step, "grad_norm": 2.0**step} for step in (1, 2, 3)
    ]
    records.append({"step": 3, "validation_loss": 4.0})
    figure = drawn(records, {"uniform": 8.0, "bytes_per_token": 2.0, "unigram_entropy": 99.0})
    loss, rate, norm = figure.axes[:3]
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in loss.lines]
    assert lines == [([0, 1], [8.0, 8.0]), ([1, 2, 3], [5.0, 4.0, 3.0]), ([3], [4.0])]
    assert loss.get_ylim() == pytest.approx((3.0 - 0.25, 8.0 + 0.25))
    assert loss.get_xlim() == pytest.approx((0.98, 3.02))
    assert list(rate.lines[0].get_ydata()) == [0.002, 0.004, 0.006]
    assert rate.get_ylim() == pytest.approx((0.0, 0.0069))
    assert (rate.get_yscale(), list(rate.get_yticks())) == ("linear", [0.0, 0.006])
    assert [tick.get_text() for tick in rate.get_yticklabels()] == ["0", "0.006"]
    assert list(norm.lines[0].get_ydata()) == [2.0, 4.0, 8.0]
    assert (norm.get_yscale(), list(norm.get_yticks())) == ("log", [2.0, 8.0])
    (right,) = loss.child_axes
    assert right.get_ylabel() == "bits per byte"
    forward, back = right._functions
    assert forward(2.0) == pytest.approx(1 / math.log(2))  # 2 nats for 2 bytes
    assert back(forward(5.0)) == pytest.approx(5.0)


def test_flat_lines_have_room_above_and_below(drawn: Any) -> None:
    figure = drawn([{"step": 4, "loss": 2.0, "learning_rate": 0.0, "grad_norm": 0.0}])
    loss, rate, norm = figure.axes[:3]
    assert loss.get_ylim() == pytest.approx((1.5, 2.5))
    assert loss.get_xlim() == pytest.approx((3.5, 4.5))
    assert rate.get_ylim() == pytest.approx((0.0, 1.15))
    assert norm.get_yscale() == "linear"
    empty = drawn([])
    assert empty.axes[0].get_ylim() == pytest.approx((-0.05, 1.05))
    assert empty.axes[0].get_xlim() == pytest.approx((-0.01, 1.01))
    assert list(empty.axes[0].get_yticks()) == []


@pytest.mark.parametrize(("count", "half"), [(40, None), (41, 0), (150, 3), (4000, 50)])
def test_many_losses_are_smoothed_over_a_fiftieth_to_each_side(drawn: Any, count: int, half: int | None) -> None:
    losses = [5 + math.sin(step) for step in range(count)]
    figure = drawn([{"step": step, "loss": loss, "learning_rate": 0.1} for step, loss in enumerate(losses)])
    found = [list(line.get_ydata()) for line in figure.axes[0].lines]
    assert found == ([losses] if half is None else [losses, running_mean(losses, half)])
    assert [line.get_marker() for line in figure.axes[1].lines] == ["o" if half is None else ""]


def test_the_best_is_ringed_at_its_place(drawn: Any) -> None:
    figure = drawn([{"step": 10 * step, "validation_loss": loss} for step, loss in enumerate([5.0, 3.25, 3.25, 4.0])])
    (ring,) = figure.axes[0].collections
    assert np.asarray(ring.get_offsets()).tolist() == [[10.0, 3.25]]
    equal = drawn([{"step": step, "validation_loss": 3.0} for step in (1, 2)])
    assert not equal.axes[0].collections, "the last one is as good"


def test_names_stand_at_the_heights_of_their_lines(drawn: Any) -> None:
    records = [{"step": 1, "loss": 4.0}, {"step": 1, "validation_loss": 4.0}]
    axes = drawn(records, {"uniform": 8.0, "unigram_loss": 6.0, "bigram_loss": 5.0}).axes[0]
    low, high = axes.get_ylim()
    at = {text.get_text(): text.get_position()[1] for text in axes.texts}
    expected = {f"{value:.3f}  {name}": (value - low) / (high - low) for value, name in (
        (8.0, "uniform, ln V"), (6.0, "unigram"), (5.0, "bigram")
    )}  # fmt: skip
    middle = (4.0 - low) / (high - low)
    expected |= {"4.000  training": middle - 0.026, "4.000  held out": middle + 0.026}
    assert at == pytest.approx(expected)


@pytest.mark.parametrize(
    ("heights", "placed"),
    [
        ([0.0, 0.0], [0.0, 0.1]),
        ([1.0, 1.0, 1.0], [0.8, 0.9, 1.0]),
        ([0.5, 0.6], [0.5, 0.6]),
        ([0.5, 0.55, 0.6], [0.45, 0.55, 0.65]),
        ([0.3, 0.5, 0.5, 0.58], [0.3, 0.5 - 0.22 / 3, 0.6 - 0.22 / 3, 0.7 - 0.22 / 3]),
        ([0.1, 0.18, 0.9], [0.09, 0.19, 0.9]),
        ([], []),
    ],
)
def test_names_are_moved_as_little_as_needed(heights: list[float], placed: list[float]) -> None:
    assert spread(heights, 0.1) == pytest.approx(placed)


def test_the_running_mean_at_both_ends() -> None:
    """At the start as many to each side as there are, at the end fewer after than before."""
    assert running_mean([1.0, 3.0, 8.0, 0.0, 4.0], 1) == pytest.approx([1.0, 4.0, 11 / 3, 4.0, 2.0])
    assert running_mean([1.0, 3.0, 8.0, 0.0, 4.0], 2) == pytest.approx([1.0, 4.0, 16 / 5, 15 / 4, 4.0])


def test_lines_are_named_with_their_last_values(drawn: Any) -> None:
    records = [{"step": step, "loss": 5.0 - step} for step in range(4)] + [{"step": 3, "validation_loss": 2.5}]
    found = {text.get_text() for text in drawn(records, REFERENCES).axes[0].texts}
    assert found == {
        "2.000  training", "2.500  held out", "8.300  uniform, ln V", "6.300  unigram", "4.400  bigram"
    }  # fmt: skip


def test_the_best_is_marked_where_it_is_not_the_last(drawn: Any) -> None:
    records = [{"step": step, "validation_loss": loss} for step, loss in enumerate([5.0, 3.25, 4.0])]
    assert "best 3.250" in [text.get_text() for text in drawn(records).axes[0].texts]
    assert "best 3.250" not in [text.get_text() for text in drawn(records[:2]).axes[0].texts]


def test_the_untrained_model_is_a_point_and_no_line_leads_to_it(drawn: Any) -> None:
    figure = drawn([{"step": step, "validation_loss": loss} for step, loss in ((0, 8.0), (150, 4.0), (300, 3.0))])
    assert [list(line.get_xdata()) for line in figure.axes[0].lines] == [[0], [150, 300]]
    alone = drawn([{"step": 0, "validation_loss": 8.0}])
    assert [list(line.get_xdata()) for line in alone.axes[0].lines] == [[0]]


@pytest.mark.parametrize(("muon", "top"), [(2.0, 0.02), (0.5, 0.01)])
def test_the_rate_of_muon_is_drawn_where_muon_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, muon: float, top: float
) -> None:
    records = [{"step": step, "learning_rate": rate} for step, rate in ((1, 0.01), (2, 0.005))]
    figures: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **named: figures.append(self))
    plot_run(records, {}, tmp_path / "a.png", tmp_path / "a.svg", muon=muon)
    rate = figures[0].axes[1]
    assert [np.asarray(line.get_ydata()).tolist() for line in rate.lines] == [
        [0.01 * muon, 0.005 * muon],
        [0.01, 0.005],
    ]
    assert [text.get_text() for text in rate.texts] == ["learning rate of Muon", "dashed: of AdamW"]
    assert rate.get_ylim()[1] == pytest.approx(1.15 * top)


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_a_run_is_drawn_with_its_text_its_size_and_its_optimizer(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, optimizer: str
) -> None:
    given: dict[str, Any] = {}
    monkeypatch.setattr(plot, "plot_run", lambda *arguments, **named: given.update(named, title=arguments[-1]))
    settings = {"paths": ["/x/notes.md", "/x/more"], "optimizer": optimizer, "learning_rate": 0.01, "vocab_size": 300}
    config = RunConfig().with_values(settings | {"muon_learning_rate": 0.03})
    run = SimpleNamespace(path=tmp_path, name="mine", config=config, metrics=list, references=dict)
    plot.draw_run(run)
    size = config.model.parameter_count()
    assert given["title"] == "mine"
    assert given["muon"] == pytest.approx(3.0 if optimizer == "muon" else 0.0)
    shape = f"{config.model.n_layers} layers of {config.model.d_model}, context {config.model.context_length}"
    assert given["about"] == f"notes.md and 1 more  \u00b7  {size / 1e6:.1f} M parameters, {shape}"


def test_a_text_is_named_as_people_know_it() -> None:
    config = RunConfig().with_values({"vocab_size": 300, "n_layers": 1, "d_model": 32, "n_heads": 2})
    assert about_run(config).startswith("King James Bible  \u00b7  ")
    assert f"{config.model.parameter_count():,} parameters, 1 layer of 32" in about_run(config)
    assert set(plot.CORPUS_TITLES) == set(get_args(RunConfig.all_fields()["corpus"][1].type))
    named = about_run(config.with_values({"paths": ["/" + "x" * 60 + ".txt"]})).split("  ")[0]
    assert (len(named), named[:3], named[-6:]) == (39, "xxx", "xx.txt")
    assert "$" in shortened("a$b$", 40)


def test_a_name_with_the_signs_of_formulas_is_drawn_as_it_is(tmp_path: Path) -> None:
    plot_run(metrics(3, 2), {}, tmp_path / "a.png", tmp_path / "a.svg", "a$b", about="x$_{y$ and $\\frac")
    assert "x$_{y$ and $\\frac" in texts(tmp_path / "a.svg")
