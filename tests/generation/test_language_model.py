"""The model as its user meets it: text in, text out, whole or as a stream, alone or in a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import tokenizers
import torch
import torch.nn.functional as F
from torch import Tensor

from lightwell.errors import SettingError
from lightwell.generation.context import context_start
from lightwell.generation.language_model import LanguageModel
from lightwell.model.cache import KVCache
from lightwell.model.config import ModelConfig
from lightwell.model.decoder import Decoder
from lightwell.model.tap import Tap, passthrough
from lightwell.text.config import TextConfig
from lightwell.tokens.tokenizer import Tokenizer, make_tokenizer

LENGTH = 12
TOKENIZER = make_tokenizer(TextConfig(tokenizer="byte"), 0, [])
END = TOKENIZER.end_of_text
MODELS: dict[str, dict[str, Any]] = {
    "learned": {"positions": "learned"},
    "rope": {"positions": "rope"},
    "sliding window": {"attention_window": 5},
}
PROMPTS = ["", "a", "abcdef", "longer than the whole context"]


def language_model(**settings: Any) -> LanguageModel:
    """Random weights, large enough for lively text, and a head that never ends it."""
    tiny = {"vocab_size": TOKENIZER.vocab_size, "context_length": LENGTH, "d_model": 16, "n_heads": 2, "n_layers": 2}
    decoder = Decoder(ModelConfig(**(tiny | {"tied_head": False} | settings)), seed=3).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    return LanguageModel(decoder, TOKENIZER)


class Scripted(Decoder):
    """Is sure of one token after another, whatever it reads."""

    def __init__(self, script: Sequence[int], vocab_size: int) -> None:
        super().__init__(ModelConfig(vocab_size=vocab_size, context_length=200, d_model=4, n_heads=1, n_layers=1))
        self.script = list(script)
        self.asked = 0

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
        assert cache is not None
        cache.advance(documents, tokens.size(1))
        self.asked += 1
        return torch.full((1, tokens.size(1), 1), self.script[self.asked - 1])

    def head(self, x: Tensor) -> Tensor:
        return 100.0 * F.one_hot(x[:, 0], self.config.vocab_size)


def scripted(script: Sequence[int] | str, tokenizer: Tokenizer = TOKENIZER) -> LanguageModel:
    ids = tokenizer.encode(script).tolist() if isinstance(script, str) else list(script)
    return LanguageModel(Scripted([*ids, tokenizer.end_of_text], tokenizer.vocab_size), tokenizer)


# The same text by every way ------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("name", MODELS)
def test_law_08_greedy_text_is_that_of_a_plain_loop_without_cache(name: str) -> None:
    model = language_model(**MODELS[name])
    for prompt in PROMPTS:
        ids = [END, *TOKENIZER.encode(prompt).tolist()]
        written: list[int] = []
        while len(written) < 25:
            logits = model.decoder(torch.tensor([ids[context_start(len(ids), LENGTH) :]]))[0, -1]
            if (token := int(logits.argmax())) == END:
                break
            ids.append(token)
            written.append(token)
        assert model.generate(prompt, temperature=0, max_new_tokens=25) == TOKENIZER.decode(written)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_of_a_batch_is_what_it_is_alone(name: str, temperature: float) -> None:
    model = language_model(**MODELS[name])
    settings: dict[str, Any] = {"temperature": temperature, "max_new_tokens": 25, "stop": ["e", "Q"]}
    together = model.generate(PROMPTS, seed=7, **settings)
    alone = [model.generate(prompt, seed=7 + row, **settings) for row, prompt in enumerate(PROMPTS)]
    assert together == alone
    assert len({len(text) for text in together}) > 1 or temperature == 0  # rows end at different steps


@pytest.mark.parametrize("prompt", PROMPTS)
def test_stream_is_generate_in_pieces(prompt: str) -> None:
    model = language_model()
    pieces = list(model.stream(prompt, seed=5, max_new_tokens=40, temperature=1.5))
    assert "".join(pieces) == model.generate(prompt, seed=5, max_new_tokens=40, temperature=1.5)
    assert all(pieces)


def test_no_prompts_give_no_texts() -> None:
    assert language_model().generate([]) == []


def test_a_document_is_opened_before_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    model = language_model()
    read: list[list[int]] = []
    hidden = model.decoder.hidden

    def watched(tokens: Tensor, **others: Any) -> Tensor:
        assert not torch.is_grad_enabled()
        read.append(tokens[0].tolist())
        return hidden(tokens, **others)

    monkeypatch.setattr(model.decoder, "hidden", watched)
    model.generate("", max_new_tokens=1)
    model.generate("hi", max_new_tokens=1)
    assert read == [[END], [END, *TOKENIZER.encode("hi").tolist()]]


# Seeds and states ----------------------------------------------------------------------------------------------------


def test_seed_repeats_and_no_seed_does_not() -> None:
    model = language_model()

    def write(seed: int | None = None) -> str:
        return model.generate("x", seed=seed, max_new_tokens=20, temperature=1.0)

    assert write(1) == write(1)
    assert write(1) != write(2)
    assert write() != write()
    assert write(2**80) == write(2**80)
    together = model.generate(["x", "x"], seed=1, max_new_tokens=20)
    assert together[0] != together[1]


@pytest.mark.parametrize("stream", [False, True])
def test_nothing_else_is_changed(stream: bool) -> None:
    model = language_model(embedding_dropout=0.5, attention_dropout=0.5, residual_dropout=0.5)
    calm = model.generate("x", seed=1)
    model.decoder.train()
    model.decoder.layers[0].eval()  # as someone who freezes a block would have it
    modes = [module.training for module in model.decoder.modules()]
    torch.manual_seed(11)
    before = torch.get_rng_state()
    if stream:
        pieces = model.stream("x", seed=1)
        text = next(pieces)
        assert [module.training for module in model.decoder.modules()] == modes  # between two pieces too
        assert torch.is_grad_enabled()
        text += "".join(pieces)
    else:
        text = model.generate("x", seed=1)
    assert text == calm  # no dropout
    assert [module.training for module in model.decoder.modules()] == modes
    assert torch.equal(torch.get_rng_state(), before)
    assert all(parameter.grad is None for parameter in model.decoder.parameters())
    assert model.decoder.forward(torch.tensor([[1, 2]])).requires_grad  # training goes on as before


def test_modes_are_put_back_after_a_failure() -> None:
    model = language_model()
    model.decoder.train()
    with torch.no_grad():
        next(model.decoder.parameters()).fill_(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        model.generate("x")
    assert all(module.training for module in model.decoder.modules())


def test_half_precision_weights_write_too() -> None:
    model = language_model()
    model.decoder.to(torch.bfloat16)
    assert isinstance(model.generate(["x", "longer"], seed=1, max_new_tokens=20)[1], str)


def test_where_it_computes_and_how_far_it_sees() -> None:
    model = language_model()
    assert model.device == torch.device("cpu")
    assert model.context_length == LENGTH


# Ends ----------------------------------------------------------------------------------------------------------------


def test_knob_max_new_tokens() -> None:
    assert scripted("one two three").generate(max_new_tokens=5) == "one t"
    assert scripted("one two three").generate(max_new_tokens=1) == "o"
    assert scripted("one two three").generate(max_new_tokens=999) == "one two three"


def test_the_end_of_text_token_ends_the_text() -> None:
    model = scripted([*TOKENIZER.encode("all").tolist(), END, *TOKENIZER.encode(" of it").tolist()])
    assert model.generate() == "all"


@pytest.mark.parametrize("stop", ["\n\n", ["zzz", "\n\n"], ("\n\nB", "\n\n")])
def test_knob_stop_cuts_a_stop_string_split_over_tokens(stop: str | Sequence[str]) -> None:
    assert scripted("A: yes\nand no\n\nB: what").generate(stop=stop) == "A: yes\nand no"
    assert list(scripted("A\nB\n\nC").stream(stop=stop)) == ["A", "\nB"]


def test_knob_stop_neutral() -> None:
    text = "A: yes\nand no\n\nB: what"
    assert scripted(text).generate(stop=()) == text
    assert scripted(text).generate(stop="never") == text
    assert scripted("almost ##").generate(stop="###") == "almost ##"  # what was held back comes at the end


def test_no_token_is_computed_after_a_stop_string() -> None:
    model = scripted("one. two. three.")
    assert model.generate(stop=".") == "one"
    assert isinstance(model.decoder, Scripted)
    assert model.decoder.asked == 4


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(SettingError, match="empty text"):
        language_model().generate("x", stop="")


def test_knob_repetition_penalty_does_not_keep_a_text_from_ending() -> None:
    # The penalty would make any token that counts as seen as unlikely as all others; end_of_text opens every text.
    assert scripted("abc").generate(repetition_penalty=1e6, temperature=1.0, seed=1) == "abc"


def test_knob_repetition_penalty_counts_prompt_and_text() -> None:
    model = language_model()
    plain = model.generate("abc", temperature=0, max_new_tokens=60)
    penalised = model.generate("abc", temperature=0, max_new_tokens=60, repetition_penalty=1e6)
    assert len(set(penalised)) > len(set(plain))
    assert not set("abc") & set(penalised)
    assert model.generate("abc", temperature=0, max_new_tokens=60, repetition_penalty=1.0) == plain


# Characters ----------------------------------------------------------------------------------------------------------


def test_characters_of_several_tokens_come_whole() -> None:
    text = "né 漢字 👩‍🚀!"
    assert list(scripted(text).stream()) == list(text)
    assert list(scripted(text).stream(stop="字")) == list("né 漢")


def test_a_character_cut_by_the_end_is_shown_as_such() -> None:
    assert scripted("a漢").generate(max_new_tokens=3) == "a\ufffd"
    broken = scripted(
        [*TOKENIZER.encode("a").tolist(), int(TOKENIZER.encode("漢")[0]), *TOKENIZER.encode("b").tolist()]
    )
    assert list(broken.stream()) == ["a", "\ufffdb"]


def test_the_space_between_prompt_and_text_is_kept() -> None:
    words = {"</s>": 0, "▁Once": 1, "▁upon": 2, "▁a": 3}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="</s>"))
    backend.add_special_tokens(["</s>"])
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace()
    backend.decoder = tokenizers.decoders.Metaspace()
    model = scripted([2, 3], Tokenizer(backend, "</s>"))
    assert model.generate("Once") == " upon a"
    assert list(scripted([2, 3], Tokenizer(backend, "</s>")).stream("Once")) == [" upon", " a"]


# Settings ------------------------------------------------------------------------------------------------------------


def test_an_unknown_setting_offers_the_nearest() -> None:
    with pytest.raises(SettingError, match=r"no setting named temprature.*Did you mean temperature"):
        language_model().generate("x", temprature=1)
    with pytest.raises(SettingError, match="top_p is 7"):
        language_model().stream("x", top_p=7)  # at the call, not at the first piece


@pytest.mark.parametrize(
    "settings", [{"temperature": 3.0}, {"top_k": 1}, {"top_p": 0.01}, {"min_p": 0.9}, {"repetition_penalty": 5.0}]
)
def test_every_sampling_setting_reaches_the_text(settings: dict[str, Any]) -> None:
    model = language_model()
    neutral = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0}
    neutral["max_new_tokens"] = 30
    plain = model.generate("x", seed=1, temperature=1.0, max_new_tokens=30)
    assert model.generate("x", seed=1, **neutral) == plain
    assert model.generate("x", seed=1, **(neutral | settings)) != plain
