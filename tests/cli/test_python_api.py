from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors

import lightwell as lw
from lightwell.training.settings.presets import DEFAULT_PRESET, PRESETS
from small import SMALL

QUIET = lw.Listener()


class Sentences(lw.Listener):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, sentence: str) -> None:
        self.said.append(sentence)


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


def test_a_run_object_goes_wherever_its_path_does(house: Path) -> None:
    run = lw.Run("runs/notes")
    assert lw.Run(run).path == run.path
    assert lw.load(run).tokenizer.fingerprint == run.tokenizer.fingerprint
    assert lw.evaluate(run) == lw.evaluate("runs/notes")
    assert lw.resume(run, listener=QUIET).path == run.path


def test_texts_to_score_are_strings_paths_or_a_list(house: Path) -> None:
    first, second = "notes/01.txt", "notes/02.txt"
    assert lw.evaluate("runs/notes", first).text == [first]
    both = lw.evaluate("runs/notes", Path(first), second)
    assert both.text == [first, second]
    assert lw.evaluate("runs/notes", [first, Path(second)]) == both


def test_texts_to_learn_from_are_strings_paths_or_a_list(house: Path) -> None:
    expected = lw.plan("notes/01.txt", "notes/02.txt", listener=QUIET, **SMALL).train_tokens
    for paths in ([Path("notes/01.txt"), Path("notes/02.txt")], [["notes/01.txt", Path("notes/02.txt")]]):
        assert lw.plan(*paths, listener=QUIET, **SMALL).train_tokens == expected
    by_name = [Path("notes/01.txt"), "notes/02.txt"]
    assert lw.plan(paths=by_name, listener=QUIET, **SMALL).train_tokens == expected
    run = lw.train(Path("notes"), out=Path("runs/by_path"), listener=QUIET, **SMALL)
    assert run.config.text.paths == (str(house / "notes"),)
    with pytest.raises(lw.TextError, match="a str or a Path, but 7 is given"):
        lw.train(7)  # type: ignore[arg-type]


def test_a_configuration_that_says_no_length_takes_that_of_the_default_preset(house: Path) -> None:
    settings = {name: value for name, value in SMALL.items() if name != "steps"}
    config = lw.RunConfig().with_values(settings)
    assert lw.plan("notes", config=config, listener=QUIET).steps == PRESETS[DEFAULT_PRESET]["steps"]
    assert lw.plan("notes", config=config, steps=7, listener=QUIET).steps == 7


def test_a_preset_beside_a_whole_configuration_is_refused() -> None:
    with pytest.raises(lw.SettingError, match="preset is tiny, but config is a RunConfig"):
        lw.train("notes", preset="tiny", config=lw.RunConfig())


def test_a_model_is_made_of_whole_weights_whatever_happened_to_the_optimizers_state(house: Path) -> None:
    run = lw.Run("runs/notes")
    text, score = lw.load(run).generate("the", seed=1), lw.evaluate(run)
    for path in run.checkpoints.glob("*/training.safetensors"):
        path.write_bytes(b"damaged")
    heard = Sentences()
    assert lw.load(run, listener=heard).generate("the", seed=1) == text
    assert lw.load(run, checkpoint="newest", listener=heard).generate("the", max_new_tokens=1) is not None
    assert lw.evaluate(run) == score
    assert heard.said == []


def test_the_weights_of_a_checkpoint_are_read_once(house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    real = safetensors.safe_open

    def counted(path: Path, framework: str) -> Any:
        read.append(path.name)
        return real(path, framework=framework)

    monkeypatch.setattr(safetensors, "safe_open", counted)
    lw.evaluate("runs/notes")
    assert read == ["model.safetensors"]


def test_progress_is_shown_unless_there_is_a_listener(house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lw.plan("notes", **SMALL)
    assert "12 documents" in capsys.readouterr().err
    lw.plan("notes", listener=QUIET, **SMALL)
    assert capsys.readouterr().err == ""


def test_mistakes_are_one_sentence_here_too() -> None:
    with pytest.raises(lw.SettingError, match="Did you mean n_layers"):
        lw.train("notes", n_layer=2)
