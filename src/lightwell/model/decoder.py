"""The decoder: tokens -> embeddings -> n_layers x (attention, feed-forward) -> norm -> logits.

Shapes: B batch, T time, S time that can be seen, D model, V vocabulary, L context length.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from lightwell.arguments import check
from lightwell.errors import SettingError
from lightwell.model.attention import Attention, AttentionMask, additive_mask
from lightwell.model.blockwise import use_blockwise
from lightwell.model.cache import KVCache, LayerCache
from lightwell.model.config import ModelConfig
from lightwell.model.dropout import Dropout
from lightwell.model.feed_forward import FeedForward
from lightwell.model.layers import Embedding, Linear, make_norm, project
from lightwell.model.positions import Rotation, rotation_table, rotations_at
from lightwell.model.tap import Tap, passthrough, under


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)): pre-norm residual branches."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = make_norm(config)
        self.attention = Attention(config)
        self.feed_forward_norm = make_norm(config)
        self.feed_forward = FeedForward(config)
        self.dropout = Dropout(config.residual_dropout)

    def forward(
        self, x: Tensor, attention_mask: AttentionMask, rotation: Rotation | None, cache: LayerCache | None, tap: Tap
    ) -> Tensor:
        """x (B, T, D) -> (B, T, D)."""
        normed = tap("attention.input", self.attention_norm(x))
        x = x + self.dropout(self.attention(normed, attention_mask, rotation, cache, under(tap, "attention")))
        x = tap("residual_middle", x)
        normed = tap("feed_forward.input", self.feed_forward_norm(x))
        x = x + self.dropout(self.feed_forward(normed, under(tap, "feed_forward")))
        return tap("residual", x)


LONGEST_TABLE = 2048
"""Tokens up to which the mask and the rotations are kept as buffers: 4 MB of mask."""


class Decoder(nn.Module):
    """A GPT, as its `ModelConfig` describes it."""

    causal_mask: Tensor
    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig, seed: int = 1) -> None:
        """Build and initialise; `seed` is the initialisation's own random stream.

        Raises:
            SettingError: vocab_size is still 0, or the weights are more than the machine's whole memory.
        """
        super().__init__()
        check("config", config, ModelConfig)
        if not config.vocab_size:
            raise SettingError("vocab_size is 0; a model needs the size of its tokenizer's vocabulary.")
        refuse_too_large(config)
        self.config = config
        self.token_embedding = Embedding(config.vocab_size, config.d_model)
        learned = config.positions == "learned"
        self.position_embedding = Embedding(config.context_length, config.d_model) if learned else None
        self.embedding_dropout = Dropout(config.embedding_dropout)
        self.layers = nn.ModuleList(Block(config) for _ in range(config.n_layers))
        self.norm = make_norm(config)
        # A tied head is the token embedding itself, so there is no second tensor to keep in step with it.
        self.unembedding = None if config.tied_head else Linear(config.d_model, config.vocab_size, bias=False)
        self.make_buffers()
        self.blocks_are_compiled = False
        self.initialise(seed)

    def compile_blocks(self, **options: Any) -> None:
        """Run the blocks compiled from now on, with these options of torch.compile; one translation serves them all."""
        for block in self.layers:
            block.compile(**options)
        self.blocks_are_compiled = True

    def make_buffers(self) -> None:
        """Make what is neither learned nor saved: the mask, and the table of rotations.

        Buffers move with the model (device, dtype) but are no parameters; non-persistent ones are in no file, so a
        checkpoint is not tied to one context length. One mask serves all layers. Both reach as far as LONGEST_TABLE:
        what is further costs what the tokens in hand cost, at any context length.
        """
        config = self.config
        length = min(config.context_length, LONGEST_TABLE)
        self.register_buffer("causal_mask", causal_mask(length, config.attention_window), persistent=False)
        if config.positions == "rope":
            table = rotation_table(length, config.head_width, config.rope_base)
            self.register_buffer("cos", table.cos, persistent=False)
            self.register_buffer("sin", table.sin, persistent=False)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Give all weights the values that `initial_weights` draws; on the meta device there is nothing to give."""
        if self.token_embedding.weight.is_meta:
            return
        for parameter, values in self.initial_weights(seed):
            parameter.copy_(values)

    def initial_weights(self, seed: int) -> Iterator[tuple[nn.Parameter, Tensor]]:
        """Yield each weight with its first values, drawn from N(0, init_std^2); biases are 0 and gains 1.

        Two kinds are smaller. Projections into the residual stream by sqrt(2 n_layers), since so many branches add up
        there (GPT-2, section 2.3). Embeddings and head so that logits, sums of D products with a normed x, start with a
        standard deviation of at most 0.3: the untrained loss is then within 0.3^2 / 2 = 0.05 of ln V at any width
        (law 1).
        """
        std, D = self.config.init_std, self.config.d_model
        into_residual = std / math.sqrt(2 * self.config.n_layers)
        embedding = min(std, 0.3 / math.sqrt(D))
        generator = torch.Generator().manual_seed(seed)
        for name, parameter in self.named_parameters():
            values = torch.empty(parameter.shape, device="cpu")
            if name.endswith("bias"):
                values.zero_()
            elif parameter.dim() == 1:  # a norm's gain
                values.fill_(1.0)
            elif name.endswith(("output.weight", "down.weight")):
                values.normal_(0.0, into_residual, generator=generator)
            elif "embedding" in name:
                values.normal_(0.0, embedding, generator=generator)
            else:
                values.normal_(0.0, std, generator=generator)
            yield parameter, values

    def forward(
        self,
        tokens: Tensor,
        *,
        documents: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
        dtype: torch.dtype | None = None,
        tap: Tap = passthrough,
    ) -> Tensor:
        """Return logits (B, T, V) for the token after each of tokens (B, T).

        documents (B, T): tokens attend only to tokens of the same id. positions (B, T): where each token stands,
        0 ... T-1 (after the cache's tokens) by default. cache: earlier tokens' keys and values; the new ones join it.
        dtype: of the residual stream and all products, that of the weights by default; a cache must be of the same one.
        Norms and rotations are in the dtype of the weights (fp32 in training), softmax in fp32 at least.

        Raises:
            SettingError: more tokens than the context length.
        """
        x = self.hidden(tokens, documents=documents, positions=positions, cache=cache, dtype=dtype, tap=tap)
        return tap("logits", self.head(x))

    def hidden(
        self,
        tokens: Tensor,
        *,
        documents: Tensor | None = None,
        positions: Tensor | None = None,
        cache: KVCache | None = None,
        dtype: torch.dtype | None = None,
        tap: Tap = passthrough,
    ) -> Tensor:
        """Return the normed end of the residual stream, (B, T, D), which `head` makes logits of.

        The arguments are those of `forward`.
        """
        T, past = tokens.size(1), cache.length if cache else 0
        if past + T > self.config.context_length:
            raise SettingError(
                f"{past + T} tokens do not fit the context_length of {self.config.context_length}; "
                "give fewer, or load the model with a longer context_length."
            )
        if cache:
            cache.reserve(T)
        if documents is None and cache and cache.has_documents:  # padding stays unseen also without being named again
            documents = torch.zeros_like(tokens)
        x = self._embed(tap("tokens", tokens), past, positions, tap)
        x = tap("embeddings", self.embedding_dropout(x if dtype is None else x.to(dtype)))
        attention_mask = self._attention_mask(x, documents, cache)
        rotation = self._rotation(T, past, positions)
        for index, block in enumerate(self.layers):
            layer_cache = cache.layer(index) if cache else None
            x = block(x, attention_mask, rotation, layer_cache, under(tap, f"layers.{index}"))
        if cache:
            cache.advance(documents, T)
        return tap("normed", self.norm(x))

    def head(self, x: Tensor) -> Tensor:
        """(..., D) -> logits (..., V)."""
        return project(x, self.token_embedding.weight if self.unembedding is None else self.unembedding.weight)

    def _embed(self, tokens: Tensor, past: int, positions: Tensor | None, tap: Tap) -> Tensor:
        """(B, T) -> (B, T, D)."""
        x: Tensor = tap("token_embeddings", self.token_embedding(tokens))
        if self.position_embedding is not None:
            if positions is None:
                positions = torch.arange(past, past + tokens.size(1), device=tokens.device).unsqueeze(0)
            x = x + tap("position_embeddings", self.position_embedding(positions))
        return x

    def _rotation(self, T: int, past: int, positions: Tensor | None) -> Rotation | None:
        """Return the angles of the new tokens, (T, K) or, for positions of their own in each row, (B, 1, T, K)."""
        if self.config.positions != "rope":
            return None
        in_table = past + T <= len(self.cos)
        if positions is None and in_table:
            return Rotation(self.cos[past : past + T], self.sin[past : past + T])
        if positions is None:
            positions = torch.arange(past, past + T)
        elif len(self.cos) == self.config.context_length:
            return Rotation(self.cos[positions].unsqueeze(1), self.sin[positions].unsqueeze(1))
        cos, sin = rotations_at(positions, self.config.head_width, self.config.rope_base)
        cos, sin = cos.to(self.cos), sin.to(self.sin)
        return Rotation(cos, sin) if cos.dim() == 2 else Rotation(cos.unsqueeze(1), sin.unsqueeze(1))

    def _attention_mask(self, x: Tensor, documents: Tensor | None, cache: KVCache | None) -> AttentionMask:
        """Return which of the S tokens so far, themselves included, the T new ones, x (B, T, D), may attend to."""
        T, past = x.size(1), cache.length if cache else 0
        if past + T <= len(self.causal_mask):
            mask = self.causal_mask[past : past + T, : past + T]  # (T, S)
        else:
            mask = causal_rows(past, T, self.config.attention_window, x.device)  # (T, S)
        if documents is not None:
            keys = documents if cache is None else torch.cat((cache.documents[:, :past], documents), dim=1)  # (B, S)
            mask = mask & (documents[:, None, :, None] == keys[:, None, None, :])  # (B, 1, T, S)
        if self.blocks_are_compiled and use_blockwise(x, past + T):
            mask = additive_mask(mask, torch.float32)  # once, and outside of compiled code: see blockwise.py
        return AttentionMask(mask, is_causal=documents is None and not self.config.attention_window)


