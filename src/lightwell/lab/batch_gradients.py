"""The gradients of note 1, with weights fixed: their noise at some states of a model, and micro-batches."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightwell.batches.batch import IGNORE, Batch
from lightwell.lab.desk import Desk
from lightwell.lab.gradient_noise import (
    draw_batches,
    inner_products,
    noise_of_line,
    noise_of_pool,
    noise_of_two_sizes,
    pool_of_windows,
    sequence_gradients,
    two_sizes,
)
from lightwell.lab.trial import trained_model
from lightwell.lab.verdict import Law
from lightwell.model.decoder import Decoder
from lightwell.training.device import random_state_kept
from lightwell.training.loss import TrainedLoss, accumulate_gradients, head_loss
from lightwell.training.streams import stream_seed

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""Sequences of a batch whose gradient is looked at."""
SMALL_PART = 4
"""The smaller of the two sizes of the second estimator; the larger is the largest of all."""
POOL = {"glance": 512, "coffee": 768, "night": 1024}
POOL_BYTES = 1 << 30
"""What the pool's gradients may take; a model so large that fewer than 128 sequences fit takes more."""
LINE, SAME = 0.98, 1e-6
AGREES = 0.1
"""How far a mean cosine may lie from 1 / (1 + B_simple / B)."""


