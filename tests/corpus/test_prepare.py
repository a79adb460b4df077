"""A corpus in shards: the same tokens as in memory, the same bytes by any number of workers and after any stop."""

from __future__ import annotations

import errno
import gzip
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import lightwell
from lightwell.batches.config import BatchConfig
from lightwell.batches.loader import BatchLoader
from lightwell.corpus import plan as corpus_plan
from lightwell.corpus import workers
from lightwell.corpus.corpus import prepare
from lightwell.corpus.manifest import MANIFEST, open_prepared, read_manifest
from lightwell.corpus.plan import make_plan
from lightwell.corpus.prepare import prepare_corpus
from lightwell.corpus.units import encoding as unit_encoding
from lightwell.corpus.units.cutting import Unit
from lightwell.corpus.units.encoding import document_key, encode_unit
from lightwell.corpus.units.reading import Findings, read_unit
from lightwell.errors import SettingError, TextError, VocabularyError
from lightwell.text.config import TextConfig
from lightwell.tokens import tokenizer
from lightwell.tokens.fast_encoding import FastEncoder
from lightwell.tokens.token_file import TokenFile
from shard_house import DOCUMENTS, UNIT, bytes_of, made, text_of, write_corpus
from small import raising, system_error


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus")


def texts_of(unit: Unit) -> list[str]:
    return [text for block in read_unit(unit, "text", UNIT, Findings()) for text in block]


def text_bytes(unit: Unit) -> int:
    return sum(len(text.encode()) for text in texts_of(unit))


def in_memory(corpus: Path, out: Path) -> tuple[TokenFile, TokenFile]:
    """The same documents on the same sides, as files of tokens in memory; held-out ones in the order of the hash."""
    plan = make_plan(TextConfig(paths=(str(corpus),), tokenizer="byte"), 0, out, UNIT)
    texts = [text for unit in plan.units for text in texts_of(unit)]
    sides: dict[str, list[str]] = {"train": [], "validation": []}
    for text in texts:
        sides[plan.work.side_of(document_key(text)[0])].append(text)
    made = open_prepared(out).tokenizer
    held_out = sorted(sides["validation"], key=lambda text: document_key(text)[0])
    return TokenFile.from_texts(sides["train"], made), TokenFile.from_texts(held_out, made)


def test_the_shards_are_one_stream_of_the_same_documents(corpus: Path, tmp_path: Path) -> None:
    result = made(corpus, tmp_path / "out")
    opened = prepare(TextConfig(paths=(str(tmp_path / "out"),)), 0)
    assert opened.documents == result.documents == DOCUMENTS
    for found, expected in zip((opened.train, opened.held_out), in_memory(corpus, tmp_path / "out"), strict=True):
        assert found.tokens[:].tolist() == expected.tokens[:].tolist()
        assert found.offsets.tolist() == expected.offsets.tolist()
        assert (found.text_bytes, found.vocab_size) == (expected.text_bytes, expected.vocab_size)
        assert found.end_of_text == expected.end_of_text
    texts = {text_of(number) for number in range(DOCUMENTS)}
    starts, ends = opened.train.offsets[:-1] + 1, opened.train.offsets[1:]
    trained = {opened.tokenizer.decode(opened.train.tokens[a:b]) for a, b in zip(starts, ends, strict=True)}
    assert trained < texts


@pytest.mark.parametrize("boundaries", ["cross", "cut", "mask"])
def test_windows_over_shards_are_those_over_one_file(corpus: Path, tmp_path: Path, boundaries: str) -> None:
    made(corpus, tmp_path / "out")
    found = open_prepared(tmp_path / "out").train
    expected, _ = in_memory(corpus, tmp_path / "out")
    config = BatchConfig(batch_size=7, document_boundaries=boundaries)  # type: ignore[arg-type]
    ours, theirs = BatchLoader(found, config, 33, 5), BatchLoader(expected, config, 33, 5)
    assert ours.windows == theirs.windows
    for step in range(20):
        one, other = ours.batch(step), theirs.batch(step)
        assert one.inputs.equal(other.inputs)
        assert one.targets.equal(other.targets)


