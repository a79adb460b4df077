"""The picture of a run, looked at through what can be measured: files, names, order, and no overlap."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwell.errors import RunError
from lightwell.training.runs.plot import plot_run, running_mean, spread

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


def test_lines_are_named_with_their_last_values(tmp_path: Path) -> None:
    records = [{"step": step, "loss": 5.0 - step} for step in range(4)] + [{"step": 3, "validation_loss": 2.5}]
    plot_run(records, REFERENCES, tmp_path / "a.png", tmp_path / "a.svg", title="a run")
    found = texts(tmp_path / "a.svg")
    for name in ("2.000  training", "2.500  validation", "8.300  uniform, ln V", "6.300  unigram", "4.400  bigram"):
        assert name in found


def test_the_best_is_marked_where_it_is_not_the_last(tmp_path: Path) -> None:
    records = [{"step": step, "validation_loss": loss} for step, loss in enumerate([5.0, 3.25, 4.0])]
    plot_run(records, {}, tmp_path / "a.png", tmp_path / "a.svg", title="a run")
    assert "best 3.250" in texts(tmp_path / "a.svg")
    plot_run(records[:2], {}, tmp_path / "b.png", tmp_path / "b.svg", title="a run")
    assert "best 3.250" not in texts(tmp_path / "b.svg")


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
