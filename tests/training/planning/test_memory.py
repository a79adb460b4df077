"""What a run is said to take before it starts, beside what it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lightwell.training.hardware.device import resolve_device
from lightwell.training.planning import resolve
from lightwell.training.planning.memory import estimate_memory, moment_bytes, saved_bytes
from lightwell.training.planning.plan import measure
from small import Heard, write_text
from tiny import TINY, loader

VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "in bf16": {"precision": "bf16"},
    "with dropout": {"attention_dropout": 0.2, "residual_dropout": 0.2},
    "longer": {"context_length": 128},
    "parts of GPT-2": {"positions": "learned", "activation": "gelu_tanh", "norm": "layernorm", "qk_norm": False},
    "documents apart": {"document_boundaries": "mask"},
    "few at once": {"micro_batch_size": 2},
    "muon": {"optimizer": "muon"},
}


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_counted_without_memory_is_what_a_step_keeps(name: str) -> None:
    config = TINY.with_values(VARIANTS[name])
    found = measure(config, loader(config))
    rows = config.batches.micro_batch_size or config.batches.batch_size
    assert saved_bytes(config, rows) == pytest.approx(found.activation_bytes, rel=0.02)
    assert moment_bytes(config) == found.optimizer_bytes


def test_all_of_it_adds_up() -> None:
    found = estimate_memory(TINY)
    parameters = TINY.model.parameter_count()
    assert found.weights == found.gradients == 4 * parameters
    assert found.snapshot == found.weights + found.moments
    parts = (found.weights, found.gradients, found.moments, found.snapshot, found.activations, found.working)
    assert found.total == found.process + sum(parts)


SHAPE = {
    "n_layers": 4, "n_heads": 4, "d_model": 256, "context_length": 128, "batch_size": 48, "precision": "bf16",
    "compile": "off", "optimizer": "adamw",
}  # fmt: skip


def test_a_run_takes_within_a_fifth_of_what_was_estimated(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text", documents=200)
    flags = [word for name, value in SHAPE.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    command = [
        sys.executable,
        "-m",
        "lightwell",
        "train",
        str(text),
        "--tokenizer",
        "character",
        "--steps",
        "3",
        *flags,
    ]
    planned = subprocess.run([*command, "--dry-run", "--json"], capture_output=True, encoding="utf-8", check=True)
    subprocess.run([*command, "--out", str(tmp_path / "run")], capture_output=True, check=True)
    records = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    taken = max(record.get("memory_bytes", 0) for record in records)
    estimated = json.loads(planned.stdout)["memory_bytes"]
    assert estimated == pytest.approx(taken, rel=0.2)
    assert taken > 1e9  # or the process itself would hide the rest


def test_too_little_memory_is_said_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    heard = Heard()
    resolve.warn_of_memory(TINY, resolve_device("cpu"), heard)
    assert heard.sentences == []
    monkeypatch.setattr(resolve, "available_memory", lambda device: 1_000)
    resolve.warn_of_memory(TINY, resolve_device("cpu"), heard)
    assert len(heard.sentences) == 1
    assert "0.0 GB are free; with one sequence at a time it would still be" in heard.sentences[0]
    monkeypatch.setattr(resolve, "available_memory", lambda device: 40_000_000)
    wide = TINY.with_values({"batch_size": 64, "context_length": 256, "vocab_size": 2000})
    resolve.warn_of_memory(wide, resolve_device("cpu"), heard)
    assert "with --micro-batch-size 4 it would be" in heard.sentences[1]
