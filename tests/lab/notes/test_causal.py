from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import lightwell as lw
from decoders import IMPLEMENTATIONS, KINDS, V, decoder, text
from lab_house import card_of, context_of
from lightwell.errors import SettingError
from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.trial import Trial, train_trial
from lightwell.lab.notes.causal import experiment as causal
from lightwell.lab.notes.causal.checks import CausalReport, attention_rows, check_causal
from lightwell.model import attention, cache

LEAKS = {"a changed token", "gradients", "no weight on later tokens"}


class HandWritten(nn.Module):
    """One head of attention as a reader may write it; a diagonal of 1 masks what it should, one of 2 too little."""

    def __init__(self, diagonal: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.positions, self.tokens = nn.Embedding(32, 8), nn.Embedding(19, 8)
        self.qkv, self.head = nn.Linear(8, 24), nn.Linear(8, 19)
        self.dropout = nn.Dropout(0.5)
        self.diagonal = diagonal

    def forward(self, ids: Tensor) -> Tensor:
        T = ids.size(1)
        x = self.dropout(self.tokens(ids) + self.positions(torch.arange(T)))
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        hidden = torch.ones(T, T, dtype=torch.bool).triu(self.diagonal)
        weights = (q @ k.transpose(1, 2) / math.sqrt(8)).masked_fill(hidden, -math.inf).softmax(dim=-1)
        logits: Tensor = self.head(x + weights @ v)
        return logits


def failed(report: CausalReport) -> set[str]:
    return {row.name for row in report.rows if row.outcome == "failed"}


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_attention_passes_all_checks_that_need_no_training(kind: str, implementation: str) -> None:
    report = check_causal(decoder(attention=implementation, **KINDS[kind]))
    assert report.passed
    assert {row.name for row in report.rows if row.outcome == "not applicable"} == {
        "random tokens",
        "control without mask",
    }


@settings(max_examples=8)
@given(length=st.integers(2, 12), seed=st.integers(0, 1000))
def test_no_leak_at_any_length_and_for_any_tokens(length: int, seed: int) -> None:
    report = check_causal(decoder(), length=length, seed=seed)
    assert report.passed
    assert report["a changed token"].measured == 0.0
    assert report["gradients"].measured == 0.0


def test_a_mask_that_is_shifted_by_one_is_caught() -> None:
    model = decoder(attention="explicit")
    model.causal_mask = torch.ones(12, 12, dtype=torch.bool).tril(1)
    report = check_causal(model)
    assert failed(report) >= LEAKS
    assert not report.passed
    assert "LEAKS" in str(report)


def test_one_visible_future_token_in_one_place_is_caught() -> None:
    model = decoder(attention="explicit")
    model.causal_mask = model.causal_mask.clone()
    model.causal_mask[3, 7] = True
    assert failed(check_causal(model)) >= LEAKS


def test_a_model_without_mask_is_caught_through_its_tap() -> None:
    assert failed(check_causal(decoder(attention="explicit"), tap=causal.unmasked())) >= LEAKS


@pytest.mark.parametrize("fill", [-1e4, -1e9])
def test_a_finite_fill_value_is_caught_only_where_scores_are_driven_below_it(
    fill: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    def finite(mask: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.zeros(mask.shape, dtype=dtype).masked_fill(~mask, fill)

    monkeypatch.setattr(attention, "additive_mask", finite)
    assert failed(check_causal(decoder(attention="explicit"))) == {"driven scores"}


def test_a_cache_that_forgets_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    append = cache.LayerCache.append

    def forgetful(self: cache.LayerCache, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = append(self, k, v)
        return keys, values * (torch.arange(values.size(2)) > 0)[:, None]

    monkeypatch.setattr(cache.LayerCache, "append", forgetful)
    assert failed(check_causal(decoder())) == {"cached = full"}


def test_a_hand_written_module_is_checked_and_its_leak_found() -> None:
    good = HandWritten(1).train()
    report = check_causal(good)
    assert report.passed
    assert good.training
    assert all(weight.grad is None for weight in good.parameters())
    assert report["cached = full"].outcome == report["no weight on later tokens"].outcome == "not applicable"
    assert report["gradients"].measured == 0.0  # by the token embedding, though that of positions comes first
    assert failed(check_causal(HandWritten(2))) == {"a changed token", "gradients"}


def test_mode_and_implementation_are_put_back_and_no_random_stream_is_touched() -> None:
    model = decoder(attention_dropout=0.5).train()
    model.layers[0].eval()
    before = [module.training for module in model.modules()]
    state = torch.get_rng_state()
    assert check_causal(model).passed
    assert [module.training for module in model.modules()] == before
    assert torch.equal(torch.get_rng_state(), state)
    assert {block.attention.implementation for block in model.layers} == {"fused"}  # type: ignore[union-attr]


@pytest.mark.filterwarnings("ignore")
def test_models_of_transformers_pass() -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers, which is in the dev extra")
    small: dict[str, Any] = {"vocab_size": 61, "bos_token_id": 0, "eos_token_id": 0}
    gpt2 = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_positions=32, n_embd=24, n_layer=2, n_head=2, **small)
    )
    llama = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                                 num_key_value_heads=2, max_position_embeddings=32, **small)
    )  # fmt: skip
    for model in (gpt2, llama):
        before = model.config._attn_implementation
        report = check_causal(model)
        assert report.passed
        done = {row.name for row in report.rows if row.outcome == "passed"}
        assert done >= {*LEAKS, "cached = full", "rows sum to 1"}
        assert model.config._attn_implementation == before


