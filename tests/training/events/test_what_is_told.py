"""What a run notes and says when something happens beside its updates, and in which step."""

from __future__ import annotations

import math
import signal
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lightwell.batches.batch import Batch
from lightwell.errors import TrainingError, TryAgainError
from lightwell.training.events import milestones, non_finite
from lightwell.training.events.incidents import note, watch_loss
from lightwell.training.events.interrupt import Interrupt, Terminated
from lightwell.training.events.non_finite import MOST_SKIPPED, require_finite_weights, skip_update
from lightwell.training.events.out_of_memory import halve_micro_batch_size
from lightwell.training.job import Progress
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.runs.best import EvaluationTracker
from lightwell.training.settings.config import RunConfig
from lightwell.training.update.loss_spikes import LossSpikeDetector
from lightwell.training.update.streams import stream_seed
from teams import pretend_exchange


class Folder:
    """Stands for a run: keeps what is written to it."""

    def __init__(self, checkpoints: Path = Path("missing")) -> None:
        self.checkpoints = checkpoints
        self.incidents: list[dict[str, Any]] = []
        self.metrics: list[dict[str, Any]] = []
        self.samples: list[dict[str, Any]] = []
        self.configs: list[RunConfig] = []
        self.append_incident, self.append_metric = self.incidents.append, self.metrics.append
        self.append_sample, self.write_config = self.samples.append, self.configs.append


def made_job(progress: Progress | None = None, **others: Any) -> Any:
    """A job of which each test uses a part; the windows of update n are n and n + 100."""
    said: list[str] = []
    base = {
        "progress": progress or Progress(),
        "group": ProcessGroup(),
        "config": RunConfig(),
        "run": Folder(),
        "listener": SimpleNamespace(say=said.append, evaluated=lambda record: None, sampled=lambda record: None),
        "said": said,
        "loader": SimpleNamespace(windows_of=lambda step: (np.array([0, 1]), np.array([step, step + 100]))),
        "writer": SimpleNamespace(wait=lambda: None),
        "optimizers": SimpleNamespace(zero_grad=lambda: said.append("zero_grad")),
        "model": torch.nn.Linear(2, 2),
        "device": torch.device("cpu"),
        "is_sharded": False,
    }
    return SimpleNamespace(**{**base, **others})


def test_an_incident_is_noted_with_the_windows_of_its_update_by_the_main_process() -> None:
    job = made_job()
    note(job, 8, "kind", value=3)
    assert job.run.incidents == [{"step": 8, "kind": "kind", "value": 3, "epochs": [0, 1], "windows": [7, 107]}]
    other = made_job(group=ProcessGroup(1, 2))
    note(other, 8, "kind")
    assert other.run.incidents == []


def test_a_spike_is_said_with_the_usual_loss_before_it() -> None:
    job = made_job(Progress(spikes=LossSpikeDetector(50, 3.0, 0.25)))
    watch_loss(job, 60, 5.0)  # the border
    assert (job.said, job.run.incidents) == ([], [])
    watch_loss(job, 61, 11.0)
    (incident,) = job.run.incidents
    assert (incident["step"], incident["kind"], incident["loss"]) == (61, "loss_spike", 11.0)
    assert incident["usual"] == pytest.approx(3.1)
    assert incident["windows"] == [60, 160]
    assert job.said == ["The loss jumped from about 3.100 to 11.000 at step 61; see incidents.jsonl."]


@pytest.fixture
def handlers() -> dict[int, Any]:
    """The handlers that must be there again afterwards."""
    return {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


@pytest.mark.parametrize(
    ("number", "stop"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Terminated)], ids=["Ctrl-C", "SIGTERM"]
)
def test_the_first_signal_asks_and_the_second_leaves(
    handlers: dict[int, Any], number: signal.Signals, stop: type[BaseException]
) -> None:
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt) as left, Interrupt(said.append) as interrupt:  # noqa: PT012
        asked = [interrupt.requested]
        signal.raise_signal(number)
        asked.append(interrupt.requested)
        assert (asked, interrupt.stop) == ([False, True], stop)
        assert said == ["Finishing this step and saving; press Ctrl-C again to leave without saving."]
        signal.raise_signal(number)
    assert left.type is stop
    assert len(said) == 1
    assert {number: signal.getsignal(number) for number in handlers} == handlers


def test_the_second_signal_says_how_it_leaves(handlers: dict[int, Any]) -> None:
    for first, second, stop in [
        (signal.SIGINT, signal.SIGTERM, Terminated),
        (signal.SIGTERM, signal.SIGINT, KeyboardInterrupt),
    ]:
        with pytest.raises(KeyboardInterrupt) as left, Interrupt():  # noqa: PT012
            signal.raise_signal(first)
            signal.raise_signal(second)
        assert left.type is stop


