"""The list of slips stays true: each still finds the line that it changes, and makes Python that can be read."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from mutants import REPOSITORY, Mutant, apply, read_mutants

MUTANTS = read_mutants()


def test_there_are_fifty_and_none_twice() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 50


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_slip_can_be_made(mutant: Mutant, tmp_path: Path) -> None:
    copy = tmp_path / mutant.path
    copy.parent.mkdir(parents=True)
    copy.write_text((REPOSITORY / mutant.path).read_text(encoding="utf-8"), encoding="utf-8")
    apply(mutant, tmp_path)
    assert ast.dump(ast.parse(copy.read_text(encoding="utf-8"))) != ast.dump(
        ast.parse((REPOSITORY / mutant.path).read_text(encoding="utf-8"))
    )
