"""A run on disk made by hand, without training: which checkpoint is loaded, what is summed up, scored and locked."""

from __future__ import annotations

import errno
import json
import math
import os
import socket
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightwell import atomic
from lightwell.batches.evaluation import evaluation_batches
from lightwell.corpus.corpus import Corpus, prepare
from lightwell.errors import RunError, SettingError
from lightwell.model.decoder import Decoder
from lightwell.text.config import TextConfig
from lightwell.tokens.token_file import TokenFile
from lightwell.training.checkpoints.checkpoint import save_checkpoint
from lightwell.training.hardware.host import describe_host
from lightwell.training.planning.resolve import resolve
from lightwell.training.runs import evaluation as evaluation_file
from lightwell.training.runs import records as records_file
from lightwell.training.runs import run as run_file
from lightwell.training.runs import scoring
from lightwell.training.runs.evaluation import evaluate, evaluation, true_byte_lengths
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.load import choose_checkpoint, load
from lightwell.training.runs.lock import lock
from lightwell.training.runs.records import Records
from lightwell.training.runs.references import measure_references
from lightwell.training.runs.run import Run, list_runs, new_run_path
from lightwell.training.runs.scoring import evaluate_run
from lightwell.training.runs.summary import Summary, runs
from lightwell.training.settings.config import RunConfig
from small import Heard, raising, small_config, system_error, write_text


@pytest.fixture(scope="module")
def corpus_of(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Corpus]:
    text = write_text(tmp_path_factory.mktemp("corpus") / "text")
    config = small_config(text, steps=9)
    corpus = prepare(config.text, config.model.vocab_size)
    return resolve(config, corpus, Listener())[0], corpus


def weights(config: RunConfig, step: int) -> dict[str, Any]:
    return {name: one.detach() for name, one in Decoder(config.model, step).named_parameters()}


def save(run: Run, corpus: Corpus, step: int) -> Path:
    """The checkpoint of a step holds the untrained weights of that seed."""
    return save_checkpoint(run.checkpoints, step, weights(run.config, step), {}, {"data": {"digest": corpus.digest}})


@pytest.fixture
def run(corpus_of: tuple[RunConfig, Corpus], tmp_path: Path) -> Run:
    """Scored at 0, 2, 4 and 6, best at 4 and then at 2; the checkpoints are of 2, 4 and 6."""
    config, corpus = corpus_of
    made = Run.create(tmp_path / "mine", config, corpus.tokenizer)
    for step, loss in {0: 5.0, 2: 3.5, 4: 3.0, 6: 4.0}.items():
        made.append_metric({"step": step, "loss": 1.0, "tokens_seen": 64 * step, "seconds": 0.5 * step})
        score = {"validation_loss": loss, "validation_bits_per_byte": loss / 2, "perplexity": math.exp(loss)}
        made.append_metric({"step": step, "tokens_seen": 64 * step, **score})
    made.append_metric({"step": 7, "skipped": "the loss", "tokens_seen": 384, "seconds": 3.5})
    for step in (2, 4, 6):
        save(made, corpus, step)
    return made


def damage(run: Run, step: int) -> None:
    (run.checkpoints / f"{step:08d}" / "model.safetensors").write_bytes(b"damaged")


@pytest.mark.parametrize(
    ("wanted", "damaged", "step", "sentences"),
    [
        ("best", [], 4, []),
        ("newest", [], 6, []),
        (2, [], 2, []),
        ("6", [], 6, []),
        ("best", [4], 2, ["00000004 is damaged: model.safetensors is not what was written. The next best is used."]),
        ("best", [4, 2], 6, ["The next best is used.", "The next best is used."]),
        ("newest", [6], 4, ["The one of step 4 is used instead."]),
    ],
)
def test_the_checkpoint_that_is_wanted(
    run: Run, wanted: str | int, damaged: list[int], step: int, sentences: list[str]
) -> None:
    for each in damaged:
        damage(run, each)
    heard = Heard()
    found = choose_checkpoint(run, wanted, heard)
    assert found.step == step
    assert all(torch.equal(found.model[name], one) for name, one in weights(run.config, step).items())
    assert len(heard.sentences) == len(sentences)
    assert all(said.endswith(sentence) for said, sentence in zip(heard.sentences, sentences, strict=True))


def test_the_best_of_those_that_were_kept_or_the_newest(run: Run, corpus_of: tuple[RunConfig, Corpus]) -> None:
    for step in (4, 2):
        folder = run.checkpoints / f"{step:08d}"
        folder.rename(folder.with_suffix(".gone"))
    assert choose_checkpoint(run, "best").step == 6
    save(run, corpus_of[1], 9)  # of a step that was not scored
    assert choose_checkpoint(run, "best").step == 6
    (run.path / "metrics.jsonl").unlink()
    assert choose_checkpoint(run, "best").step == 9


