"""What a prompt and a notebook show: a few lines with numbers, the same as HTML with everything escaped, pictures."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import lightwell as lw
from lightwell.errors import SettingError
from lightwell.generation.language_model import LanguageModel
from lightwell.insight.named import NamedArray
from lightwell.insight.trace import Trace
from lightwell.model.config import ModelConfig
from lightwell.tokens.tokenizer import make_tokenizer
from lightwell.training.planning.plan import Plan
from lightwell.training.runs.evaluation import Evaluation
from lightwell.training.runs.scoring import Score
from lightwell.views import Picture, html, html_table, lines

EVIL = "<script>alert(1)</script>&\"'"


def model(**settings: Any) -> LanguageModel:
    tokenizer = make_tokenizer(lw.TextConfig(tokenizer="byte"), 0, ())
    small = {"context_length": 16, "n_layers": 2, "n_heads": 2, "d_model": 16, "vocab_size": tokenizer.vocab_size}
    return LanguageModel(lw.Decoder(ModelConfig(**{**small, **settings})).eval(), tokenizer)


@pytest.fixture(scope="module")
def traced() -> Trace:
    return lw.trace(model(), "the <b>")


@pytest.fixture
def run(tmp_path: Path) -> lw.Run:
    tokenizer = make_tokenizer(lw.TextConfig(tokenizer="byte"), 0, ())
    config = lw.RunConfig().with_values({"paths": [f"/x/{EVIL.replace('/', '')}"], "vocab_size": tokenizer.vocab_size})
    made = lw.Run.create(tmp_path / "<b>mine", config, tokenizer)
    made.append_metric({"step": 1, "loss": 3.0, "learning_rate": 0.1, "grad_norm": 1.0})
    made.append_metric({"step": 1, "validation_loss": 2.5, "validation_bits_per_byte": 3.5, "scored_tokens": 9})
    return made


def test_everything_that_is_shown_is_escaped() -> None:
    for shown in (html(EVIL, [(EVIL, EVIL)]), html_table([EVIL], [[EVIL]])):
        assert "<script" not in shown
        assert shown.count("&lt;script&gt;") >= 2
    assert lines("T", [("a", "1"), ("bcd", "2")]) == "T\n  a    1\n  bcd  2"


def test_what_functions_give_shows_itself_in_five_lines(run: lw.Run, traced: Trace, tmp_path: Path) -> None:
    counts: dict[str, Any] = {field.name: 7 for field in dataclasses.fields(Plan)}
    plan = Plan(**counts)
    score = Score("runs/<b>", 5, [], 16, 8, Evaluation(1.5, 4.48, 2.0, 100, 200), None)
    shown: dict[str, Any] = {
        "Run ": run, "LanguageModel": model(), "Plan": plan, "Score of": score, "Trace(": traced,
        "NamedArray(": traced.logits, "1 run": lw.runs(tmp_path),
    }  # fmt: skip
    for title, value in shown.items():
        text = repr(value)
        assert text.startswith(title)
        assert 2 <= len(text.splitlines()) <= 5
        assert any(character.isdigit() for character in text)
        markup = value._repr_html_()
        assert "<table>" in markup
        assert "<b>m" not in markup.replace("<b>", "", 1)
        assert "<script" not in markup
    assert "2.500 nats per token at step 1, 3.500 bits per byte" in repr(run)
    assert "1.500 nats per token, 2.000 bits per byte" in repr(score)


def test_a_run_and_a_trace_are_drawn_in_one_line(
    run: lw.Run, traced: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for picture in (run.plot(), traced.plot("layers.0.attention.weights"), traced.plot("layers.1.residual")):
        assert isinstance(picture, Picture)
        assert picture._repr_png_().startswith(b"\x89PNG")
    saved = picture.save(tmp_path / "maps.svg")
    assert saved.read_text().startswith("<?xml")
    with pytest.raises(SettingError, match=r"maps\.svg exists already"):
        picture.save(saved)
    with pytest.raises(SettingError, match="path is 5"):
        picture.save(5)  # type: ignore[arg-type]
    with monkeypatch.context() as home:
        home.setenv("HOME", str(tmp_path))
        assert picture.save("~/mine.png") == tmp_path / "mine.png"
    with pytest.raises(SettingError, match=r"must end in .png, .svg or .pdf"):
        picture.save(tmp_path / "maps.txt")
    with pytest.raises(SettingError, match=r"nothing named layers.0.attention.weihgts. Did you mean layers.0.att"):
        traced.plot("layers.0.attention.weihgts")
    with pytest.raises(SettingError, match="a picture needs two, or three"):
        traced.plot("tokens")


def test_maps_have_the_tokens_beside_them_and_say_what_is_left_out() -> None:
    tokens = ["<e>", "a", "$b$"]
    weights = torch.rand(1, 20, 3, 3)
    array = NamedArray(weights, ("batch", "head", "query", "key"), {"query": tokens, "key": tokens})
    figure = Trace({"w": array}, tokens).plot("w").figure
    panels = [axes for axes in figure.axes if axes.images]
    assert len(panels) == 16
    assert figure.get_suptitle() == "w (the first 16 of 20 heads)"
    assert [label.get_text() for label in panels[0].get_xticklabels()] == tokens
    assert np.allclose(np.asarray(panels[3].images[0].get_array()), weights[0, 3].numpy())
    with pytest.raises(SettingError, match=r"of 2 texts"):
        Trace({"w": NamedArray(torch.rand(2, 3, 3), ("batch", "query", "key"))}, []).plot("w")


def test_an_array_is_indexed_by_position_and_is_one_for_numpy() -> None:
    values = torch.arange(24.0).view(2, 3, 4)
    array = NamedArray(values, ("head", "query", "key"), {"query": ["a", "b", "c"]})
    assert torch.equal(array[1, -1].values, values[1, -1])
    assert array[:, 1:].labels["query"] == ["b", "c"]
    assert (array[0].axes, array[0, 0, 0].axes, len(array)) == (("query", "key"), (), 2)
    assert np.asarray(array).shape == (2, 3, 4)
    assert np.asarray(array, dtype=np.int64).dtype == np.int64
    wrongs: list[tuple[Any, str]] = [
        ((2,), "head is 2, but the axis has 2"), ((0, 0, 0, 0), "4 positions"),
        *((wrong, "no position") for wrong in ("x", 1.5, True, None, ...)),
        (slice(None, None, -1), "a step of 1 or more"), (slice("a"), "no slice along head"),
        ((slice(None), slice(None, None, 0)), "no slice along query"),
    ]  # fmt: skip
    for wrong, said in wrongs:
        with pytest.raises(SettingError, match=said):
            array[wrong]
    with pytest.raises(SettingError, match="'x' is no position along query"):
        array.select(query="x")  # type: ignore[arg-type]
    assert [part.axes for part in array] == [("query", "key")] * 2
    infinite = NamedArray(torch.tensor([1.0, -float("inf")]), ("key",))
    assert "infinite  1 of 2" in repr(infinite)
    assert "from      1 to 1, mean 1" in repr(infinite)
    assert repr(NamedArray(torch.zeros(0), ("key",))).endswith("none")
    assert repr(NamedArray(torch.tensor(3.0), ())).endswith("value  3")


def test_the_names_are_a_tree(traced: Trace) -> None:
    tree = traced.table().splitlines()
    assert sum(line.split("  ")[0].strip() != "" or "batch" in line for line in tree) >= len(traced)
    assert tree[3:6] == ["layers", "  0", "    attention"]
    leaves = [line for line in tree if "batch 1" in line]
    assert len(leaves) == len(traced)
    assert [line.split()[0] for line in leaves] == [name.rpartition(".")[2] for name in traced.names]


def even(value: Tensor) -> Tensor:
    seen = (value > 0).float()
    return seen / seen.sum(-1, keepdim=True)


@pytest.mark.parametrize("attention", ["fused", "explicit"])
@pytest.mark.parametrize("name", ["scores", "weights", "values", "q", "output"])
def test_a_change_inside_attention_is_obeyed_whatever_computes_it(attention: str, name: str) -> None:
    made = model(attention=attention)
    plain = lw.trace(made, "abc")
    change: Callable[[Tensor], Tensor] = even if name == "weights" else torch.zeros_like
    changed = lw.trace(made, "abc", changes={f"layers.0.attention.{name}": change})
    assert not torch.allclose(changed.logits.values, plain.logits.values, atol=1e-6)
    same = lw.trace(made, "abc", changes={f"layers.*.attention.{name}": lambda value: value})
    assert torch.equal(same.logits.values, plain.logits.values)
    other = model(attention="explicit" if attention == "fused" else "fused")
    beside = lw.trace(other, "abc", changes={f"layers.0.attention.{name}": change})
    torch.testing.assert_close(changed.logits.values, beside.logits.values, atol=1e-5, rtol=1e-5)

    def in_place(value: Tensor) -> Tensor:
        return value.zero_() if name != "weights" else value.copy_(even(value.clone()))

    again = lw.trace(made, "abc", changes={f"layers.0.attention.{name}": in_place})
    torch.testing.assert_close(again.logits.values, changed.logits.values, atol=1e-6, rtol=1e-6)


def test_a_change_of_nothing_or_of_another_shape_is_refused() -> None:
    made = model()
    said = r"nothing named layers.0.attention.wieghts\. Did you mean layers.0.attention.weights"
    with pytest.raises(SettingError, match=said):
        lw.trace(made, "abc", changes={"layers.0.attention.wieghts": even})
    with pytest.raises(SettingError, match=r"must return a tensor of the shape \(1, 4, 16\)"):
        lw.trace(made, "abc", changes={"embeddings": lambda value: value[:, :2]})
    with pytest.raises(SettingError, match="changes is 5"):
        lw.trace(made, "abc", changes=5)  # type: ignore[arg-type]


@pytest.mark.parametrize("counted", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("attention", ["fused", "explicit"])
def test_a_change_in_place_is_obeyed_also_where_torch_counts_none(attention: str, counted: Any) -> None:
    decoder = model(attention=attention).decoder
    ids = torch.tensor([[1, 2, 3]])

    def zero(name: str, value: Tensor) -> Tensor:
        return value.zero_() if name == "layers.0.attention.weights" else value

    with counted():
        plain = decoder(ids)
        assert not torch.allclose(decoder(ids, tap=zero), plain, atol=1e-6)
        assert torch.equal(decoder(ids, tap=lambda name, value: value), plain)


def test_a_change_that_is_none_is_refused() -> None:
    wrongs: list[tuple[Any, str]] = [
        (5, "is 5, but must be a function"), (lambda value: None, "must return a tensor of the shape"),
        (lambda value: value[0], "must return a tensor of the shape"), (lambda value: value.double(), "type float32"),
    ]  # fmt: skip
    for wrong, said in wrongs:
        with pytest.raises(SettingError, match=said):
            lw.trace(model(), "abc", changes={"layers.*.attention.weights": wrong})


def test_a_change_of_the_tokens_stays_within_the_vocabulary() -> None:
    made = model()
    changed = lw.trace(made, "abc", changes={"tokens": torch.zeros_like})
    assert int(changed["tokens"].values.max()) == 0
    with pytest.raises(SettingError, match="ids that this model has not; there are 257, from 0"):
        lw.trace(made, "abc", changes={"tokens": lambda value: value + 1000})
