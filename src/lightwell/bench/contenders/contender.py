"""The contenders that there are, and the command that starts each."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lightwell.bench.contenders.shapes import Shape
from lightwell.errors import SettingError
from lightwell.settings import nearest

OURS: dict[str, str] = {
    "lightwell": "the parts of GPT-2, bf16 where the hardware has it, compiled",
    "lightwell-own": "its own default parts (rope, rmsnorm, qk_norm, relu2, no biases), otherwise the same",
    "lightwell-eager": "as lightwell, not compiled",
    "lightwell-fp32": "as lightwell, fp32 and not compiled",
    "lightwell-fp32-compiled": "as lightwell, fp32",
}
"""Lightwell's variants."""

NANOGPT: dict[str, str] = {
    "nanogpt": "train.py as its README runs it on a CPU: fp32, not compiled",
    "nanogpt-bf16": "the same with the autocast to bf16 that it has for GPUs",
}
PACKAGES: dict[str, str] = {
    "transformers": "GPT2LMHeadModel in a plain loop: fp32, not compiled",
    "transformers-compiled-bf16": "the same with torch.compile, autocast to bf16 and fused AdamW",
    "transformers-trainer-bf16": "GPT2LMHeadModel in Trainer with bf16=True",
    "llms-from-scratch": "GPTModel in the training loop of chapter 5: fp32, not clipped, head not tied",
    "litgpt": "litgpt pretrain's default on a CPU: bf16-mixed, compiled",
}
ALL = {**OURS, **NANOGPT, **PACKAGES}

ALONE = ("lightwell", "lightwell-eager", "lightwell-fp32")
"""The contenders without peers: what bf16 and compilation bring on this machine."""
AMONG_PEERS = ("lightwell", "lightwell-own")


@dataclass(frozen=True)
class Contender:
    """A process to start: `command` followed by the shape, where it takes one."""

    name: str
    what: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Peers:
    """Where the peers are, as far as the user has them."""

    python: str = ""
    """A Python that has their packages; empty: none."""
    nanogpt: str = ""
    """A checkout of nanoGPT; empty: none."""

    def check(self) -> None:
        """Raise a SettingError where something given is not there."""
        if self.python and not shutil.which(self.python):
            raise SettingError(f"--peers is {self.python}, which is no Python that can be run; `make bench` makes one.")
        if self.nanogpt and not (Path(self.nanogpt) / "model.py").is_file():
            raise SettingError(f"--nanogpt is {self.nanogpt}, which is no checkout of nanoGPT: it has no model.py.")


def choose(names: Sequence[str], peers: Peers) -> list[str]:
    """Return the names as given, or, without any, Lightwell and all peers that can be run.

    The first is the baseline, with which the others are compared.

    Raises:
        SettingError: a name that there is not, or a peer whose place was not given.
    """
    peers.check()
    for name in names:
        if name not in ALL:
            raise SettingError(f"There is no contender {name}; there are {', '.join(ALL)}.{nearest(name, ALL)}")
        if name in PACKAGES and not peers.python:
            raise SettingError(f"{name} needs --peers PYTHON, a Python that has it; `make bench` makes one.")
        if name in NANOGPT and not peers.nanogpt:
            raise SettingError(f"{name} needs --nanogpt PATH, a checkout of it.")
    if not names:
        with_peers = bool(peers.python or peers.nanogpt)
        names = [
            *(AMONG_PEERS if with_peers else ALONE),
            *(NANOGPT if peers.nanogpt else ()),
            *(PACKAGES if peers.python else ()),
        ]
    return list(dict.fromkeys(names))


def command_of(name: str, shape: Shape, peers: Peers) -> Contender:
    """Return how to start a contender that `choose` has let through."""
    if name in OURS:
        module = "lightwell.bench.contenders.worker"
        return Contender(name, OURS[name], (sys.executable, "-m", module, name, shape.to_json()))
    script = str(Path(__file__).with_name("peers.py"))
    where = (peers.nanogpt,) if name in NANOGPT else ()
    return Contender(name, ALL[name], (peers.python or sys.executable, script, name, shape.to_json(), *where))


def products(precision: str) -> Contender:
    """Return the bare matrix product in a precision."""
    module = "lightwell.bench.contenders.products"
    return Contender(f"product-{precision}", "torch.mm", (sys.executable, "-m", module, precision))
