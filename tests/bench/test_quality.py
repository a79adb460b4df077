"""Time to quality: the same cut of the text for both, a score over all of the last tenth, and means by contender."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwell.bench import quality
from lightwell.bench.contenders import nanogpt_data
from lightwell.bench.quality import PARTS, Trial, ablation, halves, summary, train_lightwell
from lightwell.errors import LightwellError
from lightwell.training.settings.compose import compose
from small import write_text

FAKE_MODEL = """
import torch
class GPTConfig:
    def __init__(self, **settings): self.__dict__.update(settings)
class GPT(torch.nn.Module):
    def __init__(self, config):
        print("number of parameters: 4")
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(config.vocab_size))
    def forward(self, inputs, targets):
        assert inputs.shape == targets.shape and inputs.size(1) <= 4
        flat = self.logits.expand(targets.numel(), -1)
        return None, torch.nn.functional.cross_entropy(flat, targets.flatten())
"""


@given(st.text(min_size=10))
def test_the_halves_are_the_text_and_the_first_is_nine_tenths(text: str) -> None:
    train, held_out = halves(text)
    assert train + held_out == text
    assert len(train) == int(0.9 * len(text))


def test_one_trial_is_a_whole_process_scored_on_the_last_tenth(tmp_path: Path) -> None:
    folder = write_text(tmp_path / "texts")
    text = tmp_path / "text.txt"
    text.write_text("".join(sorted(path.read_text(encoding="utf-8") for path in folder.iterdir())), encoding="utf-8")
    trial = train_lightwell(text, 3, ("--steps", "2", "--precision", "fp32"))
    assert (trial.who, trial.seed) == ("lightwell", 3)
    assert trial.seconds > 0.5
    assert 3.0 < trial.loss < 6.0  # hardly trained: near ln V
    assert trial.parameters > 10_000


def test_nanogpts_data_and_score_are_those_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("abcd" * 25, encoding="utf-8")
    (tmp_path / "model.py").write_text(FAKE_MODEL)
    script = Path(nanogpt_data.__file__)
    subprocess.run([sys.executable, script, "prepare", "text.txt"], cwd=tmp_path, check=True)
    ids = [np.fromfile(tmp_path / "data/shakespeare_char" / name, dtype=np.uint16) for name in ("train.bin", "val.bin")]
    assert [len(part) for part in ids] == [90, 10]
    assert ids[1].tolist() == [2, 3, 0, 1, 2, 3, 0, 1, 2, 3]
    saving = (
        "import torch, pathlib; pathlib.Path('out-shakespeare-char').mkdir();"
        "torch.save({'model_args': {'block_size': 4, 'vocab_size': 4}, 'model': {'logits': torch.zeros(4)}},"
        "'out-shakespeare-char/ckpt.pt')"
    )
    subprocess.run([sys.executable, "-c", saving], cwd=tmp_path, check=True)
    said = subprocess.run([sys.executable, script, "score"], cwd=tmp_path, check=True, capture_output=True)
    found = json.loads(said.stdout.splitlines()[-1])
    assert found["loss"] == pytest.approx(math.log(4))
    assert found["parameters"] == 4


def test_the_summary_has_means_ranges_and_the_ratio() -> None:
    trials = [
        Trial("lightwell", 1, 10.0, 1.8, 7),
        Trial("nanogpt", 1, 90.0, 1.9, 9),
        Trial("lightwell", 2, 20.0, 1.9, 7),
    ]
    found = summary(trials)
    assert found["contenders"]["lightwell"]["seconds"] == {"mean": 15.0, "lowest": 10.0, "highest": 20.0}
    assert found["times_faster"] == 6.0
    assert "times_faster" not in summary(trials[:1])


def test_every_part_is_turned_by_flags_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, ...]] = []

    def pretend(text: Path, seed: int, more: tuple[str, ...] = ()) -> Trial:
        tried.append(more)
        return Trial("lightwell", seed, 1.0, float(len(tried)), 1)

    monkeypatch.setattr("lightwell.bench.quality.train_lightwell", pretend)
    found = ablation(Path("text"), seeds=2)
    assert list(found) == list(PARTS)
    assert found["the recipe"]["loss"]["mean"] == pytest.approx((1 + 1 + len(PARTS)) / 2)
    names = {flag.removeprefix("--").removeprefix("no-").replace("-", "_") for flags in tried for flag in flags[::2]}
    assert names <= compose().all_fields().keys()


def test_contenders_take_turns_as_often_as_they_are_asked_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[tuple[str, int]] = []

    def ours(text: Path, seed: int) -> Trial:
        order.append(("lightwell", seed))
        return Trial("lightwell", seed, 10.0, 1.5, 7)

    def theirs(text: Path, seed: int, checkout: Path, python: str) -> Trial:
        assert (checkout, python) == (tmp_path, sys.executable)
        order.append(("nanogpt", seed))
        return Trial("nanogpt", seed, 25.0, 1.75, 9)

    monkeypatch.setattr(quality, "train_lightwell", ours)
    monkeypatch.setattr(quality, "train_nanogpt", theirs)
    quality.main(Path("text"), seeds=3, nanogpt=tmp_path, nanogpt_seeds=2, out=tmp_path / "out.json")
    assert order == [("lightwell", 1), ("nanogpt", 1), ("lightwell", 2), ("nanogpt", 2), ("lightwell", 3)]
    out, err = capsys.readouterr()
    assert err.splitlines()[1] == "nanogpt  seed 1  25.0 s  loss 1.7500"
    kept = json.loads((tmp_path / "out.json").read_text())
    assert len(kept.pop("trials")) == 5
    assert json.loads(out) == kept
    assert (kept["times_faster"], kept["contenders"]["nanogpt"]["trials"]) == (2.5, 2)
    assert kept["contenders"]["nanogpt"]["parameters"] == 9
    order.clear()
    quality.main(Path("text"), seeds=1)
    assert order == [("lightwell", 1)]


def test_trials_are_timed_from_start_to_end_in_a_copy_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "checkout" / ".git").mkdir(parents=True)
    (tmp_path / "checkout" / "train.py").write_text("")
    commands: list[list[str]] = []

    def pretend(command: list[str], folder: Path, environment: object = None) -> str:
        commands.append(list(command))
        assert [path.name for path in folder.iterdir()] == ["train.py"]
        assert folder != tmp_path / "checkout"
        return 'number of parameters\n{"loss": 1.25, "parameters": 9}\n'

    watch = iter([100.0, 107.5])
    monkeypatch.setattr(quality, "run_quietly", pretend)
    monkeypatch.setattr("time.perf_counter", lambda: next(watch))
    trial = quality.train_nanogpt(tmp_path / "text", 4, tmp_path / "checkout", "python")
    assert trial == Trial("nanogpt", 4, 7.5, 1.25, 9)
    script = str(nanogpt_data.__file__)
    assert commands == [
        ["python", script, "prepare", str(tmp_path / "text")],
        ["python", "train.py", *quality.NANOGPT],
        ["python", script, "score"],
    ]


@pytest.mark.filterwarnings("ignore:Cyclopts application invoked")
def test_a_command_that_fails_is_one_sentence_and_ends_with_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, sys; print(os.environ['WORD'], os.getcwd())"
    assert quality.run_quietly([sys.executable, "-c", code], tmp_path, {"WORD": "x"}) == f"x {tmp_path}\n"
    for code, last in (
        ("import sys; sys.exit('first\\nlast')", "last"),
        ("import sys; sys.exit(3)", "it said nothing"),
    ):
        with pytest.raises(LightwellError, match=f" -c failed: {last}$"):
            quality.run_quietly([sys.executable, "-c", code], tmp_path)

    def fails() -> None:
        raise LightwellError("No.")

    monkeypatch.setattr(sys, "argv", ["it"])
    with pytest.raises(SystemExit) as ended:
        quality.as_command("it", fails)
    assert ended.value.code == "lightwell: No."
