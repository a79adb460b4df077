"""Docstrings are whole sentences: each can be read without the name above it, or is not there."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from paths import REPOSITORY

SOURCES = sorted((REPOSITORY / "src").rglob("*.py"))
DANGLING = re.compile(r"(Its|Of|So|And|But|Likewise|The same|As above|Who|Whose|Hears|Those|Then|By|With|Without|To)\b")
"""Openings that take up what the name says, and mean nothing without it."""


def docstrings(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """The docstrings of functions, classes and modules, and the strings under assigned names, with their lines."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if not isinstance(body, list):
            continue
        if isinstance(node, ast.ClassDef) and "Settings" in [ast.unparse(base) for base in node.bases]:
            continue  # what stands there is help, which may open with a setting's value; test_settings.py reads it
        for position, statement in enumerate(body):
            opens = position == 0 and isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module)
            below_a_name = position > 0 and isinstance(body[position - 1], ast.Assign | ast.AnnAssign)
            text = statement.value if isinstance(statement, ast.Expr) else None
            if (opens or below_a_name) and isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield statement.lineno, text.value


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(REPOSITORY / "src" / "lightwell")))
def test_docstrings_are_whole_sentences(path: Path) -> None:
    dangling = [
        f"{path.name}:{line}: {text.strip().splitlines()[0]}"
        for line, text in docstrings(ast.parse(path.read_text(encoding="utf-8")))
        if DANGLING.match(text) or not re.match(r"[A-Z0-9`(\"'|x^$-]", text)
    ]
    assert not dangling, "\n".join(dangling)
