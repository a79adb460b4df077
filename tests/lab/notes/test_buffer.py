"""The note on buffers: every kind of tensor is told apart, and the laws fail where they should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from lab_house import laboratory
from lightwell.lab.notes.buffer import experiment as buffer
from lightwell.lab.notes.buffer.tensor_rows import tensor_table
from lightwell.model.config import ModelConfig
from lightwell.model.decoder import Decoder


class Everything(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 3))
        self.register_buffer("kept", torch.zeros(4, dtype=torch.int64))
        self.register_buffer("passing", torch.zeros(5), persistent=False)
        self.register_buffer("nothing", None)
        self.loose = torch.zeros(6, dtype=torch.bool)
        self._behind = torch.zeros(9, dtype=torch.bool)
        self.part = nn.Linear(2, 2, bias=False)
        self.masks = [torch.zeros(3, dtype=torch.bool), {"far": (torch.zeros(7, dtype=torch.bool), 5)}]


def test_each_kind_is_told_apart() -> None:
    module = Everything()
    rows = {row.name: row for row in tensor_table(module)}
    assert {name: (row.kind, row.bytes) for name, row in rows.items()} == {
        "weight": ("parameter", 24),
        "kept": ("persistent buffer", 32),
        "passing": ("buffer", 20),
        "loose": ("plain attribute", 6),
        "_behind": ("plain attribute", 9),
        "masks[0]": ("plain attribute", 3),
        "masks[1]['far'][0]": ("plain attribute", 7),
        "part.weight": ("parameter", 16),
    }
    assert {name for name, row in rows.items() if row.saved} == set(module.state_dict())
    module.to("meta")
    on_meta = {row.name for row in tensor_table(module) if row.device == "meta"}
    assert on_meta == {name for name, row in rows.items() if row.moved}


def test_a_tied_tensor_is_one_row() -> None:
    one, other = nn.Linear(3, 3, bias=False), nn.Linear(3, 3, bias=False)
    other.weight = one.weight
    assert len(tensor_table(nn.Sequential(one, other))) == 1


def test_the_decoder_has_nothing_that_stays_behind() -> None:
    rows = tensor_table(Decoder(ModelConfig(vocab_size=20, context_length=8, d_model=16, n_layers=1)))
    assert {row.kind for row in rows} == {"parameter", "buffer"}


@pytest.mark.parametrize("held", buffer.HELD)
def test_what_moves(held: str) -> None:
    found = buffer.moved_to_meta(held)
    assert found["moved"] == ("buffer" in held)
    assert found["computes"] == (held != "plain attribute")
    assert bool(found["error"]) == (held == "plain attribute")


def test_what_a_mask_costs_is_exact() -> None:
    for T in (16, 64):
        assert buffer.saved_bytes(T, "buffer") == buffer.saved_bytes(T, "none")
        header = buffer.saved_bytes(T, "persistent buffer") - buffer.saved_bytes(T, "none") - 4 * T * T
        assert 0 <= header < 100  # the tensor's name and shape


def test_the_card(tmp_path: Path) -> None:
    session = laboratory(tmp_path, "buffer")
    assert session.plan()[0].trainings == 0
    card = session.run(lambda card: None)[0]
    assert card.kind == "supported"
    assert json.loads(card.to_json())["data"]["moved"]["plain attribute"]["error"]
    assert "50.3 MB of every checkpoint" in card.findings.remarks[0]


def test_a_persistent_mask_in_the_model_contradicts_the_law(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Decoder.make_buffers

    def persistent(self: Decoder) -> None:
        real(self)
        self._non_persistent_buffers_set.discard("causal_mask")

    monkeypatch.setattr(Decoder, "make_buffers", persistent)
    assert laboratory(tmp_path, "buffer").run(lambda card: None)[0].kind == "contradicted"
