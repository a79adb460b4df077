"""The table on paper follows from what is stated in it."""

from __future__ import annotations

import pytest

from lightwell.bench.scale import GPUS, H100, HELD, MODELS, ROOM, UTILISATION, fit, table
from lightwell.training.planning.plan import flops_per_token


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
