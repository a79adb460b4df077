"""A unit becomes shards: where they end, how much of them is held against the reference, and when a unit is done."""

from __future__ import annotations

import dataclasses
import gzip
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightwell.corpus.shards import Shard, has_size
from lightwell.corpus.units import encoding
from lightwell.corpus.units.cutting import Unit, cut_in_units
from lightwell.corpus.units.encoding import Work, document_key, encode_unit, finished
from lightwell.text.config import TextConfig
from lightwell.text.sources import find_sources
from lightwell.tokens.tokenizer import make_tokenizer


class Watched:
    """The byte tokenizer; notes how many texts it gets at a time, and how much of them is to be checked."""

    def __init__(self) -> None:
        self.real = make_tokenizer(TextConfig(tokenizer="byte"), 0, ())
        self.calls: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)

    def encode_flat(self, texts: Sequence[str], *, checked: int) -> Any:
        self.calls.append((len(texts), checked))
        return self.real.encode_flat(texts, checked=checked)


def work_on(folder: Path, texts: list[str], fraction: float, unit_bytes: int) -> tuple[Work, Unit]:
    """A unit of these texts, each a record; a packed file is a single unit of any size."""
    (folder / "a.jsonl.gz").write_bytes(
        gzip.compress("".join(json.dumps({"text": text}) + "\n" for text in texts).encode())
    )
    (unit,) = cut_in_units(find_sources([str(folder / "a.jsonl.gz")]), unit_bytes)
    for name in ("shards", "units"):
        (folder / "out" / name).mkdir(parents=True)
    return Work(folder / "out", "text", fraction, unit_bytes, "plan"), unit


def on_one_side(held_out: bool) -> float:
    return 1.0 - 2**-40 if held_out else 2**-40


@pytest.mark.parametrize("held_out", [False, True])
def test_a_shard_is_closed_by_the_document_that_fills_it(tmp_path: Path, held_out: bool) -> None:
    texts = [f"{number:02}" + "é" * 24 for number in range(8)]  # 50 bytes each
    work, unit = work_on(tmp_path, texts, on_one_side(held_out), 150)
    tokenizer = Watched()
    progress: list[int] = []
    encode_unit(unit, work, tokenizer, progress.append)  # type: ignore[arg-type]
    record = finished(unit, work, 257)
    assert record is not None
    side, other = ("validation", "train") if held_out else ("train", "validation")
    assert [(shard.name, shard.documents, shard.tokens) for shard in record.shards[side]] == [
        (f"shards/{side}-00000-000", 3, 153),
        (f"shards/{side}-00000-001", 3, 153),
        (f"shards/{side}-00000-002", 2, 102),
    ]
    assert [shard.sha256.keys() for shard in record.shards[side]] == [
        {"tokens", "offsets", "keys"} if held_out else {"tokens", "offsets"}
    ] * 3
    assert record.shards[other] == []
    assert record.text_bytes == {side: 400, other: 0}
    assert (record.found.documents, record.found.bytes, record.found.files) == (8, 400, 1)
    assert sum(progress) == 400
    # The first shard of the first unit is held against the reference at length, each later one at its beginning.
    assert tokenizer.calls == [(3, 1 << 20), (3, encoding.CHECKED), (2, encoding.CHECKED)]
    if held_out:  # each shard in the order of the hash
        for start, shard in zip((0, 3, 6), record.shards[side], strict=True):
            keys = np.fromfile(work.folder / f"{shard.name}.keys", dtype="<u8").tolist()
            assert keys == sorted(document_key(text)[0] for text in texts[start : start + 3])
            ids = np.fromfile(work.folder / f"{shard.name}.tokens", dtype="<u2").tolist()
            ordered = sorted(texts[start : start + 3], key=lambda text: document_key(text)[0])
            assert ids == [token for text in ordered for token in (256, *text.encode())]


def test_documents_are_encoded_when_there_are_characters_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoding, "ENCODED_AT_ONCE", 100)
    texts = [f"{number:02}" + "é" * 48 for number in range(7)]  # 50 characters, 98 bytes
    work, unit = work_on(tmp_path, texts, on_one_side(False), 10_000)
    later = dataclasses.replace(unit, number=1)
    tokenizer = Watched()
    encode_unit(later, work, tokenizer)  # type: ignore[arg-type]
    assert tokenizer.calls == [(2, encoding.CHECKED), (2, 0), (2, 0), (1, 0)]
    record = finished(later, work, 257)
    assert record is not None
    (shard,) = record.shards["train"]
    assert shard.name == "shards/train-00001-000"
    ids = np.fromfile(work.folder / f"{shard.name}.tokens", dtype="<u2").tolist()
    assert ids == [token for text in texts for token in (256, *text.encode())]
    assert np.fromfile(work.folder / f"{shard.name}.offsets", dtype="<i8").tolist() == [99 * n for n in range(7)]


def test_a_unit_is_done_when_its_record_and_all_its_files_are_whole(tmp_path: Path) -> None:
    work, unit = work_on(tmp_path, ["some text", "and more"], on_one_side(True), 1000)
    assert finished(unit, work, 257) is None
    encode_unit(unit, work, make_tokenizer(TextConfig(tokenizer="byte"), 0, ()))
    assert finished(unit, work, 257) is not None
    assert finished(unit, dataclasses.replace(work, fingerprint="other"), 257) is None
    assert finished(unit, work, 70_000) is None  # these tokens would take four bytes each
    assert finished(dataclasses.replace(unit, number=1), work, 257) is None
    for path in [*(work.folder / "shards").iterdir(), work.record_path(unit)]:
        data = path.read_bytes()
        path.write_bytes(data[:-2])
        assert finished(unit, work, 257) is None, path
        path.unlink()
        assert finished(unit, work, 257) is None, path
        path.write_bytes(data)
        assert finished(unit, work, 257) is not None


@pytest.mark.parametrize(("dtype", "size"), [("<u2", 10), ("<u4", 20)])
def test_the_size_of_a_shard_follows_from_its_counts(tmp_path: Path, dtype: str, size: int) -> None:
    shard = Shard("a", 3, 5, {"tokens": "", "offsets": "", "keys": ""})
    for ending, length in (("tokens", size), ("offsets", 24), ("keys", 24)):
        (tmp_path / f"a.{ending}").write_bytes(b"x" * length)
    assert has_size(tmp_path, shard, np.dtype(dtype))
    assert not has_size(tmp_path, shard, np.dtype("<u8"))
    for ending in shard.sha256:
        whole = (tmp_path / f"a.{ending}").read_bytes()
        (tmp_path / f"a.{ending}").write_bytes(whole + b"x")
        assert not has_size(tmp_path, shard, np.dtype(dtype)), "longer is damaged, too"
        (tmp_path / f"a.{ending}").write_bytes(whole)
