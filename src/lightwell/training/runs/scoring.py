"""Scoring a finished run on its own held-out text, or on any other."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

from lightwell.arguments import checked
from lightwell.batches.batch import Batch
from lightwell.batches.evaluation import evaluation_batches
from lightwell.corpus.corpus import Corpus, prepare
from lightwell.corpus.manifest import open_prepared, prepared_folder
from lightwell.errors import LightwellError, RunError
from lightwell.settings import Meta
from lightwell.text.documents import read_documents
from lightwell.text.paths import TextPaths, text_paths
from lightwell.tokens.token_file import TokenFile
from lightwell.training.checkpoints.checkpoint import Weights
from lightwell.training.hardware.device import Device, resolve_precision
from lightwell.training.runs.evaluation import Evaluation, evaluate, true_byte_lengths
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.load import choose_checkpoint, language_model
from lightwell.training.runs.references import References, measure_references
from lightwell.training.runs.run import Run, find_run
from lightwell.views import html, lines, number

TOKENS_AT_ONCE = 8192  # that go through the model: enough to keep it busy, with logits that fit into memory


@dataclass(frozen=True, repr=False)
class Score:
    """How good a checkpoint of a run is on a text, with what to hold it against."""

    run: str
    checkpoint: int
    """The step that was scored."""
    text: list[str]
    """The files, or nothing where it is the run's own held-out text."""
    context_length: int
    stride: int
    evaluation: Evaluation
    references: References | None
    """Fitted on the run's training text and scored on this text; None where that text is no longer what it was."""

    def __repr__(self) -> str:
        return lines(f"Score of {self.run} at step {self.checkpoint:,}", self._about())

    def _repr_html_(self) -> str:
        return html(f"Score of {self.run} at step {self.checkpoint:,}", self._about())

    def _about(self) -> list[tuple[str, str]]:
        score, lines_ = self.evaluation, self._references() or {}
        below = [name for name, loss in lines_.items() if score.nats_per_token < loss]
        return [
            ("loss", f"{number(score.nats_per_token)} nats per token, {number(score.bits_per_byte)} bits per byte"),
            ("perplexity", number(score.perplexity, 2)),
            ("of", f"{score.tokens:,} tokens, windows of {self.context_length:,} every {self.stride:,}"),
            ("below", ", ".join(below) or ("no reference line" if lines_ else "not known")),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, the scores at the top."""
        about = {name: getattr(self, name) for name in ("run", "checkpoint", "text", "context_length", "stride")}
        return {**self.evaluation.to_dict(), "references": self._references(), **about}

    def _references(self) -> dict[str, float] | None:
        if self.references is None:
            return None
        values = asdict(self.references)
        return {"uniform": values["uniform"], "unigram": values["unigram_loss"], "bigram": values["bigram_loss"]}


@checked
def evaluate_run(
    run: str | os.PathLike[str],
    *paths: TextPaths,
    stride: Annotated[int, Meta(ge=0)] = 0,
    checkpoint: str | int = "best",
    context_length: Annotated[int, Meta(ge=0)] = 0,
    device: Device = "auto",
    listener: Listener | None = None,
    scored: Callable[[int, int], None] = lambda tokens, of: None,
) -> Score:
    """Score every token of the run's held-out text, or of the texts in `paths`, each once.

    paths: files, folders or globs, or lists of them, read as the run's own text was and not split. stride: tokens from
    one window to the next, 0 for the context length; with less, windows overlap, which gives each token more context
    and takes longer.
    context_length: 0 for the one that it was trained with. scored: is told how many tokens are scored, of how many.

    Raises:
        RunError: no such run or checkpoint; or its text has changed, so that what was held out is no longer known.
        TextError: a text is missing or empty.
        SettingError: a stride beyond the context length, or a context_length that the model cannot have.
    """
    listener = listener or Listener()
    opened = Run(find_run(run))
    texts = text_paths(*paths)
    saved = choose_checkpoint(opened, checkpoint, listener)
    if texts:
        tokens = _whole(opened, texts, listener)
        corpus = _training_text(opened, saved)
    else:
        corpus = _own_text(opened, saved, listener)
        tokens = corpus.held_out
    # A context beyond the text would cost memory by its square, and see nothing more.
    useful = max(len(tokens), opened.config.model.context_length)
    model = language_model(opened, saved, min(context_length, useful), device)
    batches = evaluation_batches(
        tokens,
        model.context_length,
        max(1, TOKENS_AT_ONCE // model.context_length),
        stride=stride,
        boundaries=opened.config.batches.document_boundaries,
    )
    precision = resolve_precision(opened.config.training.precision, model.device)
    byte_lengths = true_byte_lengths(tokens, opened.tokenizer.byte_lengths)
    return Score(
        run=str(opened.path),
        checkpoint=saved.step,
        text=list(texts),
        context_length=model.context_length,
        stride=stride or model.context_length,
        evaluation=evaluate(model.decoder, _counted(batches, len(tokens) - 1, scored), byte_lengths, precision),
        references=measure_references(corpus.train, tokens, byte_lengths) if corpus else None,
    )


def _counted(batches: Iterable[Batch], of: int, scored: Callable[[int, int], None]) -> Iterator[Batch]:
    """Yield the same batches; tells after each one how far the scoring is."""
    done = 0
    for batch in batches:
        yield batch
        done += batch.counted
        scored(done, of)


def _whole(run: Run, paths: tuple[str, ...], listener: Listener) -> TokenFile:
    """Return the tokens of all documents of a text, in the run's vocabulary; of prepared text the held-out ones."""
    if folder := prepared_folder(paths):
        listener.say(f"{folder} is prepared text; what is held out of it is scored.")
        return open_prepared(folder, run.tokenizer).held_out
    documents, report = read_documents(dataclasses.replace(run.config.text, paths=paths))
    for sentence in report.sentences():
        listener.say(sentence)
    return TokenFile.from_texts([document.text for document in documents], run.tokenizer)


def _own_text(run: Run, saved: Weights, listener: Listener) -> Corpus:
    corpus = prepare(run.config.text, run.config.model.vocab_size, tokenizer=run.tokenizer, say=listener.say)
    if corpus.digest != saved.state["data"]["digest"]:
        raise RunError(
            f"The text of {run.name} has changed since it was trained, so what it never saw is not known; "
            f"name a text: `lightwell evaluate {run.path} TEXT`."
        )
    return corpus


def _training_text(run: Run, saved: Weights) -> Corpus | None:
    """Return the text that the run learned from, where it is still there; only the reference lines need it."""
    try:
        return _own_text(run, saved, Listener())
    except LightwellError:
        return None
