"""How noisy the gradient of a batch is: its squared norm by batch size, and the noise scale that follows from it.

    G_B      the gradient of the mean loss of B sequences, weights fixed
    G        what it tends to as B grows; Sigma the covariance of one sequence's gradient
    E|G_B|^2 = |G|^2 + tr(Sigma) / B        a straight line in 1 / B
    B_simple = tr(Sigma) / |G|^2            where noise and signal are equal
                                            (McCandlish et al. 2018, arXiv 1812.06162, section 2.2)

The gradients of N sequences are computed once, and batches are drawn from this pool, each without replacement. All
that is needed of them is the matrix of their inner products. Given the pool, whose mean is M and whose sample
covariance has the trace S, the expectation over such draws is

    E|G_B|^2 = |M|^2 + (S / B) (1 - B / N) = (|M|^2 - S / N) + S / B

so that the line stays straight and its intercept and slope are the unbiased estimates of |G|^2 and tr(Sigma).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightwell.batches.batch import Batch, read_batch
from lightwell.batches.windows import Windows
from lightwell.lab.verdicts.statistics import Numbers, block_bootstrap, fit_line
from lightwell.model.decoder import Decoder
from lightwell.tokens.token_file import TokenFile
from lightwell.training.settings.config import RunConfig
from lightwell.training.update.loss import head_loss
from lightwell.training.update.streams import stream_seed

SMALL, BIG = 0, -1
"""Places of the two sizes in the columns that `two_sizes` reads."""


def pool_of_windows(tokens: TokenFile, config: RunConfig, count: int, seed: int) -> Batch:
    """Return at most `count` windows that do not overlap, from anywhere in the text: a batch of (N, T)."""
    L = config.model.context_length
    settings = RunConfig().batches  # stride 0: side by side; documents run on, so that all windows count L targets
    windows = Windows(tokens, L, settings, seed)
    draw = np.random.default_rng(stream_seed(seed, "pool"))
    numbers = draw.permutation(len(windows))[:count].astype(np.int64)
    return read_batch(tokens, windows.spans(numbers, np.zeros_like(numbers)), L)


def sequence_gradients(model: Decoder, batch: Batch) -> Tensor:
    """Return the gradient of each sequence's mean loss, (N, P) in fp32: parameters in order, dropout as it is."""
    parameters = list(model.parameters())
    rows = torch.empty(len(batch.inputs), sum(parameter.numel() for parameter in parameters))
    for row, inputs, targets in zip(rows, batch.inputs, batch.targets, strict=True):
        loss = head_loss(model, model.hidden(inputs[None]), targets[None]) / len(targets)
        row.copy_(torch.cat([part.flatten() for part in torch.autograd.grad(loss, parameters)]))
    return rows


def inner_products(gradients: Tensor) -> Numbers:
    """Return the products (N, N) of rows (N, P) in fp64, summed over 65,536 at a time, so that fp32 loses little."""
    total = torch.zeros(len(gradients), len(gradients), dtype=torch.float64)
    for part in torch.split(gradients, 1 << 16, dim=1):
        total += (part @ part.T).double()
    whole: Numbers = total.numpy()
    return whole


@dataclass(frozen=True)
class Draws:
    """Random batches of several sizes, `draws` of each."""

    squared: Numbers
    """(draws, sizes) |G_B|^2."""
    cosines: Numbers
    """(draws, sizes) of two batches that share no sequence."""
    parts: Numbers
    """(draws, sizes) the mean |G_b|^2 of the parts of b sequences that each draw's largest batch is made of."""


def draw_batches(products: Numbers, sizes: Sequence[int], draws: int, seed: int) -> Draws:
    """Return batches from a pool with these (N, N) inner products; the largest of `sizes` is at most N / 2."""
    draw = np.random.default_rng(seed)
    largest = max(sizes)
    squared, cosines, parts = (np.empty((draws, len(sizes))) for _ in range(3))
    for row in range(draws):
        for column, B in enumerate(sizes):
            chosen = draw.permutation(len(products))[: 2 * B]
            first, second = chosen[:B], chosen[B:]
            inside = _sum(products, first, first) / B**2
            squared[row, column] = inside
            cosines[row, column] = _sum(products, first, second) / B**2 / np.sqrt(
                inside * _sum(products, second, second) / B**2
            )  # fmt: skip
            if largest == B:
                parts[row] = [_of_parts(products, first, b) for b in sizes]
    return Draws(squared, cosines, parts)


