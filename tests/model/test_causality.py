"""The future stays unseen: bit for bit when a token changes, and exactly zero in the gradient."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from decoders import IMPLEMENTATIONS, KINDS, L, V, decoder, packed, text, watch
from lightwell.model.cache import KVCache
from lightwell.model.decoder import Decoder, causal_mask

Forward = Callable[[Decoder, Tensor], Tensor]


def in_chunks(*sizes: int) -> Forward:
    """Forward through a cache, `sizes` tokens at a time."""

    def forward(model: Decoder, tokens: Tensor) -> Tensor:
        cache = KVCache(model.config, tokens.size(0))
        return torch.cat([model(chunk, cache=cache) for chunk in torch.split(tokens, list(sizes), dim=1)], dim=1)

    return forward


WAYS: dict[str, Forward] = {
    "whole": lambda model, tokens: model(tokens),
    "packed documents": lambda model, tokens: model(tokens, documents=packed()),
    "cached one by one": in_chunks(*[1] * L),
    "cached in chunks": in_chunks(5, 1, 4, 2),
    "watched": lambda model, tokens: watch(model, tokens)["logits"],
}
CASES = list(itertools.product(WAYS, KINDS, IMPLEMENTATIONS))


@torch.no_grad()
@pytest.mark.parametrize(("way", "kind", "implementation"), CASES)
def test_law_03_changing_a_token_leaves_earlier_logits_bit_identical(way: str, kind: str, implementation: str) -> None:
    model, tokens = decoder(**KINDS[kind], attention=implementation), text()
    before = WAYS[way](model, tokens)
    for t in range(L):
        changed = tokens.clone()
        changed[:, t] = (tokens[:, t] + 1) % V
        after = WAYS[way](model, changed)
        assert torch.equal(before[:, :t], after[:, :t])
        assert not torch.isclose(before[:, t], after[:, t]).all()  # and it does see the token itself


@torch.no_grad()
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_law_03_also_across_the_blocks_of_the_fused_kernel(implementation: str) -> None:
    model, tokens = decoder(context_length=700, n_layers=1, attention=implementation), text(1, 700)
    before = model(tokens)
    for t in (31, 256, 511, 512, 699):
        changed = tokens.clone()
        changed[:, t] = (tokens[:, t] + 1) % V
        assert torch.equal(before[:, :t], model(changed)[:, :t])


@pytest.mark.parametrize("way", ["whole", "packed documents", "watched"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_law_03_no_gradient_flows_from_a_logit_to_a_later_token(way: str, kind: str, implementation: str) -> None:
    model = decoder(**KINDS[kind], attention=implementation)
    embeddings: list[Tensor] = []
    model.token_embedding.register_forward_hook(lambda _module, _inputs, output: embeddings.append(output))
    logits = WAYS[way](model, text())
    for i in range(L):
        (gradient,) = torch.autograd.grad(logits[:, i].square().sum(), embeddings[0], retain_graph=True)
        assert torch.equal(gradient[:, i + 1 :], torch.zeros_like(gradient[:, i + 1 :]))
        assert (gradient[:, i] != 0).any(-1).all()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_law_03_the_gradient_stays_within_the_window_and_the_document(implementation: str) -> None:
    model, documents = decoder(n_layers=1, attention_window=4, attention=implementation), packed()
    embeddings: list[Tensor] = []
    model.token_embedding.register_forward_hook(lambda _module, _inputs, output: embeddings.append(output))
    logits = model(text(), documents=documents)
    for i in range(L):
        (gradient,) = torch.autograd.grad(logits[:, i].square().sum(), embeddings[0], retain_graph=True)
        places = torch.arange(L)
        visible = (places <= i) & (places > i - 4) & (documents == documents[:, i : i + 1])
        assert torch.equal((gradient != 0).any(-1), visible)


@torch.no_grad()
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_packed_document_is_read_as_if_it_stood_alone(implementation: str) -> None:
    """Rotations depend on distances only, so with them even the place in the window does not matter."""
    model, tokens, documents = decoder(attention=implementation), text(), packed()
    together = model(tokens, documents=documents)
    for b in range(2):
        for document in range(3):
            own = documents[b] == document
            alone = model(tokens[b, own][None])
            torch.testing.assert_close(together[b, own][None], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_other_documents_are_unseen_bit_for_bit(implementation: str) -> None:
    model, tokens, documents = decoder(attention=implementation), text(), packed()
    before = model(tokens, documents=documents)
    changed = torch.where(documents == 0, (tokens + 1) % V, tokens)
    after = model(changed, documents=documents)
    assert torch.equal(before[documents > 0], after[documents > 0])
    assert not torch.equal(before[:, 5:], model(tokens)[:, 5:])  # without documents they are seen


@torch.no_grad()
def test_a_window_reaches_further_with_each_layer() -> None:
    tokens = text()
    for n_layers in (1, 2, 3):
        model = decoder(n_layers=n_layers, attention_window=3, attention="explicit")
        changed = tokens.clone()
        changed[:, 0] = (tokens[:, 0] + 1) % V
        same = (model(tokens) == model(changed)).all(-1).all(0)
        reach = 2 * n_layers  # each layer looks two tokens back
        assert same.tolist() == [t > reach for t in range(L)]


@torch.no_grad()
def test_without_the_mask_the_future_leaks_so_the_law_has_teeth() -> None:
    model, tokens = decoder(attention="explicit"), text()
    model.causal_mask.fill_(True)
    changed = tokens.clone()
    changed[:, -1] = (tokens[:, -1] + 1) % V
    assert not torch.isclose(model(tokens)[:, 0], model(changed)[:, 0]).all()


@torch.no_grad()
def test_masking_before_the_softmax_is_masking_after_it_and_renormalising() -> None:
    seen = watch(decoder(), text())
    unmasked = seen["layers.0.attention.scaled"].softmax(-1) * causal_mask(L)
    assert (unmasked.sum(-1)[:, :, :-1] < 0.999).any()  # after it alone, rows do not sum to 1
    renormalised = unmasked / unmasked.sum(-1, keepdim=True)
    torch.testing.assert_close(renormalised, seen["layers.0.attention.weights"], atol=1e-6, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_scores_below_any_finite_fill_value_leak_nothing(implementation: str) -> None:
    """Where a mask writes -1e9 instead of -inf, scores of -1e12 make the future the likeliest thing to look at."""
    model, tokens = decoder(qk_norm=False, positions="none", attention=implementation, qkv_bias=True), text()
    with torch.no_grad():
        bias = model.get_parameter("layers.0.attention.qkv.bias")
        bias[:24], bias[24:48] = 1e6, -1e6
    seen = watch(model, tokens)
    assert seen["layers.0.attention.scaled"].max() < -1e11
    assert torch.equal(seen["layers.0.attention.weights"].triu(1), torch.zeros(2, 4, L, L))
    changed = tokens.clone()
    changed[:, -1] = (tokens[:, -1] + 1) % V
    assert torch.equal(model(tokens)[:, :-1], model(changed)[:, :-1])


def test_the_mask_of_a_window() -> None:
    assert causal_mask(4, 2).int().tolist() == [[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 1, 1]]
    assert torch.equal(causal_mask(4, 4), causal_mask(4))
    assert torch.equal(causal_mask(4, 9), causal_mask(4))
    assert torch.equal(causal_mask(4, 1), torch.eye(4, dtype=torch.bool))
