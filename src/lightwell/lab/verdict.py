"""The rule by which differences become a verdict. It is written before a run, and no run changes it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from lightwell.lab.statistics import FEWEST, LEVEL, paired_effect, seeds_needed

Kind = Literal["supported", "contradicted", "no difference", "conditional", "not settled"]


@dataclass(frozen=True)
class Rule:
    """What is predicted of a difference, and how small it may be to count for nothing."""

    predicted: Literal["higher", "lower"]
    """What the first arm is, beside the second one."""
    smallest: float
    """X: a difference within -X and X is none that matters."""
    unit: str = "nats per token"


@dataclass(frozen=True)
class Verdict:
    """What came out."""

    kind: Kind
    sentence: str
    mean: float
    low: float
    high: float
    n: int
    p: float
    bootstrap: tuple[float, float]
    exploratory: bool
    """Fewer seeds than a verdict needs."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain: dict[str, Any] = finite(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Verdict:
        """The verdict of those values."""
        low, high = _interval(values["low"], values["high"])
        return cls(**{**values, "low": low, "high": high, "bootstrap": _interval(*values["bootstrap"])})


def decide(rule: Rule, differences: Sequence[float]) -> Verdict:
    """Hold paired differences, first arm minus second, against the rule.

    no difference: the 95 % interval lies within -X and X. supported or contradicted: it lies on one side of 0, and
    where there are seeds enough, the sign-flip test agrees. Otherwise it is not settled.
    """
    effect = paired_effect(differences)
    exploratory = effect.n < FEWEST
    apart = effect.n >= 2 and (effect.low > 0.0 or effect.high < 0.0) and (exploratory or effect.p <= LEVEL)
    kind: Kind = "not settled"
    if effect.n >= 2 and -rule.smallest < effect.low and effect.high < rule.smallest:
        kind, sentence = "no difference", f"no difference larger than {rule.smallest:g} {rule.unit}"
    elif apart:
        kind = "supported" if (effect.mean > 0.0) == (rule.predicted == "higher") else "contradicted"
        sentence = f"{abs(effect.mean):.3g} {rule.unit} {'higher' if effect.mean > 0.0 else 'lower'}"
    elif effect.n < 2:
        sentence = "a single run says nothing about how much runs differ"
    else:
        deviation = float(np.std(np.asarray(differences), ddof=1))
        wanted = seeds_needed(max(abs(effect.mean), rule.smallest), deviation)
        sentence = f"about {wanted} seeds would be needed"
    return Verdict(
        kind, sentence, effect.mean, effect.low, effect.high, effect.n, effect.p, effect.bootstrap, exploratory
    )


@dataclass(frozen=True)
class Claim:
    """A prediction about two arms, and what their runs showed."""

    text: str
    """The prediction, in words."""
    rule: Rule
    points: tuple[float, ...]
    """The differences, seed by seed."""
    verdict: Verdict

    @classmethod
    def of(cls, text: str, rule: Rule, points: Sequence[float]) -> Claim:
        """The claim with its verdict."""
        return cls(text, rule, tuple(map(float, points)), decide(rule, points))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "text": self.text,
            "rule": asdict(self.rule),
            "points": list(self.points),
            "verdict": self.verdict.to_dict(),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Claim:
        """The claim of those values."""
        verdict = Verdict.from_dict(values["verdict"])
        return cls(values["text"], Rule(**values["rule"]), tuple(values["points"]), verdict)


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
        """One that says a number."""
        holds = abs(measured - expected) <= within
        return cls(text, float(measured), f"{expected:.6g} within {within:.3g}", bool(holds))

    @classmethod
    def above(cls, text: str, measured: float, bound: float) -> Law:
        """One that says a lower bound."""
        return cls(text, float(measured), f"above {bound:g}", bool(measured > bound))

    @classmethod
    def below(cls, text: str, measured: float, bound: float) -> Law:
        """One that says an upper bound."""
        return cls(text, float(measured), f"below {bound:g}", bool(measured < bound))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        plain: dict[str, Any] = finite(asdict(self))
        return plain

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Law:
        """The law of those values."""
        return cls(**{**values, "measured": math.nan if values["measured"] is None else values["measured"]})


def overall(laws: Sequence[Law], claims: Sequence[Claim]) -> Kind:
    """The verdict on a note: a law of it that is broken contradicts it; claims that differ make it conditional.

    A note with some claims that nothing settled is not settled, unless others already make it conditional.
    """
    if any(not law.holds for law in laws):
        return "contradicted"
    kinds = {claim.verdict.kind for claim in claims}
    if not kinds:
        return "supported"
    if "supported" in kinds and kinds & {"contradicted", "no difference"}:
        return "conditional"
    for kind in ("not settled", "contradicted", "no difference"):
        if kind in kinds:
            return kind
    return "supported"


def finite(value: Any) -> Any:
    """Plain values with None in place of infinity and of what is no number, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _interval(low: float | None, high: float | None) -> tuple[float, float]:
    return -math.inf if low is None else low, math.inf if high is None else high
