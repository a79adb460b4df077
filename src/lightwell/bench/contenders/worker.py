"""Lightwell itself as a contender, with its own train_step.

By itself: `python -m lightwell.bench.contenders.worker NAME SHAPE_JSON`.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lightwell.bench.contenders.pacer import Pacer
from lightwell.bench.contenders.shapes import Shape

_GPT2: dict[str, Any] = {  # the arithmetic of the peers; the defaults of ModelConfig are Lightwell's own parts
    "activation": "gelu_tanh", "norm": "layernorm", "positions": "learned", "qk_norm": False, "qkv_bias": True,
    "bias": True,
}  # fmt: skip

VARIANTS: dict[str, dict[str, Any]] = {
    "lightwell": {**_GPT2, "compile": "on"},
    "lightwell-own": {"compile": "on"},
    "lightwell-eager": {**_GPT2, "compile": "off"},
    "lightwell-fp32": {**_GPT2, "compile": "off", "precision": "fp32"},
    "lightwell-fp32-compiled": {**_GPT2, "compile": "on", "precision": "fp32"},
}
"""The settings of each variant, over those of the shape; where nothing is said, the precision is the machine's best."""

TOKENS = 1 << 22  # of random text: more than the caches of a CPU hold


def settings(shape: Shape, variant: str) -> dict[str, Any]:
    """Return the configuration fields of one variant on one shape."""
    dropouts = dict.fromkeys(("embedding_dropout", "attention_dropout", "residual_dropout"), shape.dropout)
    return {
        "n_layers": shape.n_layers,
        "n_heads": shape.n_heads,
        "d_model": shape.d_model,
        "context_length": shape.context_length,
        "batch_size": shape.batch_size,
        "vocab_size": shape.vocab_size,
        **dropouts,
        "device": "cpu",  # where the peers are
        "optimizer": "adamw",  # as theirs
        "steps": 1_000_000,
        **VARIANTS[variant],
    }


def make_bench_job(shape: Shape, variant: str, folder: Path) -> tuple[Any, list[float]]:
    """Return a real job over random tokens, its run in `folder`; and the list to which its loader adds its seconds."""
    import numpy as np

    from lightwell.batches.batch import Batch
    from lightwell.batches.loader import BatchLoader
    from lightwell.corpus.corpus import Corpus
    from lightwell.text.config import TextConfig
    from lightwell.tokens.token_file import TokenFile
    from lightwell.tokens.tokenizer import make_tokenizer
    from lightwell.training.build import make_job
    from lightwell.training.hardware.device import resolve_device, resolve_precision
    from lightwell.training.runs.listener import Listener
    from lightwell.training.runs.run import Run
    from lightwell.training.settings.config import RunConfig

    class TimedLoader(BatchLoader):
        """The loader, with a watch."""

        def batch(self, step: int) -> Batch:
            started = time.perf_counter()
            batch = super().batch(step)
            seconds.append(time.perf_counter() - started)
            return batch

    seconds: list[float] = []
    config = RunConfig().with_values(settings(shape, variant))
    precision = resolve_precision(config.training.precision, resolve_device(config.training.device))
    config = config.with_values({"precision": precision})
    train = TokenFile.from_ids(
        np.random.default_rng(1).integers(shape.vocab_size, size=TOKENS), vocab_size=shape.vocab_size
    )
    tokenizer = make_tokenizer(TextConfig(tokenizer="byte"), 0, [])  # a job has one; no step looks at it
    held_out = TokenFile.from_texts(["Nothing is scored."], tokenizer)
    corpus = Corpus(train, held_out, tokenizer, documents=1, report=[], digest=train.digest)
    loader = TimedLoader(train, config.batches, config.model.context_length, seed=1)
    job = make_job(config, corpus, loader, Run.create(folder / "run", config, tokenizer), Listener())
    job.model.train()
    return job, seconds


def run(shape: Shape, variant: str) -> None:
    """Take training steps until the parent has had enough."""
    pacer = Pacer("numpy")
    from lightwell.training.hardware.device import freed_memory_kept
    from lightwell.training.loop import train_step
    from lightwell.training.planning.plan import flops_per_token

    with tempfile.TemporaryDirectory() as folder, freed_memory_kept():
        job, loader_seconds = make_bench_job(shape, variant, Path(folder))
        pacer.about = {
            "flops_per_token": flops_per_token(job.config.model),
            "parameters": job.config.model.parameter_count(),
            "precision": job.config.training.precision,
        }
        while pacer.stepped(train_step(job)["loss"]):
            pacer.findings = {"loader_seconds": statistics.median(loader_seconds)}


if __name__ == "__main__":
    run(Shape.from_json(sys.argv[2]), sys.argv[1])
