"""Which code decides a result: a change of it makes the result anew, a change of anything else does not."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

import lightwell
from lightwell.lab.experiments import sources


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources, of which the hashes are taken."""
    copy = tmp_path / "lightwell"
    shutil.copytree(Path(lightwell.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(sources, "__file__", str(copy / "lab" / "experiments" / "sources.py"))

    def imported(name: str) -> SimpleNamespace:
        return SimpleNamespace(__path__=[str(copy.joinpath(*name.split(".")[1:]))])

    monkeypatch.setattr("lightwell.lab.experiments.sources.importlib.import_module", imported)
    return copy


@pytest.mark.parametrize(
    ("file", "changed"),
    [
        ("model/attention.py", {"", "buffer", "dropout"}),
        ("training/update/loss.py", {"", "buffer", "dropout"}),
        ("batches/order.py", {"", "buffer", "dropout"}),
        ("lab/experiments/trial.py", {"", "buffer", "dropout"}),
        ("lab/notes/buffer/tensor_rows.py", {"buffer"}),
        ("lab/notes/dropout/row_sums.py", {"dropout"}),
        ("lab/notes/buffer/pictures.py", set()),
        ("lab/notes/buffer/note.py", set()),
        ("lab/verdicts/statistics.py", set()),
        ("cli/words.py", set()),
    ],
)
def test_a_result_is_of_the_code_that_decides_it(package: Path, file: str, changed: set[str]) -> None:
    hash_of = sources.sources_of.__wrapped__
    before = {note: hash_of(note) for note in ("", "buffer", "dropout")}
    with (package / file).open("a") as source:
        source.write("# changed\n")
    assert {note for note, value in before.items() if hash_of(note) != value} == changed
