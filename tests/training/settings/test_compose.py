"""A configuration from a preset, a file and single settings, each over the one before."""

from __future__ import annotations

import os
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


def test_paths_and_a_tokenizer_file_are_kept_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.json").write_text("")
    config = compose(("notes", "../b"), settings={"tokenizer": "mine.json"})
    assert config.text.paths == (str(tmp_path / "notes"), os.path.normpath(tmp_path.parent / "b"))
    assert config.text.tokenizer == str(tmp_path / "mine.json")
    corpus = compose().text.corpus
    assert compose(("notes",), settings={"corpus": corpus}).text.paths == (str(tmp_path / "notes"),)


@pytest.mark.parametrize(
    "name",
    [
        "n_layers",
        "n_heads",
        "n_kv_heads",
        "d_model",
        "head_dim",
        "d_ff",
        "context_length",
        "batch_size",
        "micro_batch_size",
    ],
)
def test_each_part_of_a_size_closes_it(name: str, tmp_path: Path) -> None:
    value = 64 if name in ("d_model", "head_dim", "context_length") else 4
    assert compose(settings={"minutes": 1, name: value}).training.size == "given"
    with pytest.raises(SettingError, match=f"chooses {name}, but {name} is given"):
        compose(settings={"minutes": 1, "size": "auto", name: value})


def test_a_size_stays_open_where_minutes_alone_are_given(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[training]\nseed = 3\n")
    assert compose(settings={"minutes": 1, "seed": 3}).training.size == "auto"
    assert compose(config_file=file, settings={"minutes": 1}).training.size == "given"
    assert compose(settings={"minutes": 0}).training.size == "given"
    with pytest.raises(SettingError, match="chooses the whole model, but tiny is given"):
        compose(preset_name="tiny", settings={"minutes": 1, "size": "auto"})
    with pytest.raises(SettingError, match="say how long with --minutes"):
        compose(settings={"size": "auto"})


def test_a_length_of_0_changes_no_other() -> None:
    config = compose(settings={"epochs": 0}).training
    assert (config.steps, config.epochs) == (800, 0)


@pytest.mark.parametrize(
    ("section", "line"),
    [("model", "steps = 7"), ("training", "n_layers = 3"), ("text", "dropout = 0.1"), ("batches", "paths = []")],
)
def test_a_setting_in_the_section_of_another_is_refused(tmp_path: Path, section: str, line: str) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(f"[{section}]\n{line}\n")
    with pytest.raises(SettingError, match=line.split()[0]):
        compose(config_file=file)


def test_a_file_may_begin_with_a_byte_order_mark_and_a_run_stands_for_its_own(tmp_path: Path) -> None:
    for name in ("config.toml", "mine.toml"):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf[model]\nn_layers = 3\n")
        assert compose(config_file=tmp_path / name).model.n_layers == 3
    assert compose(config_file=tmp_path).model.n_layers == 3
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingError, match=r"There is no configuration file .*empty/config.toml"):
        compose(config_file=tmp_path / "empty")


def test_a_home_stands_for_itself_in_every_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "mine.toml").write_text("[model]\nn_layers = 3\n")
    (tmp_path / "tokenizer.json").write_text("{}")
    config = compose(("~/notes", "~$x"), config_file="~/mine.toml", settings={"tokenizer": "~/tokenizer.json"})
    assert config.model.n_layers == 3
    assert config.text.paths == (str(tmp_path / "notes"), str(Path.cwd() / "~$x"))
    assert config.text.tokenizer == str(tmp_path / "tokenizer.json")


def test_a_file_of_an_older_version_is_read_as_it_was_meant(tmp_path: Path) -> None:
    file = tmp_path / "old.toml"
    file.write_text('[training]\ncompile = false\noptimizer = "muon"\nbeta1 = 0.8\n')
    config = compose(config_file=file).training
    assert (config.compile, config.beta1, config.muon_momentum) == ("off", 0.8, 0.8)
