"""The table on paper follows from what is stated in it."""

from __future__ import annotations

import pytest

from lightwell.bench.scale import GPUS, H100, HELD, MODELS, ROOM, UTILISATION, Gpu, fit, table
from lightwell.training.planning.plan import flops_per_token
from paths import REPOSITORY


def test_the_models_have_the_parameters_that_they_are_known_for() -> None:
    known = {"GPT-2 small": 124e6, "GPT-2 XL": 1558e6, "Llama 2 7B": 6.74e9, "Llama 2 13B": 13.0e9, "Llama 2 70B": 69e9}
    for name, parameters in known.items():
        assert MODELS[name].parameter_count() == pytest.approx(parameters, rel=0.005)


@pytest.mark.parametrize("name", MODELS)
def test_memory_falls_as_gpus_grow_and_what_is_said_to_fit_does(name: str) -> None:
    found = [fit(MODELS[name], gpus) for gpus in GPUS]
    assert [one.fixed for one in found] == sorted((one.fixed for one in found), reverse=True)
    assert found[0].fixed == HELD * MODELS[name].parameter_count()
    for one in found:
        assert not one.sequences or one.fixed + one.sequences * one.each <= ROOM * H100.memory
        assert one.sequences or one.fixed + one.each > ROOM * H100.memory


def test_no_rate_is_above_what_the_products_allow() -> None:
    for model in MODELS.values():
        for gpus in GPUS:
            rate = fit(model, gpus).tokens_per_second
            assert rate * flops_per_token(model) <= gpus * UTILISATION * H100.flops * 1.0001


def test_every_model_has_a_row() -> None:
    assert [line.split(" | ")[0].removeprefix("| ") for line in table().splitlines()[2:]] == list(MODELS)


def test_the_page_has_this_table() -> None:
    assert table() in (REPOSITORY / "docs" / "scaling.md").read_text(encoding="utf-8")


def test_what_a_small_model_needs_and_does_by_hand() -> None:
    model = MODELS["GPT-2 small"]
    parameters, outside = 124_439_808, 50257 * 768
    gpu = Gpu("small", memory=4e9, flops=1e12, inside=1e9, between=1e8, each_machine=4)
    one, four, five = (fit(model, gpus, gpu) for gpus in (1, 4, 5))
    together = 4 * (3 * (parameters - outside) / 12 + 2 * outside)
    assert one.fixed == 16 * parameters
    assert four.fixed == pytest.approx(4 * parameters + together)
    assert four.sequences == int((0.9 * 4e9 - four.fixed) / four.each) > 0
    sending = 12 * parameters * 3 / 4 / 1e9
    computing = four.sequences * 1024 * flops_per_token(model) / 0.4e12
    assert four.tokens_per_second == pytest.approx(4 * four.sequences * 1024 / max(sending, computing))
    sending = 12 * parameters * 4 / 5 / 1e8  # beyond one machine, where it takes longer than computing
    assert five.tokens_per_second == pytest.approx(5 * five.sequences * 1024 / sending)
    assert fit(model, 1, Gpu("huge", 1e15, 1e12, 1e9, 1e9)).sequences == 64
    assert fit(model, 1, Gpu("tiny", 1e9, 1e12, 1e9, 1e9)).tokens_per_second == 0.0
