"""Time to quality: the seconds that a process takes, from start to end, to learn a text's characters, and how well.

    python -m lightwell.bench.quality TEXT --seeds 5 --nanogpt ../nanoGPT --peers .venv-peers/bin/python

Lightwell runs `lightwell train TEXT --preset tiny --tokenizer character`, with an empty cache each time; nanoGPT the
line that its README gives for a CPU. Both learn from the first 90 % of the characters, and both are scored on all of
the last 10 %, in windows of their own context length side by side. The seconds are those of the training process from
its start to its exit: imports, tokenization, evaluations, checkpoint and, for Lightwell, the curve. They take turns.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from lightwell.bench import kept
from lightwell.errors import LightwellError, SettingError
from lightwell.plain_json import plain_json

LIGHTWELL = (
    "--preset", "tiny", "--tokenizer", "character", "--eval-every", "0", "--sample-every", "0",
    "--checkpoint-every", "0", "--eval-tokens", "1000000",
)  # fmt: skip
STEPS = ("--steps", "250")
NANOGPT = (
    "config/train_shakespeare_char.py", "--device=cpu", "--compile=False", "--eval_iters=20", "--log_interval=1",
    "--block_size=64", "--batch_size=12", "--n_layer=4", "--n_head=4", "--n_embd=128", "--max_iters=2000",
    "--lr_decay_iters=2000", "--dropout=0.0",
)  # fmt: skip


PARTS: dict[str, tuple[str, ...]] = {
    "the recipe": (),
    "AdamW for all weights, at 0.005": ("--optimizer", "adamw", "--learning-rate", "0.005"),
    "AdamW's learning rate 0.003 instead of 0.01": ("--learning-rate", "0.003"),
    "beta1 0.95 instead of 0.85, of Muon and AdamW": ("--beta1", "0.95", "--muon-momentum", "0.95"),
    "twice the batch, half the steps": ("--batch-size", "32", "--steps", "125"),
    "cosine to 0.05": ("--schedule", "cosine", "--final-learning-rate", "0.05"),
    "gelu instead of relu2": ("--activation", "gelu"),
    "learned positions instead of rope": ("--positions", "learned"),
    "layernorm instead of rmsnorm": ("--norm", "layernorm"),
    "no qk_norm": ("--no-qk-norm",),
    "a head of its own": ("--no-tied-head",),
    "weights twice as large at the start": ("--init-std", "0.04"),
    "fp32": ("--precision", "fp32"),
    "compiled": ("--compile", "on"),
}
"""What the table of parts turns, one at a time."""


@dataclass(frozen=True)
class Trial:
    """One training process."""

    who: str
    seed: int
    seconds: float
    loss: float
    """Nats per character over all of the last tenth."""
    parameters: int


def halves(text: str) -> tuple[str, str]:
    """Return the first nine tenths of the characters, and the rest, as nanoGPT cuts them."""
    cut = int(0.9 * len(text))
    return text[:cut], text[cut:]


def train_lightwell(text: Path, seed: int, more: Sequence[str] = ()) -> Trial:
    """Train in a process of its own, with nothing prepared; `more` are flags."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        fresh = {"LIGHTWELL_CACHE": f"{folder}/cache", "TORCHINDUCTOR_CACHE_DIR": f"{folder}/compiled"}
        command = [sys.executable, "-m", "lightwell", "train", str(text), "--out", str(out), "--seed", str(seed)]
        steps = () if "--steps" in more else STEPS
        seconds = _timed([*command, *LIGHTWELL, *steps, *more], folder, fresh)
        loss, parameters = score_lightwell(out, halves(text.read_text(encoding="utf-8"))[1])
    return Trial("lightwell", seed, seconds, loss, parameters)


def score_lightwell(run: Path, held_out: str) -> tuple[float, int]:
    """Return nats per character of the run's model over a text, and its parameters."""
    from lightwell.batches.evaluation import evaluation_batches
    from lightwell.tokens.token_file import TokenFile
    from lightwell.training.runs.evaluation import evaluate
    from lightwell.training.runs.load import load

    model = load(run)
    tokens = TokenFile.from_ids(model.tokenizer.encode(held_out), vocab_size=model.tokenizer.vocab_size)
    batches = evaluation_batches(tokens, model.context_length, 64)
    score = evaluate(model.decoder, batches, model.tokenizer.byte_lengths)
    return score.nats_per_token, model.decoder.config.parameter_count()


