"""The gradients of note 1, with weights fixed: their noise at some states of a model, and micro-batches."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lightwell.batches.batch import IGNORE, Batch
from lightwell.errors import SettingError
from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.trial import trained_model
from lightwell.lab.notes.batch_size.gradient_noise import (
    draw_batches,
    inner_products,
    noise_of_line,
    noise_of_pool,
    noise_of_two_sizes,
    pool_of_windows,
    sequence_gradients,
    two_sizes,
)
from lightwell.lab.verdicts.statistics import Numbers
from lightwell.lab.verdicts.verdict import Law
from lightwell.model.decoder import Decoder
from lightwell.training.hardware.device import available_memory, random_state_kept
from lightwell.training.update.loss import TrainedLoss, accumulate_gradients, head_loss
from lightwell.training.update.streams import stream_seed

SIZES = (1, 2, 4, 8, 16, 32, 64)
"""The sizes of batches whose gradients are measured."""
SMALL_PART = 4
"""The smaller of the two sizes of the second estimator; the larger is the largest of all."""
POOL = {"glance": 512, "coffee": 768, "night": 1024}
POOL_BYTES = 1 << 30
"""What the pool's gradients may take; a model so large that fewer than 128 sequences fit takes more."""
LINE, SAME = 0.98, 1e-6
MOST_ERRORS = 4.0
"""Standard errors that the two estimates of the noise scale may lie apart; 95 % intervals would miss once in twenty."""
AGREES = 0.03
"""How far a mean cosine may lie from 1 / (1 + B_simple / B), beyond four of its standard errors: it is a mean of
ratios, the formula a ratio of means."""


def states(context: ExperimentContext) -> dict[str, int]:
    """Return the steps of the base training after which gradients are measured, by name."""
    steps = context.budget.steps
    early = {} if context.budget.name == "glance" else {f"after {steps // 8:,} steps": steps // 8}
    return {"at initialisation": 0, **early, f"after {steps:,} steps": steps}


def pool_size(context: ExperimentContext) -> int:
    """Return the sequences of the pool: as many as the budget and memory allow."""
    fits = POOL_BYTES // (4 * context.config.model.parameter_count())
    return max(2 * SIZES[-1], min(POOL.get(context.budget.name, POOL["glance"]), fits))


def refuse_too_large(context: ExperimentContext) -> None:
    """Refuse, before anything is trained, a pool whose gradients do not fit into memory all at once.

    Raises:
        SettingError: they do not.
    """
    needed = 4 * context.config.model.parameter_count() * pool_size(context)
    free = available_memory(torch.device("cpu"))
    if needed > 0.7 * free:
        raise SettingError(
            f"The gradients of {pool_size(context)} sequences of this model take {needed / 1e9:.1f} GB, and "
            f"{free / 1e9:.1f} GB are free; measure the batch size with a smaller --preset."
        )


def gradient_noise(context: ExperimentContext) -> list[dict[str, Any]]:
    """Return, state by state, draws of |G_B|^2 and cosines, and what both estimators make of them."""
    estimated = []
    for name, step in states(context).items():
        work = functools.partial(measure_noise, context, step)
        drawn = context.measure("noise", work, step=step, seed=context.seed, sizes=SIZES, pool=pool_size(context))
        estimated.append({"name": name, **estimates(drawn)})
    return estimated


def measure_noise(context: ExperimentContext, step: int) -> dict[str, Any]:
    """Return draws from a pool of sequences' gradients, with the weights after `step` steps."""
    model = trained_model(context.trial("noise", context.seed), context.corpus, until=step)
    pool = pool_of_windows(context.corpus.train, context.config, pool_size(context), context.seed)
    products = inner_products(sequence_gradients(model, pool))
    sizes = [B for B in SIZES if len(products) >= 2 * B]
    draws = draw_batches(products, sizes, context.budget.draws, stream_seed(context.seed, "draws"))
    signal, noise = noise_of_pool(products)
    of_pool = {"signal": signal, "noise": noise, "simple": noise / signal if signal > 0.0 else None}
    return {
        "pool": len(products),
        "of_pool": of_pool,
        "sizes": sizes,
        **{name: part.tolist() for name, part in asdict(draws).items()},
    }


def estimates(drawn: Mapping[str, Any]) -> dict[str, Any]:
    """Return the draws with the noise scale by the line and by two sizes, and the cosines that it foretells."""
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
        "cosine_foretold": [foretold(share_of_pool(drawn["of_pool"]), B) for B in sizes],
    }


def foretold(share: float, B: float) -> float:
    """Return the cosine of two batches of B, 1 / (1 + B_simple / B), from 1 / B_simple.

    An estimate of that can be negative: batches that share no sequence of a small pool then point apart.
    """
    return max(-1.0, B * share / (B * share + 1.0)) if B * share > -0.5 else -1.0


