"""Settings: refusals that name the field, the value and the remedy; help for every field; TOML and back."""

from __future__ import annotations

import compileall
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwell.errors import SettingError
from lightwell.settings import Field, Meta, Settings, nearest
from lightwell.synonyms import SYNONYMS, synonyms_of
from lightwell.training.settings.config import RunConfig
from paths import REPOSITORY

SECTIONS = RunConfig.sections()
FIELDS = [(section, field) for section, cls in SECTIONS.items() for field in cls.fields()]
BY_NAME = [pytest.param(section, field, id=field.name) for section, field in FIELDS]


@dataclass(frozen=True)
class Kitchen(Settings):
    """A configuration with every kind of field."""

    ovens: Annotated[int, Meta(ge=1, le=4)] = 1
    """How many ovens."""
    heat: Annotated[float, Meta(gt=0.0, lt=1.0)] = 0.5
    """How hot,
    as a share."""
    open: bool = True
    """Whether guests come in."""
    oven_kind: Literal["gas", "electric"] = "gas"
    """What heats it."""
    dishes: tuple[str, ...] = ()
    """What there is."""


def refusal(**values: Any) -> str:
    with pytest.raises(SettingError) as caught:
        Kitchen.from_dict(values)
    return str(caught.value)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"ovens": 0}, "ovens is 0, but must be a whole number, 1 or more, at most 4."),
        ({"ovens": 5}, "ovens is 5, but must be a whole number, 1 or more, at most 4."),
        ({"ovens": 1.5}, "ovens is 1.5, but must be a whole number, 1 or more, at most 4."),
        ({"ovens": True}, "ovens is True, but must be a whole number, 1 or more, at most 4."),
        ({"ovens": "2"}, "ovens is '2', but must be a whole number, 1 or more, at most 4."),
        ({"heat": 0}, "heat is 0, but must be a number, more than 0.0, less than 1.0."),
        ({"heat": 1.0}, "heat is 1.0, but must be a number, more than 0.0, less than 1.0."),
        ({"heat": math.nan}, "heat is nan, but must be a number, more than 0.0, less than 1.0."),
        ({"heat": -math.inf}, "heat is -inf, but must be a number, more than 0.0, less than 1.0."),
        ({"open": 1}, "open is 1, but must be true or false."),
        ({"oven_kind": "gaz"}, "oven_kind is 'gaz', but must be one of gas, electric. Did you mean gas?"),
        ({"oven_kind": "wood"}, "oven_kind is 'wood', but must be one of gas, electric."),
        ({"dishes": "soup"}, "dishes is 'soup', but must be a list."),
        ({"dishes": [1]}, "dishes is [1], but must be a list."),
        ({"oven": 2}, "There is no setting named oven. Did you mean ovens?"),
        ({"zzz": 2}, "There is no setting named zzz."),
    ],
    ids=str,
)
def test_a_refusal_names_the_field_the_value_and_what_is_allowed(values: dict[str, Any], sentence: str) -> None:
    assert refusal(**values) == sentence


def test_values_at_the_limits_are_taken() -> None:
    kitchen = Kitchen(ovens=4, heat=0.999, dishes=("soup",))
    assert (kitchen.ovens, kitchen.heat, kitchen.dishes) == (4, 0.999, ("soup",))
    assert Kitchen.from_dict({"ovens": 1, "dishes": ["soup", "salad"]}).dishes == ("soup", "salad")


def test_a_whole_number_for_a_number_becomes_one() -> None:
    field = next(field for field in RunConfig.all_fields().values() if field[1].name == "epochs")[1]
    assert isinstance(field.check(3), float)
    assert field.check(3) == 3.0


def test_the_help_is_the_sentence_under_the_field() -> None:
    helps = {field.name: field.help for field in Kitchen.fields()}
    assert list(helps) == ["ovens", "heat", "open", "oven_kind", "dishes"]
    assert helps["ovens"] == "How many ovens."
    assert helps["heat"] == "How hot,\nas a share."
    assert [field.default for field in Kitchen.fields()] == [1, 0.5, True, "gas", ()]
    assert [field.type for field in Kitchen.fields()] == [int, float, bool, Literal["gas", "electric"], tuple[str, ...]]


def test_without_its_sources_the_program_runs_and_names_stand_for_sentences(tmp_path: Path) -> None:
    """As in a package of compiled files alone."""
    shutil.copytree(REPOSITORY / "src" / "lightwell", tmp_path / "lightwell")
    assert compileall.compile_dir(tmp_path / "lightwell", quiet=1, legacy=True)
    for source in (tmp_path / "lightwell").rglob("*.py"):
        source.unlink()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "COLUMNS": "100"}
    command = [sys.executable, "-m", "lightwell", "train", "--help"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"--learning-rate X +Learning rate\. \[0\.01\]", done.stdout)


def test_the_nearest_name_is_offered_only_when_one_is_near() -> None:
    assert nearest("learning_rat", ["learning_rate", "n_layers"]) == " Did you mean learning_rate?"
    assert nearest("xyz", ["learning_rate", "n_layers"]) == ""
    assert nearest(3, [3, 4]) == " Did you mean 3?"


