from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightwell.corpus import corpus as module
from lightwell.corpus.corpus import Corpus, cache_folder, prepare
from lightwell.errors import SettingError, TextError
from lightwell.text.config import TextConfig
from lightwell.tokens.token_file import TokenFile
from lightwell.tokens.tokenizer import Tokenizer
from paths import needs
from small import raising, system_error, word_tokenizer


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}.txt").write_text(
            f"Note {number}: " + "the light falls down the well. " * (10 + number % 3)
        )
    return folder


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def config(notes: Path, **fields: Any) -> TextConfig:
    return TextConfig(paths=(str(notes),), **fields)


def reused(corpus: Corpus) -> bool:
    return any("are reused" in sentence for sentence in corpus.report)


def entries(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "tokens").iterdir() if path.is_dir())


def same_tokens(one: Corpus, other: Corpus) -> bool:
    sides = ((one.train, other.train), (one.held_out, other.held_out))
    return one.digest == other.digest and all(np.array_equal(a.tokens, b.tokens) for a, b in sides)


@pytest.mark.parametrize("tokenizer", ["character", "byte", "bpe"])
def test_the_tokens_are_the_documents(notes: Path, cache: Path, tokenizer: str) -> None:
    said: list[str] = []
    corpus = prepare(config(notes, tokenizer=tokenizer), 0, cache=cache, say=said.append)
    texts = []
    for side in (corpus.train, corpus.held_out):
        starts, ends = side.offsets[:-1] + 1, side.offsets[1:]
        texts += [corpus.tokenizer.decode(side.tokens[a:b]) for a, b in zip(starts, ends, strict=True)]
    assert sorted(texts) == sorted(path.read_text() for path in notes.iterdir())
    assert corpus.documents == 30 == corpus.train.documents + corpus.held_out.documents
    assert corpus.train.text_bytes + corpus.held_out.text_bytes == sum(len(text) for text in texts)
    assert corpus.report == said
    assert any("Held out" in sentence for sentence in said)
    assert not reused(corpus)


def test_tokens_are_reused_when_nothing_changed(notes: Path, cache: Path) -> None:
    first = prepare(config(notes), 0, cache=cache)
    again = prepare(config(notes), 0, cache=cache)
    assert reused(again)
    assert same_tokens(first, again)
    assert again.tokenizer.fingerprint == first.tokenizer.fingerprint
    resumed = prepare(config(notes), 0, tokenizer=first.tokenizer, cache=cache)
    assert reused(resumed), "a run that is resumed brings its tokenizer, and finds the same entry"
    assert len(entries(cache)) == 1


@pytest.mark.parametrize("change", ["text", "split", "share", "kind", "size"])
def test_tokens_are_made_again_when_something_changed(notes: Path, cache: Path, change: str) -> None:
    first = prepare(config(notes), 0, cache=cache)
    changes: dict[str, dict[str, Any]] = {
        "split": {"validation_fraction": 0.3},
        "share": {"validation_fraction": 0.1001},
        "kind": {"tokenizer": "byte"},
    }
    if change == "text":
        (notes / "3.txt").write_text("Note 3 is another one now.")
    again = prepare(config(notes, **changes.get(change, {})), 270 if change == "size" else 0, cache=cache)
    assert not reused(again)
    assert (again.digest != first.digest) == (change != "share"), "so small a share more holds out the same notes"


