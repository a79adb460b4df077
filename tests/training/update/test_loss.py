"""Note 1: memory follows the micro-batch, noise follows the batch, and the update is the same however it is cut."""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from decoders import L, V, decoder
from lightwell.batches.batch import IGNORE, Batch
from lightwell.batches.config import BatchConfig
from lightwell.batches.loader import BatchLoader
from lightwell.model.decoder import Decoder
from lightwell.tokens.token_file import TokenFile
from lightwell.training.planning.plan import measure
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.settings.config import RunConfig
from lightwell.training.update import loss as loss_file
from lightwell.training.update.loss import (
    TrainedLoss,
    accumulate_gradients,
    compiled_summed_loss,
    head_loss,
    seeded,
    sync_gradients_on_last,
)
from lightwell.training.update.streams import stream_seed
from teams import pretend_exchange

CPU = torch.device("cpu")


def gradient(model: Decoder, batch: Batch, micro_batch_size: int) -> tuple[float, Tensor]:
    """The loss that is reported, and the whole gradient as one vector."""
    model.zero_grad(set_to_none=True)
    loss_module = TrainedLoss(model, head_loss, "fp32")
    loss = accumulate_gradients(loss_module, batch, micro_batch_size=micro_batch_size, seed=1, step=0)
    found = [weight.grad.flatten() for weight in model.parameters() if weight.grad is not None]
    return loss, torch.cat(found)


def loader(batch_size: int) -> BatchLoader:
    ids = np.random.default_rng(0).integers(0, V, 20_000)
    return BatchLoader(TokenFile.from_ids(ids, vocab_size=V), BatchConfig(batch_size=batch_size), L, seed=1)


@given(st.lists(st.integers(0, L), min_size=2, max_size=9).filter(any), st.integers(1, 9))
def test_law_07_micro_batches_of_unequal_counts_are_one_batch(counted: list[int], micro_batch_size: int) -> None:
    whole = loader(len(counted)).batch(0)
    targets = whole.targets.clone()
    for row, number in zip(targets, counted, strict=True):
        row[number:] = IGNORE
    batch, model = Batch(whole.inputs, targets), decoder()
    loss, expected = gradient(model, batch, 0)
    loss_in_parts, found = gradient(model, batch, micro_batch_size)
    assert loss_in_parts == pytest.approx(loss, rel=1e-5)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_law_07_the_loss_is_the_mean_over_counted_targets() -> None:
    batch, model = loader(4).batch(0), decoder()
    targets = batch.targets.clone()
    targets[0, 3:] = IGNORE
    loss, _ = gradient(model, Batch(batch.inputs, targets), 3)
    logarithms = model(batch.inputs).log_softmax(-1)
    counted = targets != IGNORE
    expected = -logarithms[counted].gather(1, targets[counted][:, None]).mean()
    assert loss == pytest.approx(expected.item(), rel=1e-5)


def test_the_noise_of_the_gradient_falls_as_one_over_the_batch_size() -> None:
    """E|G_B|^2 = |G|^2 + tr(Sigma) / B: a straight line in 1/B, whose slope the windows themselves predict."""
    model, sizes = decoder(n_layers=1), [1, 2, 4, 8, 16, 32]
    each = torch.stack([gradient(model, loader(1).batch(step), 0)[1] for step in range(256)])
    mean = each.mean(0)
    predicted = (each - mean).square().sum(1).sum().item() / (len(each) - 1)  # tr(Sigma)
    squared = []
    for size in sizes:
        draws = max(32, 256 // size)  # small batches need more of them, since their gradients scatter more
        batches = loader(size)
        found = [gradient(model, batches.batch(step), 0)[1] for step in range(draws)]
        squared.append(torch.stack(found).square().sum(1).mean().item())
    inverse = [1 / size for size in sizes]
    slope, _ = np.polyfit(inverse, squared, 1)
    assert np.corrcoef(inverse, squared)[0, 1] ** 2 > 0.98
    assert slope == pytest.approx(predicted, rel=0.15)


def test_memory_is_linear_in_the_micro_batch() -> None:
    config = RunConfig().with_values(
        {"vocab_size": V, "context_length": L, "n_layers": 2, "n_heads": 2, "d_model": 16, "precision": "fp32"}
    )
    sizes, kept = [1, 2, 4, 8], []
    for size in sizes:
        cut = config.with_values({"batch_size": 8, "micro_batch_size": size, "device": "cpu"})
        kept.append(measure(cut, loader(8)).activation_bytes)
    slope, intercept = np.polyfit(sizes, kept, 1)
    assert np.corrcoef(sizes, kept)[0, 1] ** 2 > 0.999
    assert slope > 20 * abs(intercept) / 8


@given(st.lists(st.integers(0, V - 1) | st.just(IGNORE), min_size=1, max_size=9), st.integers(0, 99))
def test_the_loss_for_compiled_code_is_the_loss_with_its_gradient(targets: list[int], seed: int) -> None:
    wanted = torch.tensor(targets).view(1, -1)
    logits = 5 * torch.randn(1, len(targets), V, generator=torch.Generator().manual_seed(seed))
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.bfloat16, 4e-3)):
        rounded = logits.to(dtype).requires_grad_()
        found = compiled_summed_loss(rounded, wanted)
        expected = F.cross_entropy(rounded.float()[0], wanted[0], ignore_index=IGNORE, reduction="sum")
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
        (by_formula,) = torch.autograd.grad(expected / 7, rounded)
        (by_hand,) = torch.autograd.grad(found / 7, rounded)
        torch.testing.assert_close(by_hand, by_formula, atol=tolerance / 7, rtol=tolerance)