@pytest.mark.filterwarnings("ignore")
def test_a_model_of_transformers_that_looks_both_ways_is_caught() -> None:
    transformers = pytest.importorskip("transformers", reason="needs transformers, which is in the dev extra")
    config = transformers.BertConfig(vocab_size=61, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
                                     intermediate_size=16, max_position_embeddings=32)  # fmt: skip
    assert failed(check_causal(transformers.BertForMaskedLM(config))) >= {"a changed token", "gradients"}


def test_what_cannot_be_checked_is_said() -> None:
    with pytest.raises(SettingError, match="torch module"):
        check_causal("a text")
    with pytest.raises(SettingError, match="logits"):
        check_causal(nn.Sequential(nn.Embedding(5, 4), nn.Flatten()))
    with pytest.raises(SettingError, match="vocab_size"):
        check_causal(nn.Linear(3, 3))


def test_the_report_as_text_and_as_plain_values() -> None:
    report = lw.lab.check_causal(decoder())
    lines = str(report).splitlines()
    assert len(lines) == 2 + len(report.rows)
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["passed"] is True


def test_the_lab_is_reached_without_torch() -> None:
    code = "import sys, lightwell as lw; lw.lab; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("extra", [0.01, -0.01])
def test_a_row_of_weights_that_sums_to_more_or_less_fails(extra: float) -> None:
    class Weighed:
        def weights(self, tokens: torch.Tensor) -> list[torch.Tensor]:
            rows = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
            return [rows, rows + torch.tensor([[0.0, 0.0], [extra, 0.0]])]

    sums, later = attention_rows(Weighed(), torch.zeros(1, 2))  # type: ignore[arg-type]
    assert (sums.outcome, later.outcome) == ("failed", "passed")
    assert sums.measured == pytest.approx(0.01, abs=1e-7)


def test_the_control_sees_everything_and_its_rows_sum_to_one() -> None:
    tap, seen = causal.unmasked(), {}

    def watch(name: str, value: Tensor) -> Tensor:
        seen[name] = tap(name, value)
        return seen[name]

    decoder(attention="explicit")(text(), tap=watch)
    for layer in range(2):
        weights = seen[f"layers.{layer}.attention.weights"]
        assert (weights.triu(1).sum(dim=(-2, -1)) > 0).all()
        assert torch.allclose(weights.sum(dim=-1), torch.ones(()), atol=1e-6)
        assert torch.allclose(weights, seen[f"layers.{layer}.attention.scaled"].softmax(dim=-1), atol=1e-6)


def context_for(folder: Path, **others: Any) -> ExperimentContext:
    """A context with a tiny text and a tiny model."""
    return context_of("causal", folder, draws=4, **others)


def test_the_whole_experiment_twice(tmp_path: Path) -> None:
    cards = []
    for made in (5, 0):
        context = context_for(tmp_path)
        assert len(causal.EXPERIMENT.plan(context)) == 5
        findings = causal.EXPERIMENT.run(context)
        assert context.store.made == made
        assert all(context.store.has_trained("causal", trial) for trial in causal.EXPERIMENT.plan(context))
        assert all(law.holds for law in findings.laws)
        cards.append(card_of(context, findings))
    assert cards[0] == cards[1]


def test_without_a_mask_even_random_tokens_are_learnt(tmp_path: Path) -> None:
    """The planted effect: a leak brings the loss below ln V, the mask keeps it there."""
    context = context_for(tmp_path, steps=100, d_model=32, learning_rate=1e-2, batch_size=8, micro_batch_size=8,
                    attention="explicit", embedding_dropout=0, attention_dropout=0, residual_dropout=0)  # fmt: skip
    corpus = causal.random_corpus(context.corpus, context.config, 1)
    trial = Trial("leak", 1, context.config)
    assert train_trial(trial, corpus, causal.unmasked).loss < math.log(context.config.model.vocab_size) - 0.5
    assert train_trial(trial, corpus).loss > math.log(context.config.model.vocab_size) - 0.1


def test_random_tokens_are_drawn_alike_and_none_is_seen_twice(tmp_path: Path) -> None:
    context = context_for(tmp_path, steps=60)
    corpus = causal.random_corpus(context.corpus, context.config, 1)
    size = context.config.model.vocab_size
    counts = np.bincount(np.asarray(corpus.train.tokens), minlength=size)
    assert len(counts) == size
    assert counts.min() > 0
    needed = context.config.training.steps * context.config.batches.batch_size * context.config.model.context_length
    assert len(corpus.train) > needed
    again = causal.random_corpus(context.corpus, context.config, 2)
    assert again.digest != corpus.digest


def test_tokens_of_the_check_are_of_the_vocabulary() -> None:
    model = decoder()
    seen: list[Tensor] = []
    model.token_embedding.register_forward_hook(lambda module, given, output: seen.append(given[0]))
    check_causal(model)
    assert all(int(each.min()) >= 0 and int(each.max()) < V for each in seen)
