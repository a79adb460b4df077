"""How a run goes on from its newest good checkpoint: what must be as it was, and what is put back."""

from __future__ import annotations

from typing import Any

from lightwell.corpus.corpus import prepare
from lightwell.errors import RunError, TextError
from lightwell.training.build import make_job
from lightwell.training.checkpoints.checkpoint import checkpoint_steps, newest_checkpoint, set_aside_after
from lightwell.training.events.saving import restore
from lightwell.training.job import Job
from lightwell.training.planning.resolve import make_loader
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.run import Run
from lightwell.training.settings.config import RunConfig
from lightwell.training.update.schedule import stable_steps

MAY_CHANGE_ON_RESUME = frozenset(
    {
        "device",
        "eval_every",
        "eval_tokens",
        "sample_every",
        "sample_prompt",
        "checkpoint_every",
        "keep_checkpoints",
        "keep_every",
        "non_finite",  # up to a number that is not finite, both values are the same run
        "log_every",
        "patience",
        # As the number of processes does, these show in the rounding of sums, and in how dropout's masks fall.
        "micro_batch_size",
        "parallel",
    }
)
"""Settings that may be edited before a run is resumed: they do not change what it computes (laws 7 and 10)."""


def restore_job(run: Run, listener: Listener, group: ProcessGroup) -> Job:
    """Return the run's job as its newest good checkpoint has it, and its records cut off there."""
    config = run.config
    try:
        corpus = prepare(
            config.text,
            config.model.vocab_size,
            tokenizer=run.tokenizer,
            say=listener.say,
            checked=not group.is_local_main,
        )
    except TextError as error:
        raise RunError(f"The text that {run.name} was trained on cannot be read any more: {error}") from None
    job = make_job(config, corpus, make_loader(config, corpus), run, listener, group)
    checkpoint = newest_checkpoint(run.checkpoints, listener.say) if checkpoint_steps(run.checkpoints) else None
    if checkpoint is None:
        listener.say("The run had not saved a checkpoint yet; it starts again from step 0.")
    else:
        refuse_other_settings(run, checkpoint.state)
        if checkpoint.state["data"]["digest"] != corpus.digest:
            raise RunError(f"The text that {run.name} was trained on has changed; train a new run on the new text.")
        restore(job, checkpoint)
        if group.is_main:
            set_aside_after(run.checkpoints, checkpoint.step)  # they are damaged, and would be kept for the newest
    if group.is_main:
        run.truncate(-1 if checkpoint is None else job.progress.step)
    group.barrier()  # before anything is saved that others might take for the newest checkpoint
    if job.progress.step >= config.training.steps:
        listener.say(f"{run.name} is finished: all {config.training.steps} steps are done.")
    return job


def refuse_other_settings(run: Run, state: dict[str, Any]) -> None:
    """Make sure that config.toml still says what the run was trained with, apart from what never changes weights.

    A checkpoint from the time when the number of steps was open (deadline.py) goes on to any number whose decay comes
    later.

    Raises:
        RunError: a setting was edited; it is named. Or the run was trained by an older version.
    """
    if "length_is_open" not in state:
        raise RunError(
            f"{run.name} was trained by an older version, which computed otherwise; it can be used, but not resumed."
        )
    # What an earlier version had no setting for was as the setting's default is now.
    saved, step = RunConfig.from_dict(state["config"]).to_dict(), state["progress"]["step"]
    if state["length_is_open"] and step > stable_steps(run.config.training.steps, run.config.training):
        raise RunError(
            f"config.toml of {run.name} says steps is {run.config.training.steps}, with which step {step} "
            f"would have been trained otherwise; put back {saved['training']['steps']}."
        )
    free = MAY_CHANGE_ON_RESUME | ({"steps"} if state["length_is_open"] else set())
    for section, values in run.config.to_dict().items():
        for name, value in values.items():
            if section not in ("text", "sampling") and name not in free and saved[section].get(name) != value:
                raise RunError(
                    f"config.toml of {run.name} says {name} is {value}, but it was trained with "
                    f"{saved[section].get(name)}; put that back, or train a new run."
                )
