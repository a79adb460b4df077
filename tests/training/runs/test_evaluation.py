"""Scores, against probabilities that are known and against one target scored after another."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from decoders import V, decoder, text
from lightwell.batches.evaluation import evaluation_batches
from lightwell.model.config import ModelConfig
from lightwell.model.decoder import Decoder
from lightwell.text.config import TextConfig
from lightwell.tokens.token_file import TokenFile
from lightwell.tokens.tokenizer import make_tokenizer
from lightwell.training.runs.evaluation import Evaluation, evaluate, true_byte_lengths
from paths import needs

N, L = 41, 12
OFFSETS = [0, 5, 6, 30, N - 1]
"""Documents shorter and longer than a window, and an empty one."""


def stream() -> TokenFile:
    """Random ids with end-of-text tokens, id 0, where documents begin and after the last."""
    ids = text(1, N)[0].numpy().clip(1)
    ids[OFFSETS] = 0
    return TokenFile.from_ids(ids, vocab_size=V, end_of_text=0, offsets=OFFSETS)


def constant(probabilities: list[float]) -> Decoder:
    """A model that gives every token the same probability everywhere: its last norm lets only its shift through."""
    model = Decoder(
        ModelConfig(
            vocab_size=len(probabilities),
            context_length=4,
            n_layers=1,
            n_heads=1,
            d_model=2,
            norm="layernorm",
            bias=True,
            tied_head=False,
        )
    )
    assert model.unembedding is not None
    with torch.no_grad():
        model.norm.get_parameter("weight").zero_()
        model.norm.get_parameter("bias").copy_(torch.tensor([1.0, 0.0]))
        model.unembedding.weight[:, 0] = torch.tensor(probabilities).log()
    return model


def test_scores_computed_by_hand() -> None:
    """Targets b, c, end, b, end, of 1/4, 1/8, 1/2, 1/4, 1/2: 2 + 3 + 1 + 2 + 1 = 9 bits for 2 + 3 + 2 = 7 bytes."""
    tokens = TokenFile.from_ids([0, 2, 3, 0, 2, 0], vocab_size=4, end_of_text=0, offsets=[0, 3, 5], text_bytes=7)
    found = evaluate(constant([0.5, 0.125, 0.25, 0.125]), evaluation_batches(tokens, 4, 2), np.array([0, 1, 2, 3]))
    assert found.tokens == 5
    assert found.bytes == 7 == tokens.text_bytes
    assert found.nats_per_token == pytest.approx(9 * 0.69314718 / 5, rel=1e-6)
    assert found.perplexity == pytest.approx(2 ** (9 / 5), rel=1e-6)
    assert found.bits_per_byte == pytest.approx(9 / 7, rel=1e-6)
    assert found.to_dict() == {
        "nats_per_token": found.nats_per_token,
        "perplexity": found.perplexity,
        "bits_per_byte": found.bits_per_byte,
        "tokens": 5,
        "bytes": 7,
    }


def test_a_text_of_no_bytes_has_no_finite_bits_per_byte() -> None:
    tokens = TokenFile.from_ids([0, 0, 0], vocab_size=4, end_of_text=0, offsets=[0, 1, 2])
    found = evaluate(constant([0.5, 0.125, 0.25, 0.125]), evaluation_batches(tokens, 4, 2), np.array([0, 1, 2, 3]))
    assert (found.tokens, found.bytes, found.bits_per_byte) == (2, 0, math.inf)
    assert found.nats_per_token == pytest.approx(math.log(2)), "the end of a text is predicted, too"


def context_start(target: int, stride: int, boundaries: str) -> int:
    """Where the context of the token at position `target` begins, by the definition of the windows."""
    opened = max(offset for offset in OFFSETS if offset < target)
    beginning = opened if boundaries == "cut" else 0
    window = 0
    while beginning + window * stride + L < target:
        window += 1
    start = beginning + window * stride
    return max(start, opened) if boundaries == "mask" else start


@torch.no_grad()
def one_by_one(model: Decoder, tokens: TokenFile, stride: int, boundaries: str, targets: int) -> Evaluation:
    """Each target from its own context alone; a token of id i stands for i bytes."""
    ids = torch.from_numpy(tokens.tokens[:].astype(np.int64))
    losses, size = [], 0
    for target in range(1, targets + 1):
        context = ids[context_start(target, stride, boundaries) : target]
        probabilities = model(context[None])[0, -1].double().softmax(-1)
        losses.append(-math.log(probabilities[ids[target]].item()))
        size += int(ids[target])
    mean = sum(losses) / len(losses)
    return Evaluation(mean, math.exp(mean), sum(losses) * math.log2(math.e) / size, len(losses), size)


@pytest.mark.parametrize("boundaries", ["cross", "mask", "cut"])
@pytest.mark.parametrize("stride", [1, 5, L])
@pytest.mark.parametrize("max_tokens", [0, 29])
def test_every_target_is_scored_once_from_its_context(boundaries: str, stride: int, max_tokens: int) -> None:
    model, tokens = decoder(), stream()
    batches = evaluation_batches(tokens, L, 3, stride=stride, max_tokens=max_tokens, boundaries=boundaries)
    found = evaluate(model, batches, np.arange(V))
    expected = one_by_one(model, tokens, stride, boundaries, max_tokens or N - 1)
    assert found.to_dict() == pytest.approx(expected.to_dict(), rel=1e-5)


def test_the_contexts_make_a_difference() -> None:
    """Or else the test above would hold for any of them."""
    model, tokens = decoder(), stream()
    kinds = [("cross", 1), ("cross", L), ("mask", L), ("cut", L)]
    found = [
        evaluate(model, evaluation_batches(tokens, L, 3, stride=stride, boundaries=boundaries), np.arange(V))
        for boundaries, stride in kinds
    ]
    assert len({round(score.nats_per_token, 3) for score in found}) == len(kinds)
    assert {score.tokens for score in found} == {N - 1}


@pytest.mark.parametrize("training", [True, False])
def test_dropout_is_off_and_the_mode_is_put_back(training: bool) -> None:
    plain, dropping = decoder(), decoder(residual_dropout=0.5, embedding_dropout=0.5, attention_dropout=0.5)
    dropping.train(training)
    scores = [evaluate(model, evaluation_batches(stream(), L, 3), np.arange(V)) for model in (plain, dropping)]
    assert scores[0] == scores[1]
    assert dropping.training is training


def test_nothing_is_kept_for_a_backward_pass() -> None:
    kept: list[str] = []

    def tap(name: str, value: Tensor) -> Tensor:
        kept.extend([name] * value.requires_grad)
        return value

    model = decoder()
    evaluate(model, evaluation_batches(stream(), L, 4), np.ones(V), tap=tap)
    assert not kept
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_mode_is_put_back_after_a_failure() -> None:
    model = decoder().train()
    too_long = evaluation_batches(stream(), L + 1, 1)
    with pytest.raises(ValueError, match="context_length"):
        evaluate(model, too_long, np.arange(V))
    assert model.training


TEXTS = [
    "In the beginning, light.\n",
    "",
    "\u5149 falls \u2014 na\u00efvely \U0001f600 <|endoftext|> down the well " * 3,
]


@pytest.mark.parametrize("kind", ["character", "byte", "bpe", "gpt2-vocabulary"])
@pytest.mark.parametrize("stride", [0, 7])
def test_the_bytes_counted_are_those_of_the_text(kind: str, stride: int) -> None:
    name = str(needs(kind)) if kind == "gpt2-vocabulary" else kind
    tokenizer = make_tokenizer(TextConfig(tokenizer=name), 0, TEXTS[:1])
    tokens = TokenFile.from_texts(TEXTS, tokenizer)
    model = Decoder(ModelConfig(vocab_size=tokenizer.vocab_size, context_length=16, n_layers=1, n_heads=1, d_model=2))
    found = evaluate(model, evaluation_batches(tokens, 16, 4, stride=stride), tokenizer.byte_lengths)
    assert found.bytes == tokens.text_bytes == sum(len(text.encode()) for text in TEXTS)
    assert found.tokens == len(tokens) - 1
    assert found.bits_per_byte == pytest.approx(found.nats_per_token * found.tokens / math.log(2) / found.bytes)
    assert true_byte_lengths(tokens, tokenizer.byte_lengths) == pytest.approx(tokenizer.byte_lengths)


def test_bytes_that_a_tokenizer_lost_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens that spell 1 + 2 + 3 + 2 = 8 bytes of a text that had 12."""
    monkeypatch.setattr("lightwell.corpus.corpus.COUNTED_AT_ONCE", 2)
    tokens = TokenFile.from_ids([0, 1, 2, 3, 2, 0], vocab_size=4, end_of_text=0, text_bytes=12)
    lengths = true_byte_lengths(tokens, np.array([0, 1, 2, 3]))
    assert lengths.tolist() == [0.0, 1.5, 3.0, 4.5]
    found = evaluate(constant([0.25] * 4), evaluation_batches(tokens, 4, 2), lengths)
    assert found.bytes == 12
    assert found.bits_per_byte == pytest.approx(5 * 2 / 12)
