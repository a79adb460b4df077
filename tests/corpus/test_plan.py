"""The plan of a large corpus: what is in its folder, which text the tokenizer sees, and which files are ours."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from lightwell.corpus import corpus as in_memory
from lightwell.corpus import held_out_order
from lightwell.corpus import plan as module
from lightwell.corpus.plan import Plan, is_ours, make_plan, plan_tokenizer, sampled_bytes, take_folder
from lightwell.corpus.units import cutting, encoding
from lightwell.corpus.units.reading import Findings, read_unit
from lightwell.errors import TextError
from lightwell.text.config import TextConfig
from small import word_tokenizer


def planned(path: Path, out: Path, unit_bytes: int = 300, vocab_size: int = 0, **fields: Any) -> Plan:
    return make_plan(TextConfig(paths=(str(path),), **{"tokenizer": "byte", **fields}), vocab_size, out, unit_bytes)


def lines(folder: Path, count: int) -> Path:
    """Records of 100 bytes of text, 114 bytes in all."""
    path = folder / "a.jsonl"
    path.write_text(
        "".join(
            json.dumps({"text": f"{number:03}" + "é" * 48 + "."}, ensure_ascii=False) + "\n" for number in range(count)
        )
    )
    return path


def test_what_decides_the_bytes_of_a_prepared_corpus_stays_as_it_is() -> None:
    assert (cutting.UNIT_BYTES, cutting.DOCUMENT_BYTES, cutting.LINE_SEARCH) == (32 << 20, 1 << 20, 1 << 16)
    assert (cutting.PACKING, held_out_order.TOKENS_AT_ONCE) == (4, 1 << 21)
    assert (module.SAMPLE_BYTES, module.SAMPLED_UNITS) == (32 << 20, 64)
    assert (encoding.ENCODED_AT_ONCE, encoding.CHECKED_AT_FIRST) == (1 << 21, 1 << 20)
    assert (in_memory.ABANDONED_AFTER, in_memory.ROUND_TRIP_SAMPLE) == (86_400, 10_000)


def test_everything_that_decides_the_tokens_is_in_the_fingerprint(tmp_path: Path) -> None:
    path, out = lines(tmp_path, 9), tmp_path / "out"
    other = tmp_path / "b.jsonl"
    other.write_bytes(path.read_bytes())
    for one in (path, other):
        os.utime(one, ns=(10**18, 10**18))
    plans = [
        planned(path, out), planned(other, out), planned(path, out, unit_bytes=301), planned(path, out, vocab_size=300),
        planned(path, out, tokenizer="character"), planned(path, out, text_field="body"),
    ]  # fmt: skip
    assert len({plan.work.fingerprint for plan in plans}) == 6
    assert planned(path, tmp_path / "elsewhere").work.fingerprint == plans[0].work.fingerprint
    assert planned(path, out, corpus="stdlib").work.fingerprint == plans[0].work.fingerprint
    assert plans[0].bytes == path.stat().st_size == sum(unit.size for unit in plans[0].units)


def test_another_tokenizer_under_the_same_name_makes_another_plan(tmp_path: Path) -> None:
    found = set()
    for words in ({"a": 0, "</s>": 1}, {"b": 0, "</s>": 1}):
        path = word_tokenizer(tmp_path, words)
        found.add(planned(lines(tmp_path, 2), tmp_path / "out", tokenizer=path).work.fingerprint)
    assert len(found) == 2


def test_a_folder_says_by_which_plan_it_was_begun(tmp_path: Path) -> None:
    plan = planned(lines(tmp_path, 9), tmp_path / "out")
    take_folder(plan)
    assert json.loads((tmp_path / "out" / "plan.json").read_text()) == {
        "format": 1,
        "settings": json.loads(json.dumps(plan.settings)),
        "fingerprint": plan.work.fingerprint,
        "sources": 1,
        "units": len(plan.units),
    }
    assert (plan.settings["unit_bytes"], plan.settings["vocab_size"], "corpus" in plan.settings) == (300, 0, False)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"plan.json", "shards", "units"}
    take_folder(plan)
    (tmp_path / "file").write_text("x")
    with pytest.raises(TextError, match=r"file is a file; name a folder with --out\.$"):
        take_folder(planned(tmp_path / "a.jsonl", tmp_path / "file"))


def test_the_sample_is_taken_evenly_from_units_and_each_gives_its_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLED_UNITS", 3)
    monkeypatch.setattr(module, "SAMPLE_BYTES", 600)
    plan = planned(lines(tmp_path, 45), tmp_path / "out", 360, tokenizer="bpe", validation_fraction=2**-40)
    firsts: list[int] = []
    at = 0
    for unit in plan.units:
        firsts.append(at)
        part = (tmp_path / "a.jsonl").read_bytes()[unit.ranges[0].start : unit.ranges[0].end]
        at += part.count(b"\n")
    count = len(plan.units)
    assert count >= 10
    # Two documents of 100 bytes are the 200 bytes that each of three units gives.
    expected = [n for first in (firsts[0], firsts[count // 3], firsts[2 * count // 3]) for n in (first, first + 1)]
    assert [int(text[:3]) for text in module._sample(plan, Findings())] == expected
    take_folder(plan)
    plan_tokenizer(plan)
    assert sampled_bytes(plan) == 600
    monkeypatch.setattr(module, "SAMPLE_BYTES", 90)  # 30 to a unit: of a document the first 30 characters
    assert [len(text) for text in module._sample(plan, Findings())] == [30] * 3


def test_the_tokenizer_of_a_folder_is_taken_up_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = planned(lines(tmp_path, 9), tmp_path / "out")
    take_folder(plan)
    made = plan_tokenizer(plan)
    assert sampled_bytes(plan) == 0
    monkeypatch.setattr(module, "make_tokenizer", None)
    assert plan_tokenizer(plan).fingerprint == made.fingerprint


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("shards/train-00000-000.tokens", True),
        ("shards/validation-00012.offsets", True),
        ("shards/validation-00000-003.keys", True),
        ("shards/train-00000-000.tokens.12.unfinished", True),
        ("shards/train-00000-000.tokens.unfinished", False),
        ("shards/train-.tokens", False),
        ("shards/test-00000-000.tokens", False),
        ("shards/train-00000-000.txt", False),
        ("shards/my-train-00000-000.tokens", False),
        ("units/00001.json", True),
        ("units/00001.json.7.unfinished", True),
        ("units/tokenizer.note.json", True),
        ("units/reference-only", True),
        ("units/reference-only.7.unfinished", False),
        ("units/tokenizernote.json", False),
        ("units/a1.json", False),
    ],
)
def test_files_that_preparing_makes_are_known_by_name(name: str, ours: bool) -> None:
    assert is_ours(Path("out") / name) == ours


def test_fewer_units_are_sampled_than_there_are_where_there_are_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SAMPLED_UNITS", 3)
    monkeypatch.setattr(module, "SAMPLE_BYTES", 3 * 100)
    plan = planned(lines(tmp_path, 20), tmp_path / "out", unit_bytes=114, validation_fraction=1e-9)
    read: list[int] = []

    def reading(unit: Any, *given: Any) -> Any:
        read.append(unit.number)
        return read_unit(unit, *given)

    monkeypatch.setattr(module, "read_unit", reading)
    assert len(list(module._sample(plan, Findings()))) == 3
    count = len(plan.units)
    assert count > 6
    assert read == [0, count // 3, 2 * count // 3]
