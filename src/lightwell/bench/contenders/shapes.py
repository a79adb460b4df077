"""The shapes that are compared: the same model and batch for every contender."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import asdict, dataclass
from typing import Self

from lightwell.errors import SettingError
from lightwell.settings import nearest


@dataclass(frozen=True)
class Shape:
    """A model and a batch, in the parts that all contenders have."""

    name: str
    n_layers: int
    n_heads: int
    d_model: int
    context_length: int
    batch_size: int
    """Sequences in a step; a step is one batch, without accumulation."""
    vocab_size: int
    dropout: float = 0.0
    """On the embeddings, the attention weights and the residual branches."""

    @property
    def tokens(self) -> int:
        """Return the number of tokens in a step."""
        return self.batch_size * self.context_length

    def sentence(self) -> str:
        """Return the shape in words."""
        dropout = f", dropout {self.dropout:g}" if self.dropout else ""
        return (
            f"{self.n_layers} layers, {self.n_heads} heads, d_model {self.d_model}, context {self.context_length}, "
            f"batch {self.batch_size}, vocabulary {self.vocab_size}{dropout}"
        )

    def to_json(self) -> str:
        """One line, as contenders get it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Return the shape that `to_json` wrote."""
        return cls(**json.loads(text))


_S = Shape("S", n_layers=6, n_heads=6, d_model=384, context_length=256, batch_size=16, vocab_size=4096)
_M = Shape("M", n_layers=12, n_heads=12, d_model=768, context_length=256, batch_size=4, vocab_size=50257)

SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        _S,
        dataclasses.replace(_S, name="S-dropout", dropout=0.2),
        _M,  # GPT-2 with 124 M parameters
        dataclasses.replace(_M, name="M1024", context_length=1024, batch_size=1),
        Shape("tiny", n_layers=2, n_heads=2, d_model=32, context_length=16, batch_size=2, vocab_size=300),
    )
}
"""The shapes by name; `tiny` is for trying out that all contenders start, its speeds mean nothing."""


def shape(name: str) -> Shape:
    """Return the shape of that name.

    Raises:
        SettingError: there is none.
    """
    if name not in SHAPES:
        raise SettingError(f"There is no shape {name}; there are {', '.join(SHAPES)}.{nearest(name, SHAPES)}")
    return SHAPES[name]