@pytest.mark.parametrize(
    ("wanted", "offers"), [(5, ""), ("-2", ""), ("bset", r"; did you mean best\?|.*best"), ("7.0", ""), (-2, "")]
)
def test_a_checkpoint_that_is_not_there_is_answered_with_those_that_are(run: Run, wanted: Any, offers: str) -> None:
    with pytest.raises(RunError, match=rf"^mine has no checkpoint {wanted}; it has best, newest, 2, 4, 6\.{offers}"):
        choose_checkpoint(run, wanted)


def test_a_loaded_model_has_the_weights_the_tokenizer_and_the_context_that_is_asked_for(run: Run) -> None:
    model = load(run.path, device="cpu")
    assert same(model.decoder, weights(run.config, 4))
    assert not model.decoder.training
    assert model.context_length == 16
    assert model.tokenizer.fingerprint == run.tokenizer.fingerprint
    assert load(run.path, context_length=40, device="cpu").context_length == 40
    assert load(run.path, context_length=8, checkpoint=2, device="cpu").context_length == 8
    assert same(load(run.path, checkpoint="newest", device="cpu").decoder, weights(run.config, 6))


def same(model: Decoder, expected: dict[str, Any]) -> bool:
    found = dict(model.named_parameters())
    return found.keys() == expected.keys() and all(torch.equal(found[name], one) for name, one in expected.items())


def test_learned_positions_are_as_many_as_were_learned(corpus_of: tuple[RunConfig, Corpus], tmp_path: Path) -> None:
    config = corpus_of[0].with_values({"positions": "learned"})
    run = Run.create(tmp_path / "mine", config, corpus_of[1].tokenizer)
    save(run, corpus_of[1], 1)
    for context_length in (0, 16):
        assert load(run, context_length=context_length, device="cpu").context_length == 16
    for context_length in (15, 17):
        with pytest.raises(SettingError, match=rf"context_length is {context_length}, but mine learned exactly 16 pos"):
            load(run, context_length=context_length, device="cpu")


def test_a_summary_is_of_the_best_evaluation_and_the_last_step(run: Run) -> None:
    for number, file in enumerate(sorted(path for path in run.path.rglob("*") if path.is_file())):
        os.utime(file, (1_000_000 + 60 * number, 1_000_000 + 60 * number))
    files = [path for path in run.path.rglob("*") if path.is_file()]
    found = Summary.of(run)
    assert found.to_dict() == {
        "name": "mine", "path": str(run.path), "step": 7, "steps": 9, "best_step": 4, "validation_loss": 3.0,
        "parameters": sum(one.numel() for one in Decoder(run.config.model).parameters()), "bits_per_byte": 1.5,
        "perplexity": math.exp(3.0), "tokens_seen": 384, "seconds": 3.5, "generates": 4,
        "text": Path(run.config.text.paths[0]).name, "preset": "", "seed": run.config.training.seed,
        "machine": describe_host()["processor"],
        "begun": datetime.fromtimestamp((run.path / "config.toml").stat().st_mtime).isoformat(" ")[:16],
        "size_bytes": sum(len(path.read_bytes()) for path in files),
        "written": datetime.fromtimestamp(1_000_000 + 60 * (len(files) - 1)).isoformat(" ")[:16],
    }  # fmt: skip
    (run.path / "metrics.jsonl").unlink()
    early = Summary.of(run)
    assert (early.step, early.tokens_seen, early.seconds) == (0, 0, 0.0)
    assert early.best_step is early.validation_loss is early.bits_per_byte is early.perplexity is None


def test_a_damaged_run_is_said_and_the_others_are_summed_up(run: Run) -> None:
    other = Run.create(run.path.with_name("other"), run.config, run.tokenizer)
    other.append_metric({"step": 1})
    os.utime(other.path / "metrics.jsonl", (1, 1))
    said: list[str] = []
    assert [one.name for one in runs(run.path.parent, said.append)] == ["mine", "other"]
    assert not said
    (run.path / "metrics.jsonl").write_text('nonsense\n{"step": 1}\n')
    assert [one.name for one in runs(run.path.parent, said.append)] == ["other"]
    assert len(said) == 1
    assert "Line 1 of" in said[0]
    assert runs(run.path.parent) == [Summary.of(other)]


