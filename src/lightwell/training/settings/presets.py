"""Presets: named starting points, each a few fields of the configuration; flags go on top of them."""

from __future__ import annotations

from typing import Any

from lightwell.errors import SettingError
from lightwell.settings import nearest
from lightwell.training.settings.config import RunConfig

_GPT2: dict[str, Any] = {  # Radford 2019, as released: biases everywhere, learned positions, tied head
    "vocab_size": 50257, "context_length": 1024, "n_layers": 12, "n_heads": 12, "d_model": 768,
    "activation": "gelu_tanh", "norm": "layernorm", "positions": "learned", "qk_norm": False, "qkv_bias": True,
    "bias": True,
}  # fmt: skip
_BOOK: dict[str, Any] = {  # Raschka 2024, GPT_CONFIG_124M of chapter 4, trained as train_model_simple of chapter 5 does
    **_GPT2, "qkv_bias": False, "tied_head": False, "embedding_dropout": 0.1, "attention_dropout": 0.1,
    "residual_dropout": 0.1, "batch_size": 2, "epochs": 10, "learning_rate": 4e-4, "schedule": "constant",
    "warmup_steps": 0, "beta2": 0.999, "grad_clip": 0.0,
}  # fmt: skip
_LLAMA: dict[str, Any] = {  # Touvron 2023: rope, rmsnorm, swiglu, no biases, a head of its own
    "activation": "swiglu", "norm": "rmsnorm", "positions": "rope", "qk_norm": False, "tied_head": False,
}  # fmt: skip
_LONG: dict[str, Any] = {"learning_rate": 6e-4, "warmup_steps": 500, "batch_size": 64, "micro_batch_size": 4}

_RECIPE: dict[str, Any] = {  # what reached the same loss soonest: docs/decisions.md has what each part brings
    "optimizer": "muon", "muon_learning_rate": 0.02, "muon_momentum": 0.85, "learning_rate": 0.01, "beta1": 0.85,
    "warmup_steps": 10, "schedule": "wsd", "decay_fraction": 0.5, "final_learning_rate": 0.0, "batch_size": 16,
}  # fmt: skip

PRESETS: dict[str, dict[str, Any]] = {
    "tiny": {
        **_RECIPE, "context_length": 64, "n_layers": 2, "n_heads": 4, "d_model": 96, "steps": 300,
        "eval_tokens": 8192,
    },
    "small": {
        **_RECIPE, "context_length": 128, "n_layers": 4, "n_heads": 4, "d_model": 256, "steps": 800,
        "eval_every": 150, "sample_every": 300, "checkpoint_every": 150,
    },
    "gpt2-124m": {**_GPT2, **_LONG, "steps": 20000},
    "book-124m": _BOOK,
    "llama-15m": {
        **_LLAMA, **_LONG, "context_length": 256, "n_layers": 6, "n_heads": 6, "n_kv_heads": 6, "d_model": 288,
        "d_ff": 768, "tied_head": True, "learning_rate": 1e-3, "steps": 5000,
    },
    "llama-135m": {
        **_LLAMA, **_LONG, "context_length": 2048, "n_layers": 30, "n_heads": 9, "n_kv_heads": 3, "d_model": 576,
        "d_ff": 1536, "tied_head": True, "steps": 20000,
    },
}  # fmt: skip
DEFAULT_PRESET = "small"


SIZES = ("n_layers", "n_heads", "d_model", "context_length", "activation", "norm", "positions", "tied_head")
"""What tells the model of a preset from the others."""


def preset_like(config: RunConfig) -> str:
    """Return the preset whose model a configuration has, whatever else was set; empty where it has that of none."""
    model = config.model.to_dict()
    for name in PRESETS:
        its = preset(name).model.to_dict()
        if all(model[size] == its[size] for size in SIZES):
            return name
    return ""


def preset(name: str) -> RunConfig:
    """Return the configuration of a preset.

    Raises:
        SettingError: there is no preset of that name.
    """
    if name not in PRESETS:
        raise SettingError(f"There is no preset {name}; there are {', '.join(PRESETS)}.{nearest(name, PRESETS)}")
    return RunConfig().with_values(PRESETS[name])
