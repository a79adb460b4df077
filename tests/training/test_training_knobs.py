"""The knob rule for TrainConfig: turning a field changes something measurable, its neutral value changes nothing."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._dynamo.utils import counters

from lightwell.corpus.corpus import prepare
from lightwell.errors import SettingError
from lightwell.model import attention
from lightwell.model.blockwise import fused_backward_attention
from lightwell.training.build import make_job
from lightwell.training.loop import train_step
from lightwell.training.planning.resolve import make_loader, resolve
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.run import Run
from lightwell.training.settings.compose import compose
from lightwell.training.settings.config import TrainConfig
from lightwell.training.start import resume
from lightwell.training.update.compilation import compile_in_time, has_compiler
from small import StopAt, final_state, same_bits, small_config, small_run, untimed, write_text


@dataclass(frozen=True)
class Knob:
    """One field: a value that must show, where it must show, and one that must not (both with what they need)."""

    turned: dict[str, Any]
    shows_in: str
    neutral: dict[str, Any]


KNOBS = {
    "steps": Knob({"steps": 7}, "weights", {"steps": 6}),
    "seed": Knob({"seed": 2}, "weights", {"seed": 1}),
    "optimizer": Knob({"optimizer": "muon"}, "weights", {"optimizer": "adamw"}),
    "learning_rate": Knob({"learning_rate": 1e-3}, "weights", {"learning_rate": 3e-3}),
    "muon_learning_rate": Knob(
        {"optimizer": "muon", "muon_learning_rate": 0.1}, "weights", {"muon_learning_rate": 0.1}
    ),  # without muon it is not used
    "muon_momentum": Knob({"optimizer": "muon", "muon_momentum": 0.5}, "weights", {"muon_momentum": 0.5}),
    "schedule": Knob({"schedule": "constant"}, "weights", {"schedule": "cosine"}),
    "warmup_steps": Knob({"warmup_steps": 4}, "weights", {"warmup_steps": 2}),
    "decay_fraction": Knob({"schedule": "wsd", "decay_fraction": 0.9}, "weights", {"decay_fraction": 0.9}),
    "final_learning_rate": Knob({"final_learning_rate": 0.9}, "weights", {"final_learning_rate": 0.05}),
    "beta1": Knob({"beta1": 0.5}, "weights", {"beta1": 0.9}),
    "beta2": Knob({"beta2": 0.5}, "weights", {"beta2": 0.95}),
    "weight_decay": Knob({"weight_decay": 1.0}, "weights", {"weight_decay": 0.1}),
    "grad_clip": Knob({"grad_clip": 0.01}, "weights", {"grad_clip": 1e9}),
    "reproducible": Knob({"reproducible": True}, "weights", {"reproducible": False}),
    "device": Knob({"device": "auto"}, "config", {"device": "cpu"}),
    "precision": Knob({"precision": "bf16"}, "weights", {"precision": "fp32"}),
    "eval_every": Knob({"eval_every": 2}, "metrics", {"eval_every": 3}),
    "eval_tokens": Knob({"eval_tokens": 100}, "metrics", {"eval_tokens": 200}),
    "patience": Knob({"patience": 1, "learning_rate": 0.5, "eval_every": 1}, "metrics", {"patience": 0}),
    "sample_every": Knob({"sample_every": 2}, "samples", {"sample_every": 3}),
    "sample_prompt": Knob({"sample_prompt": "the"}, "samples", {"sample_prompt": ""}),
    "checkpoint_every": Knob({"checkpoint_every": 3}, "checkpoints", {"checkpoint_every": 2}),
    "keep_checkpoints": Knob({"keep_checkpoints": 1}, "checkpoints", {"keep_checkpoints": 50}),
    "keep_every": Knob({"keep_every": 2, "keep_checkpoints": 1}, "checkpoints", {"keep_every": 0}),
    "log_every": Knob({"log_every": 3}, "metrics", {"log_every": 1}),
}
# These have tests of their own: below, in test_deadline, test_budget, test_incidents and test_sharding.
ELSEWHERE = {"epochs", "minutes", "compile", "size", "non_finite", "parallel"}


LOSSES = ("loss", "validation_loss")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("corpus") / "text")


@pytest.fixture(scope="module")
def base(text: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return observed(small_run(text, tmp_path_factory.mktemp("runs") / "base", grad_clip=1e9))


def observed(run: Run) -> dict[str, Any]:
    """All that a knob could show in."""
    return {
        "weights": final_state(run),
        "metrics": untimed(run.metrics()),
        "samples": run.samples(),
        "checkpoints": sorted(path.name for path in run.checkpoints.iterdir()),
        "config": run.config.to_dict(),
    }


def differs(left: dict[str, Any], right: dict[str, Any], part: str) -> bool:
    if part == "weights":
        return not same_bits(left[part], right[part])
    return bool(left[part] != right[part])


def test_every_field_is_turned() -> None:
    assert {field.name for field in TrainConfig.fields()} == KNOBS.keys() | ELSEWHERE


@pytest.mark.parametrize("name", KNOBS)
def test_turning_a_knob_shows(text: Path, tmp_path: Path, base: dict[str, Any], name: str) -> None:
    knob = KNOBS[name]
    found = observed(small_run(text, tmp_path / "run", **{"grad_clip": 1e9, **knob.turned}))
    # A knob that needs another to be on is compared with that other alone, so that the difference is its own.
    others = {key: value for key, value in knob.turned.items() if key != name}
    against = observed(small_run(text, tmp_path / "others", grad_clip=1e9, **others)) if others else base
    assert differs(found, against, knob.shows_in)


@pytest.mark.parametrize("name", KNOBS)
def test_the_neutral_value_of_a_knob_changes_nothing(
    text: Path, tmp_path: Path, base: dict[str, Any], name: str
) -> None:
    found = observed(small_run(text, tmp_path / "run", **{"grad_clip": 1e9, **KNOBS[name].neutral}))
    parts = ("weights", "metrics", "samples", "checkpoints")
    assert not [part for part in parts if differs(found, base, part)]


def test_clipping_off_is_clipping_at_a_norm_never_reached(text: Path, tmp_path: Path, base: dict[str, Any]) -> None:
    assert not differs(observed(small_run(text, tmp_path / "run", grad_clip=0)), base, "weights")


def test_epochs_are_turned_into_steps(text: Path, tmp_path: Path) -> None:
    config = small_config(text, epochs=2)
    corpus = prepare(config.text, config.model.vocab_size)
    windows = make_loader(config, corpus).windows
    resolved, loader = resolve(config, corpus, Listener())
    assert resolved.training.steps == -(-2 * windows // 4)
    assert loader.report(resolved.training.steps).epochs == pytest.approx(2, abs=4 / windows)
    with_zero, _ = resolve(small_config(text, epochs=0, steps=6), corpus, Listener())
    assert with_zero.training.steps == 6


def test_minutes_are_turned_into_steps(text: Path) -> None:
    config = small_config(text, minutes=0.1)
    corpus = prepare(config.text, config.model.vocab_size)
    few = resolve(config, corpus, Listener())[0].training.steps
    many = resolve(small_config(text, minutes=10), corpus, Listener())[0].training.steps
    assert many > few > 0  # a hundred times the time; no timing noise hides that
    assert resolve(small_config(text, minutes=0, steps=6), corpus, Listener())[0].training.steps == 6


def test_two_lengths_at_once_are_refused(text: Path) -> None:
    with pytest.raises(SettingError, match="steps and minutes are given"):
        compose((str(text),), settings={"steps": 5, "minutes": 1})


def test_law_09_also_compiled_and_the_losses_are_those_of_what_is_written(text: Path, tmp_path: Path) -> None:
    """With the same dropout, too; held-out tokens are scored, and samples written, by what is not compiled."""
    settings: dict[str, Any] = {"compile": "on", "micro_batch_size": 0, "steps": 4, "eval_every": 2, "sample_every": 2}
    torch.compiler.reset()
    before = counters["frames"]["ok"]
    whole = small_run(text, tmp_path / "whole", **settings)
    assert counters["frames"]["ok"] - before == 2  # a block and the loss, of one shape each: no evaluation, no sample
    written = small_run(text, tmp_path / "written", **{**settings, "compile": "off"})
    for one, other in zip(whole.metrics(), written.metrics(), strict=True):
        assert [one.get(name) for name in LOSSES] == pytest.approx([other.get(name) for name in LOSSES], abs=1e-4)
    with pytest.raises(KeyboardInterrupt):
        small_run(text, tmp_path / "run", StopAt(2), **settings)
    resumed = resume(tmp_path / "run")
    assert same_bits(final_state(resumed), final_state(whole))
    assert untimed(resumed.metrics()) == untimed(whole.metrics())


@pytest.mark.parametrize(("precision", "long"), [("bf16", "on"), ("fp32", "off")])
def test_auto_compiles_long_runs_in_bf16_only(text: Path, precision: str, long: str) -> None:
    if long == "on" and not has_compiler(torch.device("cpu")):
        pytest.skip("there is no C++ compiler with Python's headers here")
    config = small_config(text, precision=precision)
    corpus = prepare(config.text, config.model.vocab_size)
    for steps, expected in ((5, "off"), (10**9, long)):
        resolved, _ = resolve(config.with_values({"steps": steps}), corpus, Listener())
        assert resolved.training.compile == expected


def test_in_a_given_time_auto_compiles_where_that_makes_more_steps() -> None:
    cpu = torch.device("cpu")
    assert compile_in_time("auto", cpu, "bf16", 0.1, 40.0) == "off"  # most of it would be waited away
    assert compile_in_time("auto", cpu, "bf16", 0.1, 4000.0) == ("on" if has_compiler(cpu) else "off")
    assert compile_in_time("auto", cpu, "fp32", 0.1, 4000.0) == "off"
    assert [compile_in_time(choice, cpu, "fp32", 0.1, 40.0) for choice in ("on", "off")] == ["on", "off"]


@pytest.mark.parametrize(
    ("variable", "device"), [("CXX", torch.device("cpu")), ("CC", torch.device("cuda"))], ids=["processor", "GPU"]
)
def test_a_compiler_is_there_where_the_one_that_would_be_called_is(
    monkeypatch: pytest.MonkeyPatch, variable: str, device: torch.device
) -> None:
    monkeypatch.setenv(variable, "no-such-compiler")
    assert not has_compiler(device)  # whatever else there is: torch calls this one
    monkeypatch.setattr("lightwell.training.update.compilation.Path.is_file", lambda self: True)  # Python's headers
    monkeypatch.setenv(variable, sys.executable)
    assert has_compiler(device)


@pytest.mark.parametrize("settings", [{}, {"attention_dropout": 0.2}, {"document_boundaries": "mask"}], ids=str)
def test_compiled_in_bf16_it_learns_as_it_is_written(
    text: Path, tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of long runs: blocks of queries with the gradient by hand, in one graph for a block."""
    base = {"precision": "bf16", "micro_batch_size": 0, "steps": 3, "optimizer": "muon"}
    without = dict.fromkeys(("embedding_dropout", "attention_dropout", "residual_dropout"), 0.0)

    def losses(compiled: str) -> list[float]:
        config = small_config(text, **{**base, **without, **settings, "compile": compiled})
        corpus = prepare(config.text, config.model.vocab_size)
        config, loader = resolve(config, corpus, Listener())
        out = tmp_path / f"{compiled}{len(list(tmp_path.iterdir()))}"
        job = make_job(config, corpus, loader, Run.create(out, config, corpus.tokenizer), Listener())
        return [train_step(job)["loss"] for _ in range(3)]

    real, taken = fused_backward_attention, [0]

    def counted(*given: Any) -> Any:
        taken[0] += 1
        return real(*given)

    monkeypatch.setattr(attention, "fused_backward_attention", counted)
    counters.clear()
    compiled = losses("on")
    assert not counters["graph_break"]
    assert settings or taken[0]  # and it is that way which was taken
    assert compiled == pytest.approx(losses("off"), abs=5e-3)


def test_a_device_that_is_not_there_is_refused(text: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(SettingError, match="device is cuda"):
        small_run(text, tmp_path / "run", device="cuda")
    assert not (tmp_path / "run").exists()