def test_any_number_of_workers_makes_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    one = made(corpus, tmp_path / "one", tokenizer="bpe", vocab_size=300, workers=1)
    done: list[int] = []
    before = dict(os.environ)
    three = made(
        corpus,
        tmp_path / "three",
        tokenizer="bpe",
        vocab_size=300,
        workers=3,
        on_progress=lambda now, of: done.append(now),
    )
    assert dict(os.environ) == before
    assert (done[0], done[-1], three.workers) == (0, three.text_bytes, 3)
    assert done == sorted(done)
    assert bytes_of(tmp_path / "one") == bytes_of(tmp_path / "three")
    assert len(bytes_of(tmp_path / "one")) > 10
    assert one.report == three.report
    assert not (tmp_path / "one" / "units").exists()


@settings(max_examples=15)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=60),
    order=st.randoms(use_true_random=False),
)
def test_units_in_any_order_make_the_same_shards(texts: list[str], order: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [json.dumps({"text": f"{number} {text}"}) + "\n" for number, text in enumerate(texts)]
        (folder / "a.jsonl").write_text("".join(lines))
        byte = tokenizer.make_tokenizer(TextConfig(tokenizer="byte"), 0, ())
        found = []
        for out in (folder / "one", folder / "other"):
            plan = make_plan(TextConfig(paths=(str(folder / "a.jsonl"),), tokenizer="byte"), 0, out, 200)
            corpus_plan.take_folder(plan)
            units = list(plan.units)
            order.shuffle(units)
            for unit in units:
                encode_unit(unit, plan.work, byte)
            found.append(bytes_of(out))
        assert found[0] == found[1]


@pytest.mark.parametrize("after", [0, 2, 5])
def test_what_was_stopped_goes_on_and_makes_the_same_bytes(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
) -> None:
    made(corpus, tmp_path / "whole")
    encoded: list[int] = []

    def stop(unit: Any, *arguments: Any) -> None:
        if len(encoded) == after:
            raise KeyboardInterrupt
        encode_unit(unit, *arguments)
        encoded.append(unit.number)

    with monkeypatch.context() as patch:
        patch.setattr(workers, "encode_unit", stop)
        with pytest.raises(KeyboardInterrupt, match=rf"^Stopped; {after} of \d+ units are in .* the same command"):
            made(corpus, tmp_path / "out")
    assert not (tmp_path / "out" / MANIFEST).exists()
    with pytest.raises(TextError, match="is not finished; give its `lightwell prepare` command again"):
        prepare(TextConfig(paths=(str(tmp_path / "out"),)), 0)
    said: list[str] = []
    again = made(corpus, tmp_path / "out", say=said.append)
    assert any(f"{after} of" in sentence for sentence in said) == (after > 0)
    assert again.bytes_done < again.text_bytes or after == 0
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def test_what_was_killed_goes_on_and_makes_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    made(corpus, tmp_path / "whole", workers=2)
    program = (
        "import sys, time; from pathlib import Path\n"
        "from lightwell.corpus import workers\n"
        "from lightwell.text.config import TextConfig; from lightwell.corpus.prepare import prepare_corpus\n"
        "encode = workers.encode_unit\n"
        "workers.encode_unit = lambda *given: (encode(*given), time.sleep(0.2))\n"
        f"prepare_corpus(TextConfig(paths=(sys.argv[1],), tokenizer='byte'), 0, Path(sys.argv[2]), workers=1, "
        f"unit_bytes={UNIT})"
    )
    process = subprocess.Popen([sys.executable, "-c", program, corpus, tmp_path / "out"], env=environment())
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "out" / "units").glob("0*.json"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert process.poll() is None, "it is killed in the middle of its work"
    process.kill()
    process.wait()
    assert not (tmp_path / "out" / MANIFEST).exists()
    made(corpus, tmp_path / "out", workers=2)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


def environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(Path(lightwell.__file__).parent.parent)}


