"""A tiny configuration whose vocabulary is known, and batches of random tokens for it."""

from __future__ import annotations

import torch

from lightwell.batches.config import BatchConfig
from lightwell.batches.loader import BatchLoader
from lightwell.tokens.token_file import TokenFile
from lightwell.training.settings.config import RunConfig

TINY = RunConfig().with_values(
    {
        "vocab_size": 50,
        "context_length": 16,
        "n_layers": 2,
        "n_heads": 2,
        "d_model": 32,
        "batch_size": 8,
        "precision": "fp32",
        "device": "cpu",
    }
)


def loader(config: RunConfig) -> BatchLoader:
    V, L, B = config.model.vocab_size, config.model.context_length, config.batches.batch_size
    ids = torch.randint(V, (400,), generator=torch.Generator().manual_seed(1)).numpy()
    return BatchLoader(TokenFile.from_ids(ids, vocab_size=V), BatchConfig(batch_size=B), L, seed=1)
