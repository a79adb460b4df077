"""The rule by which differences become a verdict. It is written before a run, and no run changes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from lightwell.lab.verdicts.statistics import FEWEST, LEVEL, MOST_SEEDS, paired_effect, seeds_for_width, seeds_needed
from lightwell.plain_json import finite

NATS = "nats per token"
Kind = Literal["supported", "contradicted", "no difference", "conditional", "not settled"]


@dataclass(frozen=True)
class Rule:
    """What is predicted of a difference, and how small it may be to count for nothing."""

    predicted: Literal["higher", "lower", "none"]
    """What the first arm is, beside the second one; none: no difference larger than X is predicted."""
    smallest: float
    """X: a difference within -X and X is none that matters."""
    unit: str = NATS


@dataclass(frozen=True)
class Verdict:
    """The outcome of holding differences against a rule."""

    kind: Kind
    sentence: str
    mean: float
    low: float
    high: float
    n: int
    p: float
    bootstrap: tuple[float, float]
    exploratory: bool
    """Whether there are fewer seeds than a verdict needs."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain: dict[str, Any] = finite(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """Return the verdict of those values."""
        low, high = _interval(values["low"], values["high"])
        return cls(**{**values, "low": low, "high": high, "bootstrap": _interval(*values["bootstrap"])})


def decide(rule: Rule, differences: Sequence[float]) -> Verdict:
    """Hold paired differences, first arm minus second, against the rule.

    No difference larger than X: the 95 % interval lies within -X and X; where that was predicted, it is supported.
    Supported or contradicted: the interval lies on one side of 0, the mean is beyond X, and where there are seeds
    enough, the sign-flip test agrees. Otherwise it is not settled.
    """
    effect = paired_effect(differences)
    exploratory = effect.n < FEWEST
    apart = effect.n >= 2 and (effect.low > 0.0 or effect.high < 0.0) and (exploratory or effect.p <= LEVEL)
    direction = "higher" if effect.mean > 0.0 else "lower"
    kind: Kind = "not settled"
    if effect.n >= 2 and -rule.smallest < effect.low and effect.high < rule.smallest:
        kind = "supported" if rule.predicted == "none" else "no difference"
        sentence = f"no difference larger than {rule.smallest:g} {rule.unit}"
    elif apart and abs(effect.mean) > rule.smallest:
        kind = "supported" if rule.predicted == direction else "contradicted"
        sentence = f"{abs(effect.mean):.3g} {rule.unit} {direction}"
    elif effect.n < 2:
        sentence = "a single run says nothing about how much runs differ"
    else:
        doubt = f"{direction}, but not shown to be so by more than {rule.smallest:g}; " if apart else ""
        sentence = f"{doubt}{_more_seeds(rule, differences, effect.mean)}"
    return Verdict(
        kind, sentence, effect.mean, effect.low, effect.high, effect.n, effect.p, effect.bootstrap, exploratory
    )


def _more_seeds(rule: Rule, differences: Sequence[float], mean: float) -> str:
    """Return how many would settle it, if differences go on as they are: more than there were, whatever chance did."""
    deviation = float(np.std(np.asarray(differences), ddof=1))
    room = rule.smallest - abs(mean)
    enough = seeds_for_width(room, deviation) if room >= 0.0 else seeds_needed(abs(mean), deviation)
    wanted = max(len(differences) + 1, enough)
    about = f"about {wanted:,}" if wanted < MOST_SEEDS else f"more than {MOST_SEEDS:,}"
    return f"{about} seeds would be needed"


@dataclass(frozen=True)
class Claim:
    """A prediction about two arms, and what their runs showed."""

    text: str
    """The prediction, in words."""
    rule: Rule
    points: tuple[float, ...]
    """The differences, seed by seed."""
    verdict: Verdict
    beside: bool = False
    """Whether it is about what the note's sentence does not say; then it has no part in the note's verdict."""

    @classmethod
    def of(cls, text: str, rule: Rule, points: Sequence[float], beside: bool = False) -> Claim:
        """Return the claim with its verdict."""
        return cls(text, rule, tuple(map(float, points)), decide(rule, points), beside)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "text": self.text,
            "rule": asdict(self.rule),
            "points": list(self.points),
            "verdict": self.verdict.to_dict(),
            "beside": self.beside,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Claim:
        """Return the claim of those values."""
        verdict = Verdict.from_dict(values["verdict"])
        return cls(values["text"], Rule(**values["rule"]), tuple(values["points"]), verdict, values["beside"])


YES_NO = ("no", "yes")


@dataclass(frozen=True)
class Law:
    """Something with an exact answer, or a bound: it holds or it does not."""

    text: str
    measured: float
    expected: str
    """In words or numbers, e.g. "0.333 within 0.01"."""
    holds: bool

    @classmethod
    def near(cls, text: str, measured: float, expected: float, within: float) -> Law:
        """Return a law that says a number."""
        holds, about = abs(measured - expected) <= within, f" within {within:.3g}" if within else ""
        return cls(text, float(measured), f"{expected:.6g}{about}", bool(holds))

    @classmethod
    def fact(cls, text: str, measured: bool, expected: bool) -> Law:
        """Return a law that says yes or no."""
        return cls(text, float(measured), YES_NO[expected], bool(measured) == expected)

    @property
    def shown(self) -> str:
        """Return what was measured, in words or digits."""
        return YES_NO[bool(self.measured)] if self.expected in YES_NO else f"{self.measured:.6g}"

    @classmethod
    def above(cls, text: str, measured: float, bound: float) -> Law:
        """Return a law that says a lower bound."""
        return cls(text, float(measured), f"above {bound:g}", bool(measured > bound))

    @classmethod
    def below(cls, text: str, measured: float, bound: float) -> Law:
        """Return a law that says an upper bound."""
        return cls(text, float(measured), f"below {bound:g}", bool(measured < bound))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        plain: dict[str, Any] = finite(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Law:
        """Return the law of those values."""
        return cls(**{**values, "measured": math.nan if values["measured"] is None else values["measured"]})


def overall(laws: Sequence[Law], claims: Sequence[Claim]) -> Kind:
    """Return the verdict on a note, from its laws and from the claims that are about what it says.

    A law of it that is broken contradicts it. Claims of which some are supported and others contradicted, or make no
    difference, make it conditional. Where some are not settled and the others do not make it so, it is not settled.
    """
    if any(not law.holds for law in laws):
        return "contradicted"
    kinds = {claim.verdict.kind for claim in claims if not claim.beside}
    if not kinds:
        return "supported"
    if "supported" in kinds and kinds & {"contradicted", "no difference"}:
        return "conditional"
    for kind in ("not settled", "contradicted", "no difference"):
        if kind in kinds:
            return kind
    return "supported"


def _interval(low: float | None, high: float | None) -> tuple[float, float]:
    return -math.inf if low is None else low, math.inf if high is None else high
