"""A note is a folder: an eighth one is listed, planned and measured without a word about it anywhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from lab_house import laboratory
from lightwell.cli.commands import lab as command
from lightwell.lab import notes as folders
from lightwell.lab.catalogue import experiment, notes
from lightwell.lab.experiments.sources import sources_of

WORDS = """
from lightwell.lab.experiments.note import Note

NOTE = Note(
    number={number}, name="weight-decay", title="Weight decay", sentence="Decay shrinks weights.", prediction="Lower.",
    leaves_out="Norms.", flips="At 0.", file="training/update/optimizers.py", function="Optimizers", exercise="Try it.",
)
"""
EXPERIMENT = """
from lightwell.lab.experiments.context import differences
from lightwell.lab.experiments.experiment import Experiment, Findings
from lightwell.lab.notes.weight_decay.note import NOTE
from lightwell.lab.verdicts.verdict import Claim, Rule


def trainings(context):
    return [context.trained(f"decay {decay}", weight_decay=decay) for decay in (0.0, 0.5)]


def findings(context, trained):
    without, decayed = ([run.loss for run in runs] for runs in trained)
    return Findings(claims=[Claim.of("Decay ends lower", Rule("lower", 0.02), differences(decayed, without))])


EXPERIMENT = Experiment(NOTE, trainings, findings, lambda data, timings: [])
"""


@pytest.fixture
def eighth(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a note on weight decay, beside those that are there."""
    folder = tmp_path / "notes" / "weight_decay"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    (folder / "note.py").write_text(WORDS.format(number=8))
    (folder / "experiment.py").write_text(EXPERIMENT)
    monkeypatch.setattr(folders, "__path__", [*folders.__path__, str(folder.parent)])
    for module in ("", ".note", ".experiment"):  # forgotten again afterwards
        monkeypatch.delitem(sys.modules, f"lightwell.lab.notes.weight_decay{module}", raising=False)
    return folder


def test_the_notes_that_there_are_in_the_order_of_their_numbers() -> None:
    assert list(notes())[:7] == ["batch-size", "stride", "self-attention", "causal", "dropout", "buffer", "activation"]
    assert [note.number for note in notes().values()] == list(range(1, len(notes()) + 1))
    assert all(experiment(name).note is note for name, note in notes().items())


@pytest.mark.usefixtures("eighth")
def test_an_eighth_note_is_listed_planned_and_measured(tmp_path: Path) -> None:
    assert list(notes())[-1] == "weight-decay"
    assert "Decay shrinks weights." in command.listing()
    session = laboratory(tmp_path, "weight-decay")
    plan = session.plan()[0]
    assert (plan.note, plan.arms, plan.seeds, plan.trainings, plan.finished) == ("weight-decay", 2, 2, 4, 0)
    card = session.run(lambda card: None)[0]
    assert card.findings.claims[0].text == "Decay ends lower"
    folder = tmp_path / "lab" / "weight-decay-glance"
    assert json.loads((folder / "card.json").read_text())["note"]["title"] == "Weight decay"
    assert "Weight decay" in (tmp_path / "lab" / "index.md").read_text()


def test_the_number_of_a_note_decides_its_place(eighth: Path) -> None:
    (eighth / "note.py").write_text(WORDS.format(number=0))
    assert next(iter(notes())) == "weight-decay"


def test_a_change_of_a_new_note_s_measures_changes_its_key(eighth: Path) -> None:
    before = sources_of.__wrapped__("weight-decay")
    (eighth / "experiment.py").write_text(EXPERIMENT.replace("0.5", "0.7"))
    assert sources_of.__wrapped__("weight-decay") != before
    before = sources_of.__wrapped__("weight-decay")
    (eighth / "note.py").write_text(WORDS.format(number=9))
    assert sources_of.__wrapped__("weight-decay") == before


def test_the_number_is_not_on_the_card() -> None:
    assert all("number" not in note.to_dict() for note in notes().values())


def test_notes_are_listed_without_torch() -> None:
    code = "import sys; from lightwell.cli.commands.lab import listing; listing(); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