@given(st.dictionaries(st.sampled_from(["ovens", "heat", "open"]), st.floats() | st.integers() | st.text() | st.none()))
def test_any_value_is_taken_or_refused_with_a_sentence(values: dict[str, Any]) -> None:
    try:
        kitchen = Kitchen.from_dict(values)
    except SettingError as error:
        assert str(error).endswith(".")  # noqa: PT017
    else:
        assert 1 <= kitchen.ovens <= 4
        assert 0 < kitchen.heat < 1


# The configurations of a run --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("section", "field"), BY_NAME)
def test_every_field_has_a_help_sentence(section: str, field: Field) -> None:
    assert re.fullmatch(r"[A-Za-z0-9].*\.", field.help, flags=re.DOTALL), section
    assert len(field.help) < 140, "the help of a flag is a sentence or two"
    assert "\n" not in field.help


@pytest.mark.parametrize(("section", "field"), BY_NAME)
def test_every_default_is_allowed_and_every_field_refuses_an_object(section: str, field: Field) -> None:
    assert field.check(field.default) == field.default
    with pytest.raises(SettingError) as caught:
        SECTIONS[section].from_dict({field.name: object})
    assert str(caught.value) == f"{field.name} is {object!r}, but must be {field.allowed}."


@pytest.mark.parametrize(("section", "field"), BY_NAME)
def test_a_slip_in_a_name_is_refused_with_the_right_one(section: str, field: Field) -> None:
    slip = f"{field.name}e"
    expected = f"There is no setting named {slip}. Did you mean {field.name}?"
    with pytest.raises(SettingError) as in_a_section:
        SECTIONS[section].from_dict({slip: 1})
    with pytest.raises(SettingError) as in_a_run:
        RunConfig().with_values({slip: 1})
    assert str(in_a_section.value) == str(in_a_run.value) == expected


def limits_of(field: Field) -> list[tuple[Any, bool]]:
    """Values at a field's limits and just outside them, and whether each is allowed, read from its own words."""
    step = 1 if field.type is int else 1e-3
    found: list[tuple[Any, bool]] = []
    for pattern, inside, outside in (
        (r"([\d.]+) or more", 0, -step),
        (r"more than ([\d.]+)", step, 0),
        (r"at most ([\d.]+)", 0, step),
        (r"less than ([\d.]+)", -step, 0),
    ):
        for limit in re.findall(pattern, field.allowed):
            number = field.type(limit)
            found += [(number + inside, True), (number + outside, False)]
    return found


@pytest.mark.parametrize(("section", "field"), [case for case in BY_NAME if limits_of(case.values[1])])  # type: ignore[arg-type]
def test_limits_are_where_the_words_put_them(section: str, field: Field) -> None:
    for value, allowed in limits_of(field):
        if allowed:
            assert field.check(value) == value
        else:
            with pytest.raises(SettingError, match=f"^{field.name} is {re.escape(repr(value))}, but must be "):
                SECTIONS[section].from_dict({field.name: value})


def test_no_number_is_without_a_limit() -> None:
    unlimited = [field.name for _, field in FIELDS if field.type in (int, float) and not limits_of(field)]
    assert not unlimited


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan], ids=str)
@pytest.mark.parametrize(("section", "field"), [case for case in BY_NAME if case.values[1].type is float])  # type: ignore[union-attr]
def test_what_is_no_finite_number_is_refused(section: str, field: Field, value: float) -> None:
    with pytest.raises(SettingError) as caught:
        SECTIONS[section].from_dict({field.name: value})
    assert str(caught.value) == f"{field.name} is {value}, but must be {field.allowed}."


def test_no_name_occurs_in_two_sections() -> None:
    names = [field.name for _, field in FIELDS]
    assert sorted(names) == sorted(set(names))
    assert RunConfig.all_fields().keys() == set(names)
    assert all(section == RunConfig.all_fields()[field.name][0] for section, field in FIELDS)
    assert not set(names) & SECTIONS.keys()


text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)
VALUES = st.fixed_dictionaries(
    {},
    optional={
        "paths": st.lists(text, max_size=3).map(tuple),
        "corpus": st.sampled_from(["bible", "stdlib"]),
        "text_field": text,
        "validation_fraction": st.floats(1e-6, 0.999),
        "end_of_text": text,
        "batch_size": st.integers(1, 2**40),
        "shuffle": st.booleans(),
        "document_boundaries": st.sampled_from(["cross", "cut", "mask"]),
        "n_layers": st.integers(1, 99),
        "activation": st.sampled_from(["relu2", "swiglu"]),
        "rope_base": st.floats(1.5, 1e9),
        "attention_dropout": st.floats(0, 0.99),
        "steps": st.integers(0, 2**40),
        "minutes": st.floats(0, 1e6),
        "learning_rate": st.floats(1e-12, 10),
        "beta2": st.floats(0, 0.999999),
        "sample_prompt": st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        "top_p": st.floats(1e-9, 1),
        "stop": st.lists(text, max_size=3).map(tuple),
    },
)


