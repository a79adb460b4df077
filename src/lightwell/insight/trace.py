"""A trace: one text goes through a model once, and every intermediate of the formula is kept by name.

    trace = lw.trace(model, "The cat sat")
    trace.names                                      tokens, embeddings, layers.0.attention.q, ... logits
    trace["layers.2.attention.weights"]              NamedArray(batch 1, head 4, query 4, key 4; float32)

What is recorded is a copy of what flows; nothing is changed by looking. The logits are the very bits that the model
gives without a trace, for the explicit and for the fused attention (see model/attention.py for how).
"""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from lightwell.arguments import check, checked, shown
from lightwell.errors import SettingError
from lightwell.generation.generate import at_rest
from lightwell.insight.maps import draw
from lightwell.insight.named import NamedArray
from lightwell.model.decoder import Decoder
from lightwell.model.tap import AXES
from lightwell.settings import nearest
from lightwell.tokens.tokenizer import Tokenizer
from lightwell.views import Picture, html, lines

TOKEN_AXES = ("time", "query", "key")
"""The axes along which the positions are the text's tokens."""


class Traceable(Protocol):
    """What can be traced: a decoder with its tokenizer, as `lw.load` gives it."""

    @property
    def decoder(self) -> Decoder:
        """Return the model."""
        ...

    @property
    def tokenizer(self) -> Tokenizer:
        """Return the tokenizer."""
        ...


class Trace(Mapping[str, NamedArray]):
    """The intermediates of one forward pass, by name, in the order in which they arose."""

    def __init__(self, arrays: dict[str, NamedArray], tokens: list[str]) -> None:
        self._arrays = arrays
        self.tokens = tokens
        """The text of each token; the first is the end-of-text token that opens every document."""

    @property
    def names(self) -> list[str]:
        """Return the names of all intermediates."""
        return list(self._arrays)

    @property
    def logits(self) -> NamedArray:
        """Return what the model expects after each token, (batch, time, vocabulary)."""
        return self["logits"]

    def names_matching(self, pattern: str) -> list[str]:
        """Return the names that a pattern with * stands for, e.g. "layers.*.attention.weights"."""
        return fnmatch.filter(self._arrays, pattern)

    def __getitem__(self, name: str) -> NamedArray:
        """Return one intermediate.

        Raises:
            SettingError: there is none of that name; the nearest is offered.
        """
        if name not in self._arrays:
            raise SettingError(f"The trace has nothing named {name}.{nearest(name, self._arrays)}")
        return self._arrays[name]

    def __contains__(self, name: object) -> bool:
        return name in self._arrays

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def plot(self, name: str) -> Picture:
        """Return a picture of an intermediate, e.g. "layers.0.attention.weights": a panel for each head.

        Raises:
            SettingError: there is none of that name, or it has not two or three axes.
        """
        return draw(name, self[name])

    def table(self) -> str:
        """Return the names as a tree, each with the sizes of its axes."""
        tree: list[str] = []
        before: list[str] = []
        for name, array in self._arrays.items():
            parts = name.split(".")
            both = zip(parts, before, strict=False)
            same = len(list(itertools.takewhile(lambda pair: pair[0] == pair[1], both)))
            tree += [f"{'  ' * depth}{parts[depth]}" for depth in range(same, len(parts) - 1)]
            sizes = ", ".join(f"{axis} {size}" for axis, size in array.shape.items())
            tree.append(f"{'  ' * (len(parts) - 1)}{parts[-1].ljust(22 - 2 * len(parts))}{sizes}")
            before = parts[:-1]
        return "\n".join(tree)

    def __repr__(self) -> str:
        return lines(self._title(), self._about())

    def _repr_html_(self) -> str:
        return html(self._title(), self._about())

    def _title(self) -> str:
        return f"Trace({len(self.tokens)} tokens, {len(self)} intermediates)"

    def _about(self) -> list[tuple[str, str]]:
        shown = " ".join(self.tokens[:12]) + (" ..." if len(self.tokens) > 12 else "")
        attention = next(iter(self.names_matching("*.attention.weights")), "")
        about = [("tokens", shown), ("names", ".table() lists them as a tree")]
        return about + ([("picture", f".plot({attention!r})")] if attention else [])


Change = Callable[[Tensor], Tensor]


@checked
def trace(model: Traceable, text: str | Sequence[int], *, changes: Mapping[str, Change] | None = None) -> Trace:
    """Send a text, or token ids as they are, through the model with dropout off, and keep every intermediate.

    changes: functions that replace an intermediate, by name or by a pattern with *, e.g. {"layers.0.attention.output":
    torch.zeros_like}; what is computed from it changes with it, and the trace has the changed values.

    An end-of-text token opens a text, as it opens every document in training. The model's mode comes back afterwards;
    no gradient is kept, and no random stream is touched.

    Raises:
        SettingError: more tokens than the context length, none at all, an id that is not in the vocabulary, or a
            change of something that the model does not compute.
    """
    if not (hasattr(model, "tokenizer") and hasattr(model, "decoder")):
        raise SettingError(f"model is {shown(model)}, but must be what lw.load gives.")
    tokenizer, decoder = model.tokenizer, model.decoder
    ids = text if isinstance(text, str) else [check("text", token, int) for token in text]
    ids = [tokenizer.end_of_text, *tokenizer.encode(ids).tolist()] if isinstance(ids, str) else ids
    if not ids:
        raise SettingError("There are no token ids to trace; give at least one.")
    V = decoder.config.vocab_size
    for token in ids:
        if not 0 <= token < V:
            raise SettingError(f"{token} is no token id of this model; there are {V:,}, from 0.")
    for pattern, change in (changes or {}).items():
        if not callable(change):
            raise SettingError(f"The change of {pattern} is {shown(change)}, but must be a function of a tensor.")
    texts = [tokenizer.token_text(token) for token in ids]
    arrays: dict[str, NamedArray] = {}
    met: set[str] = set()

    def record(name: str, value: Tensor) -> Tensor:
        axes = AXES[name.rpartition(".")[2]]
        labels = {axis: texts for axis in axes if axis in TOKEN_AXES}
        for pattern, change in (changes or {}).items():
            if fnmatch.fnmatchcase(name, pattern):
                before, value = value, change(value)
                if not isinstance(value, Tensor) or (value.shape, value.dtype) != (before.shape, before.dtype):
                    kind = str(before.dtype).removeprefix("torch.")
                    raise SettingError(
                        f"The change of {name} must return a tensor of the shape {tuple(before.shape)} and type {kind}."
                    )
                met.add(pattern)
                if name == "tokens" and not bool(((value >= 0) & (value < V)).all()):
                    raise SettingError(
                        f"The change of tokens gives ids that this model has not; there are {V:,}, from 0."
                    )
        arrays[name] = NamedArray(value.detach().clone(), axes, labels)
        return value

    with at_rest(decoder):
        decoder(torch.tensor([ids], device=decoder.token_embedding.weight.device), tap=record)
    for pattern in changes or {}:
        if pattern not in met:
            raise SettingError(f"This model computes nothing named {pattern}.{nearest(pattern, arrays)}")
    return Trace(arrays, texts)
