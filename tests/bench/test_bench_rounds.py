"""Turns, ratios and failures, with contenders that only pretend to train."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from lightwell.bench.contenders.contender import Contender
from lightwell.bench.contenders.shapes import shape
from lightwell.bench.turns import rounds
from lightwell.bench.turns.results import shape_results
from lightwell.bench.turns.rounds import Rounds, Turns, Watcher, ratios, rotated

FAKE = """
import json, os, sys
log, name, seconds, fails_at = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
def answer(**values): print(json.dumps(values), flush=True)
if fails_at == 0:
    raise RuntimeError("no such kernel")
answer(warm_up_seconds=1.0, peak_bytes=1000, python="3", versions={"torch": "2"}, pid=os.getpid())
turn = 0
for line in sys.stdin:
    if line.strip() == "quit":
        answer(peak_bytes=2000, loss=5.5)
        break
    turn += 1
    if turn == fails_at:
        raise MemoryError("too large")
    with open(log, "a") as file:
        file.write(name + "\\n")
    answer(seconds=[seconds * turn] * int(line.split()[1]))
"""


class Heard:
    """A watcher that remembers, and stops after some rounds."""

    def __init__(self, stop_after: int = 0) -> None:
        self.sentences: list[str] = []
        self.stop_after = stop_after

    @contextmanager
    def counting(self, what: str) -> Iterator[Callable[[int, int], None]]:
        def told(done: int, of: int) -> None:
            if done == self.stop_after:
                raise KeyboardInterrupt

        yield told

    def watcher(self) -> Watcher:
        return Watcher(self.sentences.append, self.counting)


class House:
    """Fake contenders that write down when it is their turn."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.script = folder / "fake.py"
        self.script.write_text(FAKE)

    def contender(self, name: str, seconds: float, fails_at: int = -1) -> Contender:
        command = (sys.executable, str(self.script), str(self.log), name, str(seconds), str(fails_at))
        return Contender(name, f"fake {name}", command)

    def order(self) -> str:
        return "".join(self.log.read_text().split())


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_contenders_take_turns_and_another_begins_each_round(house: House) -> None:
    contenders = [house.contender(name, 1.0) for name in "ABC"]
    measuring = Rounds(contenders, {"fp32": house.contender("p", 0.1)}, Heard().watcher())
    measuring.measure(3, 2)
    assert house.order() == "pABC" + "pBCA" + "pCAB"
    assert all(list(turns.rounds) == [0, 1, 2] for turns in measuring.measurement.turns)
    assert measuring.measurement.turns[1].rounds[2] == [3.0, 3.0]


def test_results_have_medians_ratios_and_shares(house: House) -> None:
    contenders = [house.contender("A", 0.5), house.contender("B", 2.0)]
    measuring = Rounds(contenders, {"bf16": house.contender("p", 0.1)}, Heard().watcher())
    measuring.measure(3, 2)
    measuring.measurement.turns[0].about["flops_per_token"] = 1e6
    result = shape_results(shape("tiny"), measuring.measurement, 2, peak_gflops=1.0)
    first, second = result["contenders"]
    assert first["step_seconds"] == 1.0  # the median of 0.5, 1.0 and 1.5, each twice
    assert first["tokens_per_second"] == 32.0
    assert first["baseline_is_times"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    assert second["baseline_is_times"]["median"] == 4.0
    assert second["peak_bytes"] == 2000
    assert second["final_loss"] == 5.5
    rate = 2 * 2048**3 / 0.1  # of the product, in the first round; it slows down as the others do
    assert first["share_of_product"]["median"] == pytest.approx(1e6 * 32 / 0.5 / rate)
    assert first["share_of_peak"] == pytest.approx(0.032)


def test_ratios_are_taken_within_rounds() -> None:
    first, second = Turns(Contender("A", "", ())), Turns(Contender("B", "", ()))
    first.rounds = {0: [1.0, 1.0, 9.0], 1: [2.0]}  # the machine was half as fast in round 1
    second.rounds = {0: [3.0], 1: [6.0, 6.0], 2: [1.0]}
    assert ratios(first, second) == [3.0, 3.0]


def test_rotation_gives_everyone_each_place() -> None:
    group = [Turns(Contender(name, "", ())) for name in "ABC"]
    orders = [[turns.contender.name for turns in rotated(group, number)] for number in range(3)]
    assert [set(place) for place in zip(*orders, strict=True)] == [set("ABC")] * 3


@pytest.mark.parametrize(("fails_at", "words"), [(0, "RuntimeError: no such kernel"), (2, "MemoryError: too large")])
def test_one_that_breaks_down_is_reported_and_the_others_go_on(house: House, fails_at: int, words: str) -> None:
    heard = Heard()
    contenders = [house.contender("A", 1.0), house.contender("B", 1.0, fails_at), house.contender("C", 1.0)]
    measuring = Rounds(contenders, {}, heard.watcher())
    measuring.measure(3, 1)
    a, b, c = measuring.measurement.turns
    assert b.error == words
    assert f"B failed: {words}" in heard.sentences
    assert len(b.rounds) == max(0, fails_at - 1)
    assert len(a.rounds) == len(c.rounds) == 3
    assert not a.error + c.error


def test_a_program_that_is_not_there_is_reported(house: House) -> None:
    measuring = Rounds([Contender("A", "", ("/no/such/python",))], {}, Heard().watcher())
    measuring.measure(1, 1)
    assert measuring.measurement.turns[0].error == "/no/such/python cannot be run (No such file or directory)."


def test_ctrl_c_ends_the_children_and_keeps_what_there_is(house: House) -> None:
    measuring = Rounds([house.contender(name, 1.0) for name in "AB"], {}, Heard(stop_after=2).watcher())
    with pytest.raises(KeyboardInterrupt):
        measuring.measure(5, 1)
    for turns in measuring.measurement.turns:
        assert len(turns.rounds) == 2
        with pytest.raises(ProcessLookupError):
            os.kill(turns.about["pid"], 0)
    result = shape_results(shape("tiny"), measuring.measurement, 1, 0.0)
    assert [contender["tokens_per_second"] for contender in result["contenders"]] == [32 / 1.5] * 2


def test_little_memory_makes_groups_with_the_first_one_in_each(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rounds, "meminfo", lambda name: 1499)  # less than 1.5 times what the fakes say they take
    measuring = Rounds([house.contender(name, 1.0) for name in "ABC"], {}, Heard().watcher())
    measuring.measure(2, 1)
    assert house.order() == "AB" + "BA" + "AC" + "CA"
    assert list(measuring.measurement.turns[2].rounds) == [2, 3]
    assert len(ratios(measuring.measurement.turns[0], measuring.measurement.turns[2])) == 2
