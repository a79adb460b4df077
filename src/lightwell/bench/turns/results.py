"""From seconds to the figures that are shown: medians, ratios with their spread, shares of the matrix product."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from lightwell.bench.contenders.products import FLOPS
from lightwell.bench.contenders.shapes import Shape
from lightwell.bench.turns.rounds import Measurement, Turns, ratios

FORMAT = 1
"""Version of the JSON."""


def shape_results(shape: Shape, measurement: Measurement, steps: int, peak_gflops: float) -> dict[str, Any]:
    """Return everything that was measured on one shape, as plain values for JSON.

    Args:
        shape: the shape.
        measurement: its turns.
        steps: steps in a turn.
        peak_gflops: what the silicon could do at best, in GFLOP/s; 0: not known.
    """
    rates = product_rates(measurement)
    baseline = measurement.turns[0]
    return {
        "shape": asdict(shape),
        "rounds": measurement.rounds,
        "steps_per_round": steps,
        "product_gflops": {
            precision: statistics.median(by_round.values()) / 1e9 for precision, by_round in rates.items() if by_round
        },
        "peak_gflops": peak_gflops,
        "contenders": [
            contender_results(turns, baseline, shape, fastest(list(rates.values())), peak_gflops)
            for turns in measurement.turns
        ],
    }


def product_rates(measurement: Measurement) -> dict[str, dict[int, float]]:
    """FLOP/s of the bare matrix product, by precision and round."""
    return {
        precision: {number: FLOPS / statistics.median(seconds) for number, seconds in turns.rounds.items()}
        for precision, turns in measurement.products.items()
    }


def fastest(rates: Sequence[dict[int, float]]) -> dict[int, float]:
    """Return the better precision in each round: bf16 where the hardware has it."""
    numbers = set(itertools.chain.from_iterable(rates))
    return {number: max(by_round.get(number, 0.0) for by_round in rates) for number in sorted(numbers)}


def contender_results(
    turns: Turns, baseline: Turns, shape: Shape, product: dict[int, float], peak_gflops: float
) -> dict[str, Any]:
    """Return the figures of one contender; `product` is the best product's FLOP/s by round."""
    result: dict[str, Any] = {
        "name": turns.contender.name,
        "what": turns.contender.what,
        "error": turns.error,
        **{key: turns.about[key] for key in ("warm_up_seconds", "python", "versions") if key in turns.about},
        "peak_bytes": turns.findings.get("peak_bytes", turns.about.get("peak_bytes", 0)),
        "final_loss": turns.findings.get("loss"),
    }
    seconds = list(itertools.chain.from_iterable(turns.rounds.values()))
    if not seconds:
        return result
    median = statistics.median(seconds)
    result |= {
        "step_seconds": median,
        "all_step_seconds": {str(number): times for number, times in turns.rounds.items()},
        "tokens_per_second": shape.tokens / median,
    }
    if compared := ratios(baseline, turns):
        result["baseline_is_times"] = spread(compared)
    # A peer does the baseline's model FLOPs, as far as it is the same model; how it gets there is its own affair.
    flops = turns.about.get("flops_per_token", baseline.about.get("flops_per_token", 0.0)) * shape.tokens
    achieved = {number: flops / statistics.median(times) for number, times in turns.rounds.items()}
    if shares := [rate / product[number] for number, rate in achieved.items() if flops and product.get(number)]:
        result["share_of_product"] = spread(shares)
    if peak_gflops and flops:
        result["share_of_peak"] = flops / median / 1e9 / peak_gflops
    if "loader_seconds" in turns.findings:
        result["loader_share"] = turns.findings["loader_seconds"] / median
    return result


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return the median, and how far the rounds went from it."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}