def test_a_worker_that_is_killed_is_noticed(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_encode", kill_this_worker)
    with pytest.raises(TextError, match=r"A worker process died.*give the same command again"):
        made(corpus, tmp_path / "out", workers=2)
    monkeypatch.undo()
    made(corpus, tmp_path / "out", workers=1)


def kill_this_worker(unit: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_finished_folder_is_left_as_it_is(corpus: Path, tmp_path: Path) -> None:
    first = made(corpus, tmp_path / "out")
    before = bytes_of(tmp_path / "out")
    (tmp_path / "out" / "shards" / "train-00000-000.tokens.1.unfinished").write_text("left by one that was killed")
    said: list[str] = []
    again = made(corpus, tmp_path / "out", say=said.append)
    assert "is prepared already" in said[0]
    assert (again.bytes_done, again.digest) == (0, first.digest)
    assert bytes_of(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"validation_fraction": 0.3}, r"another validation_fraction \(0.1, not 0.3\)"),
        ({"tokenizer": "character"}, r"another tokenizer \('byte', not 'character'\)"),
        ({"unit_bytes": 5000}, r"another unit_bytes"),
        ({}, "files that have changed since"),
    ],
)
def test_another_plan_is_refused_and_begun_anew_with_force(
    corpus: Path, tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    first = made(corpus, tmp_path / "out")
    if not change:
        (corpus / "c100.txt").write_text("Something else now. " * 3)
    with pytest.raises(TextError, match=f"{sentence}.*begin anew with --force"):
        made(corpus, tmp_path / "out", **change)
    again = made(corpus, tmp_path / "out", force=True, **change)
    assert again.digest != first.digest
    made(corpus, tmp_path / "fresh", **change)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "fresh")


def test_other_peoples_files_are_never_removed(corpus: Path, tmp_path: Path) -> None:
    for force in (False, True):
        with pytest.raises(TextError, match="is not empty and holds no prepared text"):
            made(corpus, corpus, force=force)
    assert len(list(corpus.iterdir())) == 32


@given(key=st.integers(0, 2**64 - 1), fraction=st.floats(0.001, 0.999))
def test_the_side_follows_from_the_hash_alone(key: int, fraction: float) -> None:
    work = unit_encoding.Work(Path(), "text", fraction, 1, "")
    assert work.side_of(key) == ("validation" if key / 2**64 < fraction else "train") or key / 2**64 == fraction


def test_equal_documents_are_on_one_side(tmp_path: Path) -> None:
    lines = [json.dumps({"text": text_of(number % 30)}) + "\n" for number in range(300)]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    made(tmp_path / "a.jsonl", tmp_path / "out")
    opened = open_prepared(tmp_path / "out")
    sides = []
    for side in (opened.train, opened.held_out):
        starts, ends = side.offsets[:-1] + 1, side.offsets[1:]
        sides.append({opened.tokenizer.decode(side.tokens[a:b]) for a, b in zip(starts, ends, strict=True)})
    assert not sides[0] & sides[1]
    assert len(sides[0] | sides[1]) == 30


def test_the_tokenizer_learns_from_the_training_side_of_all_units(corpus: Path, tmp_path: Path) -> None:
    plan = make_plan(TextConfig(paths=(str(corpus),)), 0, tmp_path / "out", UNIT)
    sample = list(corpus_plan._sample(plan, Findings()))
    assert len(sample) > 90
    assert all(plan.work.side_of(document_key(text)[0]) == "train" for text in sample)
    result = made(corpus, tmp_path / "out", tokenizer="bpe", vocab_size=280)
    size = sum(map(len, sample))
    assert f"It was trained on {size:,} bytes of the training side, taken from all over the text." in result.report


