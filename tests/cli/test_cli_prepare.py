"""`lightwell prepare`, and what reads the folder that it leaves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lightwell as lw
from cli_house import SMALL_FLAGS, call
from lightwell.corpus import workers as unit_workers
from lightwell.corpus.units.encoding import encode_unit
from shard_house import bytes_of
from small import SMALL, write_text

Capture = pytest.CaptureFixture[str]
FLAGS = ("--tokenizer", "character", "--workers", "1")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_text(tmp_path / "letters", documents=60)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_it_says_what_it_read_and_what_to_type_next(here: Path, capsys: Capture) -> None:
    result = call(capsys, "prepare", "letters", "--out", "tokens", *FLAGS)
    assert result.code == 0, result.err
    assert "Read 60 documents from 60 files" in result.err
    assert "Held out" in result.err
    for row in ("documents", "tokens", "bytes per token", "shards", "B/s by 1 worker", "Saved in"):
        assert row in result.out
    assert result.out.rstrip().endswith("lightwell train tokens")
    again = call(capsys, "prepare", "letters", "--out", "tokens", *FLAGS, "--json")
    assert "is prepared already" in again.err
    found = json.loads(again.out)
    assert (found["documents"], found["folder"], found["bytes_done"]) == (60, "tokens", 0)


def test_a_run_learns_from_it_goes_on_and_is_scored(here: Path, capsys: Capture) -> None:
    call(capsys, "prepare", "letters", "--out", "tokens", *FLAGS)
    trained = call(capsys, "train", "tokens", "--out", "runs/tokens", *SMALL_FLAGS)
    assert trained.code == 0, trained.err
    assert "These tokens were prepared before" in trained.err
    assert "held-out loss" in trained.err
    assert call(capsys, "train", "tokens", *SMALL_FLAGS, "--dry-run").code == 0
    assert call(capsys, "resume", "runs/tokens").code == 0
    own = call(capsys, "evaluate", "runs/tokens", "--json")
    named = call(capsys, "evaluate", "runs/tokens", "tokens", "--json")
    assert own.code == named.code == 0, own.err + named.err
    assert json.loads(own.out)["nats_per_token"] == json.loads(named.out)["nats_per_token"]
    assert json.loads(own.out)["references"]


def test_a_run_of_the_same_windows_has_the_same_losses(here: Path) -> None:
    """Shards change nothing of what a run computes: one small unit after another, or all in one."""
    from lightwell.corpus.prepare import prepare_corpus
    from lightwell.text.config import TextConfig

    text, losses = TextConfig(paths=("letters",), tokenizer="byte"), []
    for name, size in (("one", 1 << 25), ("many", 3000)):
        prepare_corpus(text, 0, Path(name), workers=1, unit_bytes=size)
        settings = {key: value for key, value in SMALL.items() if key != "tokenizer"}
        run = lw.train(name, out=f"runs/{name}", listener=lw.Listener(), **settings)
        losses.append([record.get("loss") for record in run.metrics()])
    assert losses[0] == losses[1]
    assert len(list(Path("many/shards").iterdir())) > 2 * len(list(Path("one/shards").iterdir()))


def test_ctrl_c_says_how_to_go_on(here: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def press(*arguments: object) -> None:
        encode_unit(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(unit_workers, "encode_unit", press)
        result = call(capsys, "prepare", "letters", "--out", "tokens", *FLAGS)
    assert result.code == 130
    assert "Stopped; 1 of 1 units are in tokens, and the same command goes on from there." in result.err
    assert call(capsys, "train", "tokens").err.endswith("give its `lightwell prepare` command again to go on.\n")
    assert call(capsys, "prepare", "letters", "--out", "tokens", *FLAGS).code == 0


@pytest.mark.parametrize(
    ("command", "code", "sentence"),
    [
        ("prepare letters", 2, "`lightwell prepare` needs a --out, which is not given"),
        ("prepare --out tokens", 2, "prepare needs a text"),
        ("prepare lettres --out tokens", 1, "Did you mean letters?"),
        ("prepare letters --out letters", 1, "is not empty and holds no prepared text"),
        ("prepare letters --out tokens --workers -1", 2, "workers is -1"),
        ("prepare letters --out tokens --workers two", 2, "workers is 'two', but must be a whole number"),
        ("prepare letters --out tokens --tokenizer bites", 2, "Did you mean byte?"),
        ("prepare letters --out tokens --n-layers 3", 2, "There is no flag --n-layers"),
        ("prepare letters --out tokens --validation-fraction 1.5", 2, "validation_fraction is 1.5"),
    ],
)
def test_mistakes_get_a_sentence(here: Path, capsys: Capture, command: str, code: int, sentence: str) -> None:
    result = call(capsys, *command.split())
    assert (result.code, sentence in result.err) == (code, True), result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("name", "turned", "neutral"),
    [
        ("validation_fraction", 0.4, 0.1),
        ("tokenizer", "character", "byte"),
        ("text_field", "body", "text"),
        ("vocab_size", 300, 0),
        ("end_of_text", "<fin>", "<|endoftext|>"),
    ],
)
def test_turning_a_setting_shows_and_its_neutral_value_does_not(
    tmp_path: Path, name: str, turned: object, neutral: object
) -> None:
    lines = [
        json.dumps({"text": f"Rain {n * 7919} falls. " * 9, "body": f"Moss {n * 7907} grows. " * 9}) for n in range(40)
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    base: dict[str, Any] = {"tokenizer": "bpe" if name == "vocab_size" else "byte"}
    if name == "end_of_text":
        base["tokenizer"] = two_ends(tmp_path)
    digests = {}
    for label, given in (("turned", {name: turned}), ("neutral", {name: neutral}), ("left out", {})):
        settings = {**base, **given}
        found = lw.prepare(tmp_path / "a.jsonl", out=tmp_path / label, workers=1, listener=lw.Listener(), **settings)
        digests[label] = found.digest
    assert digests["neutral"] == digests["left out"] != digests["turned"]


def two_ends(folder: Path) -> str:
    """A tokenizer file with two tokens that could end a text."""
    from lightwell.tokens.building import build_byte

    backend = build_byte()
    backend.add_special_tokens(["<fin>"])
    backend.save(str(folder / "tokenizer.json"))
    return str(folder / "tokenizer.json")


def test_workers_and_force_change_no_byte(here: Path) -> None:
    quiet = lw.Listener()
    for workers in (1, 2):
        lw.prepare("letters", out=f"by-{workers}", workers=workers, listener=quiet, tokenizer="byte")
    before = bytes_of(here / "by-1")
    assert before == bytes_of(here / "by-2")
    lw.prepare("letters", out="by-1", workers=1, listener=quiet, tokenizer="byte", force=True)
    assert bytes_of(here / "by-1") == before
    with pytest.raises(lw.SettingError, match=r"prepare has no setting tokeniser, only .*Did you mean tokenizer?"):
        lw.prepare("letters", out="x", tokeniser="byte")
