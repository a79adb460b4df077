"""Lightwell builds, trains and runs language models: from a folder of text to a GPT of its own.

    import lightwell as lw
    run   = lw.train("my_notes/", minutes=10)
    model = lw.load("runs/my_notes")
    model.generate("Once upon", max_new_tokens=80, temperature=0.8)
    trace = lw.trace(model, "The cat sat");  trace["layers.2.attention.weights"]

What the command line does is a function here, but for `lab` and `bench`. Each name is imported when it is
first used, so that `import lightwell` takes no time.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from lightwell.arguments import checked
from lightwell.settings import Meta

if TYPE_CHECKING:
    from lightwell import lab
    from lightwell.batches.config import BatchConfig
    from lightwell.corpus.prepare import PreparedCorpus
    from lightwell.errors import LightwellError, RunError, SettingError, TextError, TrainingError
    from lightwell.generation.config import SamplingConfig
    from lightwell.generation.language_model import LanguageModel
    from lightwell.insight.trace import trace
    from lightwell.model.config import ModelConfig
    from lightwell.model.decoder import Decoder
    from lightwell.text.config import TextConfig
    from lightwell.text.paths import TextPaths
    from lightwell.tokens.tokenizer import Tokenizer
    from lightwell.training.hardware.machine import examine
    from lightwell.training.planning.plan import Plan
    from lightwell.training.runs.listener import Listener
    from lightwell.training.runs.load import load
    from lightwell.training.runs.run import Run
    from lightwell.training.runs.scoring import evaluate_run as evaluate
    from lightwell.training.runs.summary import runs
    from lightwell.training.settings.config import RunConfig, TrainConfig

__all__ = [
    "BatchConfig",
    "Decoder",
    "LanguageModel",
    "LightwellError",
    "Listener",
    "ModelConfig",
    "Plan",
    "PreparedCorpus",
    "Run",
    "RunConfig",
    "RunError",
    "SamplingConfig",
    "SettingError",
    "TextConfig",
    "TextError",
    "Tokenizer",
    "TrainConfig",
    "TrainingError",
    "evaluate",
    "examine",
    "lab",
    "load",
    "plan",
    "prepare",
    "resume",
    "runs",
    "trace",
    "train",
]

# Where each name is, as "module" or "module:name there".
_HOME = {
    "BatchConfig": "batches.config",
    "Decoder": "model.decoder",
    "LanguageModel": "generation.language_model",
    "LightwellError": "errors",
    "Listener": "training.runs.listener",
    "ModelConfig": "model.config",
    "Plan": "training.planning.plan",
    "PreparedCorpus": "corpus.prepare",
    "Run": "training.runs.run",
    "RunConfig": "training.settings.config",
    "RunError": "errors",
    "SamplingConfig": "generation.config",
    "SettingError": "errors",
    "TextConfig": "text.config",
    "TextError": "errors",
    "Tokenizer": "tokens.tokenizer",
    "TrainConfig": "training.settings.config",
    "TrainingError": "errors",
    "evaluate": "training.runs.scoring:evaluate_run",
    "examine": "training.hardware.machine",
    "load": "training.runs.load",
    "runs": "training.runs.summary",
    "trace": "insight.trace",
}


@checked
def train(
    *paths: TextPaths,
    preset: str = "",
    config: RunConfig | str | Path | None = None,
    out: str | Path | None = None,
    force: bool = False,
    listener: Listener | Sequence[Listener] | None = None,
    log: str | Sequence[str] = (),
    **settings: Any,
) -> Run:
    """Train a model on files, folders or globs (none: the default corpus) and save it as a run.

    Settings are configuration fields by name, e.g. n_layers=6, minutes=10; they go over `config` (a RunConfig or a TOML
    file), and that over the preset. `out` is the run's folder, else runs/ and the text's name. Progress is shown unless
    there is a listener, or a list of them, to hear it; Listener() hears and says nothing.
    `log`: "tensorboard", "wandb" or "trackio", or several of them, for which the figures are written into the run, too.

    Raises:
        SettingError: a setting that does not exist or is not allowed, or a log whose package is not installed.
        TextError: a text that is missing, empty or too short.
        RunError: the folder exists already (without `force`), or the disk is full.
        TrainingError: the loss or a gradient is not finite any more.
        KeyboardInterrupt: Ctrl-C; the run is saved and can be resumed.
    """
    from lightwell.text.paths import expanded
    from lightwell.training import start
    from lightwell.training.runs.run import new_run_path

    composed = _compose(paths, preset, config, settings)
    folder = expanded(out) if out is not None else new_run_path(composed.text)
    return start.train(composed, out=folder, force=force, listener=_heard(listener, folder, log))


@checked
def plan(
    *paths: TextPaths,
    preset: str = "",
    config: RunConfig | str | Path | None = None,
    listener: Listener | Sequence[Listener] | None = None,
    **settings: Any,
) -> Plan:
    """Return what `train` with the same arguments would take: tokens, windows, parameters, memory, FLOPs and time."""
    from lightwell.training import start

    return start.plan(_compose(paths, preset, config, settings), listener=_heard(listener))


@checked
def prepare(
    *paths: TextPaths,
    out: str | Path,
    workers: Annotated[int, Meta(ge=0)] = 0,
    force: bool = False,
    listener: Listener | Sequence[Listener] | None = None,
    **settings: Any,
) -> PreparedCorpus:
    """Turn a text of any size into tokens on disk, in bounded memory, for `train(out)`.

    The same call goes on where one before was stopped or killed. workers: processes, 0 for as many as there are
    CPUs; they change no byte. force: begin anew. Settings are the fields text_field, validation_fraction,
    tokenizer, end_of_text and vocab_size.

    Raises:
        SettingError: a setting that does not exist, has nothing to do with this, or is not allowed.
        TextError: a text or tokenizer that cannot be had, or a folder that holds something else or cannot be written.
        KeyboardInterrupt: Ctrl-C; what is finished is kept.
    """
    from lightwell.corpus.prepare import prepare_corpus
    from lightwell.errors import SettingError
    from lightwell.settings import nearest
    from lightwell.text.config import PREPARED
    from lightwell.text.paths import expanded, text_paths
    from lightwell.training.settings.compose import compose

    for name in settings:
        if name not in PREPARED:
            raise SettingError(f"prepare has no setting {name}, only {', '.join(PREPARED)}.{nearest(name, PREPARED)}")
    composed = compose(text_paths(*paths), settings=settings)
    say = _heard(listener).say
    return prepare_corpus(
        composed.text, composed.model.vocab_size, expanded(out), workers=workers, force=force, say=say
    )


@checked
def resume(
    run: str | os.PathLike[str],
    *,
    listener: Listener | Sequence[Listener] | None = None,
    log: str | Sequence[str] = (),
) -> Run:
    """Go on with a run exactly where it stopped; `listener` and `log` are those of `train`.

    Raises:
        RunError: no such run, or its text has changed.
        KeyboardInterrupt: Ctrl-C; the run is saved and can be resumed.
    """
    from lightwell.training import start
    from lightwell.training.runs.run import find_run

    folder = find_run(run)
    return start.resume(folder, listener=_heard(listener, folder, log))


def _compose(
    paths: tuple[TextPaths, ...], preset: str, config: RunConfig | str | Path | None, settings: dict[str, Any]
) -> RunConfig:
    from lightwell.errors import SettingError
    from lightwell.text.paths import text_paths
    from lightwell.training.settings.compose import LENGTHS, compose
    from lightwell.training.settings.config import RunConfig

    settings = {**settings}
    texts = text_paths(*paths, settings.pop("paths", ()))
    if not isinstance(config, RunConfig):
        return compose(texts, preset_name=preset, config_file=config, settings=settings)
    if preset:
        raise SettingError(
            f"preset is {preset}, but config is a RunConfig, which sets everything; leave one of them out."
        )
    replaced = any(settings.get(name) for name in LENGTHS)  # one of its own would be a second length
    given = {
        name: value
        for section in config.to_dict().values()
        for name, value in section.items()
        if name not in LENGTHS or (value and not replaced)  # without any, the default preset says how long
    }
    return compose(texts, settings={**given, **settings})


def _heard(
    listener: Listener | Sequence[Listener] | None, run: Path | None = None, log: str | Sequence[str] = ()
) -> Listener:
    """Return one listener: the given one, several as one, or what shows progress where there is none; and the logs."""
    from lightwell.arguments import check
    from lightwell.cli.progress import progress
    from lightwell.training.runs.listener import Listener
    from lightwell.training.runs.writers import Listeners, writers

    listeners: list[Listener] = []
    if listener is None:
        listeners.append(progress(run))
    elif isinstance(listener, Listener):
        listeners.append(listener)
    else:
        listeners += [check("listener", one, Listener) for one in listener]
    if run is not None:
        listeners += writers([log] if isinstance(log, str) else log, run)
    return listeners[0] if len(listeners) == 1 else Listeners(listeners)


def __getattr__(name: str) -> Any:
    if name == "lab":
        return importlib.import_module("lightwell.lab")
    if name not in _HOME:
        raise AttributeError(f"module 'lightwell' has no attribute {name!r}")
    module, _, there = _HOME[name].partition(":")
    value = getattr(importlib.import_module(f"lightwell.{module}"), there or name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
