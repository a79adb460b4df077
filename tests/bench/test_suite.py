"""Shape after shape: what is asked of the rounds, what becomes of it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest

from lightwell.bench.contenders.contender import Contender
from lightwell.bench.turns import suite as module
from lightwell.bench.turns.rounds import Measurement, Rounds, Turns, Watcher
from lightwell.bench.turns.suite import BenchError, Suite, measure
from lightwell.errors import SettingError

said: list[str] = []


@contextmanager
def counting(what: str) -> Iterator[Callable[[int, int], None]]:
    yield lambda done, of: None


WATCHER = Watcher(said.append, counting)


class FakeRounds:
    """Rounds in which every step takes a second, or that stop."""

    asked: ClassVar[list[tuple[list[Contender], Mapping[str, Contender], int, int]]] = []
    stop_at = "M"
    error = ""

    def __init__(self, contenders: Sequence[Contender], products: Mapping[str, Contender], watcher: Watcher) -> None:
        assert watcher is WATCHER
        self.contenders, self.products = list(contenders), products
        self.measurement = Measurement([Turns(contender) for contender in contenders], {})

    def measure(self, rounds: int, steps: int) -> None:
        self.asked.append((self.contenders, self.products, rounds, steps))
        self.measurement.rounds = rounds
        for turns in self.measurement.turns:
            turns.error = self.error
            if not self.error:
                turns.rounds = {0: [1.0] * steps}
        if f'"name": "{self.stop_at}"' in self.contenders[0].command[-1]:
            raise KeyboardInterrupt


@pytest.fixture(autouse=True)
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeRounds]:
    said.clear()
    monkeypatch.setattr(FakeRounds, "asked", [])
    monkeypatch.setattr(module, "Rounds", FakeRounds)
    return FakeRounds


def test_every_shape_is_measured_with_both_products(fake: type[FakeRounds]) -> None:
    names = ("lightwell-eager", "lightwell-fp32")
    results = measure(Suite(("tiny", "S"), names, peak_gflops=3.0), WATCHER, "what was typed")
    assert results["finished"]
    assert (results["format"], results["command"]) == (1, "what was typed")
    assert [shape["shape"]["name"] for shape in results["shapes"]] == ["tiny", "S"]
    assert [[one["tokens_per_second"] for one in shape["contenders"]] for shape in results["shapes"]] == [
        [32.0] * 2,
        [4096.0] * 2,
    ]
    assert {(shape["rounds"], shape["steps_per_round"], shape["peak_gflops"]) for shape in results["shapes"]} == {
        (5, 2, 3.0)
    }
    for contenders, products, rounds, steps in fake.asked:
        assert [contender.name for contender in contenders] == list(names)
        assert {precision: product.name for precision, product in products.items()} == {
            "bf16": "product-bf16",
            "fp32": "product-fp32",
        }
        assert (rounds, steps) == (5, 2)
    assert said[0] == "Shape tiny: 2 layers, 2 heads, d_model 32, context 16, batch 2, vocabulary 300."
    assert Suite().shapes == ("S",)


def test_ctrl_c_keeps_what_was_measured_and_begins_no_further_shape() -> None:
    results: dict[str, Any] = {}
    with pytest.raises(KeyboardInterrupt):
        measure(Suite(("tiny", "M", "S"), ("lightwell",), rounds=1, steps=1), WATCHER, "", on_shape=results.update)
    assert not results["finished"]
    assert [shape["finished"] for shape in results["shapes"]] == [True, False]
    assert [shape["shape"]["name"] for shape in results["shapes"]] == ["tiny", "M"]


def test_a_benchmark_without_a_single_speed_is_an_error(
    fake: type[FakeRounds], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fake, "error", "no such kernel")
    with pytest.raises(BenchError, match=r"^Nothing could be measured; lightwell failed: no such kernel$"):
        measure(Suite(("tiny",), ("lightwell",)), WATCHER, "")
    with pytest.raises(KeyboardInterrupt):
        measure(Suite(("M",), ("lightwell",)), WATCHER, "")


@pytest.mark.parametrize(
    "wrong", [{"shapes": ("X",)}, {"rounds": 0}, {"steps": 0}, {"peak_gflops": -0.5}, {"contenders": ("X",)}]
)
def test_what_cannot_be_measured_starts_nothing(fake: type[FakeRounds], wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingError):
        measure(Suite(**wrong), WATCHER, "")
    assert fake.asked == []
    Suite(rounds=1, steps=1, peak_gflops=0.0).check()


@pytest.mark.parametrize(("free", "room"), [(None, True), (3001, True), (3000, False), (2999, False)])
def test_there_is_room_for_another_where_one_and_a_half_times_the_largest_is_free(
    monkeypatch: pytest.MonkeyPatch, free: int | None, room: bool
) -> None:
    monkeypatch.setattr("lightwell.bench.turns.rounds.meminfo", lambda name: free if name == "MemAvailable" else 0)
    measuring = Rounds([Contender(name, "", ()) for name in "ABC"], {}, WATCHER)
    for turns, peak in zip(measuring.measurement.turns, (500, 2000), strict=False):
        turns.about["peak_bytes"] = peak
    assert measuring._room() == room
