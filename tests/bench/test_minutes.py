"""The choice of --minutes beside shapes by hand: what is run where, and what is said of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from lightwell.bench import minutes
from lightwell.bench.minutes import CHOICE, HANDS, Finished, Hand, compare, lanes_of, summary
from lightwell.errors import SettingError
from lightwell.training.settings.compose import compose
from small import small_run, write_text


def finished(how: str, bits: float) -> Finished:
    return Finished(how, 60.0, 1, 64, 32, 4, 10, 1280, bits)


def test_every_shape_by_hand_is_one_that_can_be_trained_and_none_is_there_twice() -> None:
    for shapes in HANDS.values():
        assert len(set(shapes)) == len(shapes) >= 8
        for hand in shapes:
            settings = {
                name.removeprefix("--").replace("-", "_"): int(value)
                for name, value in zip(hand.flags[::2], hand.flags[1::2], strict=True)
            }
            model = compose(settings=settings).model
            assert (model.n_layers, model.d_model, model.head_width) == (hand.n_layers, hand.d_model, 64)


def test_lanes_are_equal_and_share_no_processor() -> None:
    assert lanes_of([0, 1, 2, 3, 4], 2) == [[0, 1], [2, 3]]
    assert lanes_of([5], 1) == [[5]]
    for lanes in (0, -1, 3):
        with pytest.raises(SettingError, match="lanes"):
            lanes_of([0, 1], lanes)


def test_a_lane_has_one_run_at_a_time_and_all_are_run(monkeypatch: pytest.MonkeyPatch) -> None:
    busy: set[int] = set()
    guard = threading.Lock()

    def pretend(how: str, flags: Sequence[str], minutes: float, processors: Sequence[int]) -> Finished:
        with guard:
            assert not busy & set(processors)
            busy.update(processors)
        time.sleep(0.01)
        with guard:
            busy.difference_update(processors)
        return finished(how, len(how))

    monkeypatch.setattr(minutes, "train", pretend)
    jobs = [("x" * number, ()) for number in range(1, 8)]
    ended: list[Finished] = []
    compare(1, jobs, [[0], [1]], ended.append)
    assert sorted(one.how for one in ended) == sorted(how for how, _ in jobs)


def test_the_summary_ranks_and_says_how_far_the_choice_is_from_the_best() -> None:
    found = summary([finished(CHOICE, 1.02), finished("b", 1.5), finished("a", 1.0)], 3, 1)
    assert [run["how"] for run in found["runs"]] == ["a", CHOICE, "b"]
    assert found["choice_above_best"] == pytest.approx(0.02)
    assert "choice_above_best" not in summary([finished(CHOICE, 1.0)], 3, 1)


def test_runs_that_a_file_has_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "found.json"
    flags = " ".join(HANDS[3][0].flags)
    out.write_text(json.dumps(summary([finished(CHOICE, 1.0), finished(flags, 1.1)], 3, 1)))
    ran: list[str] = []

    def pretend(how: str, flags: Sequence[str], minutes: float, processors: Sequence[int]) -> Finished:
        ran.append(how)
        return finished(how, 2.0)

    monkeypatch.setattr(minutes, "train", pretend)
    monkeypatch.setattr("lightwell.bench.minutes.shutil.which", lambda name: name)
    minutes.main(3, out=out)
    assert len(ran) == len(HANDS[3]) - 1
    assert flags not in ran
    assert len(json.loads(out.read_text())["runs"]) == len(HANDS[3]) + 1
    out.write_text("{}")
    with pytest.raises(SettingError, match="not what this benchmark writes"):
        minutes.main(3, out=out)


def test_a_run_is_a_process_on_its_processors_with_nothing_compiled_and_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = write_text(tmp_path / "texts")
    commands: list[Sequence[str]] = []

    def pretend(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> str:
        commands.append(command)
        if "evaluate" in command:
            return json.dumps({"bits_per_byte": 1.25})
        assert environment is not None
        assert environment["OMP_NUM_THREADS"] == "2"
        assert not Path(environment["TORCHINDUCTOR_CACHE_DIR"]).exists()
        small_run(text, Path(command[command.index("--out") + 1]), d_model=16)
        return ""

    monkeypatch.setattr(minutes, "run_quietly", pretend)
    found = minutes.train("tried", ("--d-model", "16"), 7, [3, 5])
    assert found == Finished("tried", found.seconds, 2, 16, 16, 4, 6, found.tokens, 1.25)
    assert all(command[:3] == ["taskset", "--cpu-list", "3,5"] for command in commands)
    train, evaluate = commands
    where = train[train.index("--out") + 1]
    quiet = [word for what in ("eval", "sample", "checkpoint") for word in (f"--{what}-every", "0")]
    assert train[4:] == ["-m", "lightwell", "train", "--minutes", "7", "--out", where, *quiet, "--d-model", "16"]
    assert evaluate[4:] == ["-m", "lightwell", "evaluate", where, "--json"]
    assert found.tokens == 6 * 4 * 16
    assert found.seconds > 0


def test_a_lane_is_free_again_after_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[str] = []

    def fails(how: str, flags: Sequence[str], minutes: float, processors: Sequence[int]) -> Finished:
        tried.append(how)
        raise SettingError("No.")

    monkeypatch.setattr(minutes, "train", fails)
    with pytest.raises(SettingError):
        compare(1, [("a", ()), ("b", ())], [[0]], lambda run: None)
    assert tried == ["a", "b"]


def test_what_cannot_be_compared_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingError, match=r"There are shapes by hand for 3 and 10 minutes, not for 4\."):
        minutes.main(4)
    monkeypatch.setattr("lightwell.bench.minutes.shutil.which", lambda name: None)
    with pytest.raises(SettingError, match="taskset is needed"):
        minutes.main(3)


def test_flags_are_spelt_as_the_command_takes_them() -> None:
    assert Hand(2, 128).flags == (
        "--n-layers", "2", "--d-model", "128", "--context-length", "128", "--batch-size", "16", "--n-heads", "2",
    )  # fmt: skip
