"""From settings to numbers: the length, what is said about it, what is refused, and warnings of too little memory."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lightwell.corpus.corpus import Corpus
from lightwell.errors import SettingError
from lightwell.tokens.token_file import TokenFile
from lightwell.training.planning import resolve as module
from lightwell.training.planning.memory import Memory
from lightwell.training.planning.plan import Measured, flops_per_step
from lightwell.training.planning.resolve import (
    fit_to_time,
    make_loader,
    refuse_process_group,
    resolve,
    warn_of_memory,
)
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.settings.config import RunConfig
from lightwell.training.update.streams import stream_seed
from small import Heard
from tiny import TINY

CPU = torch.device("cpu")
SHORT = TINY.with_values({"warmup_steps": 0, "compile": "off"})


@pytest.fixture
def corpus() -> Corpus:
    """401 tokens to learn from: 25 windows of 16, in batches of 8; and 30 that are held out."""
    ids = np.random.default_rng(0).integers(0, 50, 401)
    sides = {"train": TokenFile.from_ids(ids, vocab_size=50), "held_out": TokenFile.from_ids(ids[:30], vocab_size=50)}
    found: Any = SimpleNamespace(**sides, tokenizer=SimpleNamespace(vocab_size=50), documents=1)
    assert isinstance(found.train, TokenFile)
    corpus: Corpus = found
    return corpus


@pytest.mark.parametrize(
    ("length", "steps"),
    [
        ({"steps": 7}, 7),
        ({"epochs": 1}, 4),  # 3.125 batches show each window once
        ({"epochs": 2}, 7),
        ({"epochs": 8}, 25),
        ({"epochs": 0.01}, 1),
    ],
    ids=str,
)
def test_a_length_becomes_whole_steps_and_nothing_else_is_left_open(
    corpus: Corpus, length: dict[str, Any], steps: int
) -> None:
    config, loader = resolve(SHORT.with_values({**length, "vocab_size": 0}), corpus, Heard())
    training = config.training
    assert (training.steps, training.epochs, training.minutes, training.size) == (steps, 0, 0, "given")
    assert (config.model.vocab_size, training.precision, training.compile) == (50, "fp32", "off")
    assert loader.windows == 25


def test_no_length_at_all_is_refused(corpus: Corpus) -> None:
    with pytest.raises(SettingError, match="are all 0"):
        resolve(SHORT, corpus, Heard())


@pytest.mark.parametrize(("ends", "expected"), [(None, 1000 + 120), (1030.0, 1030)])
def test_minutes_end_when_they_are_over_or_begin_now(
    corpus: Corpus, monkeypatch: pytest.MonkeyPatch, ends: float | None, expected: float
) -> None:
    asked: list[float] = []

    def fit(config: RunConfig, corpus: Corpus, ends: float, listener: Any) -> RunConfig:
        asked.append(ends)
        return config.with_values({"steps": 77, "context_length": 8})

    monkeypatch.setattr(module, "fit_to_time", fit)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    config, loader = resolve(SHORT.with_values({"minutes": 2}), corpus, Heard(), ends)
    assert asked == [expected]
    assert (config.training.steps, config.training.minutes) == (77, 0)
    assert loader.windows == 50  # of the model that was fitted


def test_the_steps_that_fit_are_told(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def fit(config: RunConfig, measured: Measured, seconds: float, held_out: int) -> RunConfig:
        asked.extend([seconds, held_out])
        return config.with_values({"steps": 1234})

    monkeypatch.setattr(module, "measure", lambda *_: Measured(0.12345, 0, 0))
    monkeypatch.setattr(module, "fit", fit)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    heard = Heard()
    config = fit_to_time(SHORT.with_values({"minutes": 1.5}), corpus, 1090.0, heard)
    assert config.training.steps == 1234
    assert asked == [90.0, 30]
    assert heard.sentences == ["A step takes 0.123 s here: about 1,234 steps in 1.5 minutes."]


def test_whether_to_compile_is_asked_with_all_flops_of_the_run(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def answer(*question: Any) -> str:
        asked.append(question)
        return "on"

    monkeypatch.setattr(module, "resolve_compile", answer)
    config, _ = resolve(SHORT.with_values({"steps": 9, "compile": "auto", "precision": "bf16"}), corpus, Heard())
    assert config.training.compile == "on"
    assert asked == [("auto", CPU, "bf16", 9 * flops_per_step(SHORT))]


@pytest.mark.parametrize(("steps", "warmup", "found"), [(10, 50, 5), (11, 50, 5), (10, 6, 5), (10, 5, 5), (10, 4, 4)])
def test_a_warm_up_takes_half_of_a_short_run_and_that_is_said(
    corpus: Corpus, steps: int, warmup: int, found: int
) -> None:
    heard = Heard()
    config, _ = resolve(SHORT.with_values({"steps": steps, "warmup_steps": warmup}), corpus, heard)
    assert config.training.warmup_steps == found
    said = f"The warm-up is {found} steps instead of {warmup}: half of so short a run."
    assert (said in heard.sentences) == (found < warmup)
    assert any("warm-up" in sentence for sentence in heard.sentences) == (found < warmup)


@pytest.mark.parametrize(("steps", "often"), [(125, False), (126, True)])
def test_more_than_forty_passes_are_remarked_on(corpus: Corpus, steps: int, often: bool) -> None:
    heard = Heard()
    _, loader = resolve(SHORT.with_values({"steps": steps}), corpus, heard)
    report = loader.report(steps).sentences()
    assert heard.sentences[: len(report)] == report
    assert len(heard.sentences) == len(report) + often
    assert ("repeated over 40 times" in heard.sentences[-1]) == often


def test_the_order_of_the_batches_has_a_stream_of_its_own(corpus: Corpus) -> None:
    loader = make_loader(SHORT.with_values({"seed": 5}), corpus)
    assert loader.seed == stream_seed(5, "order") != stream_seed(1, "order")
    assert loader.tokens is corpus.train


@pytest.mark.parametrize(
    ("settings", "size", "refusal"),
    [
        ({"batch_size": 3}, 3, ""),
        ({"batch_size": 3}, 4, "batch_size is 3, too few for 4 processes"),
        ({"batch_size": 8, "reproducible": True}, 2, ""),
        ({"batch_size": 8, "reproducible": True}, 3, "3 processes cannot"),
        ({"batch_size": 8}, 3, ""),
        ({"batch_size": 8, "parallel": "fsdp"}, 2, ""),
        ({"batch_size": 8, "parallel": "fsdp", "reproducible": True}, 2, "leave --parallel fsdp out"),
        ({"batch_size": 8, "minutes": 1}, 1, ""),
        ({"batch_size": 8, "minutes": 1}, 2, "minutes is a length for one process"),
    ],
    ids=str,
)
def test_what_a_group_cannot_do_is_refused(settings: dict[str, Any], size: int, refusal: str) -> None:
    config = RunConfig().with_values(settings)
    if not refusal:
        refuse_process_group(config, ProcessGroup(size=size))
        return
    with pytest.raises(SettingError, match=refusal):
        refuse_process_group(config, ProcessGroup(size=size))


class Pretended:
    """So much memory is free; a sequence takes a gigabyte, and the process 0.3 beside."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: float, extra: int = 0) -> None:
        self.asked: list[tuple[int, int]] = []
        self.extra = extra
        monkeypatch.setattr(module, "available_memory", lambda device: free)
        monkeypatch.setattr(module, "estimate_memory", self.estimate)
        monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)

    def estimate(self, config: RunConfig, processes: int) -> Memory:
        rows = config.batches.micro_batch_size or config.batches.batch_size // processes
        self.asked.append((rows, processes))
        return Memory(300_000_000, self.extra, 0, 0, 0, rows * 10**9, 0)


