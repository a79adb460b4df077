"""The tests of causal attention, on any language model: `lw.lab.check_causal(model)` gives a table.

A model leaks where something of a later token reaches an earlier prediction: in the numbers, in a gradient, in the
attention weights. Each check is one way to see it. Two of the seven need a training and are in the note's experiment.

Shapes: B batch, T time, V vocabulary, H heads.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lightwell.errors import SettingError
from lightwell.generation.generate import resting
from lightwell.lab.notes.causal.models import Subject, subject_of
from lightwell.model.tap import Tap, passthrough
from lightwell.training.update.streams import stream_seed

Outcome = Literal["passed", "failed", "not applicable"]
LENGTH = 16
"""Tokens of the texts that are sent through, where the model takes as many."""
CACHED_WITHIN = 1e-4
SUM_WITHIN = 1e-5
DRIVEN = 1e12
"""Scores are made so many times as large: beyond every finite fill value in use but the lowest number of fp32."""
FILL = -1e4
"""A finite fill value, as in code that was made for fp16."""


@dataclass(frozen=True)
class Check:
    """One row of the table."""

    name: str
    what: str
    """What is done."""
    measured: float | None
    """None where it was not done."""
    expected: str
    outcome: Outcome
    reason: str = ""
    """Why it is not applicable, or what else was seen."""


@dataclass(frozen=True)
class CausalReport:
    """All checks of one model."""

    model: str
    rows: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Return whether none failed."""
        return all(row.outcome != "failed" for row in self.rows)

    def __getitem__(self, name: str) -> Check:
        return next(row for row in self.rows if row.name == name)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {"model": self.model, "passed": self.passed, "rows": [_plain(row) for row in self.rows]}

    def __str__(self) -> str:
        cells = [("check", "measured", "expected", "outcome")]
        cells += [(row.name, _number(row.measured), row.expected, row.outcome) for row in self.rows]
        widths = [max(len(line[column]) for line in cells) for column in range(4)]
        lines = []
        for line, row in zip(cells, (None, *self.rows), strict=True):
            text = f"{line[0]:{widths[0]}}  {line[1]:>{widths[1]}}  {line[2]:{widths[2]}}  {line[3]:{widths[3]}}"
            lines.append(f"{text}  {row.reason}".rstrip() if row else text.rstrip())
        verdict = "no leak was found" if self.passed else "it LEAKS, or it is not what it should be"
        return "\n".join([*lines, f"{self.model}: {verdict}."])


def check_causal(
    model: Any, *, length: int = 0, vocab_size: int = 0, seed: int = 1, tap: Tap = passthrough
) -> CausalReport:
    """Look for leaks in a model with random tokens; it is in evaluation mode meanwhile, and put back afterwards.

    model: a `Decoder`, what `lw.load` gives, or a torch module that maps token ids (B, T) to logits (B, T, V) or to an
    output with `.logits`, as those of transformers do. length: tokens, 0 takes 16 or as many as the model sees.
    vocab_size: 0 takes the model's. tap: for a Decoder, what all goes through.

    Raises:
        SettingError: no such model, a vocabulary that nothing tells the size of, or fewer than two tokens.
    """
    subject = subject_of(model, tap)
    with resting(subject.module):
        V = vocab_size or subject.vocab_size()
    if V < 2:
        raise SettingError("The size of the model's vocabulary is not known; give vocab_size.")
    T = length or min(LENGTH, subject.longest() or LENGTH)
    if T < 2:
        raise SettingError(f"The length is {T}, but a leak needs at least 2 tokens.")
    draw = torch.Generator().manual_seed(stream_seed(seed, "causal checks"))
    tokens = torch.randint(V, (1, T), generator=draw).to(subject.device)
    others = ((tokens.cpu() + torch.randint(1, V, (1, T), generator=draw)) % V).to(subject.device)
    with resting(subject.module):
        rows = [
            changed_tokens(subject, tokens, others),
            gradients(subject, tokens, draw),
            cached_equals_full(subject, tokens),
            *attention_rows(subject, tokens),
            driven_scores(subject, tokens),
        ]
    rows += [*mask_and_softmax(draw), finite_fill(draw), *TRAINED]
    return CausalReport(type(subject.module).__name__, tuple(rows))


