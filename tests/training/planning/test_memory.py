"""What a run is said to take before it starts, beside what it takes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightwell.training.hardware.device import resolve_device
from lightwell.training.planning import memory, resolve
from lightwell.training.planning.memory import (
    estimate_memory,
    gathered_bytes,
    local_micro_batch_size,
    moment_bytes,
    saved_bytes,
    update_bytes,
)
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
    "n_layers": 4, "n_heads": 4, "d_model": 256, "context_length": 128, "batch_size": 40, "precision": "fp32",
    "compile": "off", "optimizer": "adamw", "steps": 2, "eval_every": 0, "eval_tokens": 300, "sample_every": 0,
}  # fmt: skip
"""In fp32, since bf16 takes many times as long on a machine that only pretends to have it."""


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


def test_bytes_of_a_tiny_model_by_hand() -> None:
    """A block: qkv 96 x 32, output 32 x 32, up 128 x 32, down 32 x 128, and 96 gains; 50 x 32 + 32 outside."""
    muon = TINY.with_values({"optimizer": "muon"})
    matrices, block, outside = 96 * 32 + 32 * 32 + 2 * 128 * 32, 96 * 32 + 32 * 32 + 2 * 128 * 32 + 96, 51 * 32
    assert moment_bytes(TINY) == 8 * (2 * block + outside) + 4 * 18
    assert moment_bytes(muon) == 4 * 2 * matrices + 8 * (2 * 96 + outside) + 4 * 10
    assert update_bytes(TINY) == 0
    assert update_bytes(muon) == 4 * 2 * matrices + 24 * (2 * 128 * 32)  # two stacks are the largest
    assert gathered_bytes(TINY) == 4 * (2 * outside + 3 * block)


P, LOGITS = 26_400, 16 * 50
"""The parameters of the tiny model, and the logits of one of its sequences."""
FACTS: list[tuple[dict[str, Any], int, tuple[int, int, int, int, int, int]]] = [
    # weights, gradients, moments, snapshot, activations, working space
    ({}, 1, (4 * P, 4 * P, 211_272, 4 * P + 211_272, 8000, 3200 + 6 * 8 * LOGITS)),
    ({"micro_batch_size": 3}, 1, (4 * P, 4 * P, 211_272, 4 * P + 211_272, 3000, 1200 + 6 * 3 * LOGITS)),
    ({"compile": "on"}, 1, (4 * P, 4 * P, 211_272, 4 * P + 211_272, 4000, 1600 + 6 * 8 * LOGITS)),
    ({}, 3, (4 * P, 4 * P, 211_272, 4 * P + 211_272, 3000, 1200 + 6 * 3 * LOGITS)),
    (
        {"parallel": "fsdp"},
        2,
        (2 * P, 2 * P, 105_636, 2 * P + 105_636, 4000, 1600 + 6 * 4 * LOGITS + 161_664),
    ),
    ({"parallel": "fsdp"}, 1, (4 * P, 4 * P, 211_272, 4 * P + 211_272, 8000, 3200 + 6 * 8 * LOGITS)),
    ({"optimizer": "muon"}, 1, (4 * P, 4 * P, 112_936, 4 * P + 112_936, 8000, 294_912 - 8000)),
]


@pytest.mark.parametrize(("settings", "processes", "expected"), FACTS, ids=str)
def test_each_part_by_hand(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], processes: int, expected: tuple[int, ...]
) -> None:
    monkeypatch.setattr(memory, "saved_bytes", lambda config, rows: 1000 * rows)
    monkeypatch.setattr(memory, "_resident", lambda: 7)
    found = estimate_memory(TINY.with_values({"compile": "off", **settings}), processes)
    parts = (found.weights, found.gradients, found.moments, found.snapshot, found.activations, found.working)
    assert parts == expected
    assert found.process == 130_000_007
    assert found.total == found.process + sum(expected)
    monkeypatch.setattr(memory, "resolve_device", lambda name: torch.device("cuda"))
    on_gpu = estimate_memory(TINY.with_values({"compile": "off", **settings}), processes)
    assert (on_gpu.process, on_gpu.snapshot, on_gpu.weights) == (0, 0, expected[0])


@pytest.mark.parametrize(
    ("batch", "micro", "processes", "rows"),
    [(8, 0, 1, 8), (8, 2, 1, 2), (8, 0, 3, 3), (8, 8, 3, 3), (9, 0, 2, 5), (9, 4, 2, 4), (8, 5, 2, 4)],
)
def test_sequences_that_a_process_takes_at_once(batch: int, micro: int, processes: int, rows: int) -> None:
    config = TINY.with_values({"batch_size": batch, "micro_batch_size": micro})
    assert local_micro_batch_size(config, processes) == rows


def test_the_process_itself_is_what_is_resident_now_or_else_its_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreadable(encoding: str) -> str:
        raise FileNotFoundError

    read = {"read_text": lambda encoding: "100 25 9 1 0 60 0"}
    monkeypatch.setattr(memory, "Path", lambda path: SimpleNamespace(**read) if path == "/proc/self/statm" else None)
    assert memory._resident() == 25 * os.sysconf("SC_PAGE_SIZE")
    read["read_text"] = unreadable
    monkeypatch.setattr(memory, "memory_bytes", lambda device: 77 if device.type == "cpu" else 0)
    assert memory._resident() == 77
