"""The causal mask is a registered, non-persistent buffer: it moves with the model and is in no file."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from decoders import KINDS, L, decoder, like, text
from lightwell.model.decoder import Decoder, causal_mask

BUFFERS = {"causal_mask", "cos", "sin"}


def test_one_mask_serves_all_layers_and_is_no_parameter() -> None:
    model = decoder(n_layers=5)
    assert {name for name, _ in model.named_buffers()} == BUFFERS
    assert not BUFFERS & {name for name, _ in model.named_parameters()}
    assert all(not buffer.requires_grad for buffer in model.buffers())
    assert model.causal_mask.dtype == torch.bool
    assert model.causal_mask.numel() * model.causal_mask.element_size() == L * L  # a byte, not four, for each pair


def test_the_mask_moves_with_the_model_to_another_device() -> None:
    model = decoder()
    before = model.causal_mask
    model.to("meta")
    assert before.device.type == "cpu"
    assert {tensor.device.type for tensor in (*model.buffers(), *model.parameters())} == {"meta"}
    assert model(text().to("meta")).shape == (2, L, 37)


def test_a_plain_attribute_would_not_move() -> None:
    """What the buffer prevents: the same model with the mask as an ordinary tensor attribute."""

    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.mask = causal_mask(L)
            self.register_buffer("registered", causal_mask(L), persistent=False)

    moved = Plain().to("meta")
    assert moved.mask.device.type == "cpu"
    assert moved.get_buffer("registered").device.type == "meta"

    model = decoder(attention="explicit").to("meta")
    stayed = causal_mask(L)
    del model.causal_mask
    model.causal_mask = stayed
    assert model.to("meta").causal_mask is stayed
    with pytest.raises((RuntimeError, NotImplementedError)):  # operands on two devices
        model(text().to("meta"))


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_the_buffers_move_to_another_dtype(kind: str, dtype: torch.dtype) -> None:
    model = decoder(**KINDS[kind])
    expected = model(text())
    model.to(dtype)
    assert model.causal_mask.dtype == torch.bool  # a mask of truth values has no precision to change
    assert {buffer.dtype for name, buffer in model.named_buffers() if name != "causal_mask"} <= {dtype}
    logits = model(text())
    assert logits.dtype == dtype
    close = {torch.bfloat16: (0.5, 0.1), torch.float64: (1e-4, 1e-4)}[dtype]
    torch.testing.assert_close(logits.float(), expected, atol=close[0], rtol=close[1])


def test_built_on_another_device_it_is_born_there() -> None:
    with torch.device("meta"):
        model = Decoder(decoder().config)
    assert {tensor.device.type for tensor in (*model.buffers(), *model.parameters())} == {"meta"}


@pytest.mark.parametrize("kind", KINDS)
def test_law_11_the_mask_is_in_no_file(kind: str, tmp_path: Path) -> None:
    model = decoder(**KINDS[kind])
    state = model.state_dict()
    assert state.keys() == dict(model.named_parameters()).keys()
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    loaded = safetensors.torch.load_file(tmp_path / "model.safetensors")
    other = Decoder(model.config, seed=9).eval()
    assert not torch.equal(other(text()), model(text()))
    other.load_state_dict(loaded)
    assert torch.equal(other(text()), model(text()))


@torch.no_grad()
@pytest.mark.parametrize("positions", ["rope", "none"])
def test_law_11_a_longer_context_loads(positions: str) -> None:
    model = decoder(positions=positions)
    longer = like(model, context_length=5 * L)
    assert longer.causal_mask.shape == (5 * L, 5 * L)
    assert torch.equal(longer(text()), model(text()))
    assert longer(text(1, 5 * L)).shape == (1, 5 * L, 37)
    shorter = like(longer, context_length=3)
    assert torch.equal(shorter(text(2, 3)), longer(text(2, 3)))


def test_a_persistent_mask_would_have_blocked_the_longer_context() -> None:
    class Persistent(nn.Module):
        def __init__(self, length: int) -> None:
            super().__init__()
            self.register_buffer("mask", causal_mask(length))

    with pytest.raises(RuntimeError, match="size mismatch"):
        Persistent(2 * L).load_state_dict(Persistent(L).state_dict())


def test_learned_positions_end_where_they_were_learned() -> None:
    model = decoder(positions="learned")
    with pytest.raises(RuntimeError, match=r"size mismatch for position_embedding"):
        like(model, context_length=2 * L)


def test_no_optimizer_ever_sees_the_mask() -> None:
    model = decoder()
    before: Tensor = model.causal_mask.clone()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1, weight_decay=0.9)
    model(text()).sum().backward()
    optimizer.step()
    assert torch.equal(model.causal_mask, before)
