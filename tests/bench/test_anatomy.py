"""The profile of a step: names of operators to kinds, seconds that add up, and the picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightwell.bench.anatomy import KINDS, REST, Anatomy, ProfileError, by_kind, dissect, draw, in_ms, kind_of
from lightwell.bench.contenders.shapes import shape


@pytest.mark.parametrize(
    ("operator", "kind"),
    [
        ("aten::addmm", "matrix products"),
        ("aten::mm", "matrix products"),
        ("aten::bmm", "matrix products"),
        ("mkldnn::_linear_pointwise", "matrix products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", "attention"),
        ("autograd::engine::evaluate_function: ScaledDotProductFlashAttentionForCpuBackward0", "attention"),
        ("aten::_softmax", "attention"),
        ("graph_0_cpp_fused__softmax_mul_3", "attention"),
        ("aten::_log_softmax", "embedding and loss"),
        ("aten::nll_loss_backward", "embedding and loss"),
        ("aten::embedding_dense_backward", "embedding and loss"),
        ("aten::native_layer_norm", "norms"),
        ("graph_0_cpp_fused__to_copy_add_native_layer_norm_view_4", "norms"),
        ("aten::_fused_rms_norm", "norms"),
        ("aten::linalg_vector_norm", "gradient norm and clipping"),
        ("aten::_foreach_mul_", "gradient norm and clipping"),
        ("aten::_fused_adamw_", "optimizer"),
        ("Optimizer.step#AdamW.step", "optimizer"),
        ("aten::_foreach_add_", "optimizer"),
        ("aten::copy_", "copies and casts"),
        ("aten::_to_copy", "copies and casts"),
        ("aten::gelu_backward", "elementwise, fused or not"),
        ("graph_0_cpp_fused__to_copy_gelu_view_2", "elementwise, fused or not"),
        ("## Call CompiledFxGraph fligmv ##", "elementwise, fused or not"),
        ("aten::native_dropout", "elementwise, fused or not"),
        ("TorchDynamo Cache Lookup", REST),
        ("aten::view", REST),
        ("aten::permute", REST),
    ],
)
def test_operators_belong_to_kinds(operator: str, kind: str) -> None:
    assert kind_of(operator) == kind


def test_kinds_add_up_to_the_step() -> None:
    seconds = by_kind([("aten::mm", 0.5), ("aten::addmm", 0.25), ("aten::view", 0.0625)], 1.0)
    assert seconds["matrix products"] == 0.75
    assert seconds[REST] == 0.25  # the view, and what no operator accounts for
    assert sum(seconds.values()) == 1.0
    assert list(seconds) == [*(kind for kind, _ in KINDS), REST]


def test_long_times_are_written_out() -> None:
    assert [in_ms(1287.3), in_ms(136.2), in_ms(3.08)] == ["1,287 ms", "136 ms", "3.1 ms"]


def test_a_real_step_is_dissected_and_drawn(tmp_path: Path) -> None:
    anatomy = dissect(shape("tiny"), "lightwell-eager")
    assert sum(anatomy.seconds.values()) == pytest.approx(anatomy.step_seconds, rel=0.5)
    for kind in ("matrix products", "attention", "embedding and loss", "norms", "optimizer"):
        assert anatomy.seconds[kind] > 0, kind
    draw(anatomy, tmp_path / "step.svg")
    drawn = (tmp_path / "step.svg").read_text()
    assert "<!-- matrix products -->" in drawn
    assert f"<!-- {REST} -->" in drawn


def test_bars_are_labelled_with_time_and_share_the_longest_first(tmp_path: Path) -> None:
    seconds = {**by_kind([("aten::mm", 0.25), ("adamw", 0.5)], 1.0)}
    draw(Anatomy("S", "lightwell", 1.0, seconds), tmp_path / "step.svg")
    drawn = [
        line.strip() for line in (tmp_path / "step.svg").read_text().splitlines() if line.strip().startswith("<!-- ")
    ]
    assert drawn == [
        f"<!-- {label} -->" for label in (
            "optimizer", "matrix products", REST, "500 ms  50%", "250 ms  25%", "250 ms  25%", "One training step",
            "lightwell on shape S, 1,000 ms under the profiler",
        )
    ]  # fmt: skip
    with pytest.raises(ProfileError, match=r"could not be written \(No such file or directory\)"):
        draw(Anatomy("S", "lightwell", 1.0, seconds), tmp_path / "no" / "step.svg")
    assert [in_ms(100.0), in_ms(99.94), in_ms(0.04)] == ["100 ms", "99.9 ms", "0.0 ms"]
    assert sum(by_kind([("aten::mm", 2.0)], 1.0).values()) == 2.0  # never less than nothing for the rest
