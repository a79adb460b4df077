"""What preparing came to, in sentences: every number by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightwell.corpus.manifest import Side
from lightwell.corpus.prepare import PreparedCorpus
from lightwell.corpus.report import sentences
from lightwell.corpus.units.reading import Findings
from lightwell.errors import TextError
from lightwell.text.config import TextConfig
from lightwell.text.decoding import Undecodable
from lightwell.text.documents import Skipped
from lightwell.tokens.tokenizer import make_tokenizer

BYTE = make_tokenizer(TextConfig(tokenizer="byte"), 0, ())
TRAIN, HELD_OUT = Side(3, 1004, 4000, []), Side(1, 202, 1000, [])


def test_the_report_says_everything_in_its_order() -> None:
    found = Findings(
        files=9, documents=1234, bytes=5000, empty_records=1, cut=[f"cut{number}" for number in range(5)],
        skipped=[Skipped("s", "is empty")],
        undecodable=[
            Undecodable("a", 2, 70), Undecodable("b", 1, 5), Undecodable("a", 3, 10),
            *(Undecodable(name, 1, 0) for name in "cde"),
        ],
    )  # fmt: skip
    broken = "became U+FFFD, the first at byte"
    advice = "convert the file to UTF-8 to keep them."
    assert sentences(found, [("t", "is binary"), ("u", "is empty")], BYTE, 3210, TRAIN, HELD_OUT) == [
        "Read 1,234 documents from 9 files, 5,000 bytes.",
        "Taken as documents of about 1 MiB, cut where a line ends, as too large: cut0, cut1, cut2 and 2 more.",
        "1 record had no text.",
        f"a is not all UTF-8: 5 byte sequences {broken} 70; {advice}",
        f"b is not all UTF-8: 1 byte sequence {broken} 5; {advice}",
        f"c is not all UTF-8: 1 byte sequence {broken} 0; {advice}",
        "So are 2 more files.",
        "Skipped 1 because it is binary: t.",
        "Skipped 2 because each is empty: u, s.",
        "Held out 1 of 4 documents (20.0% of the bytes), chosen by the hash of their text.",
        # 1,206 tokens but for 4 that open a document and 2 that close a side
        "The byte tokenizer has 257 tokens, each 4.17 bytes on average: 1,004 to train on and 202 held out.",
        "It was trained on 3,210 bytes of the training side, taken from all over the text.",
    ]


def test_names_are_spelt_out_up_to_three() -> None:
    found = Findings(1, 1, 1, 0, ["x", "y", "z"], [], [Undecodable(name, 1, 0) for name in "abc"])
    report = sentences(found, [], BYTE, 0, TRAIN, HELD_OUT)
    assert report[1].endswith("as too large: x, y, z.")
    assert not any("more" in sentence for sentence in report)
    assert not any("trained on" in sentence for sentence in report)
    assert not any("had no text" in sentence for sentence in report)


@pytest.mark.parametrize(
    ("train", "held_out", "side", "size"), [(4, 202, "training", "4,000"), (1004, 2, "held-out", "1,000")]
)
def test_a_side_of_nothing_but_ends_is_refused(train: int, held_out: int, side: str, size: str) -> None:
    given = (Side(3, train, 4000, []), Side(1, held_out, 1000, []))
    with pytest.raises(TextError, match=rf"^The tokenizer makes no tokens at all of the {size} bytes of {side} text"):
        sentences(Findings(), [], BYTE, 0, *given)
    one_more = [Side(side.documents, side.tokens + 1, side.text_bytes, []) for side in given]
    sentences(Findings(), [], BYTE, 0, *one_more)


def test_what_two_units_came_upon_is_added() -> None:
    def found(number: int) -> Findings:
        name = f"{number}"
        return Findings(
            number, 10 * number, 100 * number, 1000 * number, [name], [Skipped(name, "")], [Undecodable(name, 1, 2)]
        )

    both = found(1)
    both.add(found(2))
    assert both == Findings(
        3, 30, 300, 3000, ["1", "2"], [Skipped("1", ""), Skipped("2", "")],
        [Undecodable("1", 1, 2), Undecodable("2", 1, 2)],
    )  # fmt: skip


def test_the_speed_counts_what_was_encoded_now() -> None:
    done = PreparedCorpus(Path("out"), 4, 30, 10, 8_000_000, 2.5, 3, 2, "tokenizers", 3_000_000, 2.0, ["Done."], "ff")
    assert done.megabytes_per_second == 1.5
    plain = done.to_dict()
    assert (plain["train_tokens"], plain["validation_tokens"], plain["folder"]) == (30, 10, "out")
    assert (plain["megabytes_per_second"], plain["bytes_done"], "held_out_tokens" in plain) == (1.5, 3_000_000, False)
    assert PreparedCorpus(Path(), 1, 1, 1, 1, 1.0, 1, 1, "", 9, 0.0, [], "").megabytes_per_second == 0.0
