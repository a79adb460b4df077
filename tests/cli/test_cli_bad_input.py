from __future__ import annotations

import errno
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from cli_house import SMALL_FLAGS, call
from lightwell.training.checkpoints.checkpoint import checkpoint_steps
from lightwell.training.checkpoints.tensor_file import write_tensors
from small import system_error

Capture = pytest.CaptureFixture[str]

WRONG_USAGE = [
    ("trian", "Did you mean train?"),
    ("notes", "Did you mean `lightwell train notes`?"),
    ("nonsense", "there are train, resume"),
    ("train --n-layer 3", "There is no flag --n-layer. Did you mean --n-layers?"),
    ("train --n-layer=3", "There is no flag --n-layer. Did you mean --n-layers?"),
    ("train --zzz 3", "`lightwell train --help` lists them all"),
    ("train --n-layers x", "n_layers is 'x', but must be a whole number, 1 or more."),
    ("train --n-layers 0", "n_layers is 0, but must be a whole number, 1 or more."),
    ("train --learning-rate -1", "learning_rate is -1.0"),
    ("train --activation rleu", "Did you mean relu?"),
    ("train --qk-norm=maybe", "qk_norm is 'maybe', but must be true or false"),
    ("train --preset smal", "Did you mean small?"),
    ("train --n-heads 3", "n_heads is 3, which does not divide d_model 256"),
    ("train --steps", "--steps is given without a value"),
    ("train --steps 3 --steps 4", "--steps is given more than once"),
    ("train --steps 3 --minutes 2", "steps and minutes are given"),
    ("train --config none.toml", "There is no configuration file none.toml."),
    ("train --config wrong.toml", "Did you mean n_layers?"),
    ("train --config broken.toml", "broken.toml is not valid TOML"),
    ("train --tokenizer bpee", "Did you mean bpe?"),
    ("generate", "`lightwell generate` needs a RUN"),
    ("generate notes what", "takes nothing more, but got what"),
    ("generate notes --temperature -1", "temperature is -1.0"),
    ("generate notes --temprature 1", "Did you mean --temperature?"),
    ("generate notes --seed x", "seed is 'x', but must be a whole number, 0 or more."),
    ("generate notes --seed -1", "seed is -1"),
    ("generate notes --context-length -1", "context_length is -1"),
    ("evaluate notes --stride -1", "stride is -1"),
    ("train --force=maybe", "--force is 'maybe', but must be true or false."),
    ("generate notes --device gpu", "device is 'gpu', but must be one of auto, cpu, cuda, mps."),
    ("evaluate notes --stride 17", "at most the context_length 16"),
]

FAILED = [
    ("train empty.txt", "empty.txt is empty"),
    ("train missing.txt", "There is no file or folder"),
    ("train void", "There are no files in"),
    ("train binary.dat", "binary.dat is binary"),
    ("train short.txt", "context_length 128 needs 129"),
    ("train notes --vocab-size 50000", "vocab_size is 50,000, but this text supports only"),
    ("train notes --out runs/notes", "--force"),
    ("train notes --out notes", "notes exists and is not a run"),
    ("train notes --out notes --force", "notes exists and is not a run"),
    ("resume nothing", "There is no run nothing. There are runs/notes."),
    ("show noets", "Did you mean runs/notes?"),
    ("generate notes --checkpoint 5", "notes has no checkpoint 5; it has best, newest, 2, 3, 4, 6."),
    ("evaluate notes missing.txt", "There is no file or folder"),
    ("runs nowhere", "There is no folder nowhere."),
]


@pytest.fixture
def bad_house(house: Path) -> Path:
    (house / "empty.txt").write_text("")
    (house / "short.txt").write_text("one short line")
    (house / "binary.dat").write_bytes(b"\x00\x01\x02" * 50)
    (house / "void").mkdir()
    (house / "wrong.toml").write_text("[model]\nn_layer = 3\n")
    (house / "broken.toml").write_text("n_layers 3")
    return house


@pytest.mark.parametrize(
    ("line", "says", "code"), [(*case, 2) for case in WRONG_USAGE] + [(*case, 1) for case in FAILED]
)
def test_bad_input_gets_one_sentence_and_the_right_exit_code(
    bad_house: Path, capsys: Capture, line: str, says: str, code: int
) -> None:
    before = contents(bad_house)
    result = call(capsys, *line.split())
    assert result.code == code
    *told, last = result.err.splitlines()
    assert last.startswith("lightwell: ")
    assert says in last
    assert not any(line.startswith(("lightwell:", "Traceback")) for line in told)
    assert result.out == ""
    assert contents(bad_house) == before


def contents(folder: Path) -> dict[str, str]:
    """Every file that is the user's, and its hash; the cache of tokens may grow."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and "cache" not in path.parts
    }


def test_a_context_beyond_learned_positions_is_refused(house: Path, capsys: Capture) -> None:
    flags = ["--out", "runs/learned", "--positions", "learned", *SMALL_FLAGS]
    assert call(capsys, "train", "notes", *flags).code == 0
    refused = call(capsys, "generate", "learned", "--context-length", "32")
    assert refused.code == 2
    assert "learned exactly 16 positions" in refused.err
    assert call(capsys, "generate", "notes", "--context-length", "32", "--max-new-tokens", "30").code == 0


def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(house: Path, capsys: Capture) -> None:
    weights = house / "runs/notes/checkpoints/00000006/model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    for tokens in (["generate", "notes", "--checkpoint", "newest"], ["resume", "notes"]):
        result = call(capsys, *tokens)
        assert result.code == 0
        assert "00000006" in result.err
        assert "damaged" in result.err


def test_only_damaged_checkpoints_are_an_error(house: Path, capsys: Capture) -> None:
    for weights in (house / "runs/notes/checkpoints").glob("*/model.safetensors"):
        weights.write_bytes(b"gone")
    result = call(capsys, "generate", "notes")
    assert result.code == 1
    assert result.err.splitlines()[-1].startswith("lightwell: ")


def test_a_full_disk_keeps_the_checkpoints_that_there_are(
    house: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill_up(path: Path, tensors: Mapping[str, Any]) -> str:
        if "00000004" in str(path):
            raise system_error(errno.ENOSPC)
        return write_tensors(path, tensors)

    with monkeypatch.context() as patch:
        patch.setattr("lightwell.training.checkpoints.tensor_file.write_tensors", fill_up)
        result = call(capsys, "train", "notes", "--out", "runs/full", *SMALL_FLAGS)
    assert result.code == 1
    assert "No space left on device" in result.err.splitlines()[-1]
    assert checkpoint_steps(house / "runs/full/checkpoints") == [2, 3]  # 3 was a new best
    assert call(capsys, "resume", "full").code == 0


def test_a_failure_that_nobody_foresaw_keeps_its_traceback(
    house: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lightwell.training import start

    def fail(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(start, "plan", fail)
    with pytest.raises(ZeroDivisionError):
        call(capsys, "train", "--dry-run")
