"""What fits where, on paper: models from 124 million to 70 billion parameters on 1 to 512 GPUs, in parts (FSDP2).

    python -m lightwell.bench.scale

Nothing here is measured. Memory is counted from what `--parallel fsdp` holds; tokens a second follow from a GPU's
stated figures, a share of its products that is assumed, and the bytes that have to be sent for each step.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass

from lightwell.bench.quality import as_command
from lightwell.model.config import ModelConfig
from lightwell.training.planning.memory import COMPILED, LOGIT, PASSING, saved_bytes
from lightwell.training.planning.plan import flops_per_token
from lightwell.training.settings.config import RunConfig

HELD = 16
"""Bytes for each parameter, shared by all: weight, gradient and two moments in fp32."""
SENT = 3 * 4
"""Bytes for each parameter and step: put together in fp32 for the forward and the backward pass, gradients summed."""
COUNTED_AT = 4096
"""Tokens of context."""
UTILISATION = 0.4
"""The share of the stated FLOP/s that is reached in well-tuned training of such models, as
assumed here (Chowdhery 2022 reports 0.46 for PaLM)."""
ROOM = 0.9
"""The share of a GPU's memory that a model may take; the rest is for what allocators leave between tensors."""


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU by its maker's figures: bytes of memory, bf16 FLOP/s, and bytes/s within and between machines."""

    name: str
    memory: float
    flops: float
    inside: float
    between: float
    each_machine: int = 8


H100 = Gpu("H100 SXM", 80e9, 989e12, 450e9, 50e9)
"""989 TFLOP/s dense bf16, NVLink 4 with 450 GB/s each way, one 400 Gb/s InfiniBand port for each GPU."""

GPUS = (1, 8, 64, 512)


def _llama(n_layers: int, d_model: int, n_heads: int, d_ff: int, context: int, kv_heads: int = 0) -> ModelConfig:
    return ModelConfig(
        vocab_size=32000, context_length=context, n_layers=n_layers, n_heads=n_heads, d_model=d_model, d_ff=d_ff,
        n_kv_heads=kv_heads or n_heads, activation="swiglu", norm="rmsnorm", positions="rope", qk_norm=False,
        tied_head=False,
    )  # fmt: skip


def _gpt2(n_layers: int, d_model: int, n_heads: int) -> ModelConfig:
    return ModelConfig(
        vocab_size=50257, context_length=1024, n_layers=n_layers, n_heads=n_heads, d_model=d_model,
        activation="gelu_tanh", norm="layernorm", positions="learned", qk_norm=False, qkv_bias=True, bias=True,
    )  # fmt: skip


MODELS = {
    "GPT-2 small": _gpt2(12, 768, 12),
    "GPT-2 medium": _gpt2(24, 1024, 16),
    "GPT-2 XL": _gpt2(48, 1600, 25),
    "Llama 2 7B": _llama(32, 4096, 32, 11008, 4096),
    "Llama 2 13B": _llama(40, 5120, 40, 13824, 4096),
    "Llama 2 70B": _llama(80, 8192, 64, 28672, 4096, kv_heads=8),
    "Llama 2 70B, shorter": _llama(80, 8192, 64, 28672, 512, kv_heads=8),
}
"""Shapes as released (Radford 2019, table 2; Touvron 2023b, section 2.2), but for the context of the last one."""


@dataclass(frozen=True)
class Fit:
    """One model on so many GPUs."""

    fixed: float
    """Bytes on each GPU whatever the batch: its part, and what is put together at a time."""
    each: float
    """Bytes that a sequence of a full context keeps."""
    sequences: int
    """Sequences that fit beside what is fixed on each GPU; 0: the model cannot be trained so."""
    tokens_per_second: float
    """Tokens per second of all GPUs together."""


def fit(model: ModelConfig, gpus: int, gpu: Gpu = H100) -> Fit:
    """Return what a model would need, and do, on so many GPUs of a kind."""
    parameters = model.parameter_count()
    fixed = HELD * parameters / gpus + (_put_together(model) if gpus > 1 else 0)
    tokens = model.context_length
    each = _sequence(model)
    sequences = max(0, int((ROOM * gpu.memory - fixed) / each))
    sequences = min(sequences, 64)  # more would make batches that nobody trains with
    link = gpu.inside if gpus <= gpu.each_machine else gpu.between
    sending = SENT * parameters * (gpus - 1) / gpus / link
    computing = sequences * tokens * flops_per_token(model) / (UTILISATION * gpu.flops)
    step = max(sending, computing)  # what is sent for the next block overlaps with computing this one
    return Fit(fixed, each, sequences, gpus * sequences * tokens / step if sequences else 0.0)


@functools.cache
def _sequence(model: ModelConfig) -> float:
    """Return bytes that a sequence of a full context keeps, as memory.py estimates them for a compiled run in bf16.

    Counted at a context for which attention takes the kernel that it takes on a GPU, where all grows with the tokens.
    """
    long = dataclasses.replace(model, context_length=COUNTED_AT)
    saved = (1 + PASSING) * COMPILED * saved_bytes(RunConfig(model=long).with_values({"precision": "bf16"}), 1)
    return model.context_length * (saved / COUNTED_AT + LOGIT * model.vocab_size)


def _put_together(model: ModelConfig) -> float:
    """Return bytes of whole weights that a GPU holds in a pass: two blocks (one computes, the next is on its way) with
    the gradients of one, and all that is outside the blocks, with its gradients.
    """
    total = model.parameter_count()
    outside = model.vocab_size * model.d_model * (1 if model.tied_head else 2)
    block = (total - outside) / model.n_layers
    return 4 * (3 * block + 2 * outside)


def table() -> str:
    """Return the page in Markdown."""
    lines = [
        "| model | parameters | context | " + " | ".join(f"{n} GPU{'s' * (n > 1)}" for n in GPUS) + " |",
        "| --- | ---: | ---: |" + " --- |" * len(GPUS),
    ]
    for name, model in MODELS.items():
        cells = [_cell(fit(model, gpus)) for gpus in GPUS]
        count = model.parameter_count()
        size = f"{count / 1e9:.1f}B" if count >= 1e9 else f"{count / 1e6:.0f}M"
        lines.append(f"| {name} | {size} | {model.context_length:,} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _cell(fitting: Fit) -> str:
    if not fitting.sequences:
        return f"does not fit: {fitting.fixed / 1e9:,.0f} GB each, and {fitting.each / 1e9:,.0f} GB a sequence"
    rate = fitting.tokens_per_second
    shown = f"{rate / 1e6:.1f}M" if rate >= 1e6 else f"{rate / 1e3:,.0f}k"
    sequences = f"{fitting.sequences} sequence{'s' * (fitting.sequences > 1)}"
    return f"{fitting.fixed / 1e9:,.1f} GB each, {sequences}, {shown} tokens/s"


def main() -> None:
    """Print the table of docs/scaling.md."""
    print(table())


if __name__ == "__main__":
    as_command("scale", main)