def states(desk: Desk) -> dict[str, int]:
    """Steps of the base training after which gradients are looked at, by name."""
    steps = desk.budget.steps
    early = {} if desk.budget.name == "glance" else {f"after {steps // 8:,} steps": steps // 8}
    return {"at initialisation": 0, **early, f"after {steps:,} steps": steps}


def pool_size(desk: Desk) -> int:
    """Sequences of the pool: as many as the budget and memory allow."""
    fits = POOL_BYTES // (4 * desk.config.model.parameter_count())
    return max(2 * SIZES[-1], min(POOL.get(desk.budget.name, POOL["glance"]), fits))


def gradient_noise(desk: Desk) -> list[dict[str, Any]]:
    """State by state: draws of |G_B|^2 and cosines, and what both estimators make of them."""
    found = []
    for name, step in states(desk).items():
        work = functools.partial(measure_noise, desk, step)
        drawn = desk.measure("noise", work, step=step, seed=desk.seed, sizes=SIZES, pool=pool_size(desk))
        found.append({"name": name, **estimates(drawn)})
    return found


def measure_noise(desk: Desk, step: int) -> dict[str, Any]:
    """Draws from a pool of sequences' gradients, the weights those after `step` steps."""
    model = trained_model(desk.trial("noise", desk.seed), desk.corpus, until=step)
    pool = pool_of_windows(desk.corpus.train, desk.config, pool_size(desk), desk.seed)
    products = inner_products(sequence_gradients(model, pool))
    sizes = [B for B in SIZES if len(products) >= 2 * B]
    draws = draw_batches(products, sizes, desk.budget.draws, stream_seed(desk.seed, "draws"))
    signal, noise = noise_of_pool(products)
    of_pool = {"signal": signal, "noise": noise, "simple": noise / signal if signal > 0.0 else None}
    return {
        "pool": len(products),
        "of_pool": of_pool,
        "sizes": sizes,
        **{name: part.tolist() for name, part in asdict(draws).items()},
    }


def estimates(drawn: Mapping[str, Any]) -> dict[str, Any]:
    """The draws with the noise scale by the line and by two sizes, and the cosines that it foretells."""
    sizes: list[int] = drawn["sizes"]
    squared, parts = np.array(drawn["squared"]), np.array(drawn["parts"])
    small = sizes.index(min(SMALL_PART, sizes[-2]))
    pairs = np.stack([parts[:, small], squared[:, -1]], axis=1)
    line = noise_of_line(squared, sizes)
    two = noise_of_two_sizes(pairs, sizes[small], sizes[-1])
    signals, _ = two_sizes(pairs, sizes[small], sizes[-1])
    return {
        "pool": drawn["pool"],
        "of_pool": drawn["of_pool"],
        "sizes": sizes,
        "squared": drawn["squared"],
        "cosines": drawn["cosines"],
        "line": line.to_dict(),
        "two_sizes": {**two.to_dict(), "small": sizes[small], "big": sizes[-1], "signals": signals.tolist()},
        "cosine_mean": np.array(drawn["cosines"]).mean(axis=0).tolist(),
        "cosine_foretold": [foretold(line.share, B) for B in sizes],
    }


def foretold(share: float, B: float) -> float:
    """The cosine of two batches of B, 1 / (1 + B_simple / B), from 1 / B_simple; without a signal there is none."""
    return B * share / (B * share + 1.0) if share > 0.0 else 0.0


def scale_words(estimate: Mapping[str, Any]) -> str:
    """A noise scale, and its interval where there is one."""
    simple = "beyond measure" if estimate["simple"] is None else f"{estimate['simple']:.3g}"
    if estimate.get("low") is None:
        return simple
    if estimate["high"] is None:
        return f"{simple}, at least {estimate['low']:.3g}"
    return f"{simple}, {estimate['low']:.3g} to {estimate['high']:.3g}"


def noise_laws(noise: Sequence[Mapping[str, Any]]) -> list[Law]:
    """The line, the agreement of the estimators, and that of two batches."""
    laws = []
    for state in noise:
        line, two, name = state["line"], state["two_sizes"], state["name"]
        inside = line["share_low"] <= two["share"] <= line["share_high"]
        off = max(abs(a - b) for a, b in zip(state["cosine_mean"], state["cosine_foretold"], strict=True))
        laws += [
            Law.above(f"R^2 of the mean |G_B|^2 against 1/B, {name}", line["r_squared"], LINE),
            Law(f"|G|^2 / tr(Sigma) = 1 / B_simple by batches of {two['small']} and {two['big']} alone, {name}",
                two["share"], f"in the line's interval, {line['share_low']:.4g} to {line['share_high']:.4g}", inside),
            Law.below(f"Mean cosine of two batches off 1 / (1 + B_simple / B), at most, {name}", off, AGREES),
        ]  # fmt: skip
    return laws


def micro_batch_error(desk: Desk) -> dict[str, float]:
    """|g - g'| / |g|: g the gradient of a batch of 16, g' that of its micro-batches of 4."""
    model = trained_model(desk.trial("micro-batches", desk.seed), desk.corpus, until=0)
    batch = pool_of_windows(desk.corpus.train, desk.config, 16, desk.seed)
    unequal = with_unequal_rows(batch)
    whole = batch_gradient(model, unequal, 0)
    averaged = torch.stack([batch_gradient(model, part, 0) for part in unequal.split(4)]).mean(dim=0)
    return {
        "equal": relative(batch_gradient(model, batch, 4), batch_gradient(model, batch, 0)),
        "unequal": relative(batch_gradient(model, unequal, 4), whole),
        "averaged": relative(averaged, whole),
    }


def batch_gradient(model: Decoder, batch: Batch, micro_batch_size: int) -> Tensor:
    """(P,) the gradient of the batch's mean loss over counted tokens, as training accumulates it."""
    model.zero_grad()
    learner = TrainedLoss(model, head_loss, "fp32")
    with random_state_kept(torch.device("cpu")):
        accumulate_gradients(learner, batch, micro_batch_size=micro_batch_size, seed=0, step=0)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return torch.cat([gradient.flatten() for gradient in gradients])


def with_unequal_rows(batch: Batch) -> Batch:
    """The same batch, of which row b counts only the first T (b + 1) / B targets."""
    B, T = batch.targets.shape
    counted = torch.arange(T)[None] < (torch.arange(1, B + 1) * T / B).ceil()[:, None]
    return Batch(batch.inputs, batch.targets.where(counted, IGNORE), batch.documents)


def relative(first: Tensor, second: Tensor) -> float:
    """The length of the difference, as a share of that of the second."""
    return float((first.double() - second.double()).norm() / second.double().norm())
