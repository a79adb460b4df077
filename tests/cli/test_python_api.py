from __future__ import annotations

from pathlib import Path

import pytest

import lightwell as lw
from small import SMALL

QUIET = lw.Listener()


@pytest.mark.parametrize("name", lw.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(lw, name) is not None
    assert name in dir(lw)


def test_a_wrong_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = lw.trian


def test_train_resume_load_and_evaluate(house: Path) -> None:
    run = lw.train("notes", listener=QUIET, **SMALL)
    assert isinstance(run, lw.Run)
    assert run.path == Path("runs/notes-2")
    assert lw.resume(run.path, listener=QUIET).path == run.path
    model = lw.load("runs/notes-2")
    assert isinstance(model, lw.LanguageModel)
    assert isinstance(model.generate("the", max_new_tokens=4, temperature=0.8), str)
    assert lw.evaluate("runs/notes-2").evaluation.nats_per_token > 0
    assert [summary.name for summary in lw.runs()] == ["notes-2", "notes"]


def test_a_configuration_can_be_given_whole_and_changed(house: Path) -> None:
    config = lw.Run("runs/notes").config
    run = lw.train(config=config, epochs=0.1, n_layers=1, out="runs/other", listener=QUIET)
    assert run.config.model.n_layers == 1
    assert run.config.model.d_model == SMALL["d_model"]
    assert lw.plan("notes", config=config, listener=QUIET).steps == SMALL["steps"]


def test_progress_is_shown_unless_there_is_a_listener(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lw.plan("notes", **SMALL)
    assert "12 documents" in capsys.readouterr().err
    lw.plan("notes", listener=QUIET, **SMALL)
    assert capsys.readouterr().err == ""


def test_mistakes_are_one_sentence_here_too() -> None:
    with pytest.raises(lw.SettingError, match="Did you mean n_layers"):
        lw.train("notes", n_layer=2)
