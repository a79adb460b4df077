"""torch.compile, one region at a time: a block, whose translation serves all layers alike, and the head with the loss.

The whole model in one piece would run at the same speed and take several times as long to translate
(docs/performance.md).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from lightwell.model.decoder import Decoder
from lightwell.training.loss import HeadLoss, head_loss

WORTH_IT = {"cpu": 2e13, "cuda": 5e15, "mps": 1e15}
"""Model FLOPs from which a run gains more by compiling than it waits for it: about two minutes of training.

Measured on a processor (docs/performance.md); estimated for GPUs, on which nothing was measured.
"""


def resolve_compile(choice: str, device: torch.device, flops: float) -> str:
    """on or off; auto compiles a run of that many model FLOPs if it is long enough to pay."""
    return ("on" if flops >= WORTH_IT[device.type] else "off") if choice == "auto" else choice


OPTIONS: dict[str, str | int | bool | Callable[..., Any]] = {"fallback_random": True}
"""Dropout draws the same masks as without compiling; on a processor that is faster, too."""


def compile_for_training(model: Decoder) -> HeadLoss:
    """Make the model's blocks run compiled from now on, and return the compiled loss to go with them.

    Each shape is translated when it first occurs, which takes seconds; none is left dynamic, which would be slower.
    """
    for block in model.layers:
        block.compile(dynamic=False, options=OPTIONS)
    compiled: HeadLoss = torch.compile(head_loss, dynamic=False, options=OPTIONS)
    return compiled


def as_written() -> AbstractContextManager[None]:
    """Within it, compiled code runs as its Python says: for passes too few, or of too many shapes, to translate."""
    stance: AbstractContextManager[None] = torch.compiler.set_stance("force_eager")
    return stance
