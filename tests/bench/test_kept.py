"""A benchmark that is stopped keeps every shape that it has measured, goes on from there, and overwrites nothing."""

from __future__ import annotations

import errno
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli_house import call
from lightwell.bench import kept
from lightwell.bench.table import TableError, _tables
from lightwell.bench.turns import suite as module
from lightwell.cli import app
from lightwell.cli.commands.bench import report
from lightwell.errors import RunError, SettingError
from lightwell.training.events.interrupt import Terminated
from lightwell.training.hardware.host import describe_host
from small import raising, system_error

Capture = pytest.CaptureFixture[str]


class FakeRounds:
    """Rounds that measure at once; at the shape `stop_at` something happens."""

    measured: list[str]
    stop_at = ""
    happens: type[BaseException] = KeyboardInterrupt

    def __init__(self, contenders: Any, products: Any, watcher: Any) -> None:
        from lightwell.bench.turns.rounds import Measurement, Turns

        self.name = json.loads(contenders[0].command[-1])["name"]
        self.measurement = Measurement([Turns(contender) for contender in contenders], {})

    def measure(self, rounds: int, steps: int) -> None:
        if self.name == self.stop_at:
            raise self.happens
        self.measured.append(self.name)
        for turns in self.measurement.turns:
            turns.rounds, turns.about = {0: [1.0] * steps}, {"warm_up_seconds": 1.0}


@pytest.fixture
def rounds(monkeypatch: pytest.MonkeyPatch) -> type[FakeRounds]:
    fake = type("Rounds", (FakeRounds,), {"measured": []})
    monkeypatch.setattr(module, "Rounds", fake)
    return fake


def bench(capsys: Capture, out: Path, *more: str) -> Any:
    return call(capsys, "bench", "tiny", "S", "--contenders", "lightwell", "--rounds", "1", "--out", str(out), *more)


@pytest.mark.parametrize("happens", [KeyboardInterrupt, Terminated, SystemExit])
def test_a_stopped_benchmark_keeps_its_shapes_and_goes_on(
    rounds: Any, tmp_path: Path, capsys: Capture, happens: type[BaseException]
) -> None:
    out = tmp_path / "results.json"
    rounds.stop_at, rounds.happens = "S", happens
    try:
        stopped = bench(capsys, out)
        assert stopped.code == (143 if happens is Terminated else 130)
        assert "the same command goes on from there" in stopped.err
        assert "tiny:" in stopped.out
    except SystemExit:  # whatever else ends the process: the first shape is on the disk
        capsys.readouterr()
    before = json.loads(out.read_text())
    assert before["shapes"][0]["shape"]["name"] == "tiny"
    assert [result["finished"] for result in before["shapes"]] == [True, False]
    assert not before["finished"]

    rounds.stop_at = ""
    again = bench(capsys, out)
    assert again.code == 0, again.err
    assert "Shape tiny was measured before." in again.err
    assert rounds.measured == ["tiny", "S"]
    after = json.loads(out.read_text())
    assert after["finished"]
    assert [result["shape"]["name"] for result in after["shapes"]] == ["tiny", "S"]
    assert after["shapes"][0] == before["shapes"][0]
    assert "tiny:" in again.out
    assert "S:" in again.out


def test_finished_results_are_never_written_over(rounds: Any, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "results.json"
    assert bench(capsys, out).code == 0
    before = out.read_bytes()
    again = bench(capsys, out)
    assert (again.code, out.read_bytes()) == (2, before)
    assert "holds finished results; name another file with --out" in again.err


@pytest.mark.parametrize(
    "text", ["", "mine", "[]", "{}", '{"format": 1, "shapes": [1]}', '{"format": 1, "shapes": [{"shape": {}}]}', "\xff"]
)
def test_other_files_are_never_written_over(rounds: Any, tmp_path: Path, capsys: Capture, text: str) -> None:
    out = tmp_path / "results.json"
    out.write_bytes(text.encode("latin-1"))
    refused = bench(capsys, out)
    assert (refused.code, out.read_bytes()) == (2, text.encode("latin-1"))
    assert "is there already and holds no results that can be gone on with" in refused.err
    assert not rounds.measured


def test_another_question_or_machine_does_not_go_on(rounds: Any, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "results.json"
    rounds.stop_at = "S"
    bench(capsys, out)
    other = bench(capsys, out, "--steps-per-round", "3")
    assert other.code == 2
    assert "was begun with other settings" in other.err
    asked = json.loads(out.read_text())["asked"]
    with pytest.raises(SettingError, match="was begun with another machine"):
        kept.begun(out, asked, {"processor": "another"})
    assert len(kept.begun(out, asked, describe_host())) == 1


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError, match=r"cannot be read \(Is a directory\)"):
        kept.begun(tmp_path, {}, {})
    assert kept.begun(tmp_path / "none.json", {}, {}) == []
    monkeypatch.setattr(kept, "write_file", raising(system_error(errno.ENOSPC)))
    with pytest.raises(RunError, match=r"results.json could not be written"):
        kept.write(tmp_path / "results.json", {})


WRONG: list[Any] = [None, "x", [], {}, -1, True]


def places(value: Any, *before: Any) -> Iterator[tuple[Any, ...]]:
    """Where everything in plain values is: the keys that lead to it."""
    yield before
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in inside:
        yield from places(inner, *before, key)


def test_whatever_stands_in_a_kept_file_it_is_gone_on_with_or_refused(
    rounds: Any, tmp_path: Path, capsys: Capture
) -> None:
    out = tmp_path / "results.json"
    rounds.stop_at = "S"
    bench(capsys, out)
    whole = json.loads(out.read_text())
    refused = named = 0
    for *way, key in [place for place in places(whole) if place and place[0] != "host"]:
        for wrong in WRONG:
            damaged = json.loads(out.read_text())
            inner = damaged
            for step in way:
                inner = inner[step]
            inner[key] = wrong
            place = tmp_path / "damaged.json"
            place.write_text(json.dumps(damaged))
            try:
                for result in kept.begun(place, whole["asked"], whole["host"]):
                    assert report(result)
            except SettingError as error:
                refused += "name another file with --out" in str(error)
            try:
                _tables(place)
            except TableError as error:
                named += str(place) in str(error)
    assert refused > 100
    assert named > 50


def test_a_sigterm_is_a_stop_in_every_command(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    def busy() -> None:
        signal.raise_signal(signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(app, "build_app", busy)
    monkeypatch.setattr(app, "prepare_streams", lambda: None)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    try:
        with pytest.raises(SystemExit) as left:
            app.main()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert left.value.code == 143
    assert capsys.readouterr().err == "lightwell: Stopped.\n"
