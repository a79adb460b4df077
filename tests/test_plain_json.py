"""What Lightwell writes as JSON can be read by everything that reads JSON: no Infinity, no NaN."""

from __future__ import annotations

import ast
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lightwell
from cli_house import call
from lightwell.plain_json import finite, plain_json
from lightwell.training.runs.best import best_evaluation
from lightwell.training.runs.evaluation import Evaluation
from lightwell.training.runs.plot import plot_run
from lightwell.training.runs.records import Records

SOURCES = Path(lightwell.__file__).parent
OWN_READERS = {
    "plain_json.py": "it is plain_json",
    "text/formats.py": "a value within a sentence",
    "corpus/plan.py": "hashed, or read back at once",
    "corpus/corpus.py": "counts and names alone",
    "tokens/token_file.py": "counts alone",
    "tokens/loading.py": "names alone",
    "bench/contenders/shapes.py": "whole numbers alone",
    "bench/contenders/nanogpt_data.py": "a peer's process, which has the standard library alone",
    "bench/contenders/pacer.py": "a peer's process, which has the standard library alone",
    "training/checkpoints/files.py": "read back exactly, by the one reader that there is, and hashed",
    "training/checkpoints/tensor_file.py": "shapes and names alone",
    "lab/cards/card.py": "allow_nan=False stands there",
    "lab/experiments/store.py": "read back exactly, by the lab alone",
}
"""The modules that write JSON otherwise, and why they may."""


def strict(text: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_every_module_writes_plain_json() -> None:
    found = set()
    for path in SOURCES.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("dump", "dumps") and isinstance(node.value, ast.Name):
                found |= {str(path.relative_to(SOURCES))} if "json" in node.value.id else set()
    assert found == set(OWN_READERS)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside, max_size=3),
)


@given(values)
def test_any_value_can_be_read_back_and_finite_ones_are_the_same(value: Any) -> None:
    read = strict(plain_json(value))
    assert read == finite(value)
    assert finite(read) == read


def test_an_evaluation_that_overflows_is_null_on_disk_and_infinite_when_read(tmp_path: Path) -> None:
    score = Evaluation(800.0, math.inf, 900.0, 10, 10)
    records = Records(tmp_path / "metrics.jsonl")
    records.append({"step": 1, "validation_loss": 3.0, "perplexity": 20.0, "scored_tokens": 9})
    records.append(
        {"step": 2, "validation_loss": score.nats_per_token, "perplexity": score.perplexity, "scored_tokens": 9}
    )
    records.append({"step": 3, "validation_loss": math.nan, "perplexity": math.nan, "scored_tokens": 9})
    records.append({"step": 4, "loss": math.nan, "grad_norm": math.inf, "learning_rate": 0.1})
    for line in records.path.read_text().splitlines():
        strict(line)
    read = records.read()
    assert [record.get("perplexity") for record in read] == [20.0, math.inf, math.inf, None]
    assert read[2]["validation_loss"] == read[3]["loss"] == read[3]["grad_norm"] == math.inf
    assert (best_evaluation(read) or {})["step"] == 1
    plot_run(read, {"uniform": 5.0}, tmp_path / "a.png", tmp_path / "a.svg")
    assert strict(plain_json(score.to_dict()))["perplexity"] is None


def test_the_commands_print_plain_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from lightwell.training.hardware import machine

    monkeypatch.setattr(machine, "_gflops", lambda device, dtype: math.inf)
    result = call(capsys, "doctor", "--json")
    assert strict(result.out)["gflops_fp32"] is None
