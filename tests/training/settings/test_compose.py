"""A configuration from a preset, a file and single settings, each over the one before."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightwell.errors import SettingError
from lightwell.training.settings.compose import compose


def test_flags_go_over_the_file_and_the_file_over_the_preset(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[model]\nn_layers = 3\nd_model = 64\n")
    config = compose(preset_name="tiny", config_file=file, settings={"d_model": 128})
    assert (config.model.n_layers, config.model.d_model) == (3, 128)
    assert config.model.context_length == compose(preset_name="tiny").model.context_length


def test_a_length_replaces_the_one_that_stood_there(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[training]\nminutes = 2\n")
    of_file = compose(config_file=file).training
    assert (of_file.steps, of_file.minutes) == (0, 2)
    of_flag = compose(config_file=file, settings={"epochs": 3}).training
    assert (of_flag.steps, of_flag.minutes, of_flag.epochs) == (0, 0, 3)


def test_two_lengths_in_one_place_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[training]\nsteps = 7\nminutes = 0.02\n")
    with pytest.raises(SettingError, match="steps and minutes are given"):
        compose(config_file=file)
    with pytest.raises(SettingError, match="steps and epochs are given"):
        compose(settings={"steps": 1, "epochs": 1})


def test_a_folder_named_as_a_tokenizer_is_not_taken_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "byte").mkdir()
    assert compose(settings={"tokenizer": "byte"}).text.tokenizer == "byte"


def test_a_corpus_beside_paths_and_an_empty_path_are_refused() -> None:
    with pytest.raises(SettingError, match="give one of them"):
        compose(("notes",), settings={"corpus": "stdlib"})
    with pytest.raises(SettingError, match="One of the paths is empty"):
        compose(("",))


def test_a_size_that_is_to_be_chosen_is_given_nowhere_else(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[model]\nd_ff = 100\n")
    auto = {"minutes": 5, "size": "auto"}
    assert compose(settings=auto).training.size == "auto"
    with pytest.raises(SettingError, match="llama-15m is given"):
        compose(preset_name="llama-15m", settings=auto)
    with pytest.raises(SettingError, match="d_ff is given"):
        compose(config_file=file, settings=auto)
    with pytest.raises(SettingError, match="n_layers is given"):
        compose(settings={**auto, "n_layers": 3})
