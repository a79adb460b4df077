"""Where every training begins: `train` a new run, `resume` one that stopped, or `plan` one that is not trained.

settings -> planning/resolve.py: numbers -> build.py: the job -> loop.py: the training
                                            resuming.py: the job as its checkpoint has it
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path

from lightwell.corpus.corpus import prepare
from lightwell.training.build import make_job
from lightwell.training.events.interrupt import Interrupt
from lightwell.training.hardware.device import freed_memory_kept, random_state_kept, resolve_device
from lightwell.training.job import Job
from lightwell.training.loop import train_loop
from lightwell.training.planning.deadline import Deadline, ending_seconds
from lightwell.training.planning.plan import Plan, make_plan
from lightwell.training.planning.resolve import make_loader, refuse_process_group, resolve, warn_of_memory
from lightwell.training.processes.process_group import ProcessGroup, init_distributed
from lightwell.training.resuming import restore_job
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.lock import lock
from lightwell.training.runs.plot import draw_run
from lightwell.training.runs.references import measure_references
from lightwell.training.runs.run import Run, new_run_path, refuse_to_overwrite
from lightwell.training.settings.config import RunConfig
from lightwell.training.update.compilation import refuse_compile
from lightwell.training.update.reproducible import one_thread


def train(
    config: RunConfig,
    *,
    out: Path | None = None,
    force: bool = False,
    listener: Listener | None = None,
    started: float | None = None,
) -> Run:
    """Train a model and save it as a run.

    started: since when a length in minutes counts, in time.monotonic(); now by default.

    Raises:
        LightwellError: anything foreseeable: the text, a setting, the run folder, the disk, numbers that overflow.
    """
    listener = listener or Listener()
    ends = (time.monotonic() if started is None else started) + 60 * config.training.minutes
    out = out or new_run_path(config.text)
    device = resolve_device(config.training.device)
    refuse_to_overwrite(out, force)
    refuse_compile(config.training.compile, device)  # before the text is read
    with init_distributed(device) as group:
        group.barrier()  # nobody has looked for a free name after the leader took it
        if group.is_main:
            refuse_process_group(config, group)
            corpus = prepare(config.text, config.model.vocab_size, say=listener.say)
            timed = config.training.minutes > 0
            config, loader = resolve(config, corpus, listener, ends)
            warn_of_memory(config, device, listener, group.size)
            run = Run.create(out, config, corpus.tokenizer, force=force)
            group.barrier()
        else:
            group.barrier()
            run = Run(out)
            config, timed = run.config, False
            corpus = prepare(
                config.text, config.model.vocab_size, tokenizer=run.tokenizer, checked=not group.is_local_main
            )
            loader = make_loader(config, corpus)
        with lock(run.path) if group.is_main else nullcontext():
            job = make_job(config, corpus, loader, run, listener, group)
            job.deadline = Deadline(ends, ending_seconds(config.model.parameter_count())) if timed else None
            return run_job(job)


def resume(path: Path, *, listener: Listener | None = None) -> Run:
    """Go on with a run exactly where its newest good checkpoint was written; a finished run is left as it is.

    Raises:
        RunError: no such run, or its text or tokenizer is no longer what it was trained on.
    """
    listener = listener or Listener()
    run = Run(path)
    with (
        init_distributed(resolve_device(run.config.training.device)) as group,
        lock(run.path) if group.is_main else nullcontext(),
    ):
        refuse_process_group(run.config, group)
        return run_job(restore_job(run, listener, group))


def plan(
    config: RunConfig, *, processes: int = 1, listener: Listener | None = None, started: float | None = None
) -> Plan:
    """Return what training this configuration would take, measured for a moment on this machine; nothing is trained.

    processes: how many would share the work; memory is then that of one of them, and time that of one by itself.
    started: as in `train`.
    """
    listener = listener or Listener()
    ends = (time.monotonic() if started is None else started) + 60 * config.training.minutes
    refuse_compile(config.training.compile, resolve_device(config.training.device))
    refuse_process_group(config, ProcessGroup(size=processes))
    corpus = prepare(config.text, config.model.vocab_size, say=listener.say)
    config, loader = resolve(config, corpus, listener, ends)
    return make_plan(config, corpus, loader, processes)


def run_job(job: Job) -> Run:
    """Train to the end or to a signal, then draw the run's curve; the caller's global random state is left alone.

    Raises:
        KeyboardInterrupt: a signal stopped the run, which is saved and can be resumed; Terminated after a SIGTERM.
    """
    corpus, scored = job.corpus, job.config.training.eval_tokens
    if job.group.is_main:
        references = measure_references(corpus.train, corpus.held_out, job.byte_lengths, max_tokens=scored)
        job.run.write_references(references)
    try:
        threads = one_thread() if job.config.training.reproducible else nullcontext()
        with threads, random_state_kept(job.device), freed_memory_kept(), Interrupt(job.listener.say) as interrupt:
            finished = train_loop(job, interrupt)
    finally:
        job.listener.end()
    if job.group.is_main:
        try:
            draw_run(job.run)
        except Exception as error:  # whatever it is: the run is saved, and a picture changes nothing about that
            job.listener.say(f"The curve could not be drawn ({error}); `lightwell show {job.run.path}` tries again.")
    if not finished:
        raise interrupt.stop
    return job.run
