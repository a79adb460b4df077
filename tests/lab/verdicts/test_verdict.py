"""The rule that makes verdicts, and how they are put together."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightwell.lab.verdicts.verdict import Claim, Kind, Law, Rule, decide, overall

RULE = Rule("lower", 0.02)
LOWER, HIGHER = [-0.10, -0.11, -0.09, -0.10, -0.12, -0.10], [0.10, 0.11, 0.09, 0.10, 0.12, 0.10]
SAME, WILD = [0.001, -0.001, 0.002, -0.002, 0.001, 0.0], [0.3, -0.3, 0.2, -0.1, 0.25, -0.3]


@pytest.mark.parametrize(
    ("differences", "kind"),
    [
        (LOWER, "supported"),
        (HIGHER, "contradicted"),
        (SAME, "no difference"),
        (WILD, "not settled"),
        ([value / 10 for value in LOWER], "no difference"),  # there is one, but none that matters
        ([-0.1], "not settled"),
        ([], "not settled"),
    ],
)
def test_the_rule(differences: list[float], kind: Kind) -> None:
    assert decide(RULE, differences).kind == kind


def test_no_difference_that_was_predicted_is_supported_and_one_that_matters_contradicts_it() -> None:
    none = Rule("none", 0.02)
    assert [decide(none, each).kind for each in (SAME, LOWER, HIGHER, WILD)] == [
        "supported", "contradicted", "contradicted", "not settled",
    ]  # fmt: skip


def test_a_difference_that_is_there_but_not_shown_to_matter_is_not_settled() -> None:
    found = decide(RULE, [-0.012, -0.017, -0.010, -0.028, -0.008, -0.015])
    assert found.kind == "not settled"
    assert found.high < 0
    assert "lower, but not shown to be so by more than 0.02" in found.sentence


def test_a_verdict_by_value() -> None:
    verdict = decide(RULE, [-0.012, -0.017, -0.010, -0.028, -0.008, -0.015])
    assert [verdict.mean, verdict.low, verdict.high] == pytest.approx([-0.015, -0.0225092, -0.0074908], abs=1e-7)
    assert verdict.n == 6
    assert verdict.p == pytest.approx(2 / 64)
    assert verdict.sentence == "lower, but not shown to be so by more than 0.02; about 11 seeds would be needed"
    assert decide(RULE, WILD).sentence == "more than 1,000 seeds would be needed"
    assert decide(RULE, LOWER).sentence == "0.103 nats per token lower"
    assert decide(RULE, SAME).sentence == "no difference larger than 0.02 nats per token"
    assert decide(RULE, [0.1]).sentence == "a single run says nothing about how much runs differ"


@pytest.mark.parametrize(
    ("differences", "kind"),
    [
        ([0.0, 0.02] * 3, "not settled"),  # the interval reaches beyond X
        ([-0.021, -0.0211, -0.0209] * 2, "supported"),  # the mean is just beyond X
        ([-0.0199, -0.02, -0.0201] * 2, "not settled"),  # and just at it
        ([-0.3, -0.3, -0.3, -0.3, -0.3, 0.01], "not settled"),  # the t interval is apart, the sign-flip test is not
        ([-0.3, -0.3, -0.3, -0.3, 0.01], "supported"),  # so few that the sign-flip test is not asked
    ],
)
def test_the_edges_of_the_rule(differences: list[float], kind: Kind) -> None:
    assert decide(RULE, differences).kind == kind


@pytest.mark.parametrize("predicted", ["lower", "none"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_a_difference_of_just_x_is_neither_none_nor_one_that_matters(predicted: Any, sign: float) -> None:
    rule = Rule(predicted, 0.5)
    assert decide(rule, [sign * 0.5] * 6).kind == "not settled"
    assert decide(rule, [sign * 0.499] * 6).kind == ("supported" if predicted == "none" else "no difference")
    settled = "supported" if predicted == "lower" and sign < 0 else "contradicted"
    assert decide(rule, [sign * 0.501] * 6).kind == settled
    # The mean is X to the bit: no number of seeds would put it on one side.
    assert "more than 1,000 seeds would be needed" in decide(rule, [sign * 0.25, sign * 0.75] * 3).sentence


def test_an_interval_that_begins_at_0_is_not_apart() -> None:
    found = decide(Rule("higher", 0.0), [0.0] * 6)
    assert (found.kind, found.p) == ("not settled", 1.0)


def test_six_seeds_are_a_verdict_and_five_are_exploratory() -> None:
    assert [decide(RULE, LOWER[:n]).exploratory for n in (2, 5, 6)] == [True, True, False]
    assert decide(RULE, []).sentence == decide(RULE, [0.3]).sentence


@given(st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=9))
@settings(deadline=None)
def test_what_is_not_settled_needs_more_seeds_than_there_were(differences: list[float]) -> None:
    found = decide(RULE, differences)
    if found.kind == "not settled":
        assert int(re.findall(r"(\d+) seeds", found.sentence.replace(",", ""))[0]) > len(differences)


def test_claims_beside_the_note_have_no_part_in_its_verdict() -> None:
    beside = [Claim.of("", RULE, each, beside=True) for each in (LOWER, HIGHER, WILD, SAME)]
    assert overall([HOLDS], beside) == "supported"
    assert overall([HOLDS], [CONTRADICTED, *beside]) == "contradicted"


def test_the_direction_is_that_of_the_prediction() -> None:
    assert decide(Rule("higher", 0.02), HIGHER).kind == "supported"


def test_few_seeds_are_exploratory() -> None:
    few = decide(RULE, LOWER[:3])
    assert (few.kind, few.exploratory) == ("supported", True)
    assert not decide(RULE, LOWER).exploratory


def test_what_is_not_settled_says_how_many_seeds_it_needs() -> None:
    sentence = decide(RULE, WILD).sentence
    assert "seeds would be needed" in sentence
    assert int("".join(filter(str.isdigit, sentence.partition(" seeds")[0]))) > 6


def test_a_verdict_is_json_also_without_an_interval() -> None:
    found = decide(RULE, [0.1]).to_dict()
    assert found["low"] is None
    json.dumps(found, allow_nan=False)
    assert Law("a", math.nan, "1", False).to_dict()["measured"] is None


SUPPORTED, CONTRADICTED = Claim.of("a", RULE, LOWER), Claim.of("b", RULE, HIGHER)
NONE, OPEN = Claim.of("c", RULE, SAME), Claim.of("d", RULE, WILD)
HOLDS, BROKEN = Law.near("1 is 1", 1.0, 1.0, 0.0), Law.near("1 is 2", 1.0, 2.0, 0.5)


@pytest.mark.parametrize(
    ("laws", "claims", "kind"),
    [
        ([HOLDS], [], "supported"),
        ([BROKEN], [SUPPORTED], "contradicted"),
        ([HOLDS], [SUPPORTED], "supported"),
        ([], [SUPPORTED, CONTRADICTED], "conditional"),
        ([], [SUPPORTED, NONE], "conditional"),
        ([], [SUPPORTED, OPEN], "not settled"),
        ([], [CONTRADICTED, NONE], "contradicted"),
        ([], [NONE], "no difference"),
        ([], [CONTRADICTED], "contradicted"),
        ([], [OPEN, CONTRADICTED], "not settled"),
        ([], [OPEN, NONE], "not settled"),
        ([], [SUPPORTED, OPEN, NONE], "conditional"),
        ([], [OPEN], "not settled"),
        ([HOLDS, BROKEN], [], "contradicted"),
    ],
)
def test_the_verdict_on_a_note(laws: list[Law], claims: list[Claim], kind: Kind) -> None:
    assert overall(laws, claims) == kind


def test_bounds() -> None:
    assert Law.above("", 0.99, 0.98).holds
    assert not Law.above("", 0.97, 0.98).holds
    assert Law.below("", 1e-7, 1e-6).holds
    assert not Law.near("", math.nan, 0.0, 1.0).holds
    assert Law.near("", 1.5, 1.0, 0.5).holds
    assert not Law.near("", 1.51, 1.0, 0.5).holds
    assert not Law.near("", 0.49, 1.0, 0.5).holds
    assert not Law.above("", 0.98, 0.98).holds
    assert not Law.below("", 1e-6, 1e-6).holds
    assert [Law.fact("", seen, True).holds for seen in (True, False)] == [True, False]


def test_what_a_law_expects_in_words() -> None:
    assert Law.near("", 0.30004, 1 / 3, 0.05).expected == "0.333333 within 0.05"
    assert Law.near("", 3, 4, 0).expected == "4"
    assert Law.above("", 0.9, 0.98).expected == "above 0.98"
    assert Law.below("", 0.9, 1e-6).expected == "below 1e-06"
    assert (Law.fact("", False, True).shown, Law.fact("", False, True).expected) == ("no", "yes")
    assert Law.near("", 0.30004, 1 / 3, 0.05).shown == "0.30004"
    assert [Law.fact("", seen, True).measured for seen in (False, True)] == [0.0, 1.0]
    assert Law.fact("", False, False).holds
    assert not Law.fact("", True, False).holds


def test_laws_and_claims_are_read_back_as_they_were() -> None:
    for law in (HOLDS, BROKEN, Law.fact("c", True, False), Law.above("d", 2.0, 1.0)):
        assert Law.from_dict(law.to_dict()) == law
    assert math.isnan(Law.from_dict(Law.near("", math.nan, 0.0, 1.0).to_dict()).measured)
    single = Claim.of("of one seed", Rule("none", 0.1, "of the values"), [0.2], beside=True)
    for claim in (SUPPORTED, OPEN, single):
        read = Claim.from_dict(json.loads(json.dumps(claim.to_dict())))
        assert read == claim
    assert (single.verdict.low, single.verdict.high, single.verdict.bootstrap) == (
        -math.inf, math.inf, (-math.inf, math.inf),
    )  # fmt: skip
