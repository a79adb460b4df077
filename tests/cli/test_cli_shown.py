"""What progress, numbers and advice look like, without a model."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lightwell.cli import words
from lightwell.cli.progress import BarProgress, LineProgress, counting
from lightwell.training.hardware import machine
from lightwell.training.hardware.machine import Machine

REFERENCES = {"uniform": 4.0, "unigram_loss": 3.0, "bigram_loss": 2.0, "bytes_per_token": 2.0}


def step(number: int, loss: float = 2.5) -> dict[str, Any]:
    return {"step": number, "loss": loss, "tokens_per_second": 1000.0}


def score(number: int, loss: float) -> dict[str, Any]:
    return {"step": number, "validation_loss": loss, "validation_bits_per_byte": loss, "perplexity": 9.0}


def test_numbers_as_people_read_them() -> None:
    numbers = {0: "0", 7: "7", 999: "999", 1234: "1.23 k", 12345678: "12.3 M", 2.5e9: "2.5 G"}
    assert {number: words.short(number) for number in numbers} == numbers
    sizes = {12: "12 B", 1500: "1.5 kB", 48.2e6: "48.2 MB"}
    assert {size: words.in_bytes(size) for size in sizes} == sizes
    times = {
        0.0648: "64.8 ms",
        1: "1.0 s",
        42: "42 s",
        59.4: "59 s",
        59.7: "1 min 0 s",
        290: "4 min 50 s",
        4320: "1 h 12 min",
    }
    assert {seconds: words.duration(seconds) for seconds in times} == times


def test_columns_are_aligned() -> None:
    assert words.table([("a", "1"), ("bcd", "12")], right=(1,)) == "a     1\nbcd  12"


def test_a_sparkline_falls_with_the_values_and_keeps_its_width() -> None:
    line = words.sparkline([float(1000 - n) for n in range(1000)], width=8)
    assert line == "█▇▆▅▄▃▂▁"
    assert words.sparkline([2.0]) == "▁"


def test_an_excerpt_leaves_out_empty_lines_and_says_that_it_is_cut() -> None:
    assert words.excerpt("a\n\nb\nc", lines=2) == "    a\n    b\n    …"
    assert words.indented("a\n\nb") == "    a\n\n    b"


@pytest.mark.parametrize(
    ("loss", "says"), [(5.0, "not below"), (3.5, "the ln V line"), (2.5, "unigram"), (1.0, "bigram")]
)
def test_a_loss_is_held_against_the_reference_lines(loss: float, says: str) -> None:
    assert says in words.standing(loss, REFERENCES)


def test_a_pipe_gets_a_line_now_and_then_with_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    out = io.StringIO()
    shown = LineProgress(Console(file=out))
    shown.begin(100, 0)
    shown.references = REFERENCES
    shown.evaluated(score(0, 4.2))
    for number in range(1, 31):
        now += 1.0
        shown.stepped(step(number))
    shown.end()
    lines = [line for line in out.getvalue().splitlines() if line.startswith("step")]
    assert lines[0].startswith("step     0  held-out loss 4.200")
    assert [line.split()[1] for line in lines[1:]] == ["10/100", "20/100", "30/100"]
    assert "loss 2.500" in lines[1]
    assert f"{2.5 / math.log(2) / 2:.3f} bits/byte" in lines[1]  # of the same loss, not of the last evaluation
    assert "1,000 tokens/s" in lines[1]
    assert lines[1].endswith("1 min 30 s left")


def test_a_terminal_gets_a_bar_that_is_gone_at_the_end() -> None:
    out = io.StringIO()
    shown = BarProgress(Console(file=out, force_terminal=True, width=100))
    shown.begin(10, 4)
    shown.stepped(step(5))
    shown.bar.refresh()
    assert "5/10" in out.getvalue()
    assert "loss 2.500" in out.getvalue()
    shown.end()
    assert not shown.bar.live.is_started


def test_a_job_that_counts_up_tells_the_time_left_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    with counting("tokens scored") as scored:
        for done in range(1000, 5000, 1000):
            now += 6.0
            scored(done, 4000)
    assert capsys.readouterr().err.splitlines() == [
        "2,000 of 4,000 tokens scored  12 s left",
        "4,000 of 4,000 tokens scored  0 ms left",
    ]


def test_the_last_sample_is_left_to_the_result() -> None:
    out = io.StringIO()
    shown = LineProgress(Console(file=out))
    shown.begin(10, 0)
    shown.sampled({"step": 5, "prompt": "mo", "text": "ss"})
    shown.sampled({"step": 10, "prompt": "ra", "text": "in"})
    assert "moss" in out.getvalue()
    assert "rain" not in out.getvalue()


HEALTHY = Machine(
    python="3.11", torch="2.10", build="CPU", devices=["cpu"], device="cpu", cores=4, threads=4, bf16_in_hardware=True,
    gflops_fp32=50.0, gflops_bf16=100.0, cache_folder="/", cache_bytes=0, disk_free_bytes=10**12,
)  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        ({"build": "CUDA 12.8"}, "the CPU build is smaller"),
        ({"threads": 1}, "export OMP_NUM_THREADS=4"),
        ({"threads": 9}, "export OMP_NUM_THREADS=4"),
        ({"gflops_bf16": 20.0}, "--precision fp32"),
        ({"disk_free_bytes": 10**6}, "LIGHTWELL_CACHE"),
    ],
)
def test_the_doctor_says_what_to_type(wrong: dict[str, Any], remedy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(machine, "_nvidia_gpu", lambda: False)
    monkeypatch.setattr("os.access", lambda *_: True)
    assert HEALTHY.advice() == []
    (advice,) = dataclasses.replace(HEALTHY, **wrong).advice()
    assert remedy in advice


def test_the_doctor_sees_a_limit_on_threads_a_gpu_left_idle_and_a_cache_that_cannot_be_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(machine, "_nvidia_gpu", lambda: True)
    monkeypatch.setattr("os.access", lambda *_: False)
    advice = dataclasses.replace(HEALTHY, threads=1, cache_folder=str(tmp_path / "none" / "yet")).advice()
    assert len(advice) == 3
    for remedy in ("unset OMP_NUM_THREADS", "NVIDIA GPU", "cannot be written"):
        assert remedy in " ".join(advice)


def test_control_characters_of_a_sample_do_not_reach_the_terminal() -> None:
    shown = words.indented("a\x1b[31mred\x07kept\x9b")
    assert shown == "    a\u241b[31mred\u2407kept\ufffd"


def test_the_time_left_of_a_resumed_run_is_that_of_its_own_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    out = io.StringIO()
    shown = LineProgress(Console(file=out))
    shown.begin(100, 50)
    for number in range(51, 71):
        now += 1.0
        shown.stepped(step(number))
    assert out.getvalue().splitlines()[-1].endswith("30 s left")
