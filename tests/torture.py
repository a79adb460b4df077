"""Kills training processes at random moments, damages what they saved, and holds what comes out against a run in peace.

    python tests/torture.py --kills 50 --damages 30           (make torture)

A trial trains a small run in a process of its own, which is killed (kill -9) again and again, each time resumed, until
it is finished. Its weights, optimizer state, metrics, samples and incidents must then be those of the same run that
nobody touched, bit by bit. Many kills wait for a phase (saving, evaluating, sampling), so that each phase is hit.

The processes are forked from this one, which has imported torch and computed nothing: a trial begins at once.
"""

from __future__ import annotations

import argparse
import json
import math
import mmap
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

from lightwell.training import loop
from lightwell.training.checkpoints.writer import Writer
from lightwell.training.events.milestones import evaluate_held_out, write_sample
from lightwell.training.runs.run import Run
from lightwell.training.start import resume, train
from lightwell.training.update import update
from lightwell.training.update.loss import accumulate_gradients
from small import small_config, untimed, write_text

VARIATIONS: dict[str, dict[str, Any]] = {
    "adamw, fp32, dropout, micro-batches": {},
    "muon, bf16": {"optimizer": "muon", "precision": "bf16"},
    "random offsets, bf16": {"sampler": "random", "precision": "bf16"},
    "masked documents, muon": {"document_boundaries": "mask", "stride": 5, "optimizer": "muon"},
    "cut documents, stable then decay": {"document_boundaries": "cut", "schedule": "wsd"},
    "updates left out": {"non_finite": "skip"},
}
POISONED = (7, 19)
"""In the last variation: the updates whose gradients are made infinite."""
BUSY: dict[str, Any] = {
    "steps": 24, "eval_every": 4, "sample_every": 5, "checkpoint_every": 3, "keep_checkpoints": 2, "d_model": 64,
    "eval_tokens": 400, "max_new_tokens": 12,
}  # fmt: skip
PHASES = ("saving", "evaluating", "sampling")
GIVE_UP = 60.0
"""Seconds after which a process that was not killed is taken to be stuck."""