@given(VALUES)
def test_toml_and_back_is_the_same_configuration(values: dict[str, Any]) -> None:
    config = RunConfig().with_values(values)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_bytes(config.to_toml().encode())
        assert RunConfig.from_toml(path) == config
        assert RunConfig.from_dict(RunConfig.read_sections(path)) == config


@given(VALUES)
def test_a_dictionary_and_back_is_the_same_configuration(values: dict[str, Any]) -> None:
    config = RunConfig().with_values(values)
    plain = config.to_dict()
    assert RunConfig.from_dict(plain) == RunConfig.from_dict(json.loads(json.dumps(plain))) == config
    assert {name for section in plain.values() for name in section} == RunConfig.all_fields().keys()
    for name, value in values.items():
        assert plain[RunConfig.all_fields()[name][0]][name] == value
    for name, cls in SECTIONS.items():
        assert cls.from_dict(plain[name]) == getattr(config, name)


def test_values_are_replaced_by_name_whatever_their_section_and_the_rest_stays() -> None:
    base = RunConfig().with_values({"n_layers": 7})
    changed = base.with_values({"learning_rate": 1e-2, "top_k": 3})
    assert (changed.model.n_layers, changed.training.learning_rate, changed.sampling.top_k) == (7, 1e-2, 3)
    assert changed.with_values({"learning_rate": base.training.learning_rate, "top_k": base.sampling.top_k}) == base
    assert base.with_values({}) == base


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("[modle]\nn_layers = 2", r"There is no section \[modle\]; there are text, .*\. Did you mean model\?"),
        ("model = 3", r"model must be a section of settings, \[model\]\."),
        ("n_layers = 2", r"There is no section \[n_layers\]"),
        ("[model]\nn_layer = 2", r"There is no setting named n_layer\. Did you mean n_layers\?"),
        ("[model]\nn_layers = 0", r"n_layers is 0, but must be a whole number, 1 or more\."),
        ("[model]\nlearning_rate = 1.0", r"There is no setting named learning_rate\."),
        ("[model\n", r"config\.toml is not valid TOML: "),
        ("\xff", r"config\.toml is not valid TOML: "),
        (None, r"There is no configuration file .*config\.toml\."),
    ],
)
def test_a_configuration_file_with_a_mistake_gets_a_sentence(
    tmp_path: Path, content: str | None, sentence: str
) -> None:
    path = tmp_path / "config.toml"
    if content is not None:
        path.write_bytes(content.encode("latin-1"))
    with pytest.raises(SettingError, match=sentence) as caught:
        RunConfig.from_toml(path)
    assert "\n" not in str(caught.value)


def test_what_a_file_leaves_out_has_its_default(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("[model]\nn_layers = 3\n")
    assert RunConfig.from_toml(path) == RunConfig().with_values({"n_layers": 3})
    assert RunConfig.read_sections(path) == {"model": {"n_layers": 3}}
    path.write_text("")
    assert RunConfig.from_toml(path) == RunConfig()


def test_a_run_from_the_time_when_beta1_was_muons_momentum_too_keeps_its_momentum() -> None:
    old = {"training": {"optimizer": "muon", "beta1": 0.8}}
    assert RunConfig.from_dict(old).training.muon_momentum == 0.8
    new = {"training": {"optimizer": "muon", "beta1": 0.8, "muon_momentum": 0.7}}
    assert RunConfig.from_dict(new).training.muon_momentum == 0.7


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("lr", "learning_rate"), ("dropout", "residual_dropout"), ("layers", "n_layers"), ("heads", "n_heads"),
        ("block_size", "context_length"), ("max_iters", "steps"), ("epoch", "epochs"), ("n_embd", "d_model"),
        ("bs", "batch_size"), ("warmup", "warmup_steps"), ("wd", "weight_decay"), ("temp", "temperature"),
        ("topk", "top_k"), ("max_tokens", "max_new_tokens"), ("min_lr", "final_learning_rate"), ("vocab", "vocab_size"),
    ],
)  # fmt: skip
def test_what_other_programs_call_a_setting_is_offered(name: str, meant: str) -> None:
    with pytest.raises(SettingError, match=rf"no setting named {name}\. Did you mean {meant}\?"):
        RunConfig().with_values({name: 1})


def test_every_synonym_is_of_a_name_that_there_is_and_hides_none() -> None:
    fields = set(RunConfig.all_fields())
    flags = {"out", "preset", "processes", "device", "workers"}
    assert set(SYNONYMS) <= fields | flags
    theirs = [word for words in SYNONYMS.values() for word in words.split()]
    assert not set(theirs) & fields
    assert synonyms_of("--lr", ["--learning-rate", "--sampler"]) == ["--learning-rate"]
    assert synonyms_of("length", ["max_new_tokens"]) == ["max_new_tokens"]
    assert synonyms_of("nonsense", fields) == []


def test_a_known_name_of_a_setting_that_is_not_here_is_not_guessed_by_its_spelling() -> None:
    assert nearest("--lr", ["--log", "--json"]) == ""
    assert nearest("--max-length", ["--context-length", "--max-new-tokens"]) == " Did you mean --max-new-tokens?"
    assert nearest("--max-length", ["--context-length"]) == " Did you mean --context-length?"
