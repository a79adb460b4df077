"""The training loop at its surface: runs that are trained, stopped, resumed, turned at each knob."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import signal
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from lightwell.corpus.corpus import prepare
from lightwell.errors import RunError, TrainingError
from lightwell.training import start as starting
from lightwell.training.build import make_job
from lightwell.training.checkpoints.checkpoint import checkpoint_steps
from lightwell.training.checkpoints.files import record_hash
from lightwell.training.events import milestones
from lightwell.training.planning.resolve import make_loader, resolve
from lightwell.training.runs.evaluation import Evaluation, evaluate, true_byte_lengths
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.load import choose_checkpoint, load
from lightwell.training.runs.references import measure_references
from lightwell.training.runs.run import Run
from lightwell.training.start import resume, run_job, train
from small import Heard, StopAt, final_state, raising, same_bits, small_config, small_run, untimed, write_text


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("corpus") / "text")


@pytest.fixture(scope="module")
def whole(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(text, tmp_path_factory.mktemp("runs") / "whole")


def test_a_run_leaves_all_its_files(whole: Run) -> None:
    names = {path.name for path in whole.path.iterdir()}
    assert names == {
        "config.toml", "tokenizer.json", "references.json", "metrics.jsonl", "samples.jsonl", "checkpoints",
        "curve.png", "curve.svg", ".lock", "machine.json",
    }  # fmt: skip
    steps = [record["step"] for record in whole.metrics() if "loss" in record]
    assert steps == [1, 2, 3, 4, 5, 6]
    assert [record["step"] for record in whole.metrics() if "validation_loss" in record] == [0, 3, 6]
    assert [record["step"] for record in whole.samples()] == [3, 6]
    assert {"loss", "learning_rate", "grad_norm", "tokens_per_second", "tokens_seen", "memory_bytes", "seconds"} <= (
        whole.metrics()[1].keys()
    )


def test_law_01_the_untrained_loss_is_ln_v(whole: Run) -> None:
    untrained = whole.metrics()[0]
    assert untrained["step"] == 0
    assert abs(untrained["validation_loss"] - math.log(whole.tokenizer.vocab_size)) < 0.1


def test_law_14_the_same_seed_gives_the_same_bits(text: Path, tmp_path: Path, whole: Run) -> None:
    again = small_run(text, tmp_path / "again")
    assert same_bits(final_state(whole), final_state(again))
    assert untimed(whole.metrics()) == untimed(again.metrics())
    assert whole.samples() == again.samples()


def test_the_callers_random_state_is_left_alone(text: Path, tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    small_run(text, tmp_path / "run")
    assert torch.equal(torch.rand(3), expected)


RESUMED = {
    "as it is": {},
    "muon": {"optimizer": "muon"},
    "random offsets": {"sampler": "random"},
    "cut documents": {"document_boundaries": "cut"},
    "masked documents": {"document_boundaries": "mask", "stride": 5},
    "bf16": {"precision": "bf16"},
    "stable then decay": {"schedule": "wsd"},
}


@pytest.mark.parametrize("settings", RESUMED.values(), ids=RESUMED.keys())
@pytest.mark.parametrize("stop", [1, 4])
def test_law_09_stopped_and_resumed_is_bit_identical(
    text: Path, tmp_path: Path, settings: dict[str, Any], stop: int
) -> None:
    straight = small_run(text, tmp_path / "straight", **settings)
    with pytest.raises(KeyboardInterrupt):
        small_run(text, tmp_path / "stopped", StopAt(stop), **settings)
    stopped = Run(tmp_path / "stopped")
    assert max(record["step"] for record in stopped.metrics()) == stop
    resumed = resume(stopped.path)
    assert same_bits(final_state(straight), final_state(resumed))
    assert untimed(straight.metrics()) == untimed(resumed.metrics())
    assert straight.samples() == resumed.samples()


def test_a_run_killed_before_its_first_checkpoint_starts_again(text: Path, tmp_path: Path, whole: Run) -> None:
    class Killed(Listener):
        def stepped(self, record: dict[str, Any]) -> None:
            raise MemoryError

    with pytest.raises(MemoryError):
        small_run(text, tmp_path / "killed", Killed())
    heard = Heard()
    resumed = resume(tmp_path / "killed", listener=heard)
    assert any("starts again" in sentence for sentence in heard.sentences)
    assert untimed(resumed.metrics()) == untimed(whole.metrics())


def test_a_damaged_checkpoint_gives_way_to_the_one_before(text: Path, tmp_path: Path, whole: Run) -> None:
    with pytest.raises(KeyboardInterrupt):
        small_run(text, tmp_path / "run", StopAt(5))
    damaged = tmp_path / "run" / "checkpoints" / "00000005" / "model.safetensors"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    heard = Heard()
    resumed = resume(tmp_path / "run", listener=heard)
    assert any("00000005" in sentence and "step 4 is used" in sentence for sentence in heard.sentences)
    assert same_bits(final_state(resumed), final_state(whole))
    assert untimed(resumed.metrics()) == untimed(whole.metrics())


def test_resuming_on_a_changed_text_is_refused(tmp_path: Path) -> None:
    folder = write_text(tmp_path / "text")
    with pytest.raises(KeyboardInterrupt):
        small_run(folder, tmp_path / "run", StopAt(2))
    (folder / "00.txt").write_text("Another text altogether.\n" * 20)
    with pytest.raises(RunError, match="has changed"):
        resume(tmp_path / "run")


def test_resuming_a_finished_run_changes_nothing(text: Path, tmp_path: Path) -> None:
    run = small_run(text, tmp_path / "run")
    before = final_state(run), run.metrics()
    again = resume(run.path)
    assert same_bits(final_state(again), before[0])
    assert again.metrics() == before[1]


@pytest.mark.parametrize(
    "settings",
    [
        {"eval_every": 1}, {"eval_every": 0}, {"eval_tokens": 50}, {"sample_every": 1}, {"sample_every": 0},
        {"sample_prompt": "the"}, {"temperature": 0.1}, {"log_every": 4}, {"checkpoint_every": 1},
        {"checkpoint_every": 0}, {"keep_checkpoints": 1},
    ],
    ids=str,
)  # fmt: skip
def test_law_10_watching_never_changes_the_weights(
    text: Path, tmp_path: Path, whole: Run, settings: dict[str, Any]
) -> None:
    run = small_run(text, tmp_path / "run", **settings)
    assert same_bits(final_state(run), final_state(whole))


def test_law_16_one_batch_can_be_overfitted(text: Path, tmp_path: Path) -> None:
    config = small_config(
        text, steps=150, batch_size=2, micro_batch_size=0, d_model=64, learning_rate=1e-2, weight_decay=0.0,
        embedding_dropout=0.0, attention_dropout=0.0, residual_dropout=0.0, eval_every=0, sample_every=0,
        checkpoint_every=0, stride=3000,
    )  # fmt: skip
    run = train(config, out=tmp_path / "run")
    assert run.metrics()[-2]["loss"] < 0.01


def test_the_golden_losses(text: Path, tmp_path: Path) -> None:
    """A refactor leaves these numbers as they are; a change of arithmetic states that it changes them."""
    without = dict.fromkeys(("embedding_dropout", "attention_dropout", "residual_dropout"), 0.0)
    golden: list[tuple[dict[str, Any], list[float]]] = [
        ({"optimizer": "adamw"}, [5.59628, 5.56549, 5.53957, 5.45168, 5.40454, 5.39749]),
        ({"optimizer": "muon"}, [5.59628, 5.56572, 5.54724, 5.46309, 5.42261, 5.40811]),
        ({"optimizer": "adamw", **without}, [5.59947, 5.57088, 5.53622, 5.43956, 5.38571, 5.38395]),
        ({"optimizer": "muon", **without}, [5.59947, 5.57085, 5.54414, 5.44806, 5.40047, 5.39213]),
    ]
    for number, (settings, losses) in enumerate(golden):
        run = small_run(text, tmp_path / str(number), activation="gelu", positions="learned", **settings)
        found = [record["loss"] for record in run.metrics() if "loss" in record]
        assert found == pytest.approx(losses, abs=2e-4), settings


@pytest.mark.parametrize(("poisoned", "reported"), [(3, 3), (5, 6)], ids=["before scoring", "in the next step"])
def test_numbers_that_overflow_stop_the_run_and_name_step_and_place(
    text: Path, tmp_path: Path, poisoned: int, reported: int
) -> None:
    class Poison(Listener):
        """Puts an infinite weight into a layer after a step."""

        def stepped(self, record: dict[str, Any]) -> None:
            if record["step"] == poisoned:
                with torch.no_grad():
                    job.model.get_parameter("layers.1.feed_forward.up.weight")[0, 0] = math.inf

    config = small_config(text)
    corpus = prepare(config.text, config.model.vocab_size)
    config, _ = resolve(config, corpus, Listener())
    run = Run.create(tmp_path / "run", config, corpus.tokenizer)
    job = make_job(config, corpus, make_loader(config, corpus), run, Poison())
    place = rf"Step {reported} is not finite, first in .*layers\.1\.feed_forward.*checkpoint of step \d is kept"
    with pytest.raises(TrainingError, match=place):
        run_job(job)
    assert choose_checkpoint(run, "newest").step == (reported - 1) // 2 * 2


def test_early_stopping_ends_a_run_that_no_longer_improves(text: Path, tmp_path: Path) -> None:
    heard = Heard()
    run = small_run(
        text, tmp_path / "run", heard, learning_rate=0.5, steps=40, eval_every=1, patience=3, keep_checkpoints=1
    )
    last = max(record["step"] for record in run.metrics())
    assert last < 40
    assert any("Stopped early" in sentence for sentence in heard.sentences)
    assert choose_checkpoint(run, "newest").step == last
    scores = {record["step"]: record["validation_loss"] for record in run.metrics() if "validation_loss" in record}
    best = min((step for step in scores if step), key=lambda step: scores[step])
    assert choose_checkpoint(run, "best").step in (best, last)  # step 0 may have been better than all
    assert run.samples()[-1]["step"] == last

    before = run.metrics()
    resume(run.path)
    assert run.metrics() == before  # a run that stopped early is finished


def test_early_stopping_keeps_the_best_checkpoint(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the best evaluation lies before the end and between two checkpoints, it is saved and kept all the same."""
    losses = iter([5.0, 4.0, 4.5, 3.0, 3.2, 3.1, 3.4, 3.3, 2.0])

    def scripted(*arguments: Any, **named: Any) -> Evaluation:
        return dataclasses.replace(evaluate(*arguments, **named), nats_per_token=next(losses))

    monkeypatch.setattr(milestones, "evaluate", scripted)
    run = small_run(text, tmp_path / "run", steps=8, eval_every=1, patience=4, checkpoint_every=0, keep_checkpoints=1)
    assert checkpoint_steps(run.checkpoints) == [3, 7]  # the best one, and where four evaluations had not beaten it
    assert choose_checkpoint(run, "best").step == 3
    assert load(run.path).decoder.config.n_layers == 2


