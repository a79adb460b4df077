"""What is known by a hash: each input of it counts, and its value is the same from one version to the next."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from lightwell.corpus.corpus import prepare
from lightwell.corpus.manifest import Manifest, Side
from lightwell.corpus.plan import make_plan
from lightwell.corpus.shards import Shard
from lightwell.corpus.units.encoding import Work, document_key
from lightwell.text.config import TextConfig
from lightwell.tokens.token_file import TokenFile

TRAIN_SHARD = Shard("shards/train-00000", 2, 7, {"tokens": "aa", "offsets": "bb"})
HELD_OUT_SHARD = Shard("shards/validation-00000", 1, 3, {"tokens": "cc", "offsets": "dd"})
MANIFEST = Manifest(
    1, {"tokenizer": "byte"}, "ff", 257, 256, "<u2",
    Side(2, 8, 5, [TRAIN_SHARD]), Side(1, 4, 2, [HELD_OUT_SHARD]), ["A sentence."],
)  # fmt: skip
STREAM: dict[str, Any] = {"vocab_size": 257, "end_of_text": 256, "offsets": [0, 3, 5], "text_bytes": 3}


def test_a_manifest_keeps_its_digest() -> None:
    assert MANIFEST.expected_digest() == "688892070f0fe2d6e3afdd3b4e28cb285171ec2669f1c0b7ac063708af1d590f"


@pytest.mark.parametrize(
    "change",
    [
        {"fingerprint": "fe"},
        {"vocab_size": 258},
        {"end_of_text": 0},
        {"dtype": "<u4"},
        {"train": dataclasses.replace(MANIFEST.train, documents=3)},
        {"train": dataclasses.replace(MANIFEST.train, tokens=9)},
        {"validation": dataclasses.replace(MANIFEST.validation, text_bytes=3)},
        *(
            {"train": dataclasses.replace(MANIFEST.train, shards=[dataclasses.replace(TRAIN_SHARD, **shard)])}
            for shard in (
                {"documents": 1},
                {"tokens": 6},
                {"sha256": {"tokens": "ab", "offsets": "bb"}},
                {"sha256": {"tokens": "aa", "offsets": "ba"}},
            )
        ),
    ],
)
def test_everything_that_decides_the_tokens_is_in_the_digest_of_a_manifest(change: dict[str, Any]) -> None:
    assert dataclasses.replace(MANIFEST, **change).expected_digest() != MANIFEST.expected_digest()


def test_a_stream_of_tokens_keeps_its_digest_and_everything_counts() -> None:
    ids = [256, 1, 2, 256, 3, 256]
    stream = TokenFile.from_ids(ids, **STREAM)
    assert stream.digest == "13ebb8ace545a9592530ca646569de9490bf7012e6f4259b041e967eec7b8466"
    changes = (
        {"vocab_size": 258},
        {"end_of_text": 0},
        {"offsets": [0, 2, 5]},
        {"text_bytes": 4},
        {"vocab_size": 70_000},
    )
    digests = {TokenFile.from_ids(ids, **STREAM | change).digest for change in changes}
    assert len(digests | {stream.digest}) == 6


def test_the_key_of_a_document_is_the_beginning_of_its_hash() -> None:
    assert document_key("abc") == (0xBA7816BF8F01CFEA, 3)  # FIPS 180-2, B.1
    assert document_key("光")[1] == 3


def test_a_key_at_the_fraction_is_trained_on() -> None:
    work = Work(Path(), "text", 0.5, 1, "")
    assert [work.side_of(key) for key in (0, 2**63 - 1, 2**63, 2**64 - 1)] == ["validation"] * 2 + ["train"] * 2


def test_a_plan_knows_its_sources_by_path_size_and_time(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("some text")
    os.utime(path, ns=(10**18, 10**18))

    def fingerprint(name: Path = path, **fields: Any) -> str:
        return make_plan(
            TextConfig(paths=(str(name),), tokenizer="byte", **fields), 0, tmp_path / "out"
        ).work.fingerprint

    first = fingerprint()
    assert fingerprint() == first
    assert fingerprint(validation_fraction=0.2) != first
    os.utime(path, ns=(10**18, 10**18 + 1))
    assert fingerprint() != first
    path.write_text("some texts")
    os.utime(path, ns=(10**18, 10**18))
    assert fingerprint() != first


def test_a_tokenizer_of_another_version_of_its_library_is_trained_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.txt").write_text("The light falls down the well.\n" * 50)
    config = TextConfig(paths=(str(tmp_path / "a.txt"),))
    prepare(config, 0, cache=tmp_path / "cache")
    monkeypatch.setattr(tokenizers, "__version__", "0.0.1")
    again = prepare(config, 0, cache=tmp_path / "cache")
    assert not any("are reused" in sentence for sentence in again.report)
