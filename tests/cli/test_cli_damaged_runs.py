"""Runs that are damaged or may only be read are still shown as far as they can be."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from cli_house import call
from lightwell.cli.commands.train import after_the_best
from lightwell.errors import RunError
from lightwell.training.runs import plot
from lightwell.training.runs.run import Run


def test_one_damaged_run_does_not_hide_the_others(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(house / "runs" / "notes", house / "runs" / "broken")
    (house / "runs" / "broken" / "config.toml").write_text("[model\n")
    result = call(capsys, "runs")
    assert result.code == 0
    assert "runs/notes" in result.out
    assert "broken" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize("content", [b"{", b"\xff\x00", b"[1]"], ids=["cut", "bytes", "list"])
def test_damaged_reference_lines_are_one_sentence(
    house: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (house / "runs" / "notes" / "references.json").write_bytes(content)
    result = call(capsys, "show", "notes")
    assert result.code in (0, 1)
    assert "references.json is damaged" in result.err
    assert "Traceback" not in result.err


def test_missing_reference_lines_are_said(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (house / "runs" / "notes" / "references.json").unlink()
    result = call(capsys, "show", "notes")
    assert result.code == 0
    assert "no reference lines" in result.out


def test_a_run_that_may_only_be_read_is_shown_without_a_new_curve(
    house: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object, **named: object) -> None:
        raise RunError(f"The plot could not be written ({os.strerror(30)}).")

    monkeypatch.setattr(plot, "plot_run", refuse)
    result = call(capsys, "show", "notes")
    assert result.code == 0
    assert "could not be written" in result.err
    assert "not drawn" in result.out
    assert "held-out loss" in result.out


def test_a_run_that_overfitted_says_which_step_generates(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metrics = house / "runs" / "notes" / "metrics.jsonl"
    records = [json.loads(line) for line in metrics.read_text().splitlines()]
    for record in records:
        if "validation_loss" in record:
            record["validation_loss"] = 3.0 + (record["step"] == 6)  # the last evaluation is not the best
    metrics.write_text("".join(json.dumps(record) + "\n" for record in records))
    result = call(capsys, "resume", "notes")
    assert result.code == 0
    assert "at step 0, " in result.out
    assert "No checkpoint of that step is kept, so `lightwell generate` takes step " in result.out


def test_what_is_said_to_generate_is_what_generates() -> None:
    assert "takes that step; fewer --steps" in after_the_best(10, 10)
    assert "takes step 20; a shorter --checkpoint-every" in after_the_best(0, 20)


@pytest.mark.parametrize("command", ["generate", "evaluate", "resume"])
@pytest.mark.parametrize("name", ["n_layers", "d_model", "n_heads", "vocab_size", "tied_head", "activation"])
def test_an_edited_model_is_named_and_not_loaded(
    house: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    run = Run(house / "runs" / "notes")
    was = getattr(run.config.model, name)
    other = "silu" if name == "activation" else not was if name == "tied_head" else 2 * was
    run.write_config(run.config.with_values({name: other}))
    result = call(capsys, command, "notes")
    assert result.code == 1
    assert f"config.toml of notes says {name} is {other}, but " in result.err
    assert f"trained with {was}" in result.err
    assert result.err.splitlines()[-1].startswith("lightwell: config.toml")


def test_what_the_weights_do_not_know_of_may_be_edited(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Run(house / "runs" / "notes")
    run.write_config(run.config.with_values({"residual_dropout": 0.3, "attention": "explicit"}))
    assert call(capsys, "generate", "notes", "--max-new-tokens", "2").code == 0
