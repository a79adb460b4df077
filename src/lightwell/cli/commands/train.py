"""`lightwell train` and `lightwell resume`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

from cyclopts import Parameter

from lightwell.cli import invocation, words
from lightwell.cli.flags import FLATTEN, Json, RunPath, TrainFlags, given
from lightwell.cli.invocation import DONE
from lightwell.cli.printer import show
from lightwell.cli.processes import (
    IS_MAIN,
    RESTARTED,
    UNDER_TORCHRUN,
    begun_by_this_command,
    last_words,
    launch,
    refuse_number,
)
from lightwell.cli.progress import progress
from lightwell.plain_json import plain_json
from lightwell.training.runs.listener import Listener
from lightwell.training.runs.run import CONFIG, Run, new_run_path, refuse_to_overwrite
from lightwell.training.runs.summary import Summary
from lightwell.training.runs.writers import Listeners, writers
from lightwell.training.settings.compose import compose
from lightwell.training.settings.presets import DEFAULT_PRESET, PRESETS

if TYPE_CHECKING:
    from lightwell.training.planning.plan import Plan


Preset: TypeAlias = Annotated[
    str,
    Parameter(
        help=f"Where the settings start from: {', '.join(PRESETS)}; {DEFAULT_PRESET} by default.",
        metavar="NAME",
        show_default=False,
    ),
]
ConfigFile: TypeAlias = Annotated[
    Path | None, Parameter(help="A TOML file of settings, over the preset; flags go over both.", metavar="FILE")
]
Out: TypeAlias = Annotated[
    Path | None, Parameter(help="The run's folder; else runs/ and the name of the text.", metavar="FOLDER")
]
Force: TypeAlias = Annotated[
    bool, Parameter(help="Replace a run that is there already.", negative=(), show_default=False)
]
Processes: TypeAlias = Annotated[
    int, Parameter(help="Train in so many processes on this machine, started by torchrun.", metavar="N")
]
Log: TypeAlias = Annotated[
    tuple[str, ...],
    Parameter(
        help="Write the figures for another program, too: tensorboard, wandb or trackio; may be given several times.",
        metavar="NAME",
        negative=(),
        show_default=False,
    ),
]
DryRun: TypeAlias = Annotated[
    bool, Parameter(help="Print what it would take, and train nothing.", negative=(), show_default=False)
]


def train(
    *text: Annotated[str, Parameter(help="Files, folders or globs to learn from; none: the default corpus.")],
    preset: Preset = "",
    config: ConfigFile = None,
    out: Out = None,
    force: Force = False,
    dry_run: DryRun = False,
    processes: Processes = 1,
    log: Log = (),
    json: Json = False,
    settings: Annotated[TrainFlags, FLATTEN] = None,
) -> None:
    """Learn from a text, and save a run with its curve and samples."""
    refuse_number(processes)
    configuration = compose(text, preset_name=preset, config_file=config, settings=given(settings))
    if dry_run:
        from lightwell.training import start

        refuse_to_overwrite(out or new_run_path(configuration.text), force)
        plan = start.plan(configuration, processes=processes, listener=progress(), started=invocation.started)
        if json:
            print(plain_json(plan.to_dict()))
        else:
            show(plan_table(plan))
        return
    out = out or new_run_path(configuration.text)
    logs = writers(log, out)  # a package that is missing is said before anything begins
    if processes != 1 and not UNDER_TORCHRUN:
        refuse_to_overwrite(out, force)
        launched(processes, out, ["train", *given_words("--processes", "--out"), "--out", str(out)])
        return
    if RESTARTED and begun_by_this_command(out / CONFIG):
        resume(out, log=log, json=json)
        return
    from lightwell.training import start

    try:
        listener = Listeners([progress(out), *logs]) if IS_MAIN else Listener()
        run = start.train(configuration, out=out, force=force, listener=listener, started=invocation.started)
    except KeyboardInterrupt as stop:
        raise type(stop)(_stopped(out)) from None
    _print_result(run, json)


def resume(run: RunPath, /, *, processes: Processes = 1, log: Log = (), json: Json = False) -> None:
    """Go on with a run exactly where it stopped: the same weights come out as if it had never been."""
    refuse_number(processes)
    logs = writers(log, run)
    if processes != 1 and not UNDER_TORCHRUN:
        launched(processes, run, ["resume", *given_words("--processes")])
        return
    from lightwell.training import start

    try:
        resumed = start.resume(run, listener=Listeners([progress(run), *logs]) if IS_MAIN else Listener())
    except KeyboardInterrupt as stop:
        raise type(stop)(_stopped(run)) from None
    _print_result(resumed, json)


def plan_table(plan: Plan) -> str:
    """Return the plan for a person."""
    several = plan.processes > 1
    together = words.in_bytes(plan.processes * plan.memory_bytes)
    each = f", in each of {plan.processes} processes; {together} in all" if several else ""
    pace = "for one process on this machine" if several else "on this machine"
    rows = [
        ("documents", f"{plan.documents:,}"),
        ("tokens", f"{plan.train_tokens:,} to learn from, {plan.held_out_tokens:,} held out"),
        ("windows", f"{plan.windows:,}"),
        ("steps", f"{plan.steps:,} of {plan.tokens_per_step:,} tokens"),
        ("effective epochs", f"{plan.effective_epochs:.2f} (how often each token is seen)"),
        ("tokens skipped", f"{plan.tokens_skipped:,}"),
        ("parameters", f"{plan.parameters:,}"),
        ("memory", f"{words.in_bytes(plan.memory_bytes)} at the peak{each}"),
        ("  weights", words.in_bytes(plan.weight_bytes)),
        ("  gradients", words.in_bytes(plan.gradient_bytes)),
        ("  optimizer", words.in_bytes(plan.optimizer_bytes)),
        ("  activations", f"{words.in_bytes(plan.activation_bytes)} for one micro-batch"),
        ("  working space", words.in_bytes(plan.working_bytes)),
        ("  snapshot", f"{words.in_bytes(plan.snapshot_bytes)} while a checkpoint is written"),
        ("  the process", words.in_bytes(plan.process_bytes)),
        ("FLOPs", f"{plan.flops:.2e}"),
        ("time", f"{words.duration(plan.seconds)}, {words.duration(plan.seconds_per_step)} a step {pace}"),
    ]
    return words.table(rows)


def launched(processes: int, out: Path, arguments: list[str]) -> None:
    """Let several processes do it.

    Raises:
        KeyboardInterrupt: they were stopped; the run is saved.
    """
    try:
        code = launch(processes, arguments)
    except KeyboardInterrupt as stop:
        raise type(stop)(_stopped(out)) from None
    if code:
        sys.exit(code)  # it was said by the process to which it happened


def given_words(*without: str) -> list[str]:
    """Return the words of this command line after the command's name, but for some flags and their values."""
    words_left, kept = iter(invocation.command_line[1:]), []
    for word in words_left:
        flag, equals, _ = word.partition("=")
        if flag not in without:
            kept.append(word)
        elif not equals:  # its value is the next word
            next(words_left, None)
    return kept


