"""One configuration from a preset, a file and single settings, without torch, so that mistakes are reported at once."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightwell.errors import SettingError
from lightwell.text.paths import expanded
from lightwell.training.settings.config import RunConfig
from lightwell.training.settings.presets import DEFAULT_PRESET, preset

LENGTHS = ("steps", "epochs", "minutes")
SIZE = (
    "n_layers",
    "n_heads",
    "n_kv_heads",
    "d_model",
    "head_dim",
    "d_ff",
    "context_length",
    "batch_size",
    "micro_batch_size",
)
"""Whoever sets one of these, or names a preset or a file, has chosen a size."""


def compose(
    paths: tuple[str, ...] = (),
    *,
    preset_name: str = "",
    config_file: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> RunConfig:
    """Return one configuration from a preset, then a TOML file, then single settings, each over the one before.

    minutes alone leave the size of the model to the time and the machine.

    Raises:
        SettingError: an unknown preset, file or name, a value that is not allowed, or two lengths at once.
    """
    config, in_file = preset(preset_name or DEFAULT_PRESET), ""
    if config_file is not None:
        sections = RunConfig.read_sections(expanded(config_file))
        given = {name: value for section in sections.values() for name, value in section.items()}
        config = config.with_values(one_length(given))
        in_file = next((name for name in SIZE if name in given), "")
    changes = one_length(settings or {})
    if paths and changes.get("corpus", config.text.corpus) != config.text.corpus:
        raise SettingError("corpus names a text, and so do the paths; give one of them.")
    if "" in paths:
        raise SettingError("One of the paths is empty; name a file, a folder or a glob, or no path at all.")
    if paths:
        changes["paths"] = [os.path.abspath(expanded(path)) for path in paths]  # noqa: PTH100 - Path.absolute keeps ".."
    tokenizer = changes.get("tokenizer")
    if tokenizer and tokenizer not in ("character", "byte", "bpe") and expanded(tokenizer).exists():
        changes["tokenizer"] = os.path.abspath(expanded(tokenizer))  # noqa: PTH100
    named = next((name for name in SIZE if name in changes), "")
    if changes.get("minutes") and not (preset_name or config_file or named):
        changes.setdefault("size", "auto")
    config = config.with_values(changes)
    if config.training.size == "auto" and (clash := named or in_file or preset_name):
        chosen = "the whole model" if clash == preset_name else clash
        raise SettingError(f"size is auto, which chooses {chosen}, but {clash} is given, too; leave one of them out.")
    if config.training.size == "auto" and not config.training.minutes:
        raise SettingError("size is auto, which chooses a model for a time; say how long with --minutes.")
    return config


def one_length(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings, with the other lengths 0 where one is given, so that it replaces what stood there before.

    Raises:
        SettingError: two lengths are given at once.
    """
    lengths = [name for name in LENGTHS if settings.get(name)]
    if len(lengths) > 1:
        raise SettingError(f"{' and '.join(lengths)} are given, but one of them alone says how long to train.")
    return {**(dict.fromkeys(LENGTHS, 0) if lengths else {}), **settings}
