from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightwell.errors import TextError
from lightwell.text.documents import Document
from lightwell.text.split import TOLERANCE, split_documents
from paths import needs

some_texts = st.lists(st.text(st.sampled_from("ab\nß光"), min_size=4, max_size=60), min_size=1, max_size=30)
fractions = st.floats(0.01, 0.99)


def documents(*texts: str) -> list[Document]:
    return [Document(f"{number}.txt", text) for number, text in enumerate(texts)]


def sizes(side: list[Document]) -> int:
    return sum(document.size for document in side)


@given(some_texts, fractions)
def test_both_sides_together_are_the_text_and_none_is_empty(texts: list[str], fraction: float) -> None:
    split = split_documents(documents(*texts), fraction)
    assert sizes(split.train) > 0
    assert sizes(split.held_out) > 0
    heads = {document.source: document.text for document in split.train}
    tails = {document.source: document.text for document in split.held_out}
    assert [heads.get(f"{n}.txt", "") + tails.get(f"{n}.txt", "") for n in range(len(texts))] == texts
    assert all(document.text for document in [*split.train, *split.held_out])


@given(some_texts, fractions, st.integers())
def test_the_side_of_a_document_does_not_depend_on_the_order(texts: list[str], fraction: float, seed: int) -> None:
    shuffled = documents(*texts)
    random.Random(seed).shuffle(shuffled)
    first, second = split_documents(documents(*texts), fraction), split_documents(shuffled, fraction)
    for one, other in ((first.train, second.train), (first.held_out, second.held_out)):
        assert sorted((d.source, d.text) for d in one) == sorted((d.source, d.text) for d in other)


@given(some_texts, fractions)
def test_equal_documents_are_on_one_side(texts: list[str], fraction: float) -> None:
    copies = documents(*texts, *texts)
    split = split_documents(copies, fraction)
    train, validation = ({document.source for document in side} for side in (split.train, split.held_out))
    sides: dict[str, set[tuple[bool, bool]]] = {}
    for document in copies:
        sides.setdefault(document.text, set()).add((document.source in train, document.source in validation))
    assert all(len(where) == 1 for where in sides.values())


@given(st.lists(st.integers(1, 100), min_size=40, max_size=80), st.floats(0.1, 0.9))
def test_many_documents_come_near_the_fraction_and_stay_whole(lengths: list[int], fraction: float) -> None:
    texts = [f"{number} " + "x" * length for number, length in enumerate(lengths)]
    split = split_documents(documents(*texts), fraction)
    share = sizes(split.held_out) / sum(len(text) for text in texts)
    assert fraction * (1 - TOLERANCE) - 0.01 <= share <= fraction * (1 + TOLERANCE) + 0.01


def test_one_document_gives_its_tail_from_a_line_on() -> None:
    text = "".join(f"line {number}\n" for number in range(1000))
    split = split_documents(documents(text), 0.1)
    (head,), (tail,) = split.train, split.held_out
    assert head.text + tail.text == text
    assert tail.text.startswith("line ")
    assert abs(tail.size / len(text) - 0.1) < 0.002
    assert "the last 10.0%" in split.how


@pytest.mark.parametrize("end", ["\n" * 60, "\n \n\t\n" * 20, "\r\n" * 40, "\u3000\n\n"])
def test_a_blank_end_is_not_what_is_held_out(end: str) -> None:
    text = "".join(f"line {number}\n" for number in range(60))
    split = split_documents(documents(text.rstrip("\n") + end), 0.1)
    (head,), (tail,) = split.train, split.held_out
    assert len(tail.text.split()) >= 10
    assert tail.text.rstrip() + "\n" == tail.text.replace("\r\n", "\n").replace("\u3000", "").replace(" \n", "\n")
    blank = len(text.rstrip("\n") + end) - len(head.text + tail.text)
    assert f" {blank} blank characters at its end are left out." in split.how
    assert "blank" not in split_documents(documents(text), 0.1).how
    assert split_documents(documents("word " * 40), 0.1).held_out[0].text.endswith("word ")


def test_a_huge_document_among_small_ones_is_cut() -> None:
    split = split_documents(documents("small\n", "huge line\n" * 10_000), 0.2)
    assert sizes(split.held_out) == pytest.approx(20_000, rel=0.01)
    assert "the end of 1.txt" in split.how


def test_a_character_is_never_cut() -> None:
    text = "光" * 10
    split = split_documents(documents(text), 0.15)
    assert split.train[0].text + split.held_out[0].text == text
    assert "\ufffd" not in split.held_out[0].text


def test_copies_of_one_document_are_cut_alike() -> None:
    split = split_documents(documents("0123456789", "0123456789"), 0.3)
    assert [document.text for document in split.train] == ["0123456"] * 2
    assert [document.text for document in split.held_out] == ["789"] * 2


