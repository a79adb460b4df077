"""The yardstick: how fast torch multiplies two matrices here.

By itself: `python -m lightwell.bench.contenders.products bf16`.
"""

from __future__ import annotations

import sys

from lightwell.bench.contenders.pacer import Pacer

SIZE = 2048  # rows and columns: large enough to be the CPU's best, small enough for a tenth of a second
FLOPS = 2.0 * SIZE**3
"""FLOPs of one product."""


def run(precision: str) -> None:
    """A step is one product, until the parent has had enough."""
    pacer = Pacer()
    import torch

    matrix = torch.randn(SIZE, SIZE).to({"bf16": torch.bfloat16, "fp32": torch.float32}[precision])
    going = True
    while going:
        torch.mm(matrix, matrix)
        going = pacer.stepped(0.0)


if __name__ == "__main__":
    run(sys.argv[1])
