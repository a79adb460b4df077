"""When an allocation fails: the same batch in smaller micro-batches, the same update in less memory (law 7)."""

from __future__ import annotations

from collections.abc import Callable

import torch

from lightwell.errors import TrainingError, TryAgainError
from lightwell.training.job import Job
from lightwell.training.planning.memory import rows_at_once

WORDS = ("can't allocate memory", "out of memory", "not enough memory")
"""What torch's allocators say on processors and on GPUs of Apple, where an error has no type of its own."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory could not be had."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in WORDS)


def within_memory(job: Job, gradients: Callable[[int], float]) -> float:
    """Return what `gradients` of a micro-batch size returns, of the first size for which there is memory.

    The run keeps the size that it came to, and writes it down, so that it is resumed with it.

    Raises:
        TrainingError: there is none even for one sequence.
        TryAgainError: one of several processes has none; the exchange that it was in cannot be taken up again.
    """
    while True:
        try:
            return gradients(job.config.batches.micro_batch_size)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside of the handler, which would keep everything alive that the failed attempt had made.
        job.optimizers.zero_grad()
        take_smaller(job)


def take_smaller(job: Job) -> None:
    """Halve the micro-batches of a run, and write that down.

    Raises:
        TrainingError, TryAgainError: as above.
    """
    now = rows_at_once(job.config, job.group.size)
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
