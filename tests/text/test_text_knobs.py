"""The knob rule for TextConfig: turning a field changes something measurable, its neutral value changes nothing."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lightwell.corpus.corpus import Corpus, prepare
from lightwell.text.config import TextConfig
from lightwell.text.documents import read_documents
from lightwell.tokens.building import build_byte
from lightwell.tokens.tokenizer import Tokenizer


@dataclass(frozen=True)
class Knob:
    """One field: a value that must show in the tokens, and one that must not (both with what they need)."""

    turned: dict[str, Any]
    neutral: dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small corpora, records with two texts each, and a tokenizer with two tokens that could end a text."""
    folder = tmp_path_factory.mktemp("texts")
    for name, word in (("rain", "falls"), ("moss", "grows")):
        (folder / name).mkdir()
        for number in range(12):
            (folder / name / f"{number:02}.txt").write_text(f"The {name} {word} in {number} places of the well.\n" * 4)
    records = [{"text": f"The rain {n} falls. " * 5, "body": f"The moss {n} grows. " * 5} for n in range(12)]
    (folder / "records.jsonl").write_text("\n".join(json.dumps(record) for record in records))
    backend = build_byte()
    backend.add_special_tokens(["<fin>"])
    Tokenizer(backend, "<|endoftext|>").save(folder / "tokenizer.json")
    return folder


def knobs(folder: Path) -> dict[str, Knob]:
    rain, moss, records = (str(folder / name) for name in ("rain", "moss", "records.jsonl"))
    file = str(folder / "tokenizer.json")
    return {
        "paths": Knob({"paths": (rain, moss)}, {"paths": (str(folder / "rain" / "*.txt"),)}),
        "corpus": Knob({"paths": (), "corpus": "stdlib"}, {"corpus": "stdlib"}),  # used when there are no paths
        "text_field": Knob({"paths": (records,), "text_field": "body"}, {"text_field": "body"}),  # no records: unused
        "validation_fraction": Knob({"validation_fraction": 0.3}, {"validation_fraction": 0.1}),
        "tokenizer": Knob({"tokenizer": "character"}, {"tokenizer": "byte"}),
        "end_of_text": Knob(
            {"tokenizer": file, "end_of_text": "<fin>"}, {"tokenizer": file, "end_of_text": "<|endoftext|>"}
        ),
    }


NAMES = [field.name for field in TextConfig.fields()]


def config(folder: Path, settings: dict[str, Any]) -> TextConfig:
    return TextConfig(**({"paths": (str(folder / "rain"),), "tokenizer": "byte"} | settings))


def made(folder: Path, cache: Path, settings: dict[str, Any]) -> Corpus:
    """Tokens made anew; a cache of its own, so that nothing is taken over from another setting."""
    return prepare(config(folder, settings), 0, cache=cache)


def without(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    """What a knob needs, alone, so that a difference from it is the knob's own."""
    return {key: value for key, value in settings.items() if key != name}


def test_every_field_is_turned_and_has_a_neutral_value(folder: Path) -> None:
    assert list(knobs(folder)) == NAMES
    assert all(name in knob.turned and name in knob.neutral for name, knob in knobs(folder).items())


@pytest.mark.parametrize("name", [name for name in NAMES if name != "corpus"])
def test_turning_a_knob_shows_in_the_tokens(folder: Path, tmp_path: Path, name: str) -> None:
    turned = knobs(folder)[name].turned
    found = made(folder, tmp_path / "turned", turned)
    against = made(folder, tmp_path / "others", without(name, turned))
    assert found.digest != against.digest
    same_cache = made(folder, tmp_path / "others", turned)  # and a cache of the other setting does not hide it
    assert same_cache.digest == found.digest


def test_turning_the_corpus_reads_another_one(folder: Path) -> None:
    turned = knobs(folder)["corpus"].turned
    stdlib, _ = read_documents(config(folder, turned))
    bible, _ = read_documents(config(folder, without("corpus", turned)))
    assert bible[0].text.startswith("Genesis 1\n")
    assert all(document.source.endswith(".py") for document in stdlib)
    assert not {document.text for document in bible} & {document.text for document in stdlib}


@pytest.mark.parametrize("name", NAMES)
def test_the_neutral_value_of_a_knob_changes_nothing(folder: Path, tmp_path: Path, name: str) -> None:
    neutral = knobs(folder)[name].neutral
    found = made(folder, tmp_path / "neutral", neutral)
    against = made(folder, tmp_path / "others", without(name, neutral))
    assert found.digest == against.digest
    assert found.tokenizer.fingerprint == against.tokenizer.fingerprint
    # Only the paths are called by another name in the report, and only where they are the knob.
    assert found.report == against.report or name == "paths"


def test_each_knob_shows_in_what_it_is_for(folder: Path, tmp_path: Path) -> None:
    base = made(folder, tmp_path, {})
    both, more_held_out, character, other_end = (
        made(folder, tmp_path, knobs(folder)[name].turned)
        for name in ("paths", "validation_fraction", "tokenizer", "end_of_text")
    )
    assert (base.documents, both.documents) == (12, 24)
    assert more_held_out.held_out.text_bytes > base.held_out.text_bytes
    total = base.train.text_bytes + base.held_out.text_bytes
    assert more_held_out.train.text_bytes + more_held_out.held_out.text_bytes == total
    assert (base.tokenizer.kind, character.tokenizer.kind) == ("byte", "character")
    assert other_end.train.tokens[0] == other_end.tokenizer.end_of_text == 257
    body = made(folder, tmp_path, knobs(folder)["text_field"].turned)
    first = body.tokenizer.decode(body.train.tokens[1 : body.train.offsets[1]])
    assert "moss" in first
    assert "rain" not in first