def _stopped(path: Path) -> str:
    if not (path / "config.toml").is_file():
        return "Stopped before training began; nothing was saved."
    steps = sorted(folder.name for folder in (path / "checkpoints").glob("[0-9]*") if folder.name.isdigit())
    if not steps:
        return f"Stopped before the first checkpoint; `lightwell resume {path}` begins again."
    return f"Stopped; {path} is saved at step {int(steps[-1])}, and `lightwell resume {path}` goes on from there."


def after_the_best(best: int, generates: int | None) -> str:
    """Return what to say of a run whose last step is not its best."""
    if generates == best:
        return (
            "The steps after it made it worse, so `lightwell generate` takes that step; "
            "fewer --steps, or --patience 3, would have been as good."
        )
    return (
        f"No checkpoint of that step is kept, so `lightwell generate` takes step {generates}; "
        "a shorter --checkpoint-every would have kept one near it."
    )


def _print_result(run: Run, json: bool) -> None:
    if IS_MAIN:
        with last_words(DONE):
            _print_all(run, json)


def _print_all(run: Run, json: bool) -> None:
    summary = Summary.of(run)
    samples = run.samples()
    curve = [str(run.path / "curve.png"), str(run.path / "curve.svg")]
    if json:
        result: dict[str, Any] = {
            **summary.to_dict(),
            "references": run.references(),
            "sample": samples[-1] if samples else None,
            "curve": curve,
        }
        print(plain_json(result))
        return
    show(
        f"\n{summary.path}: {summary.step:,} steps, {words.short(summary.tokens_seen)} tokens "
        f"in {words.duration(summary.seconds)}, {words.short(summary.parameters)} parameters."
    )
    if summary.validation_loss is not None:
        show(
            f"Best held-out loss {summary.validation_loss:.3f} nats per token at step {summary.best_step}, "
            f"{words.standing(summary.validation_loss, run.references())}:\n"
            f"{summary.bits_per_byte:.3f} bits per byte, perplexity {summary.perplexity:,.1f}."
        )
        if summary.best_step is not None and summary.best_step < summary.step:
            show(after_the_best(summary.best_step, summary.generates))
    if samples:
        show(f"\nWhat it writes:\n\n{words.indented(samples[-1]['prompt'] + samples[-1]['text'])}")
    rows = [
        ("Saved in", str(run.path)),
        ("Curve", ", ".join(curve)),
        ("Next", f'lightwell generate {run.path} --prompt "..."'),
        ("", f"lightwell show {run.path}"),
    ]
    show("\n" + words.table(rows))