@pytest.mark.parametrize("error", [RunError("disk full"), MemoryError("none left"), ValueError("no font")], ids=repr)
@pytest.mark.parametrize("stopped", [False, True])
def test_a_curve_that_cannot_be_drawn_loses_nothing(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, stopped: bool
) -> None:
    class Listening(Heard):
        def stepped(self, record: dict[str, Any]) -> None:
            if stopped and record["step"] == 1:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(starting, "draw_run", raising(error))
    heard, settings = Listening(), {"steps": 2, "eval_every": 0, "sample_every": 0}
    with pytest.raises(KeyboardInterrupt) if stopped else nullcontext():
        small_run(text, tmp_path / "run", heard, **settings)
    assert checkpoint_steps(tmp_path / "run" / "checkpoints")[-1] == (1 if stopped else 2)
    assert f"The curve could not be drawn ({error})" in heard.sentences[-1]


def test_a_signal_while_the_run_saves_waits_for_the_next_step(text: Path, tmp_path: Path) -> None:
    """Whatever the moment of the signal, what the loop leaves with is what it has saved."""

    class StopWhileSampling(Listener):
        def sampled(self, record: dict[str, Any]) -> None:
            if record["step"] == 3:
                signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        small_run(text, tmp_path / "run", StopWhileSampling(), checkpoint_every=0, eval_every=0)
    run = Run(tmp_path / "run")
    assert choose_checkpoint(run, "newest").step == max(record["step"] for record in run.metrics())