def test_the_order_of_documents_counts(tmp_path: Path, cache: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(f"{name} " * 50)
    paths = (str(tmp_path / "a"), str(tmp_path / "b"))
    one = prepare(TextConfig(paths=paths, tokenizer="byte"), 0, cache=cache)
    other = prepare(TextConfig(paths=paths[::-1], tokenizer="byte"), 0, cache=cache)
    assert one.digest != other.digest


@pytest.mark.parametrize("damage", ["train.tokens", "validation.json", "about.json", "tokenizer.json"])
@pytest.mark.parametrize("how", ["changed", "gone"])
def test_a_damaged_cache_is_made_again_and_says_so(notes: Path, cache: Path, damage: str, how: str) -> None:
    first = prepare(config(notes), 0, cache=cache)
    (entry,) = entries(cache)
    if how == "gone":
        (entry / damage).unlink()
    else:
        data = bytearray((entry / damage).read_bytes())
        data[len(data) // 2] ^= 1
        (entry / damage).unlink()  # not changed in place, because `first` has it mapped
        (entry / damage).write_bytes(data)
    again = prepare(config(notes), 0, cache=cache)
    if not (damage == "about.json" and how == "changed"):  # one changed letter of its sentences is nobody's harm
        assert not reused(again)
        assert any("done now" in sentence for sentence in again.report)
    assert same_tokens(first, again)
    assert reused(prepare(config(notes), 0, cache=cache))
    assert len(list((cache / "tokens").iterdir())) == 2, "the entry and its note; nothing is left beside them"


def test_a_tokenizer_that_is_given_is_used_as_it_is(notes: Path, cache: Path) -> None:
    trained = prepare(config(notes), 0, cache=cache).tokenizer
    (notes / "0.txt").write_text("Something else altogether, 光.")
    other = prepare(config(notes, tokenizer="byte"), 99, tokenizer=trained, cache=cache)
    assert other.tokenizer is trained
    assert other.train.vocab_size == trained.vocab_size


def test_only_the_training_side_is_learned_from(tmp_path: Path, cache: Path) -> None:
    text = "abc\n" * 1000
    (tmp_path / "x.txt").write_text(text + "光")
    corpus = prepare(TextConfig(paths=(str(tmp_path / "x.txt"),), tokenizer="character"), 0, cache=cache)
    assert corpus.tokenizer.vocab_size == 257 + 4
    assert corpus.tokenizer.decode(corpus.held_out.tokens[1:-1]).endswith("abc\n光")


@pytest.mark.parametrize("place", ["write", "rename"])
def test_a_full_disk_gets_a_sentence_and_leaves_nothing(
    notes: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    full = raising(system_error(errno.ENOSPC))
    with monkeypatch.context() as patch:
        patch.setattr(*{"write": (TokenFile, "write"), "rename": (Path, "rename")}[place], full)
        with pytest.raises(TextError, match=r"^The disk of .* is full; free some space or set LIGHTWELL_CACHE"):
            prepare(config(notes), 0, cache=cache)
    assert list((cache / "tokens").iterdir()) == []
    assert not reused(prepare(config(notes), 0, cache=cache))


def test_writing_that_the_system_stops_in_the_middle_of_a_file(notes: Path, cache: Path) -> None:
    pytest.importorskip("resource", reason="needs a system with limits on file size")
    program = (
        "import resource, sys; from pathlib import Path\n"
        "from lightwell.text.config import TextConfig; from lightwell.corpus.corpus import prepare\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))\n"
        "prepare(TextConfig(paths=(sys.argv[1],), tokenizer='byte'), 0, cache=Path(sys.argv[2]))"
    )
    done = subprocess.run([sys.executable, "-c", program, notes, cache], capture_output=True, text=True, check=False)
    assert "TextError: The tokens cannot be written to" in done.stderr
    assert list((cache / "tokens").iterdir()) == []


def test_a_cache_that_cannot_be_is_named(notes: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    with pytest.raises(TextError, match="LIGHTWELL_CACHE"):
        prepare(config(notes), 0, cache=tmp_path / "file")


def test_what_a_killed_process_left_is_cleared_away_in_time(notes: Path, cache: Path) -> None:
    old, new = cache / "tokens" / f"{module.UNFINISHED}old", cache / "tokens" / f"{module.UNFINISHED}new"
    for folder in (old, new):
        folder.mkdir(parents=True)
    long_ago = time.time() - 2 * module.ABANDONED_AFTER
    os.utime(old, (long_ago, long_ago))
    prepare(config(notes), 0, cache=cache)
    assert not old.exists()
    assert new.exists(), "it may be another process's, at work"


def test_processes_may_prepare_the_same_text_at_once(notes: Path, cache: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from lightwell.text.config import TextConfig; from lightwell.corpus.corpus import prepare\n"
        "print(prepare(TextConfig(paths=(sys.argv[1],)), 0, cache=Path(sys.argv[2])).digest)"
    )
    command = [sys.executable, "-c", program, str(notes), str(cache)]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    digests = {process.communicate()[0].strip() for process in processes}
    assert digests == {prepare(config(notes), 0, cache=cache).digest}
    assert len(entries(cache)) == 1


def test_a_tokenizer_that_loses_text_is_reported(notes: Path, cache: Path, tmp_path: Path) -> None:
    path = word_tokenizer(tmp_path, {"[UNK]": 0, "light": 1, "</s>": 2}, unknown="[UNK]")
    corpus = prepare(config(notes, tokenizer=path), 0, cache=cache)
    assert any("does not give every text back" in sentence for sentence in corpus.report)
    assert corpus.tokenizer.end_of_text == 2


@pytest.mark.parametrize("at_once", [module.COUNTED_AT_ONCE, 7])
def test_text_that_is_lost_anywhere_is_counted(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(module, "COUNTED_AT_ONCE", at_once)
    path = word_tokenizer(tmp_path, {"a": 0, "b": 1, "</s>": 2})
    (tmp_path / "x.txt").write_text(
        "ab" * 500 + "c光" + "ab" * 500
    )  # lost in the training text, before the held-out end
    corpus = prepare(TextConfig(paths=(str(tmp_path / "x.txt"),), tokenizer=path), 0, cache=cache)
    assert not any("does not give" in sentence for sentence in corpus.report), "the held-out text comes back"
    assert any("spell 2,000 bytes, but the text has 2,004" in sentence for sentence in corpus.report)


def test_a_tokenizer_that_loses_nothing_is_not_blamed(tmp_path: Path, cache: Path) -> None:
    path = word_tokenizer(tmp_path, {"a": 0, "b": 1, "</s>": 2})
    (tmp_path / "x.txt").write_text("ab" * 1000)
    corpus = prepare(TextConfig(paths=(str(tmp_path / "x.txt"),), tokenizer=path), 0, cache=cache)
    assert not any("this tokenizer" in sentence.lower() for sentence in corpus.report)


@pytest.mark.parametrize(("text", "side"), [("x" * 2000, "training"), ("a" * 1500 + "x" * 1500, "held-out")])
def test_a_tokenizer_that_makes_nothing_of_a_text_is_refused(tmp_path: Path, cache: Path, text: str, side: str) -> None:
    path = word_tokenizer(tmp_path, {"a": 0, "b": 1, "</s>": 2})
    (tmp_path / "x.txt").write_text(text)
    with pytest.raises(TextError, match=f"no tokens at all of the .* bytes of {side} text"):
        prepare(TextConfig(paths=(str(tmp_path / "x.txt"),), tokenizer=path), 0, cache=cache)
    assert list((cache / "tokens").iterdir()) == []


def test_a_misspelt_tokenizer_is_found_before_anything_is_read(cache: Path) -> None:
    with pytest.raises(SettingError, match="Did you mean byte"):
        prepare(TextConfig(paths=("/no/such/file",), tokenizer="bytes"), 0, cache=cache)


def test_a_setting_that_is_refused_is_refused_again_when_the_tokens_are_there(notes: Path, cache: Path) -> None:
    prepare(config(notes), 0, cache=cache)
    with pytest.raises(SettingError, match="end_of_text"):
        prepare(config(notes, end_of_text="</s>"), 0, cache=cache)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LIGHTWELL_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("LIGHTWELL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "lightwell"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "lightwell"


def test_gpt2_tokens_of_the_story(cache: Path) -> None:
    paths = (str(needs("the-verdict.txt")),)
    corpus = prepare(TextConfig(paths=paths, tokenizer=str(needs("gpt2-vocabulary"))), 0, cache=cache)
    whole = TokenFile.from_texts([needs("the-verdict.txt").read_text(encoding="utf-8")], corpus.tokenizer)
    assert len(whole) == 5145 + 2
    assert isinstance(corpus.tokenizer, Tokenizer)


def test_a_reused_corpus_says_the_same_and_where_it_is_from(notes: Path, cache: Path) -> None:
    said: list[str] = []
    first = prepare(config(notes), 0, cache=cache)
    again = prepare(config(notes), 0, cache=cache, say=said.append)
    (entry,) = entries(cache)
    assert again.report == said == [*first.report, f"These tokens were made before and are reused from {entry}."]
    assert again.documents == first.documents == 30
    assert (again.train.text_bytes, again.held_out.text_bytes) == (first.train.text_bytes, first.held_out.text_bytes)


def test_the_tokens_of_a_small_text_are_counted(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "x.txt").write_text("é" * 20)
    corpus = prepare(TextConfig(paths=(str(tmp_path / "x.txt"),), tokenizer="character"), 0, cache=cache)
    assert (len(corpus.train), len(corpus.held_out)) == (18 + 2, 2 + 2)
    assert corpus.report[-1] == (
        "The character tokenizer has 258 tokens, each 2.00 bytes on average: 20 to train on and 4 held out."
    )


@pytest.mark.parametrize(("at", "told"), [(9_999, True), (10_000, False)])
def test_a_tokenizer_is_tried_on_the_first_ten_thousand_characters(
    tmp_path: Path, cache: Path, at: int, told: bool
) -> None:
    path = word_tokenizer(tmp_path, {"a": 0, "b": 1, "</s>": 2})
    (tmp_path / "x.txt").write_text("ab" * 54_000 + "a" * at + "c" + "a" * (11_999 - at))  # the last tenth is held out
    corpus = prepare(TextConfig(paths=(str(tmp_path / "x.txt"),), tokenizer=path), 0, cache=cache)
    assert any("does not give" in sentence for sentence in corpus.report) == told
    assert any("spell 119,999 bytes, but the text has 120,000" in sentence for sentence in corpus.report)


@pytest.mark.parametrize("content", ["", "no hash", "0" * 31, "0" * 33, "../" + "0" * 29, "A" * 32, "\xff"])
def test_a_note_that_is_damaged_is_not_followed(notes: Path, cache: Path, content: str) -> None:
    first = prepare(config(notes, tokenizer="byte"), 0, cache=cache)
    (note,) = (cache / "tokens").glob("*.note")
    whole = note.read_bytes()
    note.write_bytes(content.encode("latin-1"))
    again = prepare(config(notes, tokenizer="byte"), 0, cache=cache)
    assert not reused(again)
    assert same_tokens(first, again)
    assert note.read_bytes() == whole == entries(cache)[0].name.encode()


def test_entries_of_another_format_are_made_again(notes: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(config(notes, tokenizer="byte"), 0, cache=cache)
    monkeypatch.setattr(module, "FORMAT", module.FORMAT + 1)
    assert not reused(prepare(config(notes, tokenizer="byte"), 0, cache=cache))


def test_what_is_unfinished_is_taken_for_abandoned_after_a_day(notes: Path, cache: Path) -> None:
    folder = cache / "tokens"
    folder.mkdir(parents=True)
    left = {name: folder / name for name in ("a.note.17.unfinished", "b.note.17.unfinished", "notes.txt")}
    for path in left.values():
        path.write_text("x")
    for hours in (23, 25):
        (folder / f"unfinished-{hours}").mkdir()
    for name, hours in (("a.note.17.unfinished", 25), ("b.note.17.unfinished", 23), ("notes.txt", 99)):
        os.utime(left[name], (time.time() - 3600 * hours,) * 2)
    for hours in (23, 25):
        os.utime(folder / f"unfinished-{hours}", (time.time() - 3600 * hours,) * 2)
    prepare(config(notes, tokenizer="byte"), 0, cache=cache)
    kept = {path.name for path in folder.iterdir() if path.is_file()}
    assert {name for name in kept if not name.endswith(".note")} == {"b.note.17.unfinished", "notes.txt"}
    assert [path.name for path in folder.glob("unfinished-*")] == ["unfinished-23"]


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (errno.EDQUOT, r"^The disk of .*tokens is full; free some space or set LIGHTWELL_CACHE to another folder\.$"),
        (errno.EACCES, r"^The tokens cannot be written to .*tokens \(Permission denied\); set LIGHTWELL_CACHE"),
    ],
)
def test_why_the_cache_cannot_be_written_is_said(
    notes: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, code: int, sentence: str
) -> None:
    monkeypatch.setattr(Path, "rename", raising(system_error(code)))
    with pytest.raises(TextError, match=sentence):
        prepare(config(notes, tokenizer="byte"), 0, cache=cache)


def test_the_home_folder_may_be_named_short_and_the_cache_is_used_by_itself(
    notes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LIGHTWELL_CACHE", "~/own")
    assert cache_folder() == tmp_path / "home" / "own"
    prepare(config(notes, tokenizer="byte"), 0)
    assert len(entries(tmp_path / "home" / "own")) == 1