def test_without_a_signal_nothing_is_asked_and_other_threads_leave_the_handlers_alone(handlers: dict[int, Any]) -> None:
    found: list[Any] = []

    def elsewhere() -> None:
        with Interrupt() as interrupt:
            found.append((interrupt.requested, interrupt.stop))
            found.append({number: signal.getsignal(number) for number in handlers})

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert found == [(False, KeyboardInterrupt), handlers]


@pytest.mark.parametrize(
    ("batch_size", "micro", "halved"), [(8, 0, 4), (7, 0, 4), (8, 5, 3), (8, 3, 2), (8, 2, 1), (4, 64, 2)]
)
def test_micro_batches_are_halved_upwards_and_written_down(batch_size: int, micro: int, halved: int) -> None:
    config = RunConfig().with_values({"batch_size": batch_size, "micro_batch_size": micro})
    job = made_job(Progress(step=4), config=config)
    assert halve_micro_batch_size(job) == halved
    assert job.config == config.with_values({"micro_batch_size": halved})
    assert job.run.configs == [job.config]
    now = min(micro or batch_size, batch_size)
    assert job.said == [
        f"Memory ran out in step 5 with {now} sequences at once; it is done again with {halved}, which gives the same "
        "update, but for dropout's masks."
    ]


def test_one_of_several_processes_asks_to_be_started_again() -> None:
    config = RunConfig().with_values({"batch_size": 8, "micro_batch_size": 0})
    job = made_job(config=config, group=ProcessGroup(1, 2))
    with pytest.raises(TryAgainError, match=r"step 1 with 4 sequences at once; .* takes 2\."):
        halve_micro_batch_size(job)
    assert [one.batches.micro_batch_size for one in job.run.configs] == [2]


def test_a_single_sequence_cannot_be_halved() -> None:
    job = made_job(config=RunConfig().with_values({"micro_batch_size": 1, "context_length": 77}))
    with pytest.raises(TrainingError, match=r"step 1, for a single sequence.*than 77"):
        halve_micro_batch_size(job)
    assert (job.run.configs, job.said) == ([], [])


@pytest.mark.parametrize(
    ("settings", "steps", "where", "says"),
    [
        (
            {"optimizer": "adamw", "learning_rate": 0.003, "precision": "fp32"}, [], "the loss",
            "Step 9 is not finite, first in the loss; no checkpoint was saved yet. Train again with a lower "
            'learning_rate than 0.003; or resume with non_finite = "skip" in its config.toml.',
        ),
        (
            {"optimizer": "muon", "learning_rate": 0.003, "muon_learning_rate": 0.02, "precision": "bf16"}, [5, 40],
            "the weight a.b",
            "Step 9 is not finite, first in the weight a.b; the checkpoint of step 40 is kept. Train again with a "
            "lower learning_rate than 0.003, a lower muon_learning_rate than 0.02, or with --precision fp32.",
        ),
    ],
)  # fmt: skip
def test_the_sentence_says_where_it_began_what_is_kept_and_what_helps(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], steps: list[int], where: str, says: str
) -> None:
    written: list[bool] = []

    def kept(checkpoints: Path) -> list[int]:
        assert written, "what is being written is waited for"
        return steps

    monkeypatch.setattr(non_finite, "checkpoint_steps", kept)
    writer = SimpleNamespace(wait=lambda: written.append(True))
    job = made_job(config=RunConfig().with_values(settings), writer=writer)
    assert non_finite.non_finite_sentence(job, 9, where) == says


@pytest.mark.parametrize("choice", ["stop", "skip"])
@pytest.mark.parametrize("step", [0, 7])
def test_a_broken_weight_is_named_before_it_is_saved_and_no_skipping_is_offered(choice: str, step: int) -> None:
    job = made_job(Progress(step=step), config=RunConfig().with_values({"non_finite": choice}))
    require_finite_weights(job)
    with torch.no_grad():
        job.model.bias[1] = math.nan
    with pytest.raises(TrainingError, match=rf"^Step {step} is not finite, first in the weight bias; ") as error:
        require_finite_weights(job)
    assert "skip" not in str(error.value)
    (incident,) = job.run.incidents
    assert (incident["step"], incident["kind"], incident["where"]) == (max(1, step), "non_finite", "the weight bias")


