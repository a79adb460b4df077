"""Figures for other programs: what is written, that a failure ends nothing, and what is said of a missing package."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

import lightwell as lw
from cli_house import call
from lightwell.errors import SettingError
from lightwell.tokens.tokenizer import make_tokenizer
from lightwell.training.runs import writers
from lightwell.training.runs.writers import Backend, Listeners, Writer, writer

Capture = pytest.CaptureFixture[str]
STEP = {
    "step": 1,
    "loss": 3.0,
    "learning_rate": 0.1,
    "grad_norm": 1.0,
    "tokens_per_second": 9.0,
    "tokens_seen": 8,
    "seconds": 1.0,
}
SCORE = {"step": 1, "validation_loss": 2.5, "validation_bits_per_byte": 3.5, "perplexity": 12.0, "scored_tokens": 9}
SAMPLE = {"step": 1, "prompt": "a", "text": "b"}


@pytest.fixture
def run(tmp_path: Path) -> lw.Run:
    tokenizer = make_tokenizer(lw.TextConfig(tokenizer="byte"), 0, ())
    return lw.Run.create(tmp_path / "mine", lw.RunConfig(), tokenizer)


def tell(listener: lw.Listener) -> None:
    listener.begin(10, 0)
    listener.stepped(STEP)
    listener.stepped({"step": 2, "skipped": True})
    listener.evaluated(SCORE)
    listener.sampled(SAMPLE)
    listener.end()


def test_losses_rates_scores_and_samples_are_written_with_the_settings(run: lw.Run) -> None:
    written: list[Any] = []

    def begin(folder: Path, settings: dict[str, Any]) -> Backend:
        written.append((folder.relative_to(run.path), settings["n_layers"]))
        return Backend(
            lambda step, values: written.append((step, dict(values))),
            lambda step, text: written.append((step, text)),
            lambda: written.append("closed"),
        )

    tell(Writer("mine", run.path, begin))
    figures = {name: value for name, value in STEP.items() if name not in ("step", "seconds")}
    held_out = {"held_out_loss": 2.5, "held_out_bits_per_byte": 3.5, "held_out_perplexity": 12.0}
    assert written == [(Path("logs"), 4), (1, figures), (1, held_out), (1, "ab"), "closed"]


@pytest.mark.parametrize("broken", ["begin", "figures", "text", "close"])
def test_a_writer_that_fails_says_so_once_and_ends_nothing(run: lw.Run, broken: str) -> None:
    def fail(*given: Any) -> None:
        raise ConnectionError(f"no network for {broken}\nmore")

    def begin(folder: Path, settings: dict[str, Any]) -> Backend:
        if broken == "begin":
            fail()
        parts: dict[str, Any] = dict.fromkeys(("figures", "text", "close"), lambda *given: None)
        return Backend(**{**parts, broken: fail} if broken in parts else parts)

    said: list[str] = []

    class Heard(lw.Listener):
        def say(self, sentence: str) -> None:
            said.append(sentence)

    tell(Listeners([Heard(), Writer("mine", run.path, begin)]))
    assert said == [f"Nothing more is written for mine: no network for {broken}; the training goes on."]


def test_several_listeners_hear_everything_in_their_order() -> None:
    heard: list[tuple[str, str]] = []

    def listener(name: str) -> lw.Listener:
        class Noting(lw.Listener):
            def __getattribute__(self, method: str) -> Any:
                return lambda *given: heard.append((name, method))

        return Noting()

    both = Listeners([listener("a"), listener("b")])
    methods = [name for name in vars(lw.Listener) if not name.startswith("_")]
    arguments = {"chose": ([], 0), "begin": (1, 0), "end": ()}
    for method in methods:
        getattr(both, method)(*arguments.get(method, ({"step": 1},)))
    assert heard == [(name, method) for method in methods for name in "ab"]


def test_a_log_that_is_none_or_whose_package_is_missing_is_refused_before_anything_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match=r"There is no log tensorbord; .* Did you mean tensorboard\?"):
        writer("tensorbord", tmp_path)
    monkeypatch.setitem(sys.modules, "wandb", None)
    result = call(capsys, "train", "--log", "wandb", "--out", "out")
    assert (result.code, list(tmp_path.iterdir())) == (2, [])
    assert "needs the package wandb: pip install wandb" in result.err


def test_logs_are_given_by_name_from_python_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", ModuleType("wandb"))
    monkeypatch.setitem(sys.modules, "trackio", ModuleType("trackio"))
    heard = lw.Listener()
    one = lw._heard(heard, tmp_path, "wandb")
    both = lw._heard([heard, heard], tmp_path, ["wandb", "trackio", "wandb"])
    assert isinstance(one, Listeners)
    assert isinstance(both, Listeners)
    assert [type(each) for each in one.listeners] == [lw.Listener, Writer]
    assert [each.name for each in both.listeners if isinstance(each, Writer)] == ["wandb", "trackio"]
    assert lw._heard(heard, tmp_path) is heard
    for given in ("tensorbord", ["tensorbord"]):
        with pytest.raises(SettingError, match="There is no log tensorbord"):
            lw.train("nowhere", log=given)
        with pytest.raises(SettingError, match="log"):
            lw.train("nowhere", log=[5])  # type: ignore[list-item]


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_the_packages_are_called_as_they_are_documented(
    run: lw.Run, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    calls: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []
    module = ModuleType(name)

    def noting(what: str) -> Any:
        return lambda *given, **named: calls.append((what, given, named))

    for what in ("log", "finish"):
        setattr(module, what, noting(what))
    opened = SimpleNamespace(log=noting("log"), finish=noting("finish"))

    def init(**named: Any) -> SimpleNamespace:
        calls.append(("init", (), named))
        return opened

    module.init = init  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, module)
    tell(writer(name, run.path))
    assert [what for what, _, _ in calls] == ["init", "log", "log", "log", "finish"]
    assert calls[0][2]["config"]["n_layers"] == 4
    assert calls[0][2].get("mode", "offline") == "offline"
    assert calls[1][2] == {"step": 1}


def test_every_program_is_an_extra_that_can_be_installed() -> None:
    import tomllib

    from paths import REPOSITORY

    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, (package, _) in writers.PROGRAMS.items():
        assert any(needed.startswith(package) for needed in extras[name])


def test_a_writer_that_is_alone_says_on_stderr_that_it_failed(run: lw.Run, capsys: Capture) -> None:
    def begin(folder: Path, settings: dict[str, Any]) -> Backend:
        raise OSError("the disk is full")

    tell(Writer("mine", run.path, begin))
    assert capsys.readouterr().err == "Nothing more is written for mine: the disk is full; the training goes on.\n"