def train_nanogpt(text: Path, seed: int, checkout: Path, python: str) -> Trial:
    """Train nanoGPT in a copy of its checkout, on data as its own preparation makes it; its seed is always 1337."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "nanoGPT"
        shutil.copytree(checkout, place, ignore=shutil.ignore_patterns(".git", "assets", "*.ipynb"))
        scorer = Path(__file__).parent / "contenders" / "nanogpt_data.py"
        run_quietly([python, str(scorer), "prepare", str(text.resolve())], place)
        seconds = _timed([python, "train.py", *NANOGPT], str(place), {})
        said = json.loads(
            run_quietly([python, str(scorer), "score"], place).splitlines()[-1]
        )  # its model speaks before
    return Trial("nanogpt", seed, seconds, said["loss"], said["parameters"])


def summary(trials: Sequence[Trial]) -> dict[str, Any]:
    """Means and their range by contender, and how many times faster Lightwell is."""
    by_who: dict[str, Any] = {}
    for who in dict.fromkeys(trial.who for trial in trials):
        own = [trial for trial in trials if trial.who == who]
        by_who[who] = {
            "trials": len(own),
            "parameters": own[0].parameters,
            "seconds": _range([trial.seconds for trial in own]),
            "loss": _range([trial.loss for trial in own]),
        }
    results: dict[str, Any] = {"contenders": by_who, "trials": [asdict(trial) for trial in trials]}
    if len(by_who) == 2:
        results["times_faster"] = by_who["nanogpt"]["seconds"]["mean"] / by_who["lightwell"]["seconds"]["mean"]
    return results


def ablation(text: Path, seeds: int) -> dict[str, Any]:
    """Return the recipe with each of PARTS turned: seconds and loss of so many seeds, the parts taking turns."""
    trials: dict[str, list[Trial]] = {part: [] for part in PARTS}
    for seed in range(1, seeds + 1):
        for part, flags in PARTS.items():
            trials[part].append(shown(train_lightwell(text, seed, flags), part))
    return {
        part: {"seconds": _range([one.seconds for one in own]), "loss": _range([one.loss for one in own])}
        for part, own in trials.items()
    }


def shown(trial: Trial, part: str = "") -> Trial:
    """Return the trial, after printing it as it came: what is measured for an hour must not be lost to the last
    minute.
    """
    about = f"{trial.who}  seed {trial.seed}  {trial.seconds:.1f} s  loss {trial.loss:.4f}  {part}"
    print(about.rstrip(), file=sys.stderr, flush=True)
    return trial


def refuse_existing(out: Path | None) -> None:
    """Raise before anything is measured where the results would take the place of something.

    Raises:
        SettingError: there is a file already.
    """
    if out is not None and out.exists():
        raise SettingError(f"{out} is there already; name another file with --out, or move it away.")


def keep(results: Mapping[str, Any], out: Path | None) -> None:
    """Write the results as JSON, where they are wanted."""
    if out is not None:
        kept.write(out, results)


def _range(values: Sequence[float]) -> dict[str, float]:
    return {"mean": statistics.mean(values), "lowest": min(values), "highest": max(values)}


def _timed(command: Sequence[str], folder: str, environment: Mapping[str, str]) -> float:
    started = time.perf_counter()
    run_quietly(command, Path(folder), environment)
    return time.perf_counter() - started


def run_quietly(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
    """Run it in the folder, and return what it prints.

    Raises:
        LightwellError: it failed; the last line of its complaint.
    """
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **(environment or {})}, capture_output=True, encoding="utf-8"
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise LightwellError(f"{command[0]} {command[1]} failed: {last}")
    return done.stdout


def main(
    text: Path,
    *,
    seeds: Annotated[int, Parameter(help="Processes of Lightwell, each with another seed.")] = 5,
    nanogpt: Annotated[Path | None, Parameter(help="A checkout of nanoGPT.")] = None,
    nanogpt_seeds: Annotated[int, Parameter(help="Processes of nanoGPT, which take longer.")] = 2,
    parts: Annotated[bool, Parameter(help="Turn each part of the recipe instead, one at a time.", negative=())] = False,
    peers: Annotated[str, Parameter(help="A Python that has torch and numpy, for nanoGPT.")] = sys.executable,
    out: Annotated[Path | None, Parameter(help="A file for all results, as JSON.")] = None,
) -> None:
    """Measure the time to quality of Lightwell, and of nanoGPT where there is a checkout."""
    refuse_existing(out)
    if parts:
        results = ablation(text.resolve(), seeds)
        keep(results, out)
        print(plain_json(results, indent=1))
        return
    trials: list[Trial] = []
    for seed in range(1, seeds + 1):
        trials.append(shown(train_lightwell(text.resolve(), seed)))
        if nanogpt is not None and seed <= nanogpt_seeds:
            python = os.path.abspath(shutil.which(peers) or peers)  # noqa: PTH100 - resolve() would leave the venv
            trials.append(shown(train_nanogpt(text, seed, nanogpt, python)))
    results = summary(trials)
    keep(results, out)
    print(plain_json({key: value for key, value in results.items() if key != "trials"}, indent=1))


def as_command(module: str, function: Callable[..., None]) -> None:
    """Run a function as `python -m lightwell.bench.MODULE`; a failure is one sentence."""
    app = App(name=f"python -m lightwell.bench.{module}", help_format="plaintext", default_command=function)
    try:
        app()
    except LightwellError as error:
        sys.exit(f"lightwell: {error}")


if __name__ == "__main__":
    as_command("quality", main)
