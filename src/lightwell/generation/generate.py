"""The loop that writes: the next token of each row, again and again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lightwell.generation.config import SamplingConfig
from lightwell.generation.context import RollingContext
from lightwell.generation.sampling import next_token_probabilities, sample
from lightwell.model.decoder import Decoder


@dataclass(eq=False)
class Row:
    """One text being written."""

    tokens: list[int]
    """The prompt, at least one token, and what has been written so far."""
    generator: torch.Generator
    """This row's own random stream, on the CPU, so that its text does not depend on the rows beside it."""
    ended: bool = False
    """Whether nothing more is written; the caller may set it between two steps."""


def generate_tokens(
    decoder: Decoder, rows: Sequence[Row], config: SamplingConfig, end_of_text: int
) -> Iterator[list[int | None]]:
    """Yield, step by step, the new token id of each row, or None for a row that has ended.

    A row ends before its end_of_text token, or when its `ended` is set; the iterator ends with the last row, or after
    max_new_tokens steps. B is the number of rows still being written, V the vocabulary.
    """
    context = RollingContext(decoder)
    for _ in range(config.max_new_tokens):
        writing = [index for index, row in enumerate(rows) if not row.ended]
        if not writing:
            return
        texts = [row.tokens for row in rows]
        with at_rest(decoder):
            logits = context.logits(texts, writing)  # (B, V)
            penalised = None
            if config.repetition_penalty != 1:
                penalised = occurring_tokens([texts[index] for index in writing], logits, end_of_text)  # (B, V)
            probabilities = next_token_probabilities(logits, config, penalised)  # (B, V)
            tokens = sample(probabilities, [rows[index].generator for index in writing])  # (B,)
        step: list[int | None] = [None] * len(rows)
        for index, token in zip(writing, tokens.tolist(), strict=True):
            if token == end_of_text:
                rows[index].ended = True
            else:
                rows[index].tokens.append(token)
                step[index] = token
        yield step


def occurring_tokens(texts: Sequence[Sequence[int]], logits: Tensor, end_of_text: int) -> Tensor:
    """Return the tokens that occur in each text, prompt included, as (B, V) bool.

    end_of_text never counts: it opens every document, and a penalty on it would keep texts from ending.
    """
    occurring = torch.zeros(logits.shape, dtype=torch.bool)
    for row, text in zip(occurring, texts, strict=True):
        row[torch.tensor(text)] = True
    occurring[:, end_of_text] = False
    return occurring.to(logits.device)


@contextmanager
def resting(model: nn.Module) -> Iterator[None]:
    """Turn dropout off inside; afterwards every module is in the mode it was in."""
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.training = False
    try:
        yield
    finally:
        for module in training:
            module.training = True


@contextmanager
def at_rest(decoder: Decoder) -> Iterator[None]:
    """Turn dropout and gradients off inside."""
    with resting(decoder), torch.no_grad():
        yield