def test_a_large_corpus_is_sampled_up_to_a_bound(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(corpus_plan, "SAMPLE_BYTES", 2000)
    monkeypatch.setattr(corpus_plan, "SAMPLED_UNITS", 3)
    plan = make_plan(TextConfig(paths=(str(corpus),)), 0, tmp_path / "out", UNIT)
    assert 0 < sum(map(len, corpus_plan._sample(plan, Findings()))) <= 2000


def test_a_shard_for_each_side_is_closed_when_it_is_full(tmp_path: Path) -> None:
    lines = [json.dumps({"text": text_of(number)}) + "\n" for number in range(300)]
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode()))
    made(tmp_path / "a.jsonl.gz", tmp_path / "out")
    manifest = read_manifest(tmp_path / "out")
    assert len(manifest.train.shards) > 5
    assert all(shard.tokens < UNIT + 600 for shard in manifest.train.shards)


@pytest.mark.parametrize("side", ["train", "validation"])
@pytest.mark.parametrize("ending", ["tokens", "offsets"])
@pytest.mark.parametrize("how", ["changed", "cut off", "gone"])
def test_a_damaged_shard_is_named(corpus: Path, tmp_path: Path, side: str, ending: str, how: str) -> None:
    made(corpus, tmp_path / "out")
    path = sorted((tmp_path / "out" / "shards").glob(f"{side}-*.{ending}"))[-1]
    data = path.read_bytes()
    path.unlink()
    if how != "gone":
        path.write_bytes(data[:-2] if how == "cut off" else bytes([data[0] ^ 1]) + data[1:])
    what = "cannot be read" if how == "gone" else "is damaged"
    with pytest.raises(TextError, match=f"The shard .*{path.name} {what}.*--force"):
        prepare(TextConfig(paths=(str(tmp_path / "out"),)), 0)


def test_what_another_process_checks_is_not_read_twice(corpus: Path, tmp_path: Path) -> None:
    made(corpus, tmp_path / "out")
    path = sorted((tmp_path / "out" / "shards").glob("*.tokens"))[1]
    data = path.read_bytes()
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])
    given = TextConfig(paths=(str(tmp_path / "out"),))
    with pytest.raises(TextError, match="is damaged"):
        prepare(given, 0)
    assert prepare(given, 0, checked=True).digest == read_manifest(tmp_path / "out").digest


@pytest.mark.parametrize("name", ["manifest.json", "tokenizer.json"])
def test_a_damaged_folder_is_named(corpus: Path, tmp_path: Path, name: str) -> None:
    made(corpus, tmp_path / "out")
    path = tmp_path / "out" / name
    path.write_text(path.read_text().replace('"text_bytes": ', '"text_bytes": 1').replace("endoftext", "endofmext"))
    with pytest.raises(TextError, match="damaged"):
        prepare(TextConfig(paths=(str(tmp_path / "out"),)), 0)


def wrong_from(call: int) -> Callable[[FastEncoder, Sequence[str]], tuple[NDArray[np.uint32], NDArray[np.int64]]]:
    """An encoder that is right for a while, and then is not."""
    right, calls = FastEncoder.flat, [0]

    def flat(self: FastEncoder, texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        calls[0] += 1
        ids, edges = right(self, texts)
        return (ids ^ np.uint32(1) if calls[0] >= call else ids), edges

    return flat


@pytest.mark.parametrize("call", [1, 4])
def test_an_encoder_that_differs_is_left_and_everything_is_encoded_again(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int
) -> None:
    pytest.importorskip("fastokens", reason="fastokens is not installed")
    made(corpus, tmp_path / "right", tokenizer="bpe", vocab_size=300)
    monkeypatch.setattr(FastEncoder, "flat", wrong_from(call))
    said: list[str] = []
    made(corpus, tmp_path / "out", tokenizer="bpe", vocab_size=300, say=said.append)
    assert any("the tokenizers library encodes all of it now" in sentence for sentence in said)
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "right")