class Phase:
    """What a child is doing, in memory that it shares with its parent: a count for each phase.

    The loop evaluates and samples while a thread saves, so that one byte for all of them would be torn.
    """

    def __init__(self) -> None:
        self._counts = mmap.mmap(-1, len(PHASES))

    def now(self) -> str:
        """The phase; saving goes first, since it is the most delicate."""
        return next((name for index, name in enumerate(PHASES) if self._counts[index]), "training")

    def during(self, name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        """`work`, which says so while it goes on."""
        place = PHASES.index(name)

        def wrapped(*arguments: Any, **named: Any) -> Any:
            self._counts[place] += 1
            try:
                return work(*arguments, **named)
            finally:
                self._counts[place] -= 1

        return wrapped

    def begin(self) -> None:
        """In a child: mark the phases of the loop."""
        for place in range(len(PHASES)):
            self._counts[place] = 0
        for where, work, name in (
            (Writer, Writer._run, "saving"),
            (loop, evaluate_held_out, "evaluating"),
            (loop, write_sample, "sampling"),
        ):
            setattr(where, work.__name__, self.during(name, work))


class Torturer:
    """One campaign: a text, the outcome of each variation in peace, and counts of what was done to the others."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder = folder
        self.text = write_text(folder / "text", documents=10)
        self.draw = random.Random(seed)
        self.phase = Phase()
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._peace: dict[str, tuple[dict[str, Any], float]] = {}

    def in_peace(self, name: str) -> tuple[dict[str, Any], float]:
        """The outcome of a variation that nobody touches, and the seconds it takes."""
        if name not in self._peace:
            out = self.folder / f"peace-{len(self._peace)}"
            started = time.monotonic()
            assert self.live(name, out, None, None) == 0, f"{name} fails in peace"
            self._peace[name] = outcome(out), time.monotonic() - started
        return self._peace[name]

    def trial(self, name: str, kills: int, damages: int) -> None:
        """Train a variation, killed so many times and damaged so often, and compare what comes out."""
        expected, whole = self.in_peace(name)
        out = self.folder / f"run-{self.counts['trials']}"
        self.counts["trials"] += 1
        for _ in range(kills):
            wanted = self.draw.choice((None, *PHASES))
            code = self.live(name, out, self.draw.uniform(0.0, 0.5 * whole), wanted)
            if code == 0:  # it was faster than its killer
                break
            if code != -signal.SIGKILL:
                self.wrong.append(f"{name}: a process ended with {code}")
                return
            if damages and (done := damage(out, self.draw)):
                self.counts[f"damaged: {done}"] += 1
                damages -= 1
        if self.live(name, out, None, None) != 0:
            self.wrong.append(f"{name}: the last process failed")
        elif (found := outcome(out)) != expected:
            parts = [part for part in expected if found[part] != expected[part]]
            self.wrong.append(f"{name}: another outcome in {', '.join(parts)}")
        else:
            self.counts["identical"] += 1

    def done(self, what: str) -> int:
        """How many kills, or damages, there were."""
        return sum(count for name, count in self.counts.items() if name.startswith(what))

    def live(self, name: str, out: Path, kill_after: float | None, wanted: str | None) -> int:
        """Train or resume in a child; kill it after so many seconds, and in the wanted phase. Its exit code, or -9."""
        child = os.fork()
        if not child:
            os._exit(self._train(name, out))
        started = time.monotonic()
        while True:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                return os.waitstatus_to_exitcode(status)
            passed = time.monotonic() - started
            phase = self.phase.now()
            if passed > GIVE_UP or (kill_after is not None and passed > kill_after and wanted in (None, phase)):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                self.counts[f"killed while {phase}"] += 1
                return -signal.SIGKILL if passed <= GIVE_UP else 1
            time.sleep(0.001)

    def _train(self, name: str, out: Path) -> int:
        self.phase.begin()
        if VARIATIONS[name].get("non_finite") == "skip":
            update.accumulate_gradients = poisoned  # type: ignore[attr-defined]
        try:
            if (out / "config.toml").exists():
                resume(out)
            else:
                train(small_config(self.text, **{**BUSY, **VARIATIONS[name]}), out=out)
        except BaseException:
            traceback.print_exc()
            return 1
        return 0


def poisoned(loss_module: Any, batch: Any, **named: Any) -> float:
    """The gradients of some updates made infinite."""
    loss = accumulate_gradients(loss_module, batch, **named)
    if named["step"] + 1 in POISONED:
        loss_module.model.get_parameter("layers.1.feed_forward.up.weight").grad[0, 0] = math.inf
    return loss


def outcome(out: Path) -> dict[str, Any]:
    """What must be the same: the bytes of weights and optimizer state (by their hashes), and all records."""
    run = Run(out)
    newest = max(path for path in run.checkpoints.iterdir() if path.name.isdigit())
    hashes = json.loads((newest / "state.json").read_text())["sha256"]
    return {
        "step": newest.name,
        "weights": hashes["model.safetensors"],
        "optimizer": hashes["training.safetensors"],
        "metrics": untimed(run.metrics()),
        "samples": run.samples(),
        "incidents": run.incidents(),
    }


def damage(out: Path, draw: random.Random) -> str:
    """Flip a bit of, cut or remove a file of the newest checkpoint, if there is an older one; says what was done."""
    folders = sorted(path for path in (out / "checkpoints").glob("*") if path.name.isdigit())
    if len(folders) < 2 or len(list(folders[-1].iterdir())) < 3:
        return ""
    file = draw.choice(sorted(folders[-1].iterdir()))
    content = bytearray(file.read_bytes())
    kind = draw.choice(("a flipped bit", "a cut file", "a missing file")) if content else "a missing file"
    if kind == "a missing file":
        file.unlink()
    elif kind == "a cut file":
        file.write_bytes(content[: draw.randrange(len(content))])
    else:
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        file.write_bytes(content)
    return kind


def campaign(kills: int, damages: int, seed: int) -> dict[str, Any]:
    """Trials of all variations in turn, at most three kills and two damages in each, until there were so many."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LIGHTWELL_CACHE"] = f"{folder}/cache"
        torturer = Torturer(Path(folder), seed)
        names, patience = list(VARIATIONS), 3 * (kills + damages) + 10
        while (torturer.done("killed") < kills or torturer.done("damaged") < damages) and not torturer.wrong:
            name = names[torturer.counts["trials"] % len(names)]
            torturer.trial(name, 3, 2 if torturer.done("damaged") < damages else 0)
            print(f"{name}: {dict(torturer.counts)}", file=sys.stderr, flush=True)
            if torturer.counts["trials"] > patience:
                torturer.wrong.append("hardly any process could be killed in time")
        return {"seed": seed, **torturer.counts, "wrong": torturer.wrong}


def main() -> int:
    """The command; 1 where an outcome was another one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--damages", type=int, default=30)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    found = campaign(arguments.kills, arguments.damages, arguments.seed)
    print(json.dumps(found, indent=1))
    return 1 if found["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