def test_a_text_too_small_to_split_is_refused() -> None:
    for text in ("a", "a\n\n\n"):
        with pytest.raises(TextError, match="too short"):
            split_documents(documents(text), 0.5)


def test_shakespeare_is_split_as_everywhere_but_for_a_line() -> None:
    text = needs("tinyshakespeare.txt").read_text(encoding="utf-8")
    (head,) = split_documents(documents(text), 0.1).train
    assert abs(head.size - 1_003_854) < 100


def test_the_beginning_of_the_held_out_side_is_a_fair_sample() -> None:
    """Held-out documents that came in order of their size do not stand in that order."""
    documents = [Document(str(n), f"{n} " * (n + 1)) for n in range(400)]
    held_out = [int(document.source) for document in split_documents(documents, 0.2).held_out]
    assert held_out != sorted(held_out)
    half = len(held_out) // 2
    first, whole = sum(held_out[:half]) / half, sum(held_out) / len(held_out)
    assert abs(first - whole) < 0.2 * whole


def by_hash(side: list[Document]) -> list[Document]:
    return sorted(side, key=lambda document: hashlib.sha256(document.text.encode()).digest())


@pytest.mark.parametrize("huge", [0, 100_000])
def test_training_keeps_its_order_and_the_held_out_side_is_in_that_of_the_hash(huge: int) -> None:
    texts = [f"{number} " * (number + 1) for number in range(200)] + ["huge line\n" * huge] * (huge > 0)
    split = split_documents(documents(*texts), 0.2)
    assert len(split.held_out) > 1
    assert ("the end of" in split.how) == (huge > 0)
    numbers = [int(document.source.split(".")[0]) for document in split.train]
    assert numbers == sorted(numbers)
    assert split.held_out == by_hash(split.held_out)


def test_adding_a_document_moves_hardly_any_other() -> None:
    texts = [f"Document {number}, of much the same size as the others." for number in range(500)]
    before = {document.text for document in split_documents(documents(*texts), 0.1).held_out}
    for more in ("One more.", "And a longer one, " * 9):
        after = {document.text for document in split_documents(documents(more, *texts), 0.1).held_out}
        assert len((before ^ after) - {more}) <= 5


def of_sizes(*sizes: int) -> list[Document]:
    """Documents of these sizes whose hashes are in this order."""
    made: list[Document] = []
    for place, size in enumerate(sizes):
        tries = (Document(f"{place}.txt", f"{number}".ljust(size, "x")) for number in range(1000))
        made.append(next(document for document in tries if document.digest[0] // 32 == place))
    return made


@pytest.mark.parametrize(
    ("sizes", "fraction", "held_out"),
    [
        ((100, 25, 200, 675), 0.1, [100]),  # met exactly; the next is further away
        ((60, 65, 400, 475), 0.1, [60, 65]),  # 125 for 100 wanted: a quarter over, and nearer than 60
        ((60, 66, 400, 474), 0.1, [60, 40]),  # 126: more than a quarter over, so the next is cut
        ((75, 110, 400, 415), 0.1, [75]),  # a quarter below, and so near enough
        ((74, 110, 400, 416), 0.1, [74, 26]),  # less than that, so the next is cut
        ((90, 20, 400, 490), 0.1, [90, 20]),  # as near with it as without it: with it
        ((90, 21, 400, 489), 0.1, [90]),  # nearer without it
    ],
)
def test_whole_documents_are_held_out_within_a_quarter_of_what_is_wanted(
    sizes: tuple[int, ...], fraction: float, held_out: list[int]
) -> None:
    split = split_documents(of_sizes(*sizes), fraction)
    assert sorted(document.size for document in split.held_out) == sorted(held_out)


@pytest.mark.parametrize(
    ("lines", "tail"),
    [
        ((600, 220, 180), 180),  # 200 wanted: the line's end is 20 away
        ((600, 240, 160), 160),  # 40 away, but within a quarter of the tail
        ((600, 149, 251), 200),  # 51 away, and further than a quarter of the tail: cut anywhere
        ((600, 150, 70, 180), 180),  # the nearer of two
        ((600, 190, 30, 180), 210),  # likewise, before
    ],
)
def test_a_cut_goes_to_the_nearest_line_within_a_quarter(lines: tuple[int, ...], tail: int) -> None:
    text = "".join("x" * (size - 1) + "\n" for size in lines)
    (held_out,) = split_documents(documents(text), 0.2).held_out
    assert held_out.size == tail


def test_a_line_far_away_is_left_alone_however_large_the_text() -> None:
    text = "x" * 77_000 + "\n" + "x" * 23_000
    (held_out,) = split_documents(documents(text), 0.2).held_out
    assert held_out.size == 20_000
    text = "x" * 78_500 + "\n" + "x" * 20_999 + "\n" + "x" * 500
    assert split_documents(documents(text), 0.2).held_out[0].size == 21_500
