"""The same for several processes: killed, all of them or one, and resumed by another number, to the bits of one.

    python tests/torture_teams.py --trials 6                  (make torture)

A run with `--reproducible` is trained by 1, 2 or 4 processes. Again and again either all of them are killed at once, as
when a machine is lost, and another number goes on; or one is, and torchrun starts all of them again. What comes out
must be what a single process made that nobody touched: weights, optimizer state, metrics and samples, bit by bit.

    python tests/torture_teams.py --trials 0 --starts 300

Three processes train a model in parts for two steps, again and again; in two of three starts one of them is aborted
after the end. Each must tell its result once, end with 0, and say nothing of what died.

First of all two processes train in less memory than they need, and must take smaller micro-batches, both of them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = "1"

from cli_house import as_flags
from lightwell.training.checkpoints.checkpoint import checkpoint_steps
from lightwell.training.runs.run import Run
from small import SMALL, write_text
from teams import lightwell, plant_abort
from torture import outcome

SETTINGS: dict[str, Any] = {
    **SMALL, "batch_size": 8, "micro_batch_size": 0, "steps": 120, "eval_every": 15, "sample_every": 25,
    "checkpoint_every": 6, "keep_checkpoints": 3, "d_model": 64, "precision": "fp32",
}  # fmt: skip
VARIATIONS: dict[str, dict[str, Any]] = {"adamw, dropout": {}, "muon, bf16": {"optimizer": "muon", "precision": "bf16"}}
NUMBERS = (1, 2, 4)
PATIENCE = 300.0
"""Seconds after which processes are taken to be stuck."""


class Campaign:
    """A text, the outcome of each variation in peace, and counts of what was done to the others."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.draw = folder, random.Random(seed)
        self.text = write_text(folder / "text", documents=10)
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._peace: dict[str, dict[str, Any]] = {}

    def trial(self, name: str, kills: int) -> None:
        """Train a variation, killed so many times and each time resumed by another number of processes, and compare."""
        if name not in self._peace:
            out = self.folder / f"peace-{len(self._peace)}"
            assert self.start(name, out, 1).wait(PATIENCE) == 0, f"{name} fails in peace"
            self._peace[name] = outcome(out)
        out = self.folder / f"run-{self.counts['trials']}"
        self.counts["trials"] += 1
        processes = self.draw.choice(NUMBERS)
        for _ in range(kills):
            started = self.start(name, out, processes)
            if not self.lose(started, out, processes):
                break
            before, processes = processes, self.draw.choice([number for number in NUMBERS if number != processes])
            self.counts[f"changed from {before} to {processes} processes"] += 1
        code = self.start(name, out, processes).wait(PATIENCE)
        if code:
            self.wrong.append(f"{name}: {processes} processes ended with {code}")
        elif (found := outcome(out)) != self._peace[name]:
            parts = [part for part in found if found[part] != self._peace[name][part]]
            self.wrong.append(f"{name}: another outcome in {', '.join(parts)}")
        else:
            self.counts["identical"] += 1

    def start(self, name: str, out: Path, processes: int) -> subprocess.Popen[bytes]:
        """The command that trains, or goes on."""
        flags = as_flags({**SETTINGS, **VARIATIONS[name]})
        begin = ["train", str(self.text), "--out", str(out), "--reproducible", *flags]
        words = ["resume", str(out)] if (out / "config.toml").exists() else begin
        command = [sys.executable, "-m", "lightwell", *words, "--processes", str(processes)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def lose(self, started: subprocess.Popen[bytes], out: Path, processes: int) -> bool:
        """Wait until more is saved, and a moment; then kill one of several processes, or all. False: it had ended."""
        one_first = processes > 1 and self.draw.random() < 0.5
        for everybody in (False, True) if one_first else (True,):
            known = saved(out)
            began = time.monotonic()
            while saved(out) == known and started.poll() is None:
                if time.monotonic() - began > PATIENCE:
                    self.wrong.append(f"{processes} processes saved nothing more")
                    break
                time.sleep(0.01)
            time.sleep(self.draw.uniform(0.0, 0.5))
            if started.poll() is not None:
                return False
            family = descendants(started.pid)
            workers = [process for process in family if process not in {descendant_parent(one) for one in family}]
            for process in [started.pid, *family] if everybody else [self.draw.choice(workers)]:
                kill(process)
            self.counts["all killed" if everybody else "one of several killed"] += 1
        started.wait(PATIENCE)
        return True


def saved(out: Path) -> int:
    """The step of the newest checkpoint; -1 before the first."""
    return max(checkpoint_steps(out / "checkpoints"), default=-1)


def descendants(process: int) -> list[int]:
    """The processes that it started, and those that these did, parents first."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [one for child in map(int, children) for one in (child, *descendants(child))]


def descendant_parent(process: int) -> int:
    """The process that started it; 0 where it has ended."""
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def kill(process: int) -> None:
    """kill -9, if it is still there."""
    try:
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        return


def memory_runs_out(folder: Path) -> str:
    """Train two processes in too little memory; what was wrong with what they made of it, or nothing."""
    shape = {"tokenizer": "character", "n_layers": 2, "d_model": 128, "context_length": 256, "batch_size": 128}
    flags = as_flags({**shape, "precision": "fp32", "compile": "off", "steps": 2, "eval_every": 0, "sample_every": 0})
    text, out, limit = write_text(folder / "long", documents=200), folder / "little", 1_050_000_000
    done = subprocess.run(
        [sys.executable, "-m", "lightwell", "train", text, "--out", out, "--processes", "2", *flags],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_DATA, (limit, limit)),
        capture_output=True,
        encoding="utf-8",
    )
    told = done.stderr.count("with 64 sequences at once; started again or resumed, the run takes 32.")
    good = (done.returncode, told) == (0, 1) and "exitcode" not in done.stderr
    if good and Run(out).config.batches.micro_batch_size <= 32:
        return ""
    return f"little memory: {done.returncode}\n{done.stderr[-2000:]}"


def starts(folder: Path, number: int) -> Iterator[str]:
    """Start three processes so many times; what was wrong with each start, or nothing."""
    text = write_text(folder / "text", documents=10)
    flags = as_flags(
        {**SMALL, "steps": 2, "eval_every": 2, "sample_every": 0, "checkpoint_every": 0, "parallel": "fsdp"}
    )
    for start in range(number):
        out, plant = folder / "run", folder / "plant"
        shutil.rmtree(plant, ignore_errors=True)
        plant.mkdir()
        rank = start // 3 % 3 if start % 3 else 9  # there is no ninth: nothing is planted
        done = lightwell(
            "train", text, "--out", out, "--force", "--processes", "3", *flags,
            env=plant_abort(plant, rank, wait=start % 3 - 1.0 if start % 3 else 0.0),
        )  # fmt: skip
        told, aborted = done.stdout.count("Saved in"), (plant / "aborted").exists()
        good = (done.returncode, told, aborted) == (0, 1, rank < 9) and "exitcode" not in done.stderr
        yield "" if good else f"start {start}, rank {rank}: {done.returncode}, told {told} times\n{done.stderr[-2000:]}"


def main() -> int:
    """The command; 1 where an outcome was another one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=6)
    parser.add_argument("--starts", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LIGHTWELL_CACHE"] = f"{folder}/cache"
        campaign = Campaign(Path(folder), arguments.seed)
        campaign.wrong += [wrong] if (wrong := memory_runs_out(Path(folder))) else []
        for number in range(arguments.trials):
            campaign.trial(list(VARIATIONS)[number % len(VARIATIONS)], 3)
            print(f"{dict(campaign.counts)} {campaign.wrong}", file=sys.stderr, flush=True)
        for wrong in starts(Path(folder), arguments.starts):
            campaign.counts["starts"] += 1
            campaign.wrong += [wrong] if wrong else []
            print(f"{campaign.counts['starts']} starts {campaign.wrong}", file=sys.stderr, flush=True)
    print(json.dumps({"seed": arguments.seed, **campaign.counts, "wrong": campaign.wrong}, indent=1))
    return 1 if campaign.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