@pytest.mark.parametrize(
    ("before", "after"),
    [("batch_size = 4", "batch_size = 8"), ("n_layers = 2", "n_layers = 3"), ("seed = 1", "seed = 2")],
)
def test_resuming_with_an_edited_setting_is_refused(text: Path, tmp_path: Path, before: str, after: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        small_run(text, tmp_path / "run", StopAt(2))
    file = tmp_path / "run" / "config.toml"
    file.write_text(file.read_text().replace(before, after))
    with pytest.raises(RunError, match=f"{after.split()[0]} is {after.split()[2]}, but it was trained with"):
        resume(tmp_path / "run")


def test_how_often_a_resumed_run_is_watched_may_be_edited(text: Path, tmp_path: Path, whole: Run) -> None:
    with pytest.raises(KeyboardInterrupt):
        small_run(text, tmp_path / "run", StopAt(2))
    file = tmp_path / "run" / "config.toml"
    file.write_text(file.read_text().replace("eval_every = 3", "eval_every = 1"))
    assert same_bits(final_state(resume(tmp_path / "run")), final_state(whole))


def test_a_warm_up_that_does_not_fit_is_shortened_and_said(text: Path, tmp_path: Path) -> None:
    heard = Heard()
    run = small_run(text, tmp_path / "run", heard, warmup_steps=50)
    assert run.config.training.warmup_steps == 3
    assert any("warm-up is 3 steps instead of 50" in sentence for sentence in heard.sentences)


def test_a_model_with_cut_documents_is_scored_as_it_was_trained(text: Path, tmp_path: Path) -> None:
    """Each held-out document alone, from position 0, which learned positions can tell."""
    config = small_config(text, document_boundaries="cut", positions="learned", context_length=64, eval_tokens=10**6)
    run = train(config, out=tmp_path / "run")
    corpus = prepare(config.text, config.model.vocab_size)
    model = load(run.path, checkpoint="newest").decoder
    tokens, edges = corpus.held_out.tokens, corpus.held_out.offsets
    nats = 0.0
    for begin, end in itertools.pairwise(edges):
        for start in range(begin, end, 64):
            piece = torch.from_numpy(tokens[start : min(start + 64, end) + 1].astype("int64"))
            with torch.no_grad():
                nats += torch.nn.functional.cross_entropy(model(piece[None, :-1])[0], piece[1:], reduction="sum").item()
    assert run.metrics()[-1]["validation_loss"] == pytest.approx(nats / (len(tokens) - 1), abs=1e-5)


def test_a_run_that_is_being_trained_is_not_resumed_by_another(text: Path, tmp_path: Path) -> None:
    refused: list[str] = []

    class ResumeToo(Listener):
        def stepped(self, record: dict[str, Any]) -> None:
            with pytest.raises(RunError, match=r"is being trained by process \d+ on ") as refusal:
                resume(tmp_path / "run")
            refused.append(str(refusal.value))

    run = small_run(text, tmp_path / "run", ResumeToo())
    assert len(refused) == 6
    assert [record["step"] for record in run.metrics() if "loss" in record] == [1, 2, 3, 4, 5, 6]


def test_ctrl_c_is_answered_at_once(text: Path, tmp_path: Path) -> None:
    class StopAndHear(Heard):
        def stepped(self, record: dict[str, Any]) -> None:
            if record["step"] == 2:
                signal.raise_signal(signal.SIGINT)
                self.sentences.append("stepped on")

    heard = StopAndHear()
    with pytest.raises(KeyboardInterrupt):
        small_run(text, tmp_path / "run", heard)
    assert "press Ctrl-C again" in heard.sentences[heard.sentences.index("stepped on") - 1]


def test_a_text_repeated_many_times_is_remarked_on(text: Path, tmp_path: Path) -> None:
    heard = Heard()
    config = small_config(text, epochs=50)
    resolve(config, prepare(config.text, config.model.vocab_size), heard)
    assert any("learned by heart" in sentence for sentence in heard.sentences)


@pytest.mark.parametrize("keep", [1, 2])
def test_damaged_checkpoints_do_not_take_the_places_of_new_ones(text: Path, tmp_path: Path, keep: int) -> None:
    """Stopped again right after it fell back on an older checkpoint, a run has the new one."""
    with pytest.raises(KeyboardInterrupt):
        small_run(text, tmp_path / "run", StopAt(5), checkpoint_every=1, eval_every=0)
    run = Run(tmp_path / "run")
    for step in (4, 5):
        (run.checkpoints / f"{step:08d}" / "model.safetensors").write_bytes(b"damaged")
    file = run.path / "config.toml"
    changed = file.read_text().replace("keep_checkpoints = 100", f"keep_checkpoints = {keep}")
    file.write_text(changed.replace("checkpoint_every = 1", "checkpoint_every = 0"))
    with pytest.raises(KeyboardInterrupt):
        resume(run.path, listener=StopAt(4))
    assert choose_checkpoint(Run(run.path), "newest").step == 4
    assert (run.checkpoints / "00000005.damaged").is_dir()


def test_a_run_from_before_a_setting_was_there_is_resumed(text: Path, tmp_path: Path, whole: Run) -> None:
    with pytest.raises(KeyboardInterrupt):
        small_run(text, tmp_path / "run", StopAt(4))
    run = Run(tmp_path / "run")
    for folder in run.checkpoints.iterdir():
        file = folder / "state.json"
        state = json.loads(file.read_text())
        for name in ("non_finite", "keep_every", "reproducible"):
            del state["config"]["training"][name]
        for name in ("skipped", "losses", "usual_loss", "usual_deviation"):
            del state["progress"][name]
        del state["sha256"]["state.json"]
        state["sha256"]["state.json"] = record_hash(state)
        file.write_text(json.dumps(state))
    assert same_bits(final_state(resume(run.path)), final_state(whole))


def test_the_reference_lines_are_scored_on_the_tokens_that_evaluations_score(tmp_path: Path) -> None:
    run = small_run(write_text(tmp_path / "text"), tmp_path / "run", steps=1, eval_tokens=50)
    corpus = prepare(run.config.text, run.config.model.vocab_size, tokenizer=run.tokenizer)
    lengths = true_byte_lengths(corpus.held_out, corpus.tokenizer.byte_lengths)
    expected = measure_references(corpus.train, corpus.held_out, lengths, max_tokens=50).to_dict()
    assert run.references() == expected
    assert expected != measure_references(corpus.train, corpus.held_out, lengths).to_dict()
