"""When an allocation fails: the same batch in smaller micro-batches, the same update in less memory (law 7)."""

from __future__ import annotations

from lightwell.errors import TrainingError, TryAgainError
from lightwell.training.job import Job
from lightwell.training.planning.memory import local_micro_batch_size


def halve_micro_batch_size(job: Job) -> int:
    """Halve the micro-batches of a run, and write that down, so that it is resumed with them; return their size.

    Raises:
        TrainingError: they are of one sequence already.
        TryAgainError: one of several processes has no memory; the exchange that it was in cannot be taken up again.
    """
    now = local_micro_batch_size(job.config, job.group.size)
    step = job.progress.step + 1
    if now == 1:
        raise TrainingError(
            f"Memory ran out in step {step}, for a single sequence; end other programs and resume, or train again with "
            f"a shorter --context-length than {job.config.model.context_length} or a smaller model."
        )
    job.config = job.config.with_values({"micro_batch_size": (now + 1) // 2})
    job.run.write_config(job.config)
    happened = f"Memory ran out in step {step} with {now} sequences at once"
    if job.group.size > 1:
        raise TryAgainError(f"{happened}; started again or resumed, the run takes {(now + 1) // 2}.")
    job.listener.say(
        f"{happened}; it is done again with {(now + 1) // 2}, which gives the same update, but for dropout's masks."
    )
    return job.config.batches.micro_batch_size
