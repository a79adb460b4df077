"""What is printed fits the terminal: no line is wider, no word is broken that fits, and nothing is lost."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from cli_house import call
from lightwell.cli import printer, words
from lightwell.cli.printer import Streamed, fit, width_of
from lightwell.cli.progress import BarProgress, LineProgress

Capture = pytest.CaptureFixture[str]
REFERENCES = {"uniform": 4.0, "unigram_loss": 3.0, "bigram_loss": 2.0, "bytes_per_token": 2.0}
any_text = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\n\t"), max_size=300)
words_ = st.lists(st.text("abc光é-", min_size=1, max_size=25), max_size=30)


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


@given(text=any_text, width=st.integers(20, 100))
def test_no_line_is_wider_and_no_character_is_lost(text: str, width: int) -> None:
    printed = fit(text, width)
    assert all(cell_len(line) <= width and "\t" not in line for line in printed.split("\n"))
    assert squeezed(printed) == squeezed(text)
    assert fit(text, 0) == text


@given(parts=words_, width=st.integers(40, 90), left=st.sampled_from(["", "  ", "Saved in  ", "  n_layers  "]))
def test_words_stay_whole_and_hang_below_what_they_say(parts: list[str], width: int, left: str) -> None:
    printed = fit(left + " ".join(parts), width).split("\n")
    assert " ".join(" ".join(printed).split()) == " ".join((left + " ".join(parts)).split())
    for line in printed[1:]:
        assert line.startswith(" " * len(left))


@pytest.mark.parametrize("width", [60, 80, 140])
def test_a_long_value_hangs_beside_its_name(width: int) -> None:
    text = "Curve     " + ", ".join(f"runs/a-rather-long-name/curve{number}.png" for number in range(6))
    lines = fit(text, width).split("\n")
    assert len(lines) > 1
    assert all(len(line) <= width for line in lines)
    assert {line[:10] for line in lines[1:]} == {" " * 10}


@given(pieces=st.lists(st.text("ab 光\n", max_size=9), max_size=40), width=st.integers(5, 30))
def test_a_streamed_text_breaks_between_words_and_loses_only_spaces_at_an_edge(pieces: list[str], width: int) -> None:
    streamed = Streamed(width)
    printed = "".join(map(streamed.push, pieces)) + streamed.flush()
    text = "".join(pieces)
    assert squeezed(printed) == squeezed(text)
    longest = max(map(cell_len, text.split()), default=0)
    if longest <= width:
        assert all(cell_len(line.rstrip(" ")) <= width for line in printed.split("\n"))
        assert printed.split() == text.split()
    plain = Streamed(0)
    assert "".join(map(plain.push, pieces)) + plain.flush() == text


def test_a_table_leaves_out_what_can_be_spared_and_says_so() -> None:
    rows = [("run", "steps", "size", "date"), ("runs/a", "100", "2 MB", "01-02"), ("runs/光", "5", "1 kB", "01-03")]
    whole = words.table(rows, right=(1, 2), spare=(2, 3), width=0)
    assert [cell_len(line) for line in whole.split("\n")] == [26, 27, 27]
    assert words.table(rows, right=(1, 2), spare=(2, 3), width=27) == whole
    narrow = words.table(rows, right=(1, 2), spare=(2, 3), width=26).split("\n")
    assert narrow[0] == "run      steps  date"
    assert narrow[-1] == "(Not shown, as the terminal is too narrow: size.)"
    assert words.table(rows, spare=(2, 3), width=14).split("\n")[-1].endswith("size, date.)")
    stacked = words.table(rows, spare=(2, 3), width=12).split("\n")
    assert stacked[:4] == ["runs/a", "  steps  100", "  size   2 MB", "  date   01-02"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("width", [60, 80, 140])
def test_every_command_fits_the_terminal(
    house: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, width: int
) -> None:
    monkeypatch.setattr(printer, "width_of", lambda stream: width)
    monkeypatch.setattr(words, "width_of", lambda stream: width)
    monkeypatch.setenv("COLUMNS", str(width))
    every = "show notes", "runs", "doctor", "lab", "evaluate notes", "train --help", "nonsense", f"show {'x' * 200}"
    for tokens in map(str.split, every):
        result = call(capsys, *tokens)
        for line in (result.out + result.err * (result.code > 0)).splitlines():
            assert cell_len(line) <= width, (tokens, line)


def test_a_stream_that_is_no_terminal_has_no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    assert width_of(io.StringIO()) == 0
    monkeypatch.setenv("COLUMNS", "77")
    assert width_of(Terminal()) == 77
    closed = Terminal()
    closed.close()
    closed.isatty = lambda: (_ for _ in ()).throw(ValueError)  # type: ignore[method-assign]
    assert width_of(closed) == 0


def progress(width: int, kind: type[LineProgress] = LineProgress) -> tuple[LineProgress, io.StringIO]:
    file = io.StringIO()
    console = Console(file=file, width=width, force_terminal=True, highlight=False, color_system="standard")
    made = kind(console)
    made.references = REFERENCES
    return made, file


def score(step: int, loss: float) -> dict[str, Any]:
    return {"step": step, "validation_loss": loss, "validation_bits_per_byte": loss, "perplexity": 9.0}


def test_colour_means_worse_than_the_best_or_below_one_more_line() -> None:
    listener, file = progress(200)
    lines = []
    for step, loss in enumerate([5.0, 4.5, 3.5, 3.4, 3.45, 1.5]):
        before = len(file.getvalue())
        listener.evaluated(score(step, loss))
        lines.append(file.getvalue()[before:])
    colours = ["32m" if "\x1b[32m" in line else "33m" if "\x1b[33m" in line else "" for line in lines]
    assert colours == ["", "", "32m", "", "33m", "32m"]


def test_the_bar_has_the_held_out_loss_its_best_and_what_there_is_room_for() -> None:
    listener, _ = progress(100, BarProgress)
    listener.begin(10, 0)
    listener.evaluated(score(0, 3.0))
    listener.evaluated(score(1, 3.25))
    listener.stepped({"step": 2, "loss": 2.5, "tokens_per_second": 1000.0})
    listener.end()
    assert listener.figures().startswith("loss 2.500  1.803 bits/byte  held out 3.250  best 3.000  1,000 tokens/s  ")
    assert listener.figures(60).startswith("loss 2.500  held out 3.250  best 3.000  ")
    assert listener.figures(12) == "loss 2.500"
    assert "tokens/s" not in listener.figures(70)


def test_progress_fits_a_narrow_terminal() -> None:
    listener, file = progress(60)
    listener.say("A sentence that is a good deal longer than sixty characters, and so is broken between its words.")
    plain = re.sub(r"\x1b\[[0-9;]*m", "", file.getvalue())
    assert "broken between its words." in " ".join(plain.split())
