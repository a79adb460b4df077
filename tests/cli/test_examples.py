"""Every command line of the README and the documentation is carried out, and prints what the page shows."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from examples import FENCE, carry_out, examples, fewer, lines_of, small, write_texts
from paths import REPOSITORY

PAGES = [
    page
    for page in (REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md")))
    if any(not example.takes_minutes for example in examples(page))
]


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the texts that the examples name."""
    monkeypatch.setenv("LIGHTWELL_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    write_texts(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("texts")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_command_of_a_page_does_what_it_says(page: Path) -> None:
    with small():
        if page.stem == "README":
            carry_out(["train"])  # make run
        for example in examples(page):
            if example.takes_minutes or example.shown.startswith("lightwell: "):
                continue
            code, printed = carry_out(fewer(example.words))
            assert code == 0, f"{example.line}\n{printed}"


@pytest.mark.usefixtures("texts")
def test_the_python_of_the_readme_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    (code,) = [body for language, body in FENCE.findall(text) if language == "python"]
    *statements, last = ast.parse(code).body
    assert isinstance(last, ast.Expr)  # what it ends with is the value that a reader looks at
    names: dict[str, Any] = {}
    with small():
        exec(compile(ast.Module(statements, []), "README.md", "exec"), names)
        picture = eval(compile(ast.Expression(last.value), "README.md", "eval"), names)
    assert picture._repr_png_().startswith(b"\x89PNG")
    assert names["trace"]["layers.0.attention.weights"].axes == ("batch", "head", "query", "key")
    assert capsys.readouterr().out.strip()


@pytest.mark.usefixtures("texts")
def test_commands_print_what_the_page_of_commands_shows() -> None:
    for example in examples(REPOSITORY / "docs" / "commands.md"):
        if not example.shown:
            continue
        if example.whole:
            code, printed = carry_out(example.words)
        else:
            with small():
                code, printed = carry_out(example.words)
        refused = example.shown.startswith("lightwell: ")
        assert (code != 0) == refused, f"{example.line}\n{printed}"
        if example.words[0] == "doctor":  # what it finds is another on each machine
            rows = [line.split()[0] for line in lines_of(printed)]
            assert set(rows) >= {line.split()[0] for line in lines_of(example.shown)[:-1]}
        elif example.whole:
            # In which settings runs differ is not compared: the long one is a small one here.
            shown = [line for line in lines_of(example.shown) if not re.match(r"runs/\w+ steps ", line)]
            lacking = [line for line in shown if line not in lines_of(printed)]
            assert not lacking, f"{example.line}\n{printed}"
