"""Any language model seen in one way: tokens in, logits out, its input embedding, its cache, its attention weights.

What a model does not have is None, or a sentence that says why. Shapes: B batch, T time, V vocabulary, H heads.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lightwell.errors import SettingError
from lightwell.generation.language_model import LanguageModel
from lightwell.model.cache import KVCache
from lightwell.model.decoder import Decoder
from lightwell.model.tap import Tap, passthrough

LENGTHS = ("context_length", "max_position_embeddings", "n_positions", "block_size", "max_seq_len")
"""What models call the number of tokens that they see at once."""


class Subject:
    """A torch module that maps token ids (B, T) to logits (B, T, V), or to something that has them as `.logits`."""

    no_cache = "it has no cache of keys and values that is known here"
    no_weights = "it does not give its attention weights away"
    no_drive = "its attention has no tap, so its scores cannot be driven"

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.parameters = inspect.signature(module.forward).parameters

    @property
    def device(self) -> torch.device:
        """Return the device of the model's weights."""
        return next((weight.device for weight in self.module.parameters()), torch.device("cpu"))

    def logits(self, tokens: Tensor) -> Tensor:
        """Return the logits (B, T, V) of tokens (B, T), without a cache."""
        return logits_of(self.module(tokens, **self._plainly()))

    def cached(self, tokens: Tensor, prefix: int) -> Tensor | None:
        """Return the logits (B, T, V) when the first `prefix` tokens come at once, and the others one at a time."""
        if "past_key_values" not in self.parameters:
            return None
        out = self.module(tokens[:, :prefix], use_cache=True)
        parts = [logits_of(out)]
        for t in range(prefix, tokens.size(1)):
            past = getattr(out, "past_key_values", None)
            if past is None:
                return None
            out = self.module(tokens[:, t : t + 1], past_key_values=past, use_cache=True)
            parts.append(logits_of(out))
        return torch.cat(parts, dim=1)

    def weights(self, tokens: Tensor) -> list[Tensor] | None:
        """Return the attention weights (B, H, T, T) of each layer."""
        if "output_attentions" not in self.parameters and not hasattr(self.module, "set_attn_implementation"):
            return None
        with _eager(self.module):
            out = self.module(tokens, output_attentions=True, **self._plainly())
        attentions = getattr(out, "attentions", None)
        return [each for each in attentions if each is not None] or None if attentions else None

    def driven(self, tokens: Tensor, factor: float) -> list[Tensor] | None:
        """Return the attention weights (B, H, T, T) of each layer where all its scores are `factor` times as large."""
        return None

    def embedding(self, tokens: Tensor) -> nn.Module | None:
        """Return the module that is given the token ids, and looks their vectors up."""
        named = getattr(self.module, "get_input_embeddings", None)
        if callable(named):
            embedding = named()
            return embedding if isinstance(embedding, nn.Module) else None
        called: list[nn.Module] = []

        def note(module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
            if given and torch.is_tensor(given[0]) and torch.equal(given[0], tokens):
                called.append(module)

        tables = [module for module in self.module.modules() if isinstance(module, nn.Embedding)]
        if not tables:
            return None
        hooks = [module.register_forward_hook(note) for module in tables]
        try:
            with torch.no_grad():
                self.logits(tokens)
        finally:
            for hook in hooks:
                hook.remove()
        return called[0] if called else None

    def vocab_size(self) -> int:
        """Return V, or 0 where nothing says it."""
        config = getattr(self.module, "config", None)
        if size := getattr(config, "vocab_size", 0):
            return int(size)
        table = self.embedding(torch.zeros(1, 2, dtype=torch.int64, device=self.device))
        return int(getattr(table, "num_embeddings", 0))

    def longest(self) -> int:
        """Return how many tokens it sees at once, or 0 where nothing says it."""
        config = getattr(self.module, "config", None)
        return next((int(size) for name in LENGTHS if isinstance(size := getattr(config, name, None), int)), 0)

    def _plainly(self) -> dict[str, Any]:
        return {"use_cache": False} if "use_cache" in self.parameters else {}


class DecoderSubject(Subject):
    """Lightwell's own, through a tap that may change what flows."""

    def __init__(self, decoder: Decoder, tap: Tap = passthrough) -> None:
        super().__init__(decoder)
        self.decoder, self.tap = decoder, tap

    def logits(self, tokens: Tensor) -> Tensor:
        """Return the logits (B, T, V) of tokens (B, T)."""
        return self.decoder(tokens, tap=self.tap)  # type: ignore[no-any-return]

    def cached(self, tokens: Tensor, prefix: int) -> Tensor | None:
        """Return the logits with a `KVCache`."""
        dtype = self.decoder.token_embedding.weight.dtype
        cache = KVCache(self.decoder.config, len(tokens), device=self.device, dtype=dtype)
        parts = [self.decoder(tokens[:, :prefix], cache=cache, tap=self.tap)]
        later = range(prefix, tokens.size(1))
        parts += [self.decoder(tokens[:, t : t + 1], cache=cache, tap=self.tap) for t in later]
        return torch.cat(parts, dim=1)

    def weights(self, tokens: Tensor) -> list[Tensor] | None:
        """Return the attention weights that the tap named "weights" sees."""
        return self._watched(tokens, 1.0)

    def driven(self, tokens: Tensor, factor: float) -> list[Tensor] | None:
        """Return them by the explicit formula, since the fused one lets no tap change anything."""
        with _explicit(self.decoder):
            return self._watched(tokens, factor)

    def embedding(self, tokens: Tensor) -> nn.Module:
        """Return the token embedding."""
        return self.decoder.token_embedding

    def _watched(self, tokens: Tensor, factor: float) -> list[Tensor]:
        recorded: list[Tensor] = []

        def watch(name: str, value: Tensor) -> Tensor:
            # Driven before the model's own tap, which stands for how the model masks.
            value = self.tap(name, value * factor if name.endswith(".scaled") and factor != 1.0 else value)
            if name.endswith(".weights"):
                recorded.append(value)
            return value

        self.decoder(tokens, tap=watch)
        return recorded


def subject_of(model: Any, tap: Tap = passthrough) -> Subject:
    """Return the adapter that fits a model.

    Raises:
        SettingError: it is no torch module.
    """
    if isinstance(model, LanguageModel):
        model = model.decoder
    if isinstance(model, Decoder):
        return DecoderSubject(model, tap)
    if not isinstance(model, nn.Module):
        raise SettingError(
            f"A {type(model).__name__} cannot be checked; give a torch module that maps token ids (B, T) to logits."
        )
    return Subject(model)


def logits_of(output: Any) -> Tensor:
    """Return the logits in what a model returns.

    Raises:
        SettingError: there are none.
    """
    logits = getattr(output, "logits", output[0] if isinstance(output, tuple) and output else output)
    if torch.is_tensor(logits) and logits.dim() == 3:
        return logits
    raise SettingError("The model does not map token ids (B, T) to logits (B, T, V), nor to something with .logits.")


@contextmanager
def _explicit(decoder: Decoder) -> Iterator[None]:
    layers: list[Any] = [block.attention for block in decoder.layers]
    before = [attention.implementation for attention in layers]
    for attention in layers:
        attention.implementation = "explicit"
    try:
        yield
    finally:
        for attention, implementation in zip(layers, before, strict=True):
            attention.implementation = implementation


@contextmanager
def _eager(module: Any) -> Iterator[None]:
    """The models of transformers give their weights away only where attention is computed in the plain way."""
    before = getattr(getattr(module, "config", None), "_attn_implementation", None)
    if before is None or not hasattr(module, "set_attn_implementation"):
        yield
        return
    module.set_attn_implementation("eager")
    try:
        yield
    finally:
        module.set_attn_implementation(before)
