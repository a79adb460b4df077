"""A scaling law: the loss to expect of so many parameters, so many tokens and so long a context.

The form is that of Hoffmann 2022 ("Chinchilla", equation 10), with a term for the context beside it,

    loss = E + A / parameters^alpha + B / tokens^beta + C / context_length,

and with repeated text worth less the more often it is repeated (Muennighoff 2023, equation 5).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightwell.model.config import ModelConfig


@dataclass(frozen=True)
class ScalingLaw:
    """The constants of a law, in the symbols of the papers."""

    E: float
    """Nats per token that no model of the text gets below."""
    A: float
    alpha: float
    B: float
    beta: float
    C: float = 0.0
    """Nats times tokens of context."""
    R_star: float = 15.39
    """Repeating a text without end is worth this many times reading it anew; by default as Muennighoff 2023 has it."""

    def loss(self, *, parameters: float, tokens: float, unique_tokens: float, context_length: int) -> float:
        """Return nats per token after training on `tokens`, of which no more than `unique_tokens` differ."""
        worth = self.effective_tokens(tokens, unique_tokens)
        return float(self.E + self.A / parameters**self.alpha + self.B / worth**self.beta + self.C / context_length)

    def effective_tokens(self, tokens: float, unique_tokens: float) -> float:
        """Return how many tokens of fresh text would teach as much."""
        repetitions = max(0.0, tokens / unique_tokens - 1.0)
        return min(tokens, unique_tokens) + unique_tokens * self.R_star * (1.0 - math.exp(-repetitions / self.R_star))


SMALL_MODELS = ScalingLaw(E=2.3, A=30.0, alpha=0.34, B=428.0, beta=0.452, C=8.0, R_star=3.0)
"""For models of 0.4 to 11 million parameters by the recipe of the small presets.

alpha is Hoffmann's; the others were fitted to runs of one, three and ten minutes on the default corpus
(docs/decisions.md). E, the same for all, decides nothing.
"""


def block_parameters(model: ModelConfig) -> int:
    """Return the parameters that such laws count, about 12 n_layers d_model^2: a table of embeddings is looked up."""
    return 12 * model.n_layers * model.d_model**2
