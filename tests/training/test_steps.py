"""A step of the loop, its record and what follows it, in numbers; what a job is built of, put back and refused."""

from __future__ import annotations

import copy
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightwell.batches.evaluation import evaluation_batches
from lightwell.corpus.corpus import prepare
from lightwell.errors import RunError
from lightwell.model.decoder import Decoder
from lightwell.training import build, loop, resuming, start
from lightwell.training.build import make_job, make_loss_module
from lightwell.training.checkpoints.checkpoint import Checkpoint, checkpoint_folder, load_checkpoint
from lightwell.training.events.milestones import score_held_out
from lightwell.training.events.saving import restore, snapshot
from lightwell.training.job import Job, Progress
from lightwell.training.loop import early_stop, every, train_step
from lightwell.training.planning.deadline import Deadline, ending_seconds
from lightwell.training.planning.resolve import make_loader, resolve
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.resuming import MAY_CHANGE_ON_RESUME, refuse_other_settings
from lightwell.training.runs.best import EvaluationTracker
from lightwell.training.runs.evaluation import evaluate
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.run import Run
from lightwell.training.settings.config import RunConfig
from lightwell.training.update.loss import TrainedLoss, head_loss
from lightwell.training.update.loss_spikes import LossSpikeDetector
from lightwell.training.update.streams import stream_seed
from lightwell.training.update.update import UpdateResult
from small import Heard, StopAt, final_state, same_bits, small_config, small_run, write_text
from teams import pretend_exchange
from tiny import TINY


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("corpus") / "text")