LARGE = TINY.with_values({"vocab_size": 10_000_000})  # 16 of its tokens could take gigabytes


@pytest.mark.parametrize(
    ("free", "extra", "said"),
    [
        (8e9, 0, ""),
        (8e9, 1, "but 8.0 GB are free; with --micro-batch-size 4 it would be 4.3 GB."),
        (4e9, 0, "but 4.0 GB are free; with --micro-batch-size 4 it would be 4.3 GB."),
        (3.9e9, 0, "but 3.9 GB are free; with --micro-batch-size 2 it would be 2.3 GB."),
        (1e9, 0, "but 1.0 GB are free; with --micro-batch-size 1 it would be 1.3 GB."),
        (0.9e9, 0, "but 0.9 GB are free; with one sequence at a time it would still be 1.3 GB."),
    ],
)  # fmt: skip
def test_too_little_memory_is_said_with_what_would_fit(
    monkeypatch: pytest.MonkeyPatch, free: float, extra: int, said: str
) -> None:
    Pretended(monkeypatch, free, extra)
    heard = Heard()
    warn_of_memory(LARGE, CPU, heard)
    assert heard.sentences == [f"This will take about 8.3 GB of memory, {said}"] * bool(said)


@pytest.mark.parametrize(
    ("device", "sharers", "said"),
    [
        ("cpu", "2", "Each process will take about 4.3 GB of memory, but 1.9 GB are free for each;"),
        ("cpu", "1", "Each process will take about 4.3 GB of memory, but 3.8 GB are free;"),
        ("cuda", "2", "Each process will take about 4.3 GB of memory, but 3.8 GB are free;"),
    ],
)
def test_processes_share_the_memory_of_a_machine_but_not_that_of_gpus(
    monkeypatch: pytest.MonkeyPatch, device: str, sharers: str, said: str
) -> None:
    pretended = Pretended(monkeypatch, 3.8e9)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", sharers)
    heard = Heard()
    warn_of_memory(LARGE, torch.device(device), heard, 2)
    assert heard.sentences[0].startswith(said)
    assert pretended.asked[0] == (4, 2)
    assert {processes for _, processes in pretended.asked} == {2}


@pytest.mark.parametrize(("more", "asked"), [(2, 0), (0, 1)])
def test_memory_is_estimated_only_where_half_of_what_is_free_might_be_taken(
    monkeypatch: pytest.MonkeyPatch, more: int, asked: int
) -> None:
    """For each parameter 28 bytes; for each of 8 x 16 tokens 100 x 2 layers x 32, and 20 for each of 50 logits."""
    bound = 28 * TINY.model.parameter_count() + 8 * 16 * (100 * 2 * 32 + 20 * 50)
    pretended = Pretended(monkeypatch, 2 * bound + more)
    warn_of_memory(TINY, CPU, Heard())
    assert len(pretended.asked[:1]) == asked
    pretended = Pretended(monkeypatch, 2 * (bound - 7 * 16 * (100 * 2 * 32 + 20 * 50)) + more)
    warn_of_memory(TINY.with_values({"micro_batch_size": 1}), CPU, Heard())
    assert len(pretended.asked[:1]) == asked
