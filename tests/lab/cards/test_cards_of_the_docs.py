"""The cards in docs/lab, and the table in the README that is made of them: both say what the numbers say."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from lightwell.lab.cards import shown
from lightwell.lab.cards.card import Card
from lightwell.lab.catalogue import notes
from lightwell.lab.verdicts.verdict import decide, overall

NOTES = notes()
ROOT = Path(__file__).parents[3]
SHOWN = [name for name in NOTES if (ROOT / "docs" / "lab" / f"{name}-night").is_dir()]
FOLDERS = {name: ROOT / "docs" / "lab" / f"{name}-night" for name in SHOWN}


def test_the_seven_notes_are_shown_and_the_readme_has_a_row_for_each_that_is() -> None:
    assert SHOWN[:7] == ["batch-size", "stride", "self-attention", "causal", "dropout", "buffer", "activation"]
    assert list(readme_rows()) == SHOWN


def card_of(name: str) -> Card:
    return Card.from_dict(json.loads((FOLDERS[name] / "card.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", SHOWN)
def test_a_card_is_whole_and_its_verdict_follows_from_its_points(name: str) -> None:
    card = card_of(name)
    findings = card.findings
    assert (FOLDERS[name] / "card.md").read_text(encoding="utf-8") == shown.markdown(card)
    assert all((FOLDERS[name] / f"{picture}.svg").is_file() for picture, _ in card.pictures)
    assert card.kind == overall(findings.laws, findings.claims)
    for claim in findings.claims:
        assert decide(claim.rule, claim.points).kind == claim.verdict.kind
    assert (card.note.sentence, card.note.prediction) == (NOTES[name].sentence, NOTES[name].prediction)
    assert len(card.findings.claims) == 0 or card.seeds >= 8


def readme_rows() -> dict[str, tuple[str, str]]:
    """Of the table of verdicts: for each note its verdict and what was measured."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[[^\]]+\]\(docs/lab/([a-z-]+)-night/card\.md\) \| \*([^*]+)\* \| (.+) \|$", text, re.M)
    return {name: (verdict, measured) for name, verdict, measured in rows}


@pytest.mark.parametrize("name", SHOWN)
def test_the_table_of_the_readme_says_what_the_cards_say(name: str) -> None:
    verdict, measured = readme_rows()[name]
    card = card_of(name)
    assert verdict == card.headline
    known = [claim.verdict.mean for claim in card.findings.claims]
    known += [law.measured for law in card.findings.laws]
    known += [float(found) for remark in card.findings.remarks for found in re.findall(r"\d+\.\d+", remark)]
    numbers = re.findall(r"[+-]?\d+\.\d+", measured)
    assert numbers, "a verdict without a number"
    for number in numbers:
        digits = len(number.partition(".")[2])
        signed = number[0] in "+-"
        assert any(
            f"{value if signed else abs(value):{'+' if signed else ''}.{digits}f}" == number for value in known
        ), f"{number} is not on the card"


def test_the_index_of_the_docs_lists_the_verdicts() -> None:
    text = (ROOT / "docs" / "lab" / "README.md").read_text(encoding="utf-8")
    for name in SHOWN:
        assert f"]({name}-night/card.md)" in text
        assert card_of(name).headline in text
    assert "lightwell lab all --budget night" in text