@torch.no_grad()
def changed_tokens(subject: Subject, tokens: Tensor, others: Tensor) -> Check:
    """Row t of a batch has token t changed; it is compared with the same row of a batch where none is."""
    T = tokens.size(1)
    plain = tokens.repeat(T - 1, 1)
    changed = plain.clone()
    places = torch.arange(1, T)
    changed[places - 1, places] = others[0, places]
    before, after = subject.logits(plain).cpu(), subject.logits(changed).cpu()
    # Equal ones differ by 0 also where both are infinite.
    gap = (before.double() - after.double()).abs().masked_fill(before == after, 0.0).amax(dim=-1)  # (T - 1, T)
    earlier = torch.arange(T)[None, :] < places[:, None]
    same = torch.equal(before[earlier], after[earlier])
    largest = float(gap[earlier].max())
    seen = int((gap[places - 1, places] > 0).sum())
    return Check(
        "a changed token", f"Each token t of {T} is changed; the largest change of a logit before t.", largest,
        "0, to the bit", _outcome(same), f"{seen} of {T - 1} changes show at the token itself",
    )  # fmt: skip


def gradients(subject: Subject, tokens: Tensor, draw: torch.Generator) -> Check:
    """Check the matrix of `gradient_map`."""
    name, what = "gradients", "The largest derivative of a prediction by the embedding of a later token."
    try:
        sizes = gradient_map(subject, tokens, draw)
    except RuntimeError as problem:
        return Check(name, what, None, "0", "not applicable", f"no gradient: {str(problem).splitlines()[0]}")
    if sizes is None:
        return Check(name, what, None, "0", "not applicable", "no embedding module that is given the token ids")
    later = float(sizes.triu(1).max())
    seen = int((sizes.tril() > 0).sum())
    return Check(name, what, later, "0", _outcome(later == 0.0), f"{seen} derivatives by earlier ones are not 0")


def gradient_map(subject: Subject, tokens: Tensor, draw: torch.Generator) -> Tensor | None:
    """(T, T): the norm of d(r . logits_i) / d(embedding_j), r random and the same for all i; None without embedding."""
    embedding = subject.embedding(tokens)
    if embedding is None:
        return None
    leaf: list[Tensor] = []

    def cut(module: Any, given: Any, output: Tensor) -> Tensor:
        leaf.append(output.detach().requires_grad_(True))
        return leaf[-1]

    hook = embedding.register_forward_hook(cut)
    try:
        with torch.enable_grad():
            logits = subject.logits(tokens)[0]  # (T, V)
    finally:
        hook.remove()
    direction = torch.randn(logits.size(-1), generator=draw).to(logits)
    rows = []
    for i in range(len(logits)):
        (gradient,) = torch.autograd.grad(logits[i] @ direction, leaf[0], retain_graph=True)
        rows.append(gradient[0].norm(dim=-1))
    return torch.stack(rows).cpu()


