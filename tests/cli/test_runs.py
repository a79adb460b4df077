"""The list of runs: its order, and the settings in which runs differ, and those alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import lightwell as lw
from cli_house import call
from lightwell.tokens.tokenizer import make_tokenizer

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer = make_tokenizer(lw.TextConfig(tokenizer="byte"), 0, ())
    for number, (name, layers, loss) in enumerate([("c", 4, 3.0), ("a", 6, 1.0), ("b", 4, 2.0)]):
        config = lw.RunConfig().with_values({"vocab_size": tokenizer.vocab_size, "n_layers": layers})
        run = lw.Run.create(Path("runs") / name, config, tokenizer)
        run.append_metric({"step": 1, "validation_loss": loss, "validation_bits_per_byte": loss, "perplexity": 9.0})
        os.utime(run.path / "metrics.jsonl", (1000 + number, 1000 + number))


@pytest.mark.usefixtures("three")
@pytest.mark.parametrize(
    ("sort", "order"), [("date", "bac"), ("name", "abc"), ("loss", "abc"), ("bits", "abc"), ("parameters", "bca")]
)
def test_runs_are_sorted(capsys: Capture, sort: str, order: str) -> None:
    listed = json.loads(call(capsys, "runs", "--sort", sort, "--json").out)
    assert "".join(summary["name"] for summary in listed) == order


@pytest.mark.usefixtures("three")
def test_the_settings_in_which_runs_differ_are_listed_and_no_others(capsys: Capture) -> None:
    below = call(capsys, "runs", "--sort", "name").out.split("Settings in which they differ:\n")[1]
    assert [line.split() for line in below.splitlines()] == [
        ["runs/a", "n_layers", "6"], ["runs/b", "n_layers", "4"], ["runs/c", "n_layers", "4"],
    ]  # fmt: skip


def test_runs_that_are_alike_differ_in_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer = make_tokenizer(lw.TextConfig(tokenizer="byte"), 0, ())
    for name in "ab":
        lw.Run.create(Path("runs") / name, lw.RunConfig().with_values({"vocab_size": 257}), tokenizer)
    assert "differ" not in call(capsys, "runs").out