@pytest.mark.parametrize(
    ("where", "choice", "skipped", "step", "noted", "raises"),
    [
        ("the loss", "skip", 0, 7, 8, False),
        ("the loss", "skip", MOST_SKIPPED - 1, 7, 8, False),
        ("the loss", "skip", MOST_SKIPPED, 7, 8, True),
        ("the loss", "stop", 0, 7, 8, True),
        ("the weight bias", "skip", 0, 7, 7, True),  # by the update before
        ("the weight bias", "skip", 0, 0, 1, True),  # before which there is none
    ],
)
def test_an_update_is_left_out_or_the_run_stops(
    monkeypatch: pytest.MonkeyPatch, where: str, choice: str, skipped: int, step: int, noted: int, raises: bool
) -> None:
    monkeypatch.setattr(non_finite, "find_non_finite", lambda job, batch: where)
    progress = Progress(step=step, tokens_seen=640, seconds=2.0, skipped=skipped)
    job = made_job(progress, config=RunConfig().with_values({"non_finite": choice}))
    batch: Any = None
    if raises:
        with pytest.raises(TrainingError, match=f"^Step {step + 1} is not finite, first in {where}; "):
            skip_update(job, batch)
        assert (progress.step, progress.skipped) == (step, skipped)
    else:
        assert skip_update(job, batch) == {"step": step + 1, "skipped": where, "tokens_seen": 640}
        assert (progress.step, progress.skipped, progress.tokens_seen) == (step + 1, skipped + 1, 640)
        sentence = f"Step {step + 1} is not finite, first in {where}; it is left out, see incidents.jsonl."
        assert job.said == ["zero_grad", sentence]
    assert [(one["step"], one["kind"], one["where"]) for one in job.run.incidents] == [(noted, "non_finite", where)]


def test_ten_updates_in_a_row_may_be_left_out() -> None:
    assert MOST_SKIPPED == 10


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_place_is_looked_for_with_the_masks_of_the_update(
    monkeypatch: pytest.MonkeyPatch, precision: str, dtype: torch.dtype
) -> None:
    seen: list[tuple[int, int]] = []

    def look(model: Any, micro_batches: Any, given: torch.dtype) -> str:
        assert model is job.model
        assert given == dtype
        seen.extend((torch.initial_seed(), len(micro.inputs)) for micro in micro_batches)
        return "here"

    monkeypatch.setattr(non_finite, "first_non_finite", look)
    config = RunConfig().with_values({"seed": 3, "micro_batch_size": 2, "precision": precision})
    job = made_job(Progress(step=7), config=config)
    rows = torch.zeros(5, 4, dtype=torch.int64)
    assert non_finite.find_non_finite(job, Batch(rows, rows)) == "here"
    assert seen == [(stream_seed(3, "dropout", 7, number), rows) for number, rows in enumerate((2, 2, 1))]


@pytest.mark.parametrize(
    ("rank", "sharded", "scores", "records"), [(0, False, 1, 1), (1, False, 0, 0), (1, True, 1, 0), (0, True, 1, 1)]
)
def test_who_scores_and_writes_and_who_keeps_what_came_of_it(
    monkeypatch: pytest.MonkeyPatch, rank: int, sharded: bool, scores: int, records: int
) -> None:
    """A sharded model needs all processes; the records are those of the main one."""
    asked: list[tuple[str, dict[str, Any]]] = []

    class Writer:
        def __init__(self, model: Any, tokenizer: Any) -> None:
            assert model is job.model

        def generate(self, prompt: str, **named: Any) -> str:
            asked.append((prompt, named))
            return "a text"

    monkeypatch.setattr(milestones, "LanguageModel", Writer)
    pretend_exchange(monkeypatch)
    config = RunConfig().with_values({"seed": 3, "sample_prompt": "Once", "temperature": 0.5, "max_new_tokens": 9})
    job = made_job(
        Progress(step=7), config=config, group=ProcessGroup(rank, 2), is_sharded=sharded, deadline=None,
        corpus=SimpleNamespace(tokenizer=None),
    )  # fmt: skip
    milestones.write_sample(job)
    assert asked == [("Once", {"seed": stream_seed(3, "samples", 7), **config.sampling.to_dict()})] * scores
    assert job.run.samples == [{"step": 7, "prompt": "Once", "text": "a text"}] * records

    scored: list[Any] = []
    monkeypatch.setattr(milestones, "score_held_out", scored.append)
    job.progress.evaluations = EvaluationTracker(2.5, 4, 3, 200)
    milestones.evaluate_held_out(job)
    assert len(scored) == scores
    found = job.progress.evaluations
    main = rank == 0  # the others hear zeros here, since nothing is exchanged
    assert found == (EvaluationTracker(2.5, 4, 3, 200) if main else EvaluationTracker(0.0, 0, 0, 0))
    assert all(type(number) is int for number in (found.best_step, found.since_best, found.scored_tokens))
