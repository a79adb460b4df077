"""What happens along the way of a run: scoring the held-out tokens, and letting the model write."""

from __future__ import annotations

import time

from lightwell.batches.evaluation import evaluation_batches
from lightwell.generation.language_model import LanguageModel
from lightwell.training.job import Job
from lightwell.training.runs.best import EvaluationTracker
from lightwell.training.runs.evaluation import evaluate
from lightwell.training.update.compilation import eager
from lightwell.training.update.streams import stream_seed


def evaluate_held_out(job: Job) -> None:
    """Score the first eval_tokens held-out tokens, the same ones each time, and keep count of the best.

    The main process does, and tells the others; a sharded model needs all of them for every pass. A deadline hears how
    long it takes.
    """
    started = time.perf_counter()
    tracker = job.progress.evaluations
    if job.group.is_main or job.is_sharded:
        score_held_out(job)
    best_loss, best_step, since_best, scored_tokens = job.group.broadcast(
        [tracker.best_loss or 0.0, tracker.best_step, tracker.since_best, tracker.scored_tokens]
    )
    job.progress.evaluations = EvaluationTracker(best_loss, int(best_step), int(since_best), int(scored_tokens))
    if job.deadline is not None:
        job.deadline.evaluation = time.perf_counter() - started
        job.deadline.evaluated += job.deadline.evaluation


def score_held_out(job: Job) -> None:
    """Evaluate, record the score, and see whether it is the best."""
    config, progress = job.config, job.progress
    batches = evaluation_batches(
        job.corpus.held_out,
        config.model.context_length,
        config.batches.micro_batch_size or config.batches.batch_size,
        max_tokens=config.training.eval_tokens,
        boundaries=config.batches.document_boundaries,
    )
    with eager():
        score = evaluate(job.model, batches, job.byte_lengths, config.training.precision)
    progress.evaluations.add(progress.step, score.nats_per_token, score.tokens)
    record = {
        "step": progress.step,
        "tokens_seen": progress.tokens_seen,
        "validation_loss": score.nats_per_token,
        "validation_bits_per_byte": score.bits_per_byte,
        "perplexity": score.perplexity,
        "scored_tokens": score.tokens,
    }
    if job.group.is_main:
        job.run.append_metric(record)
    job.listener.evaluated(record)


def write_sample(job: Job) -> None:
    """Let the model write from the run's prompt, from the samples' own random stream."""
    if not (job.group.is_main or job.is_sharded):
        return
    config, step = job.config, job.progress.step
    writer = LanguageModel(job.model, job.corpus.tokenizer)
    prompt = config.training.sample_prompt
    seed = stream_seed(config.training.seed, "samples", step)
    with eager():
        text = writer.generate(prompt, seed=seed, **config.sampling.to_dict())
    record = {"step": step, "prompt": prompt, "text": text}
    if job.group.is_main:
        job.run.append_sample(record)
    job.listener.sampled(record)
