"""What attention weights say about a trained model, and what they do not: order, asymmetry, and influence.

Shapes: B batch, H heads, T time, K head dim, D model, V vocabulary, E edges (query i, key j) with j <= i.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from lightwell.generation.generate import at_rest
from lightwell.model.attention import repeat_heads, softmax
from lightwell.model.decoder import Decoder
from lightwell.model.tap import recording
from lightwell.training.update.streams import stream_seed

LONGEST = 20
"""Tokens of the text whose edges are removed, one after the other: 209 edges in each head."""
SHOWN_ROWS = 4
SHIFT = 10.0


def inside(model: Decoder, tokens: Tensor) -> dict[str, Any]:
    """Return all of it for one text, tokens (1, T); the model's attention must be explicit, so that edges can be
    removed.
    """
    with at_rest(model):
        recorded = watched(model, tokens)
        short = tokens[:, :LONGEST]
        edges = removed_edges(model, short, watched(model, short))
        return {**order(recorded, len(model.layers)), "edges": edges}


def watched(model: Decoder, tokens: Tensor) -> dict[str, Tensor]:
    """Return every intermediate by name."""
    recorded: dict[str, Tensor] = {}
    model(tokens, tap=recording(recorded))
    return recorded


def order(recorded: dict[str, Tensor], layers: int) -> dict[str, Any]:
    """Return how scores and weights go together, within rows and across them, head by head."""
    heads: list[dict[str, float]] = []
    for layer in range(layers):
        q, k, raw, scaled, masked, weights = (
            recorded[f"layers.{layer}.attention.{name}"][0].double()
            for name in ("q", "k", "scores", "scaled", "masked", "weights")
        )
        k = repeat_heads(k[None], len(q) // len(k))[0]
        shifts = SHIFT * torch.randn(masked.shape[:-1], generator=_generator("shift")).double()
        shifted = (softmax(masked + shifts[..., None]) - softmax(masked)).abs().amax(dim=(-2, -1))
        heads += [
            {
                **ranks(scaled[head].numpy(), weights[head].numpy(), cosines(q[head], k[head]).numpy()),
                "asymmetry": float((raw[head] - raw[head].T).norm() / (2 * raw[head].norm())),
                "shifted": float(shifted[head]),
                "key_norm_variation": float(k[head].norm(dim=-1).std() / k[head].norm(dim=-1).mean()),
                "score_std": float(raw[head][_seen_mask(len(raw[head]))].std()),
                "component_std": float((q[head].std() * k[head].std()).sqrt()),
            }
            for head in range(len(q))
        ]
    last = f"layers.{layers - 1}.attention"
    T = recorded[f"{last}.scaled"].size(-1)
    rows = sorted({int(i) for i in np.linspace(max(1, T // 4), T - 1, SHOWN_ROWS)})
    shown = [
        {"row": i, "scores": recorded[f"{last}.scaled"][0, 0, i, : i + 1].tolist(),
         "weights": recorded[f"{last}.weights"][0, 0, i, : i + 1].tolist()}
        for i in rows
    ]  # fmt: skip
    return {"heads": heads, "rows": shown}


def ranks(scores: np.ndarray, weights: np.ndarray, similarity: np.ndarray) -> dict[str, float]:
    """Return rank correlations with the weights: the worst within a row, and over all rows of the second half.

    The first rows are left out across rows, since with few keys to share among, weights are large for that reason.
    """
    T = len(scores)
    within = [rank_correlation(scores[i, : i + 1], weights[i, : i + 1]) for i in range(2, T)]
    cosine = [rank_correlation(similarity[i, : i + 1], weights[i, : i + 1]) for i in range(2, T)]
    late = np.tril(np.ones((T, T), dtype=bool)) & (np.arange(T)[:, None] >= T // 2)
    return {
        "within": min(within),
        "across": rank_correlation(scores[late], weights[late]),
        "cosine": float(np.mean(cosine)),
    }


def rank_correlation(x: Sequence[float] | np.ndarray, y: Sequence[float] | np.ndarray) -> float:
    """Return Spearman's rank correlation; 0 where one of the two is constant."""
    first, second = stats.rankdata(x), stats.rankdata(y)
    if np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def cosines(q: Tensor, k: Tensor) -> Tensor:
    """Return the cosines (T, T) of rows (T, K) each."""
    return torch.nn.functional.normalize(q, dim=-1) @ torch.nn.functional.normalize(k, dim=-1).T


def removed_edges(model: Decoder, tokens: Tensor, recorded: dict[str, Tensor]) -> list[dict[str, Any]]:
    """Return three (T, T) matrices a head, and rank correlations over all edges of queries that have a choice.

    weight a_ij; moved |a_ij v_j W_O|, what the edge adds to the residual stream (Kobayashi 2020); effect, the change of
    the predictions where the edge is removed before softmax: KL divergence in nats, summed over all positions.
    """
    base = recorded["logits"][0].double().log_softmax(dim=-1)  # (T, V)
    i, j = torch.tril_indices(tokens.size(1), tokens.size(1)).unbind()
    i, j = i[i > 0], j[i > 0]  # the first query has but one key
    heads = []
    for layer, block in enumerate(model.layers):
        attention: Any = block.attention
        name = f"layers.{layer}.attention"
        weights = recorded[f"{name}.weights"][0]  # (H, T, T)
        values = repeat_heads(recorded[f"{name}.v"], attention.n_heads // attention.n_kv_heads)[0]  # (H, T, K)
        out = attention.output.weight.unflatten(1, (attention.n_heads, attention.head_dim))  # (D, H, K)
        moved = weights * torch.einsum("htk,dhk->htd", values, out).norm(dim=-1)[:, None, :]
        for head in range(attention.n_heads):
            effect = torch.zeros(weights.shape[1:], dtype=torch.float64)
            effect[i, j] = effects(model, tokens, base, f"{name}.masked", head, i, j)
            edges = [matrix[i, j].numpy() for matrix in (weights[head], moved[head], effect)]
            heads.append(
                {
                    "layer": layer, "head": head,
                    "weight": weights[head].tolist(), "moved": moved[head].tolist(), "effect": effect.tolist(),
                    "weight_rank": rank_correlation(edges[0], edges[2]),
                    "moved_rank": rank_correlation(edges[1], edges[2]),
                }
            )  # fmt: skip
    return heads


def effects(model: Decoder, tokens: Tensor, base: Tensor, name: str, head: int, i: Tensor, j: Tensor) -> Tensor:
    """Return the summed KL divergence (E,) of predictions from base (T, V), in logs, with one edge less each."""
    each = torch.arange(len(i))

    def remove(passing: str, value: Tensor) -> Tensor:
        if passing != name:
            return value
        value = value.clone()
        value[each, head, i, j] = -torch.inf
        return value

    without: Tensor = model(tokens.repeat(len(i), 1), tap=remove).double().log_softmax(dim=-1)  # (E, T, V)
    changed: Tensor = (base.exp() * (base - without)).sum(dim=(-2, -1))
    return changed.clamp_min(0.0)


def _seen_mask(T: int) -> Tensor:
    return torch.ones(T, T, dtype=torch.bool).tril()


def _generator(name: str) -> torch.Generator:
    return torch.Generator().manual_seed(stream_seed(1, name))
