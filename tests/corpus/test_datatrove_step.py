"""datatrove's executors encode the same units to the same bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

import lightwell
from lightwell.corpus import datatrove_step
from lightwell.corpus.datatrove_step import EncodeUnits
from lightwell.errors import TextError
from shard_house import UNIT, bytes_of, made, write_corpus


def test_tasks_of_datatrove_and_workers_make_the_same_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    executors: Any = pytest.importorskip("datatrove.executor", reason="datatrove is not installed")
    corpus = write_corpus(tmp_path / "corpus")
    monkeypatch.setenv("PYTHONPATH", os.fspath(Path(lightwell.__file__).parent.parent))  # for the executor's processes
    step = EncodeUnits(corpus, out=tmp_path / "out", tokenizer="bpe", vocab_size=300, unit_bytes=UNIT)
    logs = os.fspath(tmp_path / "logs")
    executors.LocalPipelineExecutor(pipeline=[step], tasks=3, workers=2, logging_dir=logs).run()
    said: list[str] = []
    result = made(corpus, tmp_path / "out", tokenizer="bpe", vocab_size=300, say=said.append)
    assert result.bytes_done == 0, "all units were found done"
    made(corpus, tmp_path / "alone", tokenizer="bpe", vocab_size=300)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "alone")


def test_tasks_share_the_units_and_notice_a_changed_text(tmp_path: Path) -> None:
    pytest.importorskip("datatrove", reason="datatrove is not installed")
    corpus = write_corpus(tmp_path / "corpus")
    step = EncodeUnits(corpus, out=tmp_path / "out", tokenizer="byte", unit_bytes=UNIT)
    records = tmp_path / "out" / "units"
    for rank in range(2):
        assert list(step.run(["passed on"], rank, 2)) == ["passed on"]
        done = [int(path.stem) for path in records.glob("0*.json")]
        assert rank or (len(done) > 2 and not any(number % 2 for number in done)), (
            "every other unit is the first task's"
        )
    assert made(corpus, tmp_path / "out").bytes_done == 0
    again = EncodeUnits(corpus, out=tmp_path / "other", tokenizer="byte", unit_bytes=UNIT)
    (corpus / "c100.txt").write_text("Something else now.")
    with pytest.raises(TextError, match="have changed since"):
        list(again.run())


def test_without_datatrove_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(datatrove_step, "PipelineStep", None)
    with pytest.raises(TextError, match=r"needs the package datatrove; pip install lightwell\[corpora\]"):
        EncodeUnits(tmp_path, out=tmp_path / "out")
