from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwell.errors import SettingError
from lightwell.generation.stops import StopStrings

TEXT = st.text("abc", max_size=14)
STOPS = st.lists(st.text("abc", min_size=1, max_size=4), max_size=3)


def run(pieces: list[str], stops: list[str]) -> list[str]:
    filter_ = StopStrings(stops)
    return [*(filter_.push(piece) for piece in pieces), filter_.flush()]


def by_hand(text: str, stops: list[str]) -> str:
    """Character by character: cut before the first stop string to be completed, the longest where several are."""
    for end in range(1, len(text) + 1):
        completed = [stop for stop in stops if text[:end].endswith(stop)]
        if completed:
            return text[: end - max(map(len, completed))]
    return text


@given(TEXT, STOPS, st.lists(st.integers(0, 14), max_size=6))
def test_however_the_text_is_cut_the_same_comes_out(text: str, stops: list[str], cuts: list[int]) -> None:
    borders = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(borders)]
    assert "".join(run(pieces, stops)) == by_hand(text, stops)
    assert "".join(run(list(text), stops)) == by_hand(text, stops)


def test_nothing_is_held_back_longer_than_needed() -> None:
    assert run(["ab", "x", "a", "b", "c", "d"], ["abc"]) == ["", "abx", "", "", "", "", ""]
    assert run(["hello"], ["abc"]) == ["hello", ""]
    assert run(["hello", " a"], ["abc"]) == ["hello", " ", "a"]
    assert run(["hello"], []) == ["hello", ""]


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(SettingError, match="empty text"):
        StopStrings(["x", ""])
