"""The profile of a step: names of operators to kinds, seconds that add up, and the picture."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightwell.bench.anatomy import KINDS, REST, by_kind, dissect, draw, in_ms, kind_of
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