@pytest.fixture(scope="module")
def made(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job at step 0, which no test changes."""
    config = small_config(text, seed=5)
    corpus = prepare(config.text, config.model.vocab_size)
    config, loader = resolve(config, corpus, Listener())
    run = Run.create(tmp_path_factory.mktemp("runs") / "made", config, corpus.tokenizer)
    return make_job(config, corpus, loader, run, Listener())


@pytest.fixture
def job(made: Job, tmp_path: Path) -> Job:
    """A job at step 0 of a test's own."""
    run = Run.create(tmp_path / "run", made.config, made.corpus.tokenizer)
    return make_job(made.config, made.corpus, made.loader, run, Listener())


PROGRESS = Progress(9, 700, 1.5, 2, EvaluationTracker(2.5, 6, 1, 200), LossSpikeDetector(9, 3.0, 0.25))
PLAIN = {
    "step": 9, "tokens_seen": 700, "seconds": 1.5, "skipped": 2, "best_loss": 2.5, "best_step": 6, "since_best": 1,
    "scored_tokens": 200, "losses": 9, "usual_loss": 3.0, "usual_deviation": 0.25,
}  # fmt: skip


def test_progress_is_plain_values_and_back() -> None:
    assert PROGRESS.to_dict() == PLAIN
    assert Progress.from_dict(PLAIN) == PROGRESS
    older = {name: PLAIN[name] for name in ("step", "tokens_seen", "seconds", "best_loss", "best_step", "since_best")}
    assert Progress.from_dict(older) == Progress(9, 700, 1.5, 0, EvaluationTracker(2.5, 6, 1, 0), LossSpikeDetector())
    assert Progress().to_dict() == {**dict.fromkeys(PLAIN, 0), "best_loss": None}


@pytest.mark.parametrize(
    ("interval", "step", "steps", "happens"),
    [(0, 3, 9, False), (0, 9, 9, True), (3, 3, 9, True), (3, 4, 9, False), (3, 2, 9, False), (4, 9, 9, True),
     (4, 8, 9, True), (1, 1, 9, True), (20, 9, 9, True), (3, 1, 9, False)],
)  # fmt: skip
def test_what_happens_every_so_many_steps(interval: int, step: int, steps: int, happens: bool) -> None:
    assert every(interval, step, steps) is happens


@pytest.mark.parametrize(
    ("patience", "since_best", "stops"),
    [(0, 0, False), (0, 9, False), (3, 2, False), (3, 3, True), (1, 0, False), (3, 4, True)],
)
def test_patience_ends_with_that_many_evaluations_since_the_best(patience: int, since_best: int, stops: bool) -> None:
    job: Any = SimpleNamespace(
        config=RunConfig().with_values({"patience": patience}),
        progress=Progress(evaluations=EvaluationTracker(since_best=since_best)),
    )
    assert early_stop(job) is stops


class Clock:
    """Stands for time: each look at it is half a second after the one before."""

    def __init__(self) -> None:
        self.now = 10.0

    def perf_counter(self) -> float:
        self.now += 0.5
        return self.now


def test_the_record_of_a_step(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def updated(loss_module: Any, optimizers: Any, batch: Any, config: Any, **named: Any) -> UpdateResult:
        assert (loss_module, optimizers, config) == (job.loss_module, job.optimizers, job.config.training)
        assert torch.equal(batch.inputs, job.loader.batch(3).inputs)
        asked.append(named)
        return UpdateResult(3.5, 1.25, 0.5)

    monkeypatch.setattr(loop, "update", updated)
    monkeypatch.setattr(loop, "time", Clock())
    monkeypatch.setattr(loop, "memory_bytes", lambda device: 12345)
    job.progress = Progress(step=3, tokens_seen=100, seconds=2.0, skipped=4)
    counted = job.loader.batch(3).counted
    record = train_step(job)
    assert record == {
        "step": 4, "loss": 3.5, "learning_rate": pytest.approx(0.0015), "grad_norm": 1.25,
        "tokens_per_second": 2 * counted, "tokens_seen": 100 + counted, "memory_bytes": 12345, "seconds": 2.5,
    }  # fmt: skip
    assert (job.progress.step, job.progress.skipped, job.progress.seconds) == (4, 0, 2.5)
    assert job.progress.tokens_seen == 100 + counted
    assert job.progress.spikes == LossSpikeDetector(1, 3.5, 0.0)
    (named,) = asked
    del named["smaller"]
    assert named == {"micro_batch_size": 2, "seed": 5, "step": 3, "group": job.group}


def test_the_record_of_a_step_that_is_left_out(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its time counts, its tokens and its loss do not."""
    monkeypatch.setattr(loop, "update", lambda *args, **named: UpdateResult(float("nan"), 1.0, 0.5))
    monkeypatch.setattr(loop, "time", Clock())
    job.config = job.config.with_values({"non_finite": "skip"})
    job.progress = Progress(step=3, tokens_seen=100, seconds=2.0)
    assert train_step(job) == {"step": 4, "skipped": "the loss", "tokens_seen": 100, "seconds": 2.5}
    assert job.progress == Progress(step=4, tokens_seen=100, seconds=2.5, skipped=1)


class Planned(Deadline):
    """A deadline for which 40 steps fit; keeps when it was asked."""

    def __init__(self) -> None:
        super().__init__(0.0)
        self.asked: list[tuple[int, float]] = []

    def update_steps(self, config: RunConfig, step: int, seconds: float) -> RunConfig:
        self.asked.append((step, seconds))
        return config.with_values({"steps": 40})


@pytest.mark.parametrize(
    ("steps", "step", "expected", "is_open"),
    [
        (100, 20, 40, True),  # of 100 steps, 50 are stable, of 40 the first 20
        (100, 19, 40, True),
        (30, 15, 30, False),  # the decay has begun
        (30, 14, 40, True),
    ],
)
def test_the_number_of_steps_is_settled_once_the_decay_begins(
    steps: int, step: int, expected: int, is_open: bool
) -> None:
    heard: list[int] = []
    written: list[RunConfig] = []
    settings = {"steps": steps, "schedule": "wsd", "warmup_steps": 0, "decay_fraction": 0.5}
    deadline = Planned()
    job: Any = SimpleNamespace(
        config=RunConfig().with_values(settings), progress=Progress(step=step, seconds=3.5), deadline=deadline,
        run=SimpleNamespace(write_config=written.append), listener=SimpleNamespace(lengthened=heard.append),
    )  # fmt: skip
    loop.update_steps(job)
    settled = not is_open or step >= 20
    assert deadline.asked == ([(step, 3.5)] if is_open else [])
    assert job.config.training.steps == expected
    assert heard == [expected]
    assert job.deadline is (None if settled else deadline)
    assert written == ([job.config] if settled else [])
    job.deadline = None
    loop.update_steps(job)
    assert heard == [expected]


def test_a_model_begins_with_the_weights_of_its_own_stream_and_learns_in_its_precision() -> None:
    for precision, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        config = TINY.with_values({"seed": 9, "precision": precision, "compile": "off"})
        model, module = make_loss_module(config, ProcessGroup())
        expected = Decoder(config.model, stream_seed(9, "initialisation"))
        assert same_bits(dict(model.named_parameters()), dict(expected.named_parameters()))
        assert isinstance(module, TrainedLoss)
        assert module.model is model
        seen: list[torch.dtype] = []

        def head(model: Any, x: torch.Tensor, targets: Any, seen: list[torch.dtype] = seen) -> torch.Tensor:
            seen.append(x.dtype)
            return x.sum()

        tokens = torch.zeros(1, 4, dtype=torch.int64)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(build, "head_loss", head)
            _, module = make_loss_module(config, ProcessGroup())
            module(tokens, tokens, None)
        with torch.autocast("cpu", dtype, enabled=precision == "bf16"):
            assert seen == [expected.hidden(tokens, dtype=dtype).dtype]


@pytest.mark.parametrize(
    ("size", "parallel", "reproducible", "compiled", "kind"),
    [
        (1, "ddp", False, "off", "plain"), (1, "fsdp", False, "off", "plain"), (2, "ddp", False, "off", "wrapped"),
        (2, "fsdp", False, "off", "sharded"), (2, "ddp", True, "off", "plain"), (1, "ddp", False, "on", "compiled"),
        (1, "ddp", False, "auto", "plain"),
    ],
)  # fmt: skip
def test_several_processes_share_a_model_as_the_setting_says(
    monkeypatch: pytest.MonkeyPatch, size: int, parallel: str, reproducible: bool, compiled: str, kind: str
) -> None:
    made: list[str] = []

    def wrapped(module: Any, **named: Any) -> Any:
        assert named == {"broadcast_buffers": False, "gradient_as_bucket_view": True}
        made.append("wrapped")
        return module

    def sharded(config: Any, seed: int, group: ProcessGroup) -> Decoder:
        assert (config, seed, group) == (settings.model, stream_seed(1, "initialisation"), ProcessGroup(1, size))
        made.append("sharded")
        return Decoder(config, seed)

    def compile_for_training(model: Any) -> Any:
        made.append("compiled")
        return head_loss

    monkeypatch.setattr(build, "DistributedDataParallel", wrapped)
    monkeypatch.setattr(build, "shard", sharded)
    monkeypatch.setattr(build, "compile_for_training", compile_for_training)
    settings = TINY.with_values({"parallel": parallel, "reproducible": reproducible, "compile": compiled})
    make_loss_module(settings, ProcessGroup(1 if size > 1 else 0, size))
    assert made == ([] if kind == "plain" else [kind])


def test_a_score_is_that_of_the_first_held_out_tokens_and_counts_for_the_best(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[dict[str, Any]] = []
    monkeypatch.setattr(job.listener, "evaluated", heard.append)
    job.progress = Progress(step=7, tokens_seen=99)
    job.config = job.config.with_values({"eval_tokens": 50})
    score_held_out(job)
    batches = evaluation_batches(job.corpus.held_out, 16, 2, max_tokens=50)
    expected = evaluate(job.model, batches, job.byte_lengths)
    (record,) = heard
    assert record == pytest.approx(
        {
            "step": 7, "tokens_seen": 99, "validation_loss": expected.nats_per_token,
            "validation_bits_per_byte": expected.bits_per_byte, "perplexity": expected.perplexity, "scored_tokens": 50,
        }
    )  # fmt: skip
    assert job.run.metrics() == heard
    assert job.progress.evaluations == EvaluationTracker(record["validation_loss"], 7, 0, 50)
    job.group = ProcessGroup(1, 2)
    score_held_out(job)
    assert (len(job.run.metrics()), len(heard)) == (1, 2)


def test_a_checkpoint_says_where_the_run_stands(text: Path, tmp_path: Path) -> None:
    run = small_run(text, tmp_path / "run", steps=4, seed=5, eval_every=2)
    state = load_checkpoint(checkpoint_folder(run.checkpoints, 4)).state
    assert state.keys() == {"progress", "config", "length_is_open", "data", "random"}
    corpus = prepare(run.config.text, run.config.model.vocab_size, tokenizer=run.tokenizer)
    assert state["data"] == {"digest": corpus.digest, "sequences": 16}
    assert state["random"] == {"seed": 5, "step": 4}
    assert state["length_is_open"] is False
    assert RunConfig.from_dict(state["config"]) == run.config
    progress = state["progress"]
    last = [record for record in run.metrics() if "loss" in record][-1]
    scores = {record["step"]: record["validation_loss"] for record in run.metrics() if "validation_loss" in record}
    best = min(scores, key=lambda step: scores[step])
    assert (progress["step"], progress["tokens_seen"], progress["seconds"]) == (4, last["tokens_seen"], last["seconds"])
    assert (progress["best_step"], progress["best_loss"], progress["scored_tokens"]) == (best, scores[best], 200)
    assert progress["losses"] == 4


def test_each_process_keeps_its_share_of_the_tensors_by_their_bytes() -> None:
    """9, 5, 4, 3 and 2 numbers for two: 9 + 3 and 5 + 4 + 2."""
    tensors = {name: torch.arange(float(size)) for name, size in zip("abcde", (9, 5, 4, 3, 2), strict=True)}
    shares = [snapshot(tensors, ProcessGroup(rank, 2)) for rank in range(2)]
    assert [list(share) for share in shares] == [["a", "d"], ["b", "c", "e"]]
    whole = snapshot(tensors, ProcessGroup())
    assert same_bits(whole, tensors)
    for name, tensor in tensors.items():
        tensor.add_(1)
        assert whole[name][0] == 0, "a snapshot is a copy"


@pytest.mark.parametrize(
    ("scored_tokens", "saved", "now", "best"),
    [(0, 200, 200, 2.5), (0, 200, 50, None), (200, 200, 50, 2.5), (50, 200, 50, 2.5)],
)
def test_a_job_is_put_back_to_its_checkpoint(
    job: Job, made: Job, scored_tokens: int, saved: int, now: int, best: float | None
) -> None:
    weights = {name: torch.full_like(one, 0.5) for name, one in job.model.named_parameters()}
    progress = {**PLAIN, "scored_tokens": scored_tokens}
    state = {"progress": progress, "config": {"training": {"eval_tokens": saved}}}
    moments = {
        f"{name}.{key}": torch.full_like(one, 0.25)
        for name, one in weights.items()
        for key in ("exp_avg", "exp_avg_sq")
    }
    moments |= {f"{name}.step": torch.tensor(9.0) for name in weights}
    job.config = job.config.with_values({"eval_tokens": now})
    restore(job, Checkpoint(9, weights, state, moments))
    assert same_bits(dict(job.model.named_parameters()), weights)
    assert same_bits(job.optimizers.state_tensors(), moments)
    assert job.progress.to_dict() == {**progress, "best_loss": best}


def state_of(config: RunConfig, step: int = 20, is_open: bool = False) -> dict[str, Any]:
    return {"config": copy.deepcopy(config.to_dict()), "progress": {"step": step}, "length_is_open": is_open}


def run_of(config: RunConfig) -> Any:
    return SimpleNamespace(name="mine", config=config)


WSD = RunConfig().with_values({"steps": 40, "schedule": "wsd", "warmup_steps": 4, "decay_fraction": 0.25})


@pytest.mark.parametrize(
    ("step", "steps", "refused"), [(30, 40, False), (31, 40, True), (30, 39, True), (30, 41, False)]
)
def test_an_open_length_may_be_any_whose_decay_comes_later(step: int, steps: int, refused: bool) -> None:
    """Of 40 steps the first 30 are stable, of 39 the first 29, of 41 the first 31."""
    run = run_of(WSD.with_values({"steps": steps}))
    if refused:
        sentence = rf"of mine says steps is {steps}, with which step {step} would .*; put back 40\."
        with pytest.raises(RunError, match=sentence):
            refuse_other_settings(run, state_of(WSD, step, is_open=True))
    else:
        refuse_other_settings(run, state_of(WSD, step, is_open=True))


def test_a_settled_length_is_not_edited_and_any_step_goes_on() -> None:
    refuse_other_settings(run_of(WSD), state_of(WSD, 39))
    with pytest.raises(RunError, match=r"mine says steps is 41, but it was trained with 40; put that back"):
        refuse_other_settings(run_of(WSD.with_values({"steps": 41})), state_of(WSD, 5))


def test_only_what_changes_no_weight_may_be_edited() -> None:
    assert {
        "device", "eval_every", "eval_tokens", "sample_every", "sample_prompt", "checkpoint_every",
        "keep_checkpoints", "keep_every", "non_finite", "log_every", "patience", "micro_batch_size", "parallel",
    } == MAY_CHANGE_ON_RESUME  # fmt: skip
    for section, values in WSD.to_dict().items():
        for name, value in values.items():
            state = state_of(WSD)
            state["config"][section][name] = "auto" if value != "auto" else "other"
            saved = SimpleNamespace(to_dict=lambda config=state["config"]: config)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(RunConfig, "from_dict", lambda values, saved=saved: saved)
                if name in MAY_CHANGE_ON_RESUME or section in ("text", "sampling"):
                    refuse_other_settings(run_of(WSD), state)
                else:
                    with pytest.raises(RunError, match=f"of mine says {name} is "):
                        refuse_other_settings(run_of(WSD), state)


def test_a_run_of_an_older_version_is_told_from_one_that_was_edited() -> None:
    state = state_of(WSD)
    del state["length_is_open"]
    with pytest.raises(RunError, match=r"^mine was trained by an older version"):
        refuse_other_settings(run_of(WSD), state)


class StopError(Exception):
    """Ends a call once a test has heard enough."""


def test_minutes_count_from_when_they_are_asked_for(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends: list[float] = []

    def heard(config: Any, corpus: Any, listener: Any, end: float) -> Any:
        ends.append(end)
        raise StopError

    monkeypatch.setattr(start, "resolve", heard)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0)
    config = small_config(text, minutes=2.5)
    for started in (None, 0.0, 400.0):
        with pytest.raises(StopError):
            start.train(config, out=tmp_path / "run", started=started)
        with pytest.raises(StopError):
            start.plan(config, started=started)
    assert ends == [1150.0, 1150.0, 150.0, 150.0, 550.0, 550.0]


@pytest.mark.parametrize(("settings", "timed"), [({"minutes": 2.0}, True), ({"steps": 3}, False)])
def test_only_a_run_that_was_asked_for_minutes_has_a_deadline(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], timed: bool
) -> None:
    def resolved(config: Any, corpus: Any, *rest: Any) -> Any:
        return resolve(config.with_values({"steps": 7, "minutes": 0}), corpus, Listener())

    jobs: list[Job] = []
    monkeypatch.setattr(start, "resolve", resolved)
    monkeypatch.setattr(start, "run_job", jobs.append)
    start.train(small_config(text, **settings), out=tmp_path / "run", started=100.0)
    (job,) = jobs
    expected = Deadline(220.0, ending_seconds(job.config.model.parameter_count()))
    assert job.deadline == (expected if timed else None)
    assert (job.progress, job.run.path, job.config.training.steps) == (Progress(), tmp_path / "run", 7)


def test_nothing_is_read_for_a_run_that_cannot_be_made(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*arguments: Any, **named: Any) -> Any:
        raise StopError

    monkeypatch.setattr(start, "prepare", read)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("Dear")
    with pytest.raises(RunError, match="is not a run"):
        start.train(small_config(text), out=tmp_path / "full", force=True)
    with pytest.raises(StopError):
        start.train(small_config(text), out=tmp_path / "free")


@pytest.fixture
def stopped(text: Path, tmp_path: Path) -> Run:
    with pytest.raises(KeyboardInterrupt):
        small_run(text, tmp_path / "stopped", StopAt(3), checkpoint_every=0, sample_every=1, eval_every=0)
    return Run(tmp_path / "stopped")


def test_a_stopped_run_has_its_curve_and_a_resumed_one_its_records_up_to_the_checkpoint(stopped: Run) -> None:
    assert (stopped.path / "curve.png").is_file()
    for step in (4, 5):  # as of a process that was killed later
        stopped.append_metric({"step": step, "loss": 1.0})
        stopped.append_sample({"step": step, "prompt": "", "text": ""})
        stopped.append_incident({"step": step, "kind": "loss_spike"})
    heard = Heard()
    job = resuming.restore_job(stopped, heard, ProcessGroup())
    assert job.progress.step == 3
    assert [record["step"] for record in stopped.metrics()] == [0, 1, 2, 3]
    assert [record["step"] for record in stopped.samples()] == [1, 2, 3]
    assert stopped.incidents() == []
    assert not any("finished" in sentence or "starts again" in sentence for sentence in heard.sentences)
    assert same_bits(dict(job.model.named_parameters()), {
        name: tensor for name, tensor in final_state(stopped).items() if not name.startswith("optimizer.")
    })  # fmt: skip


def test_another_process_than_the_main_one_leaves_records_and_checkpoints(
    stopped: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_exchange(monkeypatch)
    monkeypatch.setattr(resuming, "make_job", lambda *given: make_job(*given[:5]))
    stopped.append_metric({"step": 4, "loss": 1.0})
    damaged = stopped.checkpoints / "00000009"
    damaged.mkdir()
    resuming.restore_job(stopped, Heard(), ProcessGroup(1, 2))
    assert stopped.metrics()[-1]["step"] == 4
    assert damaged.is_dir()
    resuming.restore_job(stopped, Heard(), ProcessGroup(0, 2))
    assert stopped.metrics()[-1]["step"] == 3
    assert not damaged.is_dir()


def test_a_text_that_is_gone_is_an_error_of_the_run(tmp_path: Path) -> None:
    text = write_text(tmp_path / "text")
    run = small_run(text, tmp_path / "run", steps=1)
    heard = Heard()
    resuming.restore_job(run, heard, ProcessGroup())
    assert "run is finished: all 1 steps are done." in heard.sentences
    for file in text.iterdir():
        file.unlink()
    with pytest.raises(RunError, match="The text that run was trained on cannot be read any more: "):
        resuming.restore_job(run, heard, ProcessGroup())


def test_a_job_scores_with_the_loader_and_bytes_of_its_text(made: Job) -> None:
    assert (made.progress, made.deadline, made.group) == (Progress(), None, ProcessGroup())
    assert made.byte_lengths.tolist() == made.corpus.tokenizer.byte_lengths.tolist()
    again = make_loader(made.config, made.corpus)
    assert torch.equal(again.batch(2).inputs, made.loader.batch(2).inputs)