def test_without_a_faster_encoder_the_bytes_are_the_same(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(corpus, tmp_path / "fast", tokenizer="bpe", vocab_size=300)
    monkeypatch.setattr(tokenizer, "fast_encoder", lambda spec: None)
    assert made(corpus, tmp_path / "slow", tokenizer="bpe", vocab_size=300).encoder == "tokenizers"
    assert bytes_of(tmp_path / "fast") == bytes_of(tmp_path / "slow")


@pytest.mark.parametrize(("fraction", "what"), [(0.0001, "held out.*raise"), (0.9999, "left to train on.*lower")])
def test_an_empty_side_gets_a_sentence(tmp_path: Path, fraction: float, what: str) -> None:
    (tmp_path / "a.txt").write_text("some text")
    with pytest.raises(TextError, match=rf"None of the 1 documents is {what} --validation-fraction"):
        made(tmp_path / "a.txt", tmp_path / "out", validation_fraction=fraction)


def test_a_full_disk_gets_a_sentence_and_the_work_goes_on_later(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(corpus, tmp_path / "whole")
    written: list[Path] = []

    def full(file: int) -> None:
        written.append(Path())
        if len(written) > 9:
            raise system_error(errno.ENOSPC)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(TextError, match=r"^The disk of .* is full; free some space"):
            made(corpus, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.unfinished"))
    made(corpus, tmp_path / "out")
    assert bytes_of(tmp_path / "out") == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize(
    ("fields", "error", "sentence"),
    [
        ({"workers": -1}, SettingError, "workers is -1, but must be 1 or more"),
        ({"tokenizer": "bytes"}, SettingError, "Did you mean byte"),
        ({"tokenizer": "no/such.json"}, TextError, "There is no tokenizer no/such.json"),
        ({"tokenizer": "bpe", "vocab_size": 90_000}, TextError, "this text supports only"),
        ({"text_field": "body"}, TextError, "has no field body in line 1, only text"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    corpus: Path, tmp_path: Path, fields: dict[str, Any], error: type[Exception], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        made(corpus / "a.jsonl", tmp_path / "out", **fields)


def test_a_missing_text_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="There is no file or folder"):
        made(tmp_path / "nothing", tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(TextError, match="There is no text to read in"):
        made(tmp_path / "empty", tmp_path / "out")
    with pytest.raises(SettingError, match="prepare needs a text"):
        prepare_corpus(TextConfig(), 0, tmp_path / "out")


def test_prepared_text_is_named_alone_and_not_prepared_again(corpus: Path, tmp_path: Path) -> None:
    made(corpus, tmp_path / "out")
    with pytest.raises(TextError, match="cannot be joined with other text; name it alone"):
        prepare(TextConfig(paths=(str(corpus), str(tmp_path / "out"))), 0)
    with pytest.raises(TextError, match="is prepared already; `lightwell train"):
        made(tmp_path / "out", tmp_path / "again")


@pytest.mark.parametrize(
    ("fields", "vocab_size", "name"),
    [
        ({"tokenizer": "character"}, 0, "tokenizer"),
        ({"validation_fraction": 0.3}, 0, "validation_fraction"),
        ({"text_field": "body"}, 0, "text_field"),
        ({}, 999, "vocab_size"),
    ],
)
def test_a_setting_that_cannot_have_an_effect_any_more_is_refused(
    corpus: Path, tmp_path: Path, fields: dict[str, Any], vocab_size: int, name: str
) -> None:
    made(corpus, tmp_path / "out")
    with pytest.raises(SettingError, match=f"^{name} is .* was prepared with .*give --{name.replace('_', '-')} "):
        prepare(TextConfig(paths=(str(tmp_path / "out"),), **fields), vocab_size)
    prepare(TextConfig(paths=(str(tmp_path / "out"),), tokenizer="byte"), 257)


def test_what_is_skipped_cut_and_undecodable_is_reported(tmp_path: Path) -> None:
    folder = write_corpus(tmp_path / "corpus")
    (folder / "d.png").write_bytes(b"\0" * 50)
    (folder / "e.txt").write_bytes(b"caf\xe9 in the rain\n" * 3)
    (folder / "f.txt").write_text("A line of a long text.\n" * 400)
    (folder / "g.jsonl").write_text('{"text": ""}\n{"text": "x"}\n')
    report = "\n".join(made(folder, tmp_path / "out").report)
    for sentence in (
        "Read 125 documents from 35 files",
        "1 record had no text",
        "cut where a line ends, as too large: " + str(folder / "f.txt"),
        "3 byte sequences became U+FFFD",
        f"Skipped 1 because it is binary: {folder / 'd.png'}.",
        "of 125 documents",
        "The byte tokenizer has 257 tokens",
    ):
        assert sentence in report


def test_what_is_not_ours_is_never_removed(corpus: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    for name, content in (("plan.json", '{"mine": 1}'), ("shards/a.txt", "a"), ("units/b.txt", "b")):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(content)
    before = {path: path.read_bytes() for path in project.rglob("*") if path.is_file()}
    for force in (False, True):
        with pytest.raises(TextError, match="not of `lightwell prepare`"):
            made(corpus, project, force=force)
    assert {path: path.read_bytes() for path in project.rglob("*") if path.is_file()} == before


def test_beginning_anew_leaves_what_somebody_put_beside(corpus: Path, tmp_path: Path) -> None:
    made(corpus, tmp_path / "out")
    (tmp_path / "out" / "shards" / "notes.txt").write_text("mine")
    made(corpus, tmp_path / "out", force=True, tokenizer="character")
    assert (tmp_path / "out" / "shards" / "notes.txt").read_text() == "mine"


def test_a_folder_inside_of_the_text_is_no_part_of_it(corpus: Path, tmp_path: Path) -> None:
    elsewhere = made(corpus, tmp_path / "out")
    inside = made(corpus, corpus / "out")
    assert inside.digest == elsewhere.digest
    assert made(corpus, corpus / "out").bytes_done == 0  # the second time, too
    again = made(corpus, tmp_path / "again")
    assert again.digest == elsewhere.digest
    assert any("is prepared text" in sentence for sentence in again.report)


def test_the_reason_why_nothing_was_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "x.jsonl").write_text('{"text": \n{"text": \n')
    for kind in ("bpe", "byte"):
        with pytest.raises(TextError, match=r"\(.*x\.jsonl.*\)"):
            made(tmp_path / "text", tmp_path / kind, tokenizer=kind)


def test_the_result_counts_what_the_folder_holds(corpus: Path, tmp_path: Path) -> None:
    progress: list[tuple[int, int]] = []
    out = tmp_path / "out"
    result = made(corpus, out, workers=1, on_progress=lambda done, of: progress.append((done, of)), tokenizer="bpe")
    opened, manifest = open_prepared(out), read_manifest(out)
    plan = make_plan(TextConfig(paths=(str(corpus),), tokenizer="byte"), 0, tmp_path / "other", UNIT)
    size = sum(len(text_of(number)) for number in range(DOCUMENTS))
    assert (result.text_bytes, result.bytes_done, result.documents) == (size, size, DOCUMENTS)
    assert (result.train_tokens, result.held_out_tokens) == (len(opened.train), len(opened.held_out))
    assert (manifest.train.tokens, manifest.validation.tokens) == (len(opened.train), len(opened.held_out))
    tokens = result.train_tokens + result.held_out_tokens - DOCUMENTS - 2
    assert result.bytes_per_token == size / tokens
    assert result.shards == len(list((out / "shards").glob("*.tokens")))
    assert (result.folder, result.workers, result.digest) == (out, 1, manifest.digest)
    names = {shard.name for side in (manifest.train, manifest.validation) for shard in side.shards}
    assert {f"shards/{path.name}" for path in (out / "shards").iterdir()} == {
        f"{name}.{ending}" for name in names for ending in ("tokens", "offsets")
    }
    assert progress[0] == (0, plan.bytes)
    assert progress[-1] == (size, max(size, plan.bytes))
    assert [done for done, _ in progress] == sorted(done for done, _ in progress)
    (tmp_path / "one.jsonl").write_text('{"text": "abc"}\n{"text": "d"}\n')
    assert made(tmp_path / "one.jsonl", tmp_path / "one", workers=99, validation_fraction=0.5).workers == 1


def test_what_is_done_now_is_told_from_what_was_done_before(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(TextConfig(paths=(str(corpus),), tokenizer="byte"), 0, tmp_path / "out", UNIT)
    sizes = [text_bytes(unit) for unit in plan.units]
    corpus_plan.take_folder(plan)
    byte = corpus_plan.plan_tokenizer(plan)
    for unit in plan.units[:3]:
        encode_unit(unit, plan.work, byte)
    said: list[str] = []
    progress: list[tuple[int, int]] = []
    monkeypatch.setattr("lightwell.corpus.prepare.available_cpus", lambda: 1)
    result = made(corpus, tmp_path / "out", workers=0, say=said.append, on_progress=lambda *done: progress.append(done))
    assert said[0] == f"Going on in {tmp_path / 'out'}: 3 of {len(plan.units)} units were done before."
    assert (result.bytes_done, result.workers) == (sum(sizes[3:]), 1)
    before = sum(unit.size for unit in plan.units[:3])
    assert progress[0] == (before, plan.bytes)
    assert progress[-1] == (before + sum(sizes[3:]), max(before + sum(sizes[3:]), plan.bytes))


def test_units_of_a_faster_encoder_are_not_taken_once_it_was_found_to_differ(corpus: Path, tmp_path: Path) -> None:
    plan = make_plan(TextConfig(paths=(str(corpus),), tokenizer="byte"), 0, tmp_path / "out", UNIT)
    corpus_plan.take_folder(plan)
    byte = corpus_plan.plan_tokenizer(plan)
    for unit in plan.units:
        encode_unit(unit, plan.work, byte)
    record = plan.work.record_path(plan.units[1])
    assert '"lightwell"' in record.read_text()
    record.write_text(record.read_text().replace('"lightwell"', '"fastokens"'))
    (tmp_path / "out" / "units" / "reference-only").touch()
    assert made(corpus, tmp_path / "out").bytes_done == text_bytes(plan.units[1])


def test_workers_begin_with_one_thread_each_and_do_not_know_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYON_NUM_THREADS", "7")
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    program, before = sys.modules["__main__"], dict(os.environ)
    seen: list[Any] = []

    def start() -> None:
        with workers.as_workers_start():
            seen.extend(os.environ[name] for name in ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "MALLOC_ARENA_MAX"))
            seen.append(sys.modules["__main__"] is program)
            raise InterruptedError

    with pytest.raises(InterruptedError):
        start()
    assert seen == ["1", "1", "1", False]
    assert dict(os.environ) == before
    assert sys.modules["__main__"] is program


def test_a_worker_adds_what_it_read_and_stops_when_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    import multiprocessing
    import threading

    read, stop = multiprocessing.get_context("spawn").Value("q", 5), threading.Event()
    for name, value in (("read", read), ("stop", stop), ("work", "work"), ("tokenizer", "tokenizer")):
        monkeypatch.setattr(workers._Worker, name, value, raising=False)

    def encode(unit: Any, work: Any, given: Any, on_progress: Callable[[int], None]) -> None:
        assert (work, given) == ("work", "tokenizer")
        on_progress(unit)

    monkeypatch.setattr(workers, "encode_unit", encode)
    workers._encode(30)  # type: ignore[arg-type]
    assert read.value == 35
    stop.set()
    with pytest.raises(workers.StoppedError):
        workers._encode(7)  # type: ignore[arg-type]


def test_the_processors_that_may_be_used_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 7} if process == 0 else set(), raising=False)
    assert workers.available_cpus() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    for count, expected in ((4, 4), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert workers.available_cpus() == expected


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.EDQUOT, r"^The disk of .*out is full; free some space, and the same command goes on from what is done"),
        (errno.EACCES, r"out cannot be written \(Permission denied\); the same command goes on from what is done"),
    ],
)
def test_a_folder_that_cannot_be_written_gets_a_sentence(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, sentence: str
) -> None:
    monkeypatch.setattr(Path, "mkdir", raising(system_error(code)))
    with pytest.raises(TextError, match=sentence):
        made(corpus, tmp_path / "out")


def test_a_folder_of_another_version_or_tokenizer_is_refused(corpus: Path, tmp_path: Path) -> None:
    made(corpus, tmp_path / "out")
    given = TextConfig(paths=(str(tmp_path / "out"),))
    (tmp_path / "out" / "plan.json").unlink()  # only to recognise its command
    opened = prepare(given, 0, tokenizer=open_prepared(tmp_path / "out").tokenizer)
    assert opened.report[-1] == f"These tokens were prepared before, in {tmp_path / 'out'}."
    assert opened.report[:-1] == read_manifest(tmp_path / "out").report
    other = tokenizer.make_tokenizer(TextConfig(tokenizer="character"), 0, ["abc"])
    with pytest.raises(TextError, match="was prepared with another tokenizer; prepare it with this one"):
        prepare(given, 0, tokenizer=other)
    manifest = tmp_path / "out" / MANIFEST
    manifest.write_text(manifest.read_text().replace('"format": 1,', '"format": 2,'))
    with pytest.raises(TextError, match="is of another version of Lightwell"):
        prepare(given, 0)


def test_workers_are_told_to_stop_before_they_are_waited_for(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []
    given_stop: list[Any] = []

    class Pool:
        def submit(self, work: Any, unit: Any) -> Future[None]:
            done: Future[None] = Future()
            done.set_result(None)
            return done

        def shutdown(self, *, wait: bool, cancel_futures: bool) -> None:
            happened.append(f"told: {given_stop[0].is_set()}, wait: {wait}, cancel: {cancel_futures}")

    @contextmanager
    def pool(size: int, given: tuple[Any, ...]) -> Iterator[Pool]:
        given_stop.append(given[1])
        yield Pool()

    def stopped(size: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(workers, "_pool", pool)
    plan = make_plan(TextConfig(paths=(str(corpus),)), 0, tmp_path / "out", 2000)
    with pytest.raises(KeyboardInterrupt):
        workers.encode_units(plan.units, plan.work, 2, False, stopped)
    assert happened == ["told: True, wait: True, cancel: True"]


def test_the_speed_is_that_of_the_whole_call(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([100.0, 104.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    done = made(corpus, tmp_path / "out", tokenizer="byte", workers=1)
    assert (done.seconds, done.bytes_done) == (4.0, done.text_bytes)


def test_what_workers_add_while_it_is_reported_is_reported_next(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Growing:
        """A counter that grows each time it is looked at."""

        looked = 0

        @property
        def value(self) -> int:
            self.looked += 1
            return self.looked

    class Pool:
        def submit(self, work: Any, unit: Any) -> Future[None]:
            done: Future[None] = Future()
            done.set_result(None)
            return done

    counter = Growing()
    reports: list[int] = []
    context = SimpleNamespace(Value=lambda kind, first: counter, Event=lambda: None)
    monkeypatch.setattr(multiprocessing, "get_context", lambda method: context)
    monkeypatch.setattr(workers, "_pool", lambda size, given: nullcontext(Pool()))
    plan = make_plan(TextConfig(paths=(str(corpus),)), 0, tmp_path / "out", 2000)
    workers.encode_units(plan.units, plan.work, 2, False, reports.append)
    assert sum(reports) == counter.looked > 0


def test_what_a_failed_try_left_is_not_in_the_way_of_the_advice_it_gave(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(VocabularyError) as failed:
        made(corpus, tmp_path / "out", tokenizer="bpe", vocab_size=100_000, workers=1)
    assert str(failed.value.supported) in str(failed.value).replace(",", "")
    done = made(corpus, tmp_path / "out", tokenizer="bpe", vocab_size=failed.value.supported, workers=1)
    assert done.folder == tmp_path / "out"
    with pytest.raises(TextError, match="was prepared with another vocab_size"):
        made(corpus, tmp_path / "out", tokenizer="bpe", vocab_size=300, workers=1)
