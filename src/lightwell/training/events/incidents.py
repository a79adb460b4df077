"""What went wrong along the way: a line in incidents.jsonl for each, with the windows that were read when it did.

    {"step": 812, "kind": "non_finite", "where": "layers.3.attention.scores", "epochs": [0, ...], "windows": [17, ...]}
    {"step": 990, "kind": "loss_spike", "loss": 7.1, "usual": 3.2, "epochs": [...], "windows": [...]}

Window numbers are those of `batches/windows.py`, so that the text behind an incident can be looked at.
"""

from __future__ import annotations

from typing import Any

from lightwell.training.job import Job, Progress

FOLLOW = 0.05
"""The share of each new loss in the usual one: a memory of about 20 steps."""
SETTLED = 50
"""Steps before a spike can be told from a beginning."""
SPIKE = 8.0
"""Mean absolute deviations above the usual loss from which a loss is a spike."""
MOST_SKIPPED = 10
"""Updates in a row that may be skipped: what lasts longer is no single bad batch."""


def note(job: Job, step: int, kind: str, **about: Any) -> None:
    """Write an incident in update number `step` down, with the windows of its batch."""
    if not job.group.is_main:
        return
    epochs, windows = job.loader.windows_of(step - 1)
    record = {"step": step, "kind": kind, **about, "epochs": epochs.tolist(), "windows": windows.tolist()}
    job.run.append_incident(record)


def watch_loss(job: Job, step: int, loss: float) -> None:
    """Follow the usual loss, and note and say where it is left by far."""
    usual = job.progress.usual_loss
    if follow(job.progress, loss):
        note(job, step, "loss_spike", loss=loss, usual=usual)
        job.listener.say(f"The loss jumped from about {usual:.3f} to {loss:.3f} at step {step}; see incidents.jsonl.")


def follow(progress: Progress, loss: float) -> bool:
    """Take the loss into the usual one; whether it is a spike.

    What lies beyond the border counts as the border, so that one spike does not hide the next, and a lasting change
    becomes the usual after a while.
    """
    if progress.losses == 0:
        progress.usual_loss = loss
    border = progress.usual_loss + SPIKE * progress.usual_deviation
    spike = progress.losses >= SETTLED and loss > border
    taken = min(loss, border) if progress.losses >= SETTLED else loss
    progress.losses += 1
    progress.usual_deviation += FOLLOW * (abs(taken - progress.usual_loss) - progress.usual_deviation)
    progress.usual_loss += FOLLOW * (taken - progress.usual_loss)
    return spike
