"""`lightwell show`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lightwell.cli import printer, words
from lightwell.cli.flags import Json, RunPath
from lightwell.errors import RunError
from lightwell.plain_json import plain_json
from lightwell.training.checkpoints.checkpoint import checkpoint_steps
from lightwell.training.runs.plot import draw_run
from lightwell.training.runs.run import Run
from lightwell.training.runs.summary import Summary
from lightwell.training.settings.config import RunConfig
from lightwell.training.settings.presets import DEFAULT_PRESET, preset

SAMPLES = 2  # the newest ones
ROWS = 12  # of the table of evaluations


def show(run: RunPath, /, *, json: Json = False) -> None:
    """Show one run: its settings, curve, losses, samples and checkpoints."""
    opened = Run(run)
    summary, metrics, samples = Summary.of(opened), opened.metrics(), opened.samples()
    checkpoints = checkpoint_steps(opened.checkpoints)
    try:
        curve = [str(path) for path in draw_run(opened)]
    except RunError as error:  # e.g. a folder that may only be read: everything else can be shown
        printer.show(str(error), file=sys.stderr)
        curve = []
    evaluations = [record for record in metrics if "validation_loss" in record]
    if json:
        result = {
            **summary.to_dict(),
            "config": opened.config.to_dict(),
            "references": opened.references(),
            "evaluations": evaluations,
            "samples": samples,
            "checkpoints": checkpoints,
            "curve": curve,
        }
        print(plain_json(result))
        return
    _print_head(opened, summary)
    _print_losses(opened, metrics, evaluations)
    for sample in samples[-SAMPLES:]:
        printer.show(f"\nSample at step {sample['step']}:\n\n{words.indented(sample['prompt'] + sample['text'])}")
    steps = ", ".join(map(str, checkpoints)) or "none"
    printer.show(
        "\n"
        + words.table(
            [("Checkpoints", steps), ("Curve", ", ".join(curve) or "not drawn"), ("Next", _next(run, summary))]
        )
    )


def changed_settings(config: RunConfig) -> list[tuple[str, str, str]]:
    """Return the settings that are not what a plain `lightwell train` has: name, value, default."""
    default = preset(DEFAULT_PRESET).to_dict()
    return [
        (name, _plain(value), _plain(default[section][name]))
        for section, values in config.to_dict().items()
        for name, value in values.items()
        if value != default[section][name]
    ]


def _plain(value: object) -> str:
    """Return a value as one would type it."""
    return " ".join(map(str, value)) or "none" if isinstance(value, list | tuple) else str(value)


def _print_head(run: Run, summary: Summary) -> None:
    printer.show(
        f"{summary.path}: step {summary.step:,} of {summary.steps:,}, {words.short(summary.tokens_seen)} tokens seen "
        f"in {words.duration(summary.seconds)}, {summary.parameters:,} parameters, "
        f"{words.in_bytes(summary.size_bytes)} on disk."
    )
    rows = [
        ("Text", summary.text),
        ("Model", f"that of the preset {summary.preset}" if summary.preset else "its own sizes"),
        ("Seed", str(summary.seed)),
        ("Begun", summary.begun + (f" on {summary.machine}" if summary.machine else "")),
        ("Best", _best(summary)),
    ]
    printer.show("\n" + words.table(rows))
    changed = changed_settings(run.config)
    if changed:
        differing = [(f"  {name}", value, f"(default {default})") for name, value, default in changed]
        printer.show(f"\nSettings that differ from the preset {DEFAULT_PRESET}:\n{words.table(differing)}")


def _best(summary: Summary) -> str:
    """Return which step is the best, and which one generates."""
    if summary.best_step is None:
        return "not evaluated yet"
    best = f"step {summary.best_step:,}, held-out loss {summary.validation_loss:.3f} nats per token"
    if summary.generates is None:
        return f"{best}; no checkpoint is there yet"
    if summary.generates == summary.best_step:
        return f"{best}, which generates"
    return f"{best}, of which no checkpoint is kept; step {summary.generates:,} generates"


def _print_losses(run: Run, metrics: list[dict[str, Any]], evaluations: list[dict[str, Any]]) -> None:
    losses = [record["loss"] for record in metrics if "loss" in record]
    if losses:
        line = words.sparkline(losses, printer.width_of(sys.stdout) - 2)
        printer.show(f"\nTraining loss from {losses[0]:.3f} to {losses[-1]:.3f}:\n  {line}")
    if evaluations:
        rows = [("  step", "held-out loss", "bits/byte", "perplexity"), *map(_score, _some(evaluations))]
        printer.show("\n" + words.table(rows, right=(0, 1, 2, 3)))
    printer.show("\n" + "\n".join(words.reference_lines(run.references())))


def _some(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most ROWS of the records, evenly spread, the first and the last among them."""
    if len(records) <= ROWS:
        return records
    return [records[round(row * (len(records) - 1) / (ROWS - 1))] for row in range(ROWS)]


def _score(record: dict[str, Any]) -> tuple[str, ...]:
    return (
        f"{record['step']:,}",
        f"{record['validation_loss']:.3f}",
        f"{record['validation_bits_per_byte']:.3f}",
        f"{record['perplexity']:,.1f}",
    )


def _next(path: Path, summary: Summary) -> str:
    if summary.step < summary.steps:
        return f"lightwell resume {path}"
    return f'lightwell generate {path} --prompt "..."'
