"""What happens along the way of a run: scoring the held-out tokens, and letting the model write."""

from __future__ import annotations

from lightwell.batches.evaluation import evaluation_batches
from lightwell.generation.language_model import LanguageModel
from lightwell.training.job import Job
from lightwell.training.runs.evaluation import evaluate
from lightwell.training.update.compilation import as_written
from lightwell.training.update.streams import stream_seed


def evaluate_held_out(job: Job) -> None:
    """Score the first eval_tokens held-out tokens, the same ones each time, and keep count of the best.

    The leader does, and tells the others; a model in parts needs all of them for every pass.
    """
    progress = job.progress
    if job.group.is_main or job.in_parts:
        score_held_out(job)
    found = job.group.broadcast([progress.best_loss or 0.0, progress.best_step, progress.since_best])
    progress.best_loss, progress.best_step, progress.since_best = found[0], int(found[1]), int(found[2])


def score_held_out(job: Job) -> None:
    """Evaluate and record."""
    config, progress = job.config, job.progress
    batches = evaluation_batches(
        job.corpus.held_out,
        config.model.context_length,
        config.batches.micro_batch_size or config.batches.batch_size,
        max_tokens=config.training.eval_tokens,
        boundaries=config.batches.document_boundaries,
    )
    with as_written():
        score = evaluate(job.model, batches, job.byte_lengths, config.training.precision)
    if progress.best_loss is None or score.nats_per_token < progress.best_loss:
        progress.best_loss, progress.best_step, progress.since_best = score.nats_per_token, progress.step, 0
    else:
        progress.since_best += 1
    record = {
        "step": progress.step,
        "tokens_seen": progress.tokens_seen,
        "validation_loss": score.nats_per_token,
        "validation_bits_per_byte": score.bits_per_byte,
        "perplexity": score.perplexity,
    }
    if job.group.is_main:
        job.run.append_metric(record)
    job.listener.evaluated(record)


def write_sample(job: Job) -> None:
    """Let the model write from the run's prompt, from the samples' own random stream."""
    if not (job.group.is_main or job.in_parts):
        return
    config, step = job.config, job.progress.step
    writer = LanguageModel(job.model, job.corpus.tokenizer)
    prompt = config.training.sample_prompt
    seed = stream_seed(config.training.seed, "samples", step)
    with as_written():
        text = writer.generate(prompt, seed=seed, **config.sampling.to_dict())
    record = {"step": step, "prompt": prompt, "text": text}
    if job.group.is_main:
        job.run.append_sample(record)
    job.listener.sampled(record)
