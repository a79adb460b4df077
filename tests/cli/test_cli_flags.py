"""Flags in both forms, --flag value and --flag=value, here and in the processes that are started."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
from cyclopts import Token

from cli_house import call
from lightwell.cli.app import build_app
from lightwell.cli.flags import _find_run, given
from lightwell.settings import Field
from lightwell.training.settings.config import RunConfig

TRAIN = ("preset", "config", "out", "processes")
"""The flags of `train` that are no settings, and take a value."""


def parsed(*tokens: str) -> dict[str, Any]:
    """What `train` would be called with: its text, its own flags, and the settings."""
    _, bound, *_ = build_app().parse_args(["train", *tokens], exit_on_error=False, print_error=False)
    arguments = dict(bound.arguments)
    return {**arguments, **given(arguments.pop("settings", None)), "settings": None}


def value_of(field: Field) -> tuple[str, Any]:
    """A value of the field that is not its default, as a word and as it is read."""
    if get_origin(field.type) is Literal:
        choice = next(choice for choice in get_args(field.type) if choice != field.default)
        return str(choice), choice
    return {int: ("71", 71), float: ("0.71", 0.71), str: ("word", "word")}.get(field.type, ("word", ("word",)))


FIELDS = [field for _, field in RunConfig.all_fields().values() if field.name != "paths"]


@pytest.mark.parametrize("field", FIELDS, ids=lambda field: field.name)
def test_a_setting_is_read_in_both_forms_and_takes_no_word_beside_its_value(field: Field) -> None:
    flag = f"--{field.name.replace('_', '-')}"
    if field.type is bool:
        for word, value in (
            (flag, True),
            (f"--no-{flag[2:]}", False),
            (f"{flag}=false", False),
            (f"{flag}=true", True),
        ):
            read = parsed(word, "notes")
            assert (read["text"], read[field.name]) == (("notes",), value)
        return
    word, value = value_of(field)
    for form in ([flag, word], [f"{flag}={word}"]):
        read = parsed(*form, "notes")
        assert (read["text"], read[field.name]) == (("notes",), value)


@pytest.mark.parametrize("name", TRAIN)
def test_the_flags_of_train_are_read_in_both_forms(name: str) -> None:
    word, value = ("3", 3) if name == "processes" else ("word", "word")
    for form in ([f"--{name}", word], [f"--{name}={word}"]):
        read = parsed(*form, "notes")
        assert read["text"] == ("notes",)
        assert str(read[name]) == str(value)


@pytest.mark.parametrize("processes", [("--processes", "2"), ("--processes=2",)], ids=" ".join)
@pytest.mark.parametrize("out", [("--out", "runs/there"), ("--out=runs/there",), ()], ids=" ".join)
def test_several_processes_are_started_with_every_other_word(
    processes: tuple[str, ...],
    out: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    started: list[tuple[int, list[str]]] = []

    def launch(number: int, words: list[str]) -> int:
        started.append((number, words))
        return 0

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lightwell.cli.commands.train.launch", launch)
    assert call(capsys, "train", *processes, "notes", *out, "--steps", "3", "more", "--seed=5").code == 0
    assert call(capsys, "resume", *processes, "runs/notes").code == 0
    there = "runs/there" if out else "runs/notes"
    words = ["train", "notes", "--steps", "3", "more", "--seed=5", "--out", there]
    assert started == [(2, words), (2, ["resume", "runs/notes"])]


def test_a_bare_name_is_a_run_in_runs_only_where_no_run_is_at_that_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for folder in ("notes", "runs/notes", "runs/other"):
        Path(folder).mkdir(parents=True)
        Path(folder, "config.toml").write_text("")

    def named(word: str) -> Path:
        return _find_run(Path, (Token(value=word),))

    assert named("notes") == Path("notes")
    assert named("other") == Path("runs/other")
    assert named("nowhere") == Path("nowhere")