@pytest.mark.parametrize(
    ("options", "context", "stride"),
    [({}, 16, 16), ({"stride": 5}, 16, 5), ({"context_length": 8}, 8, 8), ({"context_length": 10**6}, None, None)],
)
def test_the_held_out_text_is_scored_and_told(
    run: Run, corpus_of: tuple[RunConfig, Corpus], options: dict[str, Any], context: int | None, stride: int | None
) -> None:
    """A context beyond the text is as long as the text."""
    _, corpus = corpus_of
    held_out = corpus.held_out
    context, stride = context or len(held_out), stride or len(held_out)
    heard: list[tuple[int, int]] = []
    found = evaluate_run(run, device="cpu", checkpoint=2, scored=lambda *told: heard.append(told), **options)
    model = load(run, checkpoint=2, context_length=context, device="cpu").decoder
    batches = list(evaluation_batches(held_out, context, max(1, 8192 // context), stride=stride))
    lengths = true_byte_lengths(held_out, corpus.tokenizer.byte_lengths)
    assert found.evaluation.to_dict() == pytest.approx(evaluate(model, batches, lengths).to_dict(), rel=1e-5)
    told = np.cumsum([batch.counted for batch in batches]).tolist()
    assert heard == [(done, len(held_out) - 1) for done in told]
    assert told[-1] == len(held_out) - 1
    references = measure_references(corpus.train, held_out, lengths)
    assert found.references == references
    assert found.to_dict() == {
        **found.evaluation.to_dict(), "run": str(run.path), "checkpoint": 2, "text": [], "context_length": context,
        "stride": stride, "references": {
            "uniform": references.uniform, "unigram": references.unigram_loss, "bigram": references.bigram_loss
        },
    }  # fmt: skip


def test_another_text_is_scored_in_pieces_that_fit_and_without_references_where_the_own_text_is_gone(
    run: Run, corpus_of: tuple[RunConfig, Corpus], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = write_text(tmp_path / "other", documents=3)
    sizes: list[int] = []

    def noted(tokens: Any, context_length: int, batch_size: int, **named: Any) -> Any:
        sizes.append(batch_size)
        return evaluation_batches(tokens, context_length, batch_size, **named)

    monkeypatch.setattr(scoring, "evaluation_batches", noted)
    found = evaluate_run(run, other, device="cpu")
    assert sizes == [8192 // 16]
    assert (found.text, found.checkpoint) == ([str(other)], 4)
    texts = [path.read_text() for path in sorted(other.iterdir())]
    tokens = TokenFile.from_texts(texts, run.tokenizer)
    assert (found.evaluation.tokens, found.evaluation.bytes) == (len(tokens) - 1, sum(map(len, texts)))
    lengths = true_byte_lengths(tokens, run.tokenizer.byte_lengths)
    assert found.references == measure_references(corpus_of[1].train, tokens, lengths)
    run.write_config(run.config.with_values({"paths": (str(other),)}))  # it was not trained on that
    without = evaluate_run(run.path, other, device="cpu")
    assert without.references is None
    assert without.to_dict()["references"] is None
    assert without.evaluation == found.evaluation
    with pytest.raises(RunError, match=r"text of mine has changed since.*`lightwell evaluate .*mine TEXT`"):
        evaluate_run(run.path, device="cpu")


@pytest.mark.parametrize(
    ("nats", "tokens", "size", "expected"),
    [
        (6 * math.log(2), 3, 12, (2 * math.log(2), 4.0, 0.5)),
        (699.0, 1, 1, (699.0, math.exp(699.0), 699.0 / math.log(2))),
        (1400.0, 2, 1, (700.0, math.inf, 1400.0 / math.log(2))),
        (2.0, 1, 0, (2.0, math.exp(2.0), math.inf)),
    ],
)
def test_means_from_sums(nats: float, tokens: int, size: int, expected: tuple[float, float, float]) -> None:
    found = evaluation(nats, tokens, size)
    assert (found.nats_per_token, found.perplexity, found.bits_per_byte) == pytest.approx(expected)
    assert (found.tokens, found.bytes) == (tokens, size)


def test_bytes_that_are_not_known_stay_as_they_are_spelt(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = np.array([0, 1, 2])
    for spelt, text_bytes in ((3, 0), (0, 9)):
        monkeypatch.setattr(evaluation_file, "spelt_bytes", lambda *given, spelt=spelt: spelt)
        tokens = TokenFile.from_ids([0, 1, 2], vocab_size=3, text_bytes=text_bytes)
        found = true_byte_lengths(tokens, lengths)
        assert found.tolist() == [0.0, 1.0, 2.0]
        assert found.dtype == np.float64


def test_a_lock_says_who_has_it_and_is_free_again_afterwards(tmp_path: Path) -> None:
    mine = f"process {os.getpid()} on {socket.gethostname()}"
    (tmp_path / ".lock").write_text("an older owner with a long name " * 9)
    for _ in range(2):
        with lock(tmp_path):
            assert (tmp_path / ".lock").read_text() == mine
            with pytest.raises(RunError, match=f"is being trained by {mine}; wait for it"), lock(tmp_path):
                pass
    with lock(tmp_path):
        (tmp_path / ".lock").write_text("")
        with pytest.raises(RunError, match="is being trained by another process; "), lock(tmp_path):
            pass
    with pytest.raises(RunError, match=r"The run .*missing cannot be written \(No such file or directory\)"):
        with lock(tmp_path / "missing"):
            pass


def test_an_error_while_it_is_held_frees_a_lock(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="within"), lock(tmp_path):
        raise ValueError("within")
    with lock(tmp_path):
        pass


def test_records_that_stay_are_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(tmp_path / "metrics.jsonl")
    records.truncate(3)
    records.sync()  # nothing is there
    assert not records.path.exists()
    records.append({"step": 1})
    records.append({"step": 3})
    with monkeypatch.context() as patch:
        patch.setattr(records_file, "write_run_file", lambda *given: pytest.fail("nothing was to be dropped"))
        records.truncate(3)
    records.truncate(2)
    assert records.path.read_bytes() == b'{"step": 1}\n'


@pytest.mark.parametrize(("written", "says"), [(None, "No space left on device"), (5, "the disk is full")])
def test_a_record_that_the_disk_takes_in_part_is_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int | None, says: str
) -> None:
    class Short:
        """A file of which a write takes only a part, or fails behind it."""

        def __init__(self, file: Any) -> None:
            self.file = file

        def __enter__(self) -> Any:
            return self

        def __exit__(self, *error: object) -> None:
            self.file.close()

        def write(self, line: bytes) -> int:
            self.file.write(line[:5])
            if written is None:
                raise system_error(errno.ENOSPC)
            return written

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

    records = Records(tmp_path / "metrics.jsonl")
    records.append({"step": 1})
    real = Path.open
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda self, *given, **named: Short(real(self, *given, **named)))
        with pytest.raises(RunError, match=rf"metrics\.jsonl could not be written \({says}\); free some space"):
            records.append({"step": 2})
    assert records.path.read_bytes() == b'{"step": 1}\n'


def test_a_disk_that_fails_while_records_are_synced_is_said(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "sync", raising(system_error(errno.EIO)))
    with pytest.raises(RunError, match=r"metrics\.jsonl could not be written \(Input/output error\)"):
        run.sync()


def test_all_records_and_their_names_are_synced(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    run.append_sample({"step": 1})
    run.append_incident({"step": 1})
    for module in (atomic, run_file):
        monkeypatch.setattr(module, "sync", lambda path: synced.append(path.name))
    run.sync()
    assert synced == ["metrics.jsonl", "samples.jsonl", "incidents.jsonl", "mine"]


def test_the_files_of_a_new_run_are_synced_before_it_stands(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []

    def replaced(beside: Path, path: Path, aside: Path) -> None:
        done.append(f"{path.name} stands")
        atomic.replace_folder(beside, path, aside)

    monkeypatch.setattr(run_file, "sync", lambda path: done.append(path.name))
    monkeypatch.setattr(run_file, "replace_folder", replaced)
    Run.create(tmp_path / "other", run.config, run.tokenizer)
    assert sorted(done[:-1]) == ["checkpoints", "config.toml", "machine.json", "tokenizer.json"]
    assert done[-1] == "other stands"


def test_a_configuration_that_was_written_is_the_one_that_is_read(run: Run) -> None:
    changed = run.config.with_values({"micro_batch_size": 3})
    run.write_config(changed)
    assert run.config == changed == Run(run.path).config


@pytest.mark.parametrize("content", ["{", "7", "nothing"])
def test_damaged_reference_lines_are_named_with_what_makes_them_again(run: Run, content: str) -> None:
    (run.path / "references.json").write_text(content)
    with pytest.raises(RunError, match=r"references\.json is damaged; .* `lightwell resume .*mine` makes it"):
        run.references()
    (run.path / "references.json").write_text(json.dumps({"uniform": 1.5}))
    assert run.references() == {"uniform": 1.5}


def test_a_run_without_metrics_was_written_when_its_configuration_was(run: Run) -> None:
    other = Run.create(run.path.with_name("other"), run.config, run.tokenizer)
    hidden = run.path.with_name(".hidden")
    Run.create(hidden, run.config, run.tokenizer)
    for seconds, expected in ((1, ["mine", "other"]), (2_000_000_000_0, ["other", "mine"])):
        os.utime(other.path / "config.toml", (seconds, seconds))
        assert [one.name for one in list_runs(run.path.parent)] == expected
    (other.path / "tokenizer.json").unlink()
    assert [one.name for one in list_runs(run.path.parent)] == ["mine"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.b.txt", "a"), ("--x--.txt", "x"), ("!!.txt", "text"), ("a+b_c.md", "a-b_c"), ("é1", "é1")],
)
def test_a_text_gives_a_run_its_name_without_what_folders_should_not_have(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert new_run_path(TextConfig(paths=(name,)), "elsewhere") == Path("elsewhere") / expected
