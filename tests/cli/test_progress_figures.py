"""The figures of progress, and numbers and tables at both sides of every edge."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lightwell.cli import words
from lightwell.cli.commands.runs import _row
from lightwell.cli.commands.show import _next, _some, changed_settings
from lightwell.cli.commands.train import _stopped, plan_table
from lightwell.cli.progress import BarProgress, LineProgress, counting
from lightwell.training.planning.plan import Plan
from lightwell.training.runs.summary import Summary
from lightwell.training.settings.presets import preset

REFERENCES = {"uniform": 4.0, "unigram_loss": 3.0, "bigram_loss": 2.0, "bytes_per_token": 2.0}


@pytest.mark.parametrize(
    ("number", "shown", "sized"),
    [
        (999, "999", "999 B"),
        (1000, "1 k", "1 kB"),
        (1e6, "1 M", "1 MB"),
        (999_000, "999 k", "999 kB"),
        (1e9, "1 G", "1 GB"),
        (1e12, "1 T", "1 TB"),
        (2.5e15, "2.5e+03 T", "2.5e+03 TB"),
        (-1500, "-1.5 k", "-1500 B"),
        (0.5, "0.5", "0 B"),
    ],
)
def test_numbers_at_the_edges(number: float, shown: str, sized: str) -> None:
    assert (words.short(number), words.in_bytes(number)) == (shown, sized)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.994, "994 ms"),
        (0.995, "1.0 s"),
        (9.94, "9.9 s"),
        (9.95, "10 s"),
        (59.4, "59 s"),
        (60, "1 min 0 s"),
        (3599.4, "59 min 59 s"),
        (3600, "1 h 0 min"),
        (3_600_000 + 119, "1,000 h 1 min"),
    ],
)
def test_durations_at_the_edges(seconds: float, shown: str) -> None:
    assert words.duration(seconds) == shown


def test_sparklines_of_few_equal_and_uneven_values() -> None:
    assert words.sparkline([1.0, 1.0]) == "▁▁"
    assert words.sparkline([0.0, 7.0, 1.0]) == "▁█▂"
    assert words.sparkline([0.0, 2.0, 8.0, 8.0, 8.0], width=2) == "▁█"  # of two, and of three
    assert len(words.sparkline([1.0] * 100)) == 60


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        (4.0, "not below any reference line"),
        (3.99, "below the ln V line"),
        (3.0, "below the ln V line"),
        (2.99, "below the unigram line"),
        (2.0, "below the unigram line"),
        (1.99, "below the bigram line"),
    ],
)
def test_a_loss_on_a_line_is_not_below_it(loss: float, says: str) -> None:
    assert words.standing(loss, REFERENCES) == says


def test_reference_lines_have_both_units() -> None:
    head, *lines = words.reference_lines(REFERENCES, "a.txt")
    assert "a.txt" in head
    assert [line.split()[:3] for line in lines] == [
        ["4.000", "2.885", "ln"],
        ["3.000", "2.164", "unigram:"],
        ["2.000", "1.443", "bigram:"],
    ]
    assert words.bits_per_byte(math.log(2) * 3, {"bytes_per_token": 2.0}) == pytest.approx(1.5)
    assert "missing" in words.reference_lines({})[0]


def test_control_characters_at_the_edges_and_what_is_none() -> None:
    assert words.visible("\x00\x1f \n\t~\x7f\x80\x9f\xa0") == "\u2400\u241f \n\t~\u2421\ufffd\ufffd\xa0"
    assert words.indented("\n" + "ab " * 40) == "    " + ("ab " * 32).strip() + "\n    " + ("ab " * 8).strip()
    assert words.excerpt("a\nb\nc\nd\ne") == "    a\n    b\n    c\n    d\n    e"
    assert words.excerpt("a\nb\nc\nd\ne\nf") == "    a\n    b\n    c\n    d\n    e\n    …"


def test_the_models_that_were_considered() -> None:
    row = {
        "n_layers": 2, "d_model": 128, "parameters": 1.5e6, "context_length": 256, "batch_size": 16,
        "tokens_per_second": 12345.6, "memory_bytes": 2e8, "steps": 4321, "epochs": 1.26, "predicted_loss": 3.14159,
    }  # fmt: skip
    lines = words.candidates([{**row, "n_layers": 1}, row], best=1).splitlines()
    assert lines[1].split()[0] == "1"
    figures = "→ 2 128 1.5 M 256 16 12,346 200 MB 4,321 1.3 3.142"
    assert " ".join(lines[2].split()) == figures
    assert lines[3].startswith("passes: ")
    assert len({len(line) for line in lines[:3]}) == 1


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    now = {"now": 1000.0}
    monkeypatch.setattr("time.monotonic", lambda: now["now"])
    return now


def step(number: int, loss: float, speed: float = 1000.0) -> dict[str, Any]:
    return {"step": number, "loss": loss, "tokens_per_second": speed}


def test_figures_are_means_of_the_last_ten_steps_and_the_time_left_is_of_all(clock: dict[str, float]) -> None:
    shown = LineProgress(Console(file=io.StringIO()))
    shown.begin(30, 0)
    assert shown.figures() == ""
    for number in range(1, 13):
        clock["now"] += 2.0
        shown.stepped(step(number, float(number), 1000.0 * number))
    assert shown.figures() == "loss 7.500  7,500 tokens/s  36 s left"  # of steps 3 to 12
    shown.stepped({"step": 13})  # left out
    assert shown.figures() == "loss 7.500  7,500 tokens/s  31 s left"
    shown.lengthened(40)
    assert shown.figures().endswith("50 s left")


def test_the_first_evaluation_does_not_count_as_time_of_the_steps_and_later_ones_do(clock: dict[str, float]) -> None:
    out = io.StringIO()
    shown = LineProgress(Console(file=out, width=200))
    shown.begin(10, 4)
    shown.references = REFERENCES
    scores = {"validation_loss": 2.5, "validation_bits_per_byte": 1.25, "perplexity": 12345.67}
    clock["now"] += 100.0
    shown.evaluated({"step": 4, **scores})
    clock["now"] += 5.0
    shown.stepped(step(5, 1.0))
    assert shown.figures().endswith("25 s left")
    clock["now"] += 9.0
    shown.evaluated({"step": 5, **scores})
    clock["now"] += 1.0
    shown.stepped(step(6, 1.0))
    assert shown.figures().endswith("30 s left")
    assert out.getvalue().splitlines() == [  # no line of a step: the evaluations stand for them
        "step     4  held-out loss 2.500  1.250 bits/byte  perplexity 12,345.7  below the unigram line",
        "step     5  held-out loss 2.500  1.250 bits/byte  perplexity 12,345.7  below the unigram line",
    ]
    clock["now"] += 9.0
    shown.stepped(step(7, 1.0))
    assert out.getvalue().splitlines()[2].startswith("step     7/10  loss 1.000  0.721 bits/byte")


def test_lines_are_ten_seconds_apart(clock: dict[str, float]) -> None:
    out = io.StringIO()
    shown = LineProgress(Console(file=out))
    shown.begin(100, 0)
    for number, seconds in enumerate((9.9, 0.1, 9.9, 0.1), 1):
        clock["now"] += seconds
        shown.stepped(step(number, 1.0))
    assert [line.split()[1] for line in out.getvalue().splitlines()] == ["2/100", "4/100"]


def test_a_bar_prints_no_lines_of_steps(clock: dict[str, float]) -> None:
    shown = BarProgress(Console(file=io.StringIO(), force_terminal=True, width=100))
    shown.begin(10, 4)
    printed: list[object] = []
    shown.console.print = printed.append  # type: ignore[method-assign, assignment]
    clock["now"] += 60.0
    shown.stepped(step(5, 1.0))
    (task,) = shown.bar.tasks
    assert (task.completed, task.total, task.description) == (5, 10, "loss 1.000  1,000 tokens/s  5 min 0 s left")
    shown.end()
    assert not [line for line in printed if isinstance(line, str)]


def test_the_time_left_of_a_job_that_goes_on_is_that_of_what_it_does_now(
    clock: dict[str, float], capsys: pytest.CaptureFixture[str]
) -> None:
    with counting("MB") as on_progress:
        clock["now"] += 100.0
        on_progress(500, 1000)
        clock["now"] += 20.0
        on_progress(500, 1000)
        on_progress(600, 1000)
        clock["now"] += 9.9
        on_progress(700, 1000)
    assert capsys.readouterr().err.splitlines() == ["600 of 1,000 MB  1 min 20 s left"]


PLAN = Plan(
    documents=1234, train_tokens=5678, held_out_tokens=910, windows=1112, effective_epochs=1.314, tokens_skipped=1516,
    steps=1718, n_layers=1, d_model=2, context_length=3, batch_size=4, tokens_per_step=1920, parameters=2122,
    weight_bytes=1_000_000, gradient_bytes=2_000_000, optimizer_bytes=4_000_000, activation_bytes=8_000_000,
    snapshot_bytes=16_000_000, working_bytes=32_000_000, process_bytes=64_000_000, flops=1.234e15,
    seconds_per_step=0.5, seconds=859.0,
)  # fmt: skip


def test_the_table_of_a_plan() -> None:
    assert PLAN.memory_bytes == 127_000_000
    rows = dict(line.strip().split("  ", 1) for line in plan_table(PLAN).splitlines())
    assert {name: value.strip() for name, value in rows.items()} == {
        "documents": "1,234",
        "tokens": "5,678 to learn from, 910 held out",
        "windows": "1,112",
        "steps": "1,718 of 1,920 tokens",
        "effective epochs": "1.31 (how often each token is seen)",
        "tokens skipped": "1,516",
        "parameters": "2,122",
        "memory": "127 MB at the peak",
        "weights": "1 MB",
        "gradients": "2 MB",
        "optimizer": "4 MB",
        "activations": "8 MB for one micro-batch",
        "working space": "32 MB",
        "snapshot": "16 MB while a checkpoint is written",
        "the process": "64 MB",
        "FLOPs": "1.23e+15",
        "time": "14 min 19 s, 500 ms a step on this machine",
    }
    several = plan_table(Plan(**{**PLAN.__dict__, "processes": 3}))
    assert "127 MB at the peak, in each of 3 processes; 381 MB in all" in several
    assert "500 ms a step for one process on this machine" in several


def test_what_a_stop_leaves_is_said(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert _stopped(run) == "Stopped before training began; nothing was saved."
    run.mkdir()
    (run / "config.toml").write_text("")
    assert _stopped(run).startswith("Stopped before the first checkpoint;")
    for name in ("00000009", "00000012", "00000003", "00000020-unfinished"):
        (run / "checkpoints" / name).mkdir(parents=True)
    assert _stopped(run) == f"Stopped; {run} is saved at step 12, and `lightwell resume {run}` goes on from there."


SUMMARY = Summary(
    name="a", path="runs/a", text="notes", preset="small", seed=1, machine="a CPU", begun="2026-01-01 01:02",
    generates=3, step=1500, steps=1500, parameters=12_345_678, best_step=3, validation_loss=2.34567,
    bits_per_byte=1.98765, perplexity=10.0, tokens_seen=5, seconds=1.0, size_bytes=2_500_000,
    written="2026-01-02 03:04",
)  # fmt: skip


def test_a_row_of_the_list_of_runs_and_what_comes_next() -> None:
    assert _row(SUMMARY) == (
        "runs/a", "notes", "1,500", "12.3 M", "2.346", "1.988", "step 3", "2.5 MB", "2026-01-02 03:04"
    )  # fmt: skip
    young = Summary(
        **{**SUMMARY.__dict__, "step": 1499, "validation_loss": None, "bits_per_byte": None, "generates": None}
    )
    assert _row(young)[2:7] == ("1,499/1,500", "12.3 M", "-", "-", "-")
    assert _next(Path("runs/a"), SUMMARY).startswith("lightwell generate runs/a")
    assert _next(Path("runs/a"), young) == "lightwell resume runs/a"


@pytest.mark.parametrize(
    ("records", "shown"),
    [
        (12, list(range(12))),
        (13, [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 12]),
        (34, list(range(0, 34, 3))),
    ],
)
def test_of_many_evaluations_twelve_are_shown(records: int, shown: list[int]) -> None:
    assert [record["n"] for record in _some([{"n": n} for n in range(records)])] == shown


def test_settings_that_differ_are_shown_as_one_would_type_them() -> None:
    assert changed_settings(preset("small")) == []
    config = preset("small").with_values({"n_layers": 6, "paths": ["a", "b"], "stop": [], "seed": 1})
    assert changed_settings(config) == [("paths", "a b", "none"), ("n_layers", "6", "4")]
