"""The shape of the decoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from lightwell.errors import SettingError
from lightwell.settings import Meta, Settings

Activation = Literal["relu", "relu2", "gelu", "gelu_tanh", "silu", "swiglu", "geglu", "reglu"]
GATED: frozenset[str] = frozenset({"swiglu", "geglu", "reglu"})


@dataclass(frozen=True)
class ModelConfig(Settings):
    """A decoder: embeddings, n_layers blocks of attention and feed-forward, a norm, and a head."""

    vocab_size: Annotated[int, Meta(ge=0)] = 0
    """Tokens in the vocabulary: bpe is trained to it (0 chooses by the size of the text), other tokenizers set it."""
    context_length: Annotated[int, Meta(ge=1)] = 256
    """Tokens that the model sees at once."""
    n_layers: Annotated[int, Meta(ge=1)] = 4
    """Blocks, one after another."""
    n_heads: Annotated[int, Meta(ge=1)] = 4
    """Attention heads in each block."""
    n_kv_heads: Annotated[int, Meta(ge=0)] = 0
    """Heads of keys and values, shared by groups of query heads. 0 means as many as n_heads."""
    d_model: Annotated[int, Meta(ge=1)] = 256
    """Width of the residual stream."""
    head_dim: Annotated[int, Meta(ge=0)] = 0
    """Width of one head. 0 means d_model / n_heads."""
    d_ff: Annotated[int, Meta(ge=0)] = 0
    """Hidden width of the feed-forward. 0 means 4 x d_model, or two thirds of that for gated activations."""
    activation: Activation = "relu2"
    """The feed-forward's nonlinearity; swiglu, geglu and reglu gate it with a second projection."""
    norm: Literal["layernorm", "rmsnorm"] = "rmsnorm"
    """The normalisation before each branch and before the head."""
    norm_epsilon: Annotated[float, Meta(gt=0.0)] = 1e-5
    """Added to the variance inside the normalisation."""
    positions: Literal["learned", "rope", "none"] = "rope"
    """How the model knows where a token stands: a learned vector, a rotation of queries and keys, or not at all."""
    rope_base: Annotated[float, Meta(gt=1.0)] = 10000.0
    """The base of the rotation's wavelengths (rope only)."""
    attention: Literal["explicit", "fused"] = "fused"
    """The readable formula, line by line, or what is fastest, torch's scaled_dot_product_attention mostly."""
    attention_window: Annotated[int, Meta(ge=0)] = 0
    """How many tokens, itself included, each token attends to. 0 means all before it."""
    qk_norm: bool = True
    """Whether queries and keys are normalised in each head before their dot product."""
    qkv_bias: bool = False
    """Whether the projections to queries, keys and values have a bias."""
    bias: bool = False
    """Whether the other projections of a block, and a layernorm, have a bias."""
    tied_head: bool = True
    """Whether the head that gives logits is the token embedding itself."""
    embedding_dropout: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    """Share of the embeddings' values set to 0 in training."""
    attention_dropout: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    """Share of the attention weights set to 0 in training."""
    residual_dropout: Annotated[float, Meta(ge=0.0, lt=1.0)] = 0.0
    """Share of each branch's output set to 0 in training, before it joins the residual stream."""
    init_std: Annotated[float, Meta(gt=0.0)] = 0.02
    """Standard deviation of the initial weights; see Decoder.initial_weights for the two exceptions."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.head_dim and self.d_model % self.n_heads:
            raise SettingError(
                f"n_heads is {self.n_heads}, which does not divide d_model {self.d_model}; "
                f"choose one that does ({_divisors(self.d_model)}) or set head_dim."
            )
        if self.n_kv_heads and self.n_heads % self.n_kv_heads:
            raise SettingError(
                f"n_kv_heads is {self.n_kv_heads}, which does not divide n_heads {self.n_heads}; "
                f"choose one of {_divisors(self.n_heads)}."
            )
        if self.positions == "rope" and self.head_width % 2:
            raise SettingError(
                f"head_dim is {self.head_width}, but rope turns pairs of dimensions; "
                "choose an even head_dim or positions learned or none."
            )

    @property
    def head_width(self) -> int:
        """K, the width of one head."""
        return self.head_dim or self.d_model // self.n_heads

    @property
    def kv_heads(self) -> int:
        """Heads of keys and values."""
        return self.n_kv_heads or self.n_heads

    @property
    def ff_width(self) -> int:
        """Hidden width of the feed-forward; gated ones have three matrices instead of two, so two thirds."""
        if self.d_ff:
            return self.d_ff
        return 8 * max(1, round(self.d_model / 3)) if self.activation in GATED else 4 * self.d_model

    @property
    def gated(self) -> bool:
        """Return whether the activation is gated by a second projection."""
        return self.activation in GATED

    @property
    def norm_bias(self) -> bool:
        """Return whether norms have a shift: layernorm does where bias is on, rmsnorm never has."""
        return self.bias and self.norm == "layernorm"

    def parameter_count(self) -> int:
        """Trainable parameters by the formula; a test holds it against the built model (law 12)."""
        D, K, F, V = self.d_model, self.head_width, self.ff_width, self.vocab_size
        norm = D * (1 + self.norm_bias)
        qkv = (self.n_heads + 2 * self.kv_heads) * K
        attention = D * qkv + self.qkv_bias * qkv + self.n_heads * K * D + self.bias * D + self.qk_norm * 2 * K
        feed_forward = (2 + self.gated) * D * F + self.bias * ((1 + self.gated) * F + D)
        embeddings = V * D + (self.context_length * D if self.positions == "learned" else 0)
        head = 0 if self.tied_head else V * D
        return embeddings + self.n_layers * (2 * norm + attention + feed_forward) + norm + head


def _divisors(number: int) -> str:
    return ", ".join(str(d) for d in range(1, min(number, 64) + 1) if number % d == 0)