def test_each_process_draws_masks_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend_exchange(monkeypatch)
    seeds: dict[int, list[int]] = {}
    for rank in range(3):
        drawn: list[int] = []
        monkeypatch.setattr(torch, "manual_seed", drawn.append)
        loss_module = TrainedLoss(decoder(), head_loss, "fp32")
        group = ProcessGroup(rank, 3)
        accumulate_gradients(loss_module, loader(6).batch(0), micro_batch_size=0, seed=1, step=0, group=group)
        seeds[rank] = drawn
    assert [len(drawn) for drawn in seeds.values()] == [1, 1, 1]
    assert len({drawn[0] for drawn in seeds.values()}) == 3


@pytest.mark.parametrize(
    ("rank", "micro_batch_size", "numbers"), [(0, 2, [0, 1]), (1, 2, [2, 3]), (0, 0, [0]), (1, 0, [1]), (1, 3, [1, 2])]
)
def test_masks_follow_from_seed_step_and_the_micro_batch_s_place_in_the_whole(
    monkeypatch: pytest.MonkeyPatch, rank: int, micro_batch_size: int, numbers: list[int]
) -> None:
    pretend_exchange(monkeypatch)
    drawn: list[int] = []
    monkeypatch.setattr(torch, "manual_seed", drawn.append)
    accumulate_gradients(
        TrainedLoss(decoder(), head_loss, "fp32"), loader(8).batch(0), micro_batch_size=micro_batch_size, seed=6,
        step=5, group=ProcessGroup(rank, 2),
    )  # fmt: skip
    assert drawn == [stream_seed(6, "dropout", 5, number) for number in numbers]


def test_each_micro_batch_is_seeded_right_before_it_is_used() -> None:
    batches = loader(6).batch(0).split(2)
    found = [
        (torch.initial_seed(), micro.inputs)
        for micro in seeded(batches, 4, seed=2, step=9, device=torch.device("meta"))
    ]
    assert [seed for seed, _ in found] == [stream_seed(2, "dropout", 9, number) for number in (4, 5, 6)]
    assert all(inputs.is_meta for _, inputs in found)


def test_a_share_of_a_batch_gives_its_share_of_the_mean_times_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What torch's wrapper averages over three processes is then the sum of the shares."""
    pretend_exchange(monkeypatch)
    batch, model = loader(7).batch(0), decoder()
    whole_loss, whole = gradient(model, batch, 0)
    losses, gradients = [], []
    for rank in range(3):
        model.zero_grad(set_to_none=True)
        module = TrainedLoss(model, head_loss, "fp32")
        group = ProcessGroup(rank, 3)
        losses.append(accumulate_gradients(module, batch, micro_batch_size=1, seed=1, step=0, group=group))
        gradients.append(torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None]))
    assert sum(losses) == pytest.approx(whole_loss, rel=1e-5)
    torch.testing.assert_close(sum(gradients) / 3, whole, atol=1e-5, rtol=1e-4)


def test_gradients_are_added_to_those_that_are_there_and_rows_can_be_named() -> None:
    batch, model = loader(4).batch(0), decoder()
    module = TrainedLoss(model, head_loss, "fp32")
    parts = [
        accumulate_gradients(module, batch, micro_batch_size=0, seed=1, step=0, rows=rows)
        for rows in (slice(0, 1), slice(1, 4))
    ]
    added = torch.cat([one.grad.flatten() for one in model.parameters() if one.grad is not None])
    whole_loss, whole = gradient(model, batch, 0)
    assert sum(parts) == pytest.approx(whole_loss, rel=1e-5)
    torch.testing.assert_close(added, whole, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_the_model_runs_in_the_precision_with_documents_and_tap_and_the_loss_in_fp32(
    precision: str, dtype: torch.dtype
) -> None:
    seen: dict[str, Any] = {}

    def head(model: Decoder, x: Tensor, targets: Tensor) -> Tensor:
        seen.update(head=(model, x, targets))
        return head_loss(model, x, targets)

    def tap(name: str, value: Tensor) -> Tensor:
        seen[name] = value
        return value

    model, batch = decoder(attention="explicit"), loader(2).batch(0)
    module = TrainedLoss(model, head, precision, tap)
    documents = torch.zeros_like(batch.inputs, dtype=torch.int32)
    documents[:, 5:] = 1
    loss = module(batch.inputs, batch.targets, documents)
    assert loss.dtype == torch.float32
    assert loss.shape == ()
    assert seen["head"][0] is model
    assert seen["head"][2] is batch.targets
    assert seen["layers.0.attention.scores"].dtype == dtype
    apart = module(batch.inputs, batch.targets, documents)
    together = module(batch.inputs, batch.targets, None)
    assert apart.item() == loss.item() != together.item()


def test_gradients_are_exchanged_with_the_last_micro_batch_only(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[bool] = []
    model = decoder()
    monkeypatch.setattr(model, "set_requires_gradient_sync", told.append, raising=False)
    module = TrainedLoss(model, head_loss, "fp32")
    accumulate_gradients(module, loader(6).batch(0), micro_batch_size=2, seed=1, step=0)
    assert told == [False, False, True]

    class Wrapper(torch.nn.Module):
        """Stands for DistributedDataParallel, whose no_sync keeps gradients in the process."""

        @contextmanager
        def no_sync(self) -> Any:
            waited.append(True)
            yield

    waited: list[bool] = []
    monkeypatch.setattr(loss_file, "DistributedDataParallel", Wrapper)
    with sync_gradients_on_last(Wrapper(), last=True):
        assert not waited
    with sync_gradients_on_last(Wrapper(), last=False):
        assert waited == [True]
