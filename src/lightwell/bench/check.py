"""A guard against slow changes: `python -m lightwell.bench.check` compares our step with bare matrix products.

A step and as many matrix products as have its model FLOPs take turns in one process, so that the ratio does not depend
on the machine as a time would. It still depends on it a little (bf16 or not, cores, caches), so the bound is generous:
it catches a step that has become twice as slow, not one that has lost a tenth.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lightwell.bench.contenders.shapes import Shape

SHAPE = Shape("check", n_layers=4, n_heads=4, d_model=256, context_length=128, batch_size=8, vocab_size=1024)
VARIANT = "lightwell-eager"
SIZE = 1024  # rows and columns of the products: 2.1 GFLOP each, about a tenth of the step
WARM_UP, PAIRS = 3, 11
BOUND = 4.0
"""Times as long as the bare products: about twice what is seen on two cores with bf16 in hardware."""


def compare(bound: float = BOUND) -> tuple[float, str]:
    """Return the ratio of our step to the bare products, and a sentence that says whether it is within the bound."""
    import torch

    from lightwell.bench.contenders.worker import make_bench_job
    from lightwell.training.hardware.device import freed_memory_kept, random_state_kept
    from lightwell.training.loop import train_step
    from lightwell.training.planning.plan import flops_per_token

    with tempfile.TemporaryDirectory() as folder, freed_memory_kept():
        job, _ = make_bench_job(SHAPE, VARIANT, Path(folder))
        precision = job.config.training.precision
        matrix = torch.ones(SIZE, SIZE, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
        products = flops_per_token(job.config.model) * SHAPE.tokens / (2 * SIZE**3)
        with random_state_kept(job.device):
            ratio = ratio_of(lambda: train_step(job), lambda: torch.mm(matrix, matrix), products)
    return ratio, sentence(ratio, precision, bound)


def ratio_of(step: Callable[[], object], product: Callable[[], object], products: float) -> float:
    """Return the median, over pairs that follow each other at once, of a step's time to that of so many products."""
    ratios = []
    count = max(1, round(products))
    for pair in range(WARM_UP + PAIRS):
        taken = _seconds(step)
        bare = _seconds(lambda: [product() for _ in range(count)]) * products / count
        if pair >= WARM_UP:
            ratios.append(taken / bare)
    return statistics.median(ratios)


def sentence(ratio: float, precision: str, bound: float) -> str:
    """Return the ratio in a sentence, and what to do where it is too much."""
    measured = f"A training step takes {ratio:.2f} times as long as bare {precision} matrix products of the same FLOPs"
    if ratio <= bound:
        return f"{measured}; up to {bound:g} is allowed."
    return (
        f"{measured}, but only {bound:g} is allowed: something in the step has become slow; "
        f"`lightwell bench S --contenders {VARIANT} --profile step.png` draws where the time goes."
    )


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> int:
    """Print the sentence; 1 where the step is too slow."""
    ratio, said = compare()
    print(said)
    return 0 if ratio <= BOUND else 1


if __name__ == "__main__":
    sys.exit(main())