def _of_parts(products: Numbers, batch: NDArray[np.int64], size: int) -> float:
    pieces = [batch[i : i + size] for i in range(0, len(batch) - size + 1, size)]
    return float(np.mean([_sum(products, piece, piece) / size**2 for piece in pieces]))


def _sum(products: Numbers, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> float:
    return float(products[np.ix_(rows, columns)].sum())


@dataclass(frozen=True)
class NoiseScale:
    """What an estimator says of the noise.

    The bootstrap is of 1 / B_simple = |G|^2 / tr(Sigma), whose denominator stays away from 0. Where the interval of
    that reaches 0, B_simple has no upper bound: so few draws cannot tell the gradient from none.
    """

    signal: float
    """|G|^2; an estimate can be negative."""
    noise: float
    """The trace of the covariance, tr(Sigma), for one sequence."""
    share: float
    """|G|^2 / tr(Sigma)."""
    share_low: float
    share_high: float
    r_squared: float = 1.0

    @property
    def simple(self) -> float | None:
        """Return B_simple, in sequences; None where the signal is not above 0."""
        return _inverse(self.share)

    @property
    def low(self) -> float | None:
        """Return the lower end of its 95 % interval."""
        return _inverse(self.share_high)

    @property
    def high(self) -> float | None:
        """Return the upper end of its 95 % interval; None where there is no bound."""
        return _inverse(self.share_low)

    def to_dict(self) -> dict[str, float | None]:
        """Return plain values for JSON."""
        return {**asdict(self), "simple": self.simple, "low": self.low, "high": self.high}


def _inverse(share: float) -> float | None:
    return 1.0 / share if share > 0.0 else None


def noise_of_line(squared: Numbers, sizes: Sequence[int], seed: int = 0) -> NoiseScale:
    """Return the noise scale by a line through the mean |G_B|^2 (draws, sizes) against 1 / B."""
    inverse = 1.0 / np.array(sizes, dtype=np.float64)
    weights = (inverse - inverse.mean()) / ((inverse - inverse.mean()) ** 2).sum()  # of the least-squares slope

    def share(rows: Numbers) -> float:
        means = rows.mean(axis=0)
        slope = float(weights @ means)
        return float(means.mean() - slope * inverse.mean()) / slope

    line = fit_line(inverse.tolist(), squared.mean(axis=0).tolist())
    low, high = block_bootstrap([row[None] for row in squared], share, seed)
    return NoiseScale(line.intercept, line.slope, share(squared), low, high, line.r_squared)


def noise_of_two_sizes(squared: Numbers, small: int, big: int, seed: int = 0) -> NoiseScale:
    """Return it from |G_B|^2 at two sizes alone, (draws, 2): McCandlish et al. 2018, appendix A.1, a ratio of means."""

    def means(rows: Numbers) -> tuple[float, float]:
        """Return the means of the unbiased |G|^2 and tr(Sigma)."""
        signals, noises = two_sizes(rows, small, big)
        return float(signals.mean()), float(noises.mean())

    def share(rows: Numbers) -> float:
        signal, noise = means(rows)
        return signal / noise

    low, high = block_bootstrap([row[None] for row in squared], share, seed)
    return NoiseScale(*means(squared), share(squared), low, high)


def noise_of_pool(products: Numbers) -> tuple[float, float]:
    """Return the unbiased |G|^2 and tr(Sigma) of all sequences of a pool at once, (N, N): what its draws estimate."""
    N = len(products)
    mean_squared = float(products.sum()) / N**2
    noise = (float(np.trace(products)) - N * mean_squared) / (N - 1)
    return mean_squared - noise / N, noise


def two_sizes(rows: Numbers, small: int, big: int) -> tuple[Numbers, Numbers]:
    """Return each draw's own unbiased |G|^2, which can be negative, and tr(Sigma): from (draws, 2) |G_small|^2,
    |G_big|^2.
    """
    of_small, of_big = rows[:, SMALL], rows[:, BIG]
    signals = (big * of_big - small * of_small) / (big - small)
    noises = (of_small - of_big) / (1.0 / small - 1.0 / big)
    return signals, noises