def causal_mask(context_length: int, window: int = 0) -> Tensor:
    """(L, L) bool, True where query i may see key j: j <= i, and i - j < window where there is one."""
    mask = torch.ones(context_length, context_length, dtype=torch.bool).tril_()
    return mask & ~mask.tril(-window) if window else mask


def causal_rows(past: int, T: int, window: int, device: torch.device) -> Tensor:
    """(T, past + T) bool: the rows of `causal_mask` from `past` on, made without those before them."""
    queries = torch.arange(past, past + T, device=device)[:, None]
    keys = torch.arange(past + T, device=device)
    mask = keys <= queries
    return mask & (queries - keys < window) if window else mask


def refuse_too_large(config: ModelConfig) -> None:
    """Make sure that the weights could be held at all; on the meta device, where several processes may share them, that
    a thousand machines could.

    Raises:
        SettingError: they could not.
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 1 << 46
    counted_only = torch.get_default_device().type == "meta" or type(torch.empty(0)) is not Tensor
    machines = 1000 if counted_only else 1
    parameters = config.parameter_count()
    if 4 * parameters > memory * machines:
        raise SettingError(
            f"A model of {parameters:.3g} parameters takes {4 * parameters / 1e9:,.3g} GB, and this machine has "
            f"{memory / 1e9:,.3g} GB; make n_layers ({config.n_layers:,}), d_model ({config.d_model:,}) or another "
            "of its sizes smaller."
        )