@torch.no_grad()
def cached_equals_full(subject: Subject, tokens: Tensor) -> Check:
    """Check that a model scored at once says what it says with a cache, which cannot see what comes after."""
    name, what = "cached = full", "The largest difference between logits computed at once and token by token."
    expected = f"below {CACHED_WITHIN:g}"
    prefix = max(1, tokens.size(1) // 2)
    cached = subject.cached(tokens, prefix)
    if cached is None:
        return Check(name, what, None, expected, "not applicable", subject.no_cache)
    gap = float((cached - subject.logits(tokens)).abs().max())
    return Check(name, what, gap, expected, _outcome(gap < CACHED_WITHIN))


@torch.no_grad()
def attention_rows(subject: Subject, tokens: Tensor) -> list[Check]:
    """Check what each row of weights adds up to, and what of it lies on later tokens."""
    what = ("The largest distance of a row's sum from 1.", "The largest weight above the diagonal.")
    names = ("rows sum to 1", "no weight on later tokens")
    expected = (f"below {SUM_WITHIN:g}", "0")
    weights = subject.weights(tokens)
    if not weights:
        return [
            Check(*row, "not applicable", subject.no_weights)
            for row in zip(names, what, (None, None), expected, strict=True)
        ]
    off = max(float((each.double().sum(dim=-1) - 1).abs().max()) for each in weights)
    later = max(float(each.triu(1).max()) for each in weights)
    return [
        Check(names[0], what[0], off, expected[0], _outcome(off < SUM_WITHIN)),
        Check(names[1], what[1], later, expected[1], _outcome(later == 0.0), f"in {len(weights)} layers"),
    ]


@torch.no_grad()
def driven_scores(subject: Subject, tokens: Tensor) -> Check:
    """Check the mask where scores are driven below any finite fill value."""
    name, what = "driven scores", f"The largest weight on a later token with all scores {DRIVEN:g} times as large."
    driven = subject.driven(tokens, DRIVEN)
    if not driven:
        return Check(name, what, None, "0", "not applicable", subject.no_drive)
    later = max(float(each.triu(1).max()) for each in driven)
    return Check(name, what, later, "0", _outcome(later == 0.0))


def mask_and_softmax(draw: torch.Generator, T: int = LENGTH) -> list[Check]:
    """Check the formula alone: -inf before softmax, or 0 after it."""
    scores = torch.randn(T, T, generator=draw, dtype=torch.float64)
    visible = torch.ones(T, T, dtype=torch.bool).tril()
    before = scores.masked_fill(~visible, -math.inf).softmax(dim=-1)
    after = scores.softmax(dim=-1) * visible
    renormalised = after / after.sum(dim=-1, keepdim=True)
    gap = float((before - renormalised).abs().max())
    lacking = float(1.0 - after.sum(dim=-1).mean())
    return [
        Check("formula: before = after", "-inf before softmax, less 0 after it and each row divided by its sum.", gap,
              "below 1e-12", _outcome(gap < 1e-12), "of random scores"),
        Check("formula: after alone", "What rows lack of 1 on average where 0 after softmax is all that is done.",
              lacking, "above 0.1", _outcome(lacking > 0.1), "of random scores"),
    ]  # fmt: skip


def finite_fill(draw: torch.Generator, T: int = LENGTH) -> Check:
    """Check the formula alone: a number in place of -inf, and scores below it."""
    scores = torch.randn(T, T, generator=draw, dtype=torch.float64) + 2 * FILL
    visible = torch.ones(T, T, dtype=torch.bool).tril()
    weights = scores.masked_fill(~visible, FILL).softmax(dim=-1)
    leaked = float((weights * ~visible).sum(dim=-1)[:-1].min())
    return Check(
        "formula: finite fill", f"The weight on later tokens with {FILL:g} for -inf, and scores of {2 * FILL:g}.",
        leaked, "1: it leaks", _outcome(leaked > 0.99), "of random scores; the last row has no later token",
    )  # fmt: skip


_TRAINING = "needs a training: lightwell lab causal"
TRAINED = (
    Check("random tokens", "The held-out loss of random tokens, less ln V.", None, "0 or more", "not applicable",
          _TRAINING),
    Check("control without mask", "The loss without the mask, less that with it.", None, "far below 0",
          "not applicable", _TRAINING),
)  # fmt: skip


def _outcome(good: bool) -> Outcome:
    return "passed" if good else "failed"


def _number(measured: float | None) -> str:
    return "-" if measured is None else f"{measured:.3g}"


def _plain(row: Check) -> dict[str, Any]:
    plain = asdict(row)
    if row.measured is not None and not math.isfinite(row.measured):
        plain["measured"] = None
    return plain