def share_of_pool(of_pool: Mapping[str, Any]) -> float:
    """Return 1 / B_simple of the sequences that batches are drawn from, all of them at once."""
    return float(of_pool["signal"] / of_pool["noise"]) if of_pool["noise"] else math.inf


def scale_words(estimate: Mapping[str, Any]) -> str:
    """Return a noise scale, and its interval where there is one."""
    simple = "beyond measure" if estimate["simple"] is None else f"{estimate['simple']:.3g}"
    if estimate.get("low") is None:
        return simple
    if estimate["high"] is None:
        return f"{simple}, at least {estimate['low']:.3g}"
    return f"{simple}, {estimate['low']:.3g} to {estimate['high']:.3g}"


def noise_laws(noise: Sequence[Mapping[str, Any]]) -> list[Law]:
    """Return the laws of the line, of the estimators' agreement, and of that of two batches."""
    laws = []
    for state in noise:
        line, two, name = state["line"], state["two_sizes"], state["name"]
        off = beyond_chance(np.array(state["cosines"]), np.array(state["cosine_foretold"]))
        laws += [
            Law.above(f"R^2 of the mean |G_B|^2 against 1/B, {name}", line["r_squared"], LINE),
            Law.below(f"|G|^2 / tr(Sigma) = 1 / B_simple by the line, {interval_words(line)}, and by batches of "
                      f"{two['small']} and {two['big']} alone, {interval_words(two)}: standard errors apart, {name}",
                      errors_apart(line, two), MOST_ERRORS),
            Law.below(f"Mean cosine of two batches off 1 / (1 + B_simple / B), beyond four standard errors, at most, "
                      f"{name}", off, AGREES),
        ]  # fmt: skip
    return laws


def interval_words(estimate: Mapping[str, Any]) -> str:
    """Return 1 / B_simple with its 95 % interval."""
    return f"{estimate['share']:.4g} [{estimate['share_low']:.4g}, {estimate['share_high']:.4g}]"


def errors_apart(line: Mapping[str, Any], two: Mapping[str, Any]) -> float:
    """Return how far the two estimates lie apart, in standard errors: 95 % intervals are 1.96 of them to each side."""
    widths = [estimate["share_high"] - estimate["share_low"] for estimate in (line, two)]
    distance = abs(line["share"] - two["share"])
    error = math.hypot(*widths) / (2 * 1.96)
    return float(distance / error) if error else math.inf if distance else 0.0


def beyond_chance(cosines: Numbers, foretold: Numbers) -> float:
    """Return how far the means of (draws, sizes) lie from what is foretold, beyond four standard errors of them; 0 if
    not.
    """
    errors = cosines.std(axis=0, ddof=1) / math.sqrt(len(cosines))
    return max(0.0, float((np.abs(cosines.mean(axis=0) - foretold) - 4.0 * errors).max()))


def micro_batch_error(context: ExperimentContext) -> dict[str, float]:
    """Return |g - g'| / |g|, g the gradient of a batch of 16 and g' that of its micro-batches of 4."""
    model = trained_model(context.trial("micro-batches", context.seed), context.corpus, until=0)
    batch = pool_of_windows(context.corpus.train, context.config, 16, context.seed)
    unequal = with_unequal_rows(batch)
    whole = batch_gradient(model, unequal, 0)
    averaged = torch.stack([batch_gradient(model, part, 0) for part in unequal.split(4)]).mean(dim=0)
    return {
        "equal": relative(batch_gradient(model, batch, 4), batch_gradient(model, batch, 0)),
        "unequal": relative(batch_gradient(model, unequal, 4), whole),
        "averaged": relative(averaged, whole),
    }


def batch_gradient(model: Decoder, batch: Batch, micro_batch_size: int) -> Tensor:
    """Return the gradient (P,) of the batch's mean loss over counted tokens, as training accumulates it."""
    model.zero_grad()
    loss_module = TrainedLoss(model, head_loss, "fp32")
    with random_state_kept(torch.device("cpu")):
        accumulate_gradients(loss_module, batch, micro_batch_size=micro_batch_size, seed=0, step=0)
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return torch.cat([gradient.flatten() for gradient in gradients])


def with_unequal_rows(batch: Batch) -> Batch:
    """Return the same batch, of which row b counts only the first T (b + 1) / B targets."""
    B, T = batch.targets.shape
    counted = torch.arange(T)[None] < (torch.arange(1, B + 1) * T / B).ceil()[:, None]
    return Batch(batch.inputs, batch.targets.where(counted, IGNORE), batch.documents)


def relative(first: Tensor, second: Tensor) -> float:
    """Return the length of the difference, as a share of that of the second."""
    return float((first.double() - second.double()).norm() / second.double().norm())
