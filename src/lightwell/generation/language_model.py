"""A decoder and its tokenizer: text in, text out."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, overload

import torch

from lightwell.arguments import check, shown
from lightwell.errors import SettingError
from lightwell.generation.config import SamplingConfig
from lightwell.generation.generate import Row, generate_tokens
from lightwell.generation.stops import StopStrings
from lightwell.model.decoder import Decoder
from lightwell.settings import Meta
from lightwell.tokens.stream import TextStream
from lightwell.tokens.tokenizer import Tokenizer
from lightwell.views import html, lines

Seed: TypeAlias = Annotated[int, Meta(ge=0)] | None
"""What the draws follow from; None draws anew each time."""


@dataclass(frozen=True, repr=False)
class LanguageModel:
    """A trained model that writes.

    model.generate("Once upon", max_new_tokens=80, temperature=0.8)
    for piece in model.stream("Once upon", seed=1): print(piece, end="", flush=True)
    """

    decoder: Decoder
    tokenizer: Tokenizer

    def __post_init__(self) -> None:
        check("decoder", self.decoder, Decoder)
        check("tokenizer", self.tokenizer, Tokenizer)

    def __repr__(self) -> str:
        return lines("LanguageModel", self._about())

    def _repr_html_(self) -> str:
        return html("LanguageModel", self._about())

    def _about(self) -> list[tuple[str, str]]:
        config, tokenizer = self.decoder.config, self.tokenizer
        heads = f"{config.n_heads} head{'s' if config.n_heads > 1 else ''}"
        return [
            ("model", f"{config.parameter_count():,} parameters: {config.n_layers} x {config.d_model}, {heads}"),
            (
                "context",
                f"{config.context_length:,} tokens, {config.positions} positions, {config.attention} attention",
            ),
            ("tokenizer", f"{tokenizer.kind}, {tokenizer.vocab_size:,} tokens"),
            ("next", '.generate("Once upon", max_new_tokens=80)'),
        ]

    @property
    def device(self) -> torch.device:
        """Return the device that the weights are on."""
        return self.decoder.token_embedding.weight.device

    @property
    def context_length(self) -> int:
        """Return how many tokens the model sees at once; longer texts are seen through a rolling context."""
        return self.decoder.config.context_length

    @overload
    def generate(self, prompt: str = "", *, seed: int | None = None, **settings: Any) -> str: ...
    @overload
    def generate(self, prompt: Sequence[str], *, seed: int | None = None, **settings: Any) -> list[str]: ...
    def generate(
        self, prompt: str | Sequence[str] = "", *, seed: int | None = None, **settings: Any
    ) -> str | list[str]:
        """Continue the prompt, or each of several prompts as one batch; returns only what is new.

        `settings` are fields of SamplingConfig. An empty prompt begins a new document. Row r of a batch draws with
        seed + r, so that it can be repeated alone; without a seed each call draws anew. torch's global generator is
        neither used nor changed, and the decoder's mode (training or evaluation) is put back.

        Raises:
            SettingError: an unknown setting (the nearest valid one is offered) or a value that is not allowed.
        """
        config = sampling_config(settings)
        alone = isinstance(prompt, str)
        prompts = [prompt] if isinstance(prompt, str) else _prompts(prompt)
        seed = check("seed", seed, Seed)
        texts = [""] * len(prompts)
        for row, piece in self._pieces(prompts, seed, config):
            texts[row] += piece
        return texts[0] if alone else texts

    def stream(self, prompt: str = "", *, seed: int | None = None, **settings: Any) -> Iterator[str]:
        """Return the text of `generate` in pieces, each as soon as it is certain.

        A character of several tokens comes in one piece, and nothing that might become a stop string comes before it is
        decided. Arguments and errors as in `generate`.
        """
        config = sampling_config(settings)
        check("prompt", prompt, str)
        seed = check("seed", seed, Seed)
        return (piece for _, piece in self._pieces([prompt], seed, config) if piece)

    def _pieces(self, prompts: list[str], seed: int | None, config: SamplingConfig) -> Iterator[tuple[int, str]]:
        """Yield (row, piece of its text) as the texts of all rows are written."""
        if seed is None:
            seed = int.from_bytes(os.urandom(6), "little")
        end_of_text = self.tokenizer.end_of_text
        rows, texts = [], []
        for index, prompt in enumerate(prompts):
            # end_of_text opens every document that the model was trained on, so it opens the prompt too.
            ids = [end_of_text, *self.tokenizer.encode(prompt).tolist()]
            rows.append(Row(ids, torch.Generator().manual_seed((seed + index) % 2**63)))
            texts.append(_Text(self.tokenizer, config.stop))
        for step in generate_tokens(self.decoder, rows, config, end_of_text):
            for index, token in enumerate(step):
                if token is not None:
                    yield index, texts[index].push(token)
                    rows[index].ended = texts[index].stops.stopped
        for index, text in enumerate(texts):
            yield index, text.flush()


class _Text:
    """The text of one row, which turns new tokens into pieces that can be shown."""

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str]) -> None:
        self.stops = StopStrings(stop)
        self.stream = TextStream(tokenizer)
        # Some tokenizers drop the space of the very first token of a text; these follow a prompt, so one goes before.
        self.stream.push([tokenizer.end_of_text])

    def push(self, token: int) -> str:
        return self.stops.push(self.stream.push([token]))

    def flush(self) -> str:
        return self.stops.push(self.stream.flush()) + self.stops.flush()


def _prompts(given: Any) -> list[str]:
    """Return several prompts as a list.

    Raises:
        SettingError: they are no texts.
    """
    if isinstance(given, bytes) or not isinstance(given, Iterable):
        raise SettingError(f"prompt is {shown(given)}, but must be a text or a list of texts.")
    return [check("prompt", each, str) for each in given]


def sampling_config(settings: dict[str, Any]) -> SamplingConfig:
    """Return the configuration that keyword arguments stand for; `stop` may be one text.

    Raises:
        SettingError: an unknown name (the nearest valid one is offered) or a value that is not allowed.
    """
    if isinstance(settings.get("stop"), str):
        settings = settings | {"stop": (settings["stop"],)}
    return SamplingConfig.from_dict(settings)
