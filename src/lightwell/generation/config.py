"""How the next token is chosen, and when to stop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from lightwell.settings import Meta, Settings


@dataclass(frozen=True)
class SamplingConfig(Settings):
    """From logits to the next token, in the order in which the settings are applied."""

    max_new_tokens: Annotated[int, Meta(ge=1)] = 200
    """How many tokens are written at most."""
    repetition_penalty: Annotated[float, Meta(gt=0.0)] = 1.0
    """Divides the positive logits of tokens that occurred before, multiplies the negative. 1 changes nothing."""
    temperature: Annotated[float, Meta(ge=0.0)] = 0.8
    """Divides the logits: below 1 is more cautious, above 1 more daring, 0 always takes the likeliest token."""
    top_k: Annotated[int, Meta(ge=0)] = 0
    """Keeps only the k likeliest tokens. 0 keeps all."""
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    """Keeps the likeliest tokens whose probabilities add up to p. 1 keeps all."""
    min_p: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.0
    """Keeps the tokens at least this share as likely as the likeliest one. 0 keeps all."""
    stop: tuple[str, ...] = ()
    """Texts that end the writing; they are not part of it."""
