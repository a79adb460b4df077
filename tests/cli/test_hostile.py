"""Hostile values at every command: what comes out is a success or a sentence, never a traceback."""

from __future__ import annotations

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightwell.cli import app
from lightwell.cli.commands import COMMANDS

VALUES = st.sampled_from(
    ["", "-1", "0", "1e308", "nan", "inf", "-inf", "1e-45", "9" * 40, "x" * 400, "~", "~nobody-x/y", "..", "/",
     "\u2028", "caf\udce9", "None", "true", "[]", "{}", "*", "**", "[", "--", "-", "\x1b[31m", "\U0001f600", "1,2",
     "a\nb"]
)  # fmt: skip


def flags_of(command: str) -> list[str]:
    """The flags of a command, as its own help names them."""
    with contextlib.redirect_stdout(io.StringIO()) as shown, pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "200")
        app.run([command, "--help-all"])
    return [flag for flag in re.findall(r"^  (--[a-z0-9-]+)", shown.getvalue(), re.M) if flag != "--help"]


FLAGS = {command: flags_of(command) for command in COMMANDS}
NOTHING_THERE = "no-such-text-or-run"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    return tmp_path


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(command=st.sampled_from(sorted(set(COMMANDS) - {"doctor"})), data=st.data())
@pytest.mark.usefixtures("here")
def test_whatever_a_flag_is_given_the_answer_is_a_sentence(command: str, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(FLAGS[command]), min_size=1, max_size=3, unique=True))
    # The text or run is not there, so that nothing begins where all flags are right.
    tokens = [command, NOTHING_THERE, *(word for flag in chosen for word in (flag, data.draw(VALUES)))]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        code = app.run(tokens)
    assert code in (1, 2), tokens
    assert "Traceback" not in said.getvalue()
    assert "lightwell: " in said.getvalue()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    command=st.sampled_from(["train", "prepare", "show", "generate", "evaluate", "resume", "runs", "lab", "bench"]),
    value=VALUES,
)
@pytest.mark.usefixtures("here")
def test_whatever_a_command_is_given_in_the_place_of_a_name_the_answer_is_a_sentence(command: str, value: str) -> None:
    if value in ("/", "..", "~", "*", "**", "-", "--"):
        value = f"./{value}x"
    more = {"train": ["--out", "out"], "prepare": ["--out", "out"]}.get(command, [])
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        code = app.run([command, value, *more])
    assert code in (0, 1, 2)
    assert "Traceback" not in said.getvalue()
