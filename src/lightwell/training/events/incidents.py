"""What went wrong along the way: a line in incidents.jsonl for each, with the windows that were read when it did.

    {"step": 812, "kind": "non_finite", "where": "layers.3.attention.scores", "epochs": [0, ...], "windows": [17, ...]}
    {"step": 990, "kind": "loss_spike", "loss": 7.1, "usual": 3.2, "epochs": [...], "windows": [...]}

Window numbers are those of `batches/windows.py`, so that the text behind an incident can be looked at.
"""

from __future__ import annotations

from typing import Any

from lightwell.training.job import Job


def note(job: Job, step: int, kind: str, **about: Any) -> None:
    """Write down an incident in update number `step`, with the windows of its batch."""
    if not job.group.is_main:
        return
    epochs, windows = job.loader.windows_of(step - 1)
    record = {"step": step, "kind": kind, **about, "epochs": epochs.tolist(), "windows": windows.tolist()}
    job.run.append_incident(record)


def watch_loss(job: Job, step: int, loss: float) -> None:
    """Follow the losses of the updates, and note and say where one is far above the usual."""
    usual = job.progress.spikes.usual_loss
    if job.progress.spikes.is_spike(loss):
        note(job, step, "loss_spike", loss=loss, usual=usual)
        job.listener.say(f"The loss jumped from about {usual:.3f} to {loss:.3f} at step {step}; see incidents.jsonl.")
