"""The verdict card: what every experiment ends in, as plain values."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any

import numpy as np
import scipy
import torch

from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.experiment import Findings, Picture
from lightwell.lab.experiments.note import Note
from lightwell.lab.experiments.rate_search import edge_words
from lightwell.lab.verdicts.statistics import FEWEST
from lightwell.lab.verdicts.verdict import Claim, Kind, Law, overall
from lightwell.plain_json import finite
from lightwell.training.hardware.host import describe_host
from lightwell.training.runs.evaluation import true_byte_lengths

WORDS: dict[Kind, str] = {
    "supported": "Supported",
    "contradicted": "Contradicted",
    "no difference": "No difference that matters",
    "conditional": "It depends",
    "not settled": "Not settled",
}
"""A verdict in words."""


@dataclass(frozen=True)
class Card:
    """The end of an experiment."""

    note: Note
    findings: Findings
    kind: Kind
    budget: str
    seeds: int
    command: str
    provenance: dict[str, Any]
    """What the numbers were made on and of."""
    seconds: float
    """The time that it took, less where results were there already."""
    pictures: tuple[tuple[str, str], ...]
    """Name and caption of each."""

    @property
    def exploratory(self) -> bool:
        """Return whether a claim that decides has fewer seeds than a verdict needs."""
        return any(claim.verdict.exploratory for claim in self.findings.claims if not claim.beside)

    @property
    def bits(self) -> float:
        """Return the bits per byte of this text that are one nat per token."""
        return float(self.provenance["bits_per_byte_of_a_nat"])

    @property
    def headline(self) -> str:
        """Return the verdict in a line."""
        doubt = f" (exploratory: {self.seeds} seeds, a verdict needs {FEWEST})" if self.exploratory else ""
        return f"{WORDS[self.kind]}{doubt}"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; all that differs from one time to the next is under "timings"."""
        return {
            "note": self.note.to_dict(),
            "verdict": {"kind": self.kind, "headline": self.headline, "exploratory": self.exploratory},
            "laws": [law.to_dict() for law in self.findings.laws],
            "claims": [claim.to_dict() for claim in self.findings.claims],
            "remarks": list(self.findings.remarks),
            "pictures": [{"name": name, "caption": caption} for name, caption in self.pictures],
            "budget": {"name": self.budget, "seeds": self.seeds},
            "command": self.command,
            "provenance": self.provenance,
            "data": finite(self.findings.data),
            "timings": finite({"whole": self.seconds, **self.findings.timings}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Card:
        """Return the card that `to_dict` gave those values.

        Raises:
            KeyError, TypeError: it gave others, another version perhaps.
        """
        timings = dict(values["timings"])
        seconds = timings.pop("whole")
        findings = Findings(
            laws=[Law.from_dict(law) for law in values["laws"]],
            claims=[Claim.from_dict(claim) for claim in values["claims"]],
            data=values["data"],
            timings=timings,
            remarks=values["remarks"],
        )
        return cls(
            note=Note(**values["note"]),
            findings=findings,
            kind=values["verdict"]["kind"],
            budget=values["budget"]["name"],
            seeds=values["budget"]["seeds"],
            command=values["command"],
            provenance=values["provenance"],
            seconds=seconds,
            pictures=tuple((picture["name"], picture["caption"]) for picture in values["pictures"]),
        )

    def to_json(self) -> str:
        """Return the card's JSON."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False) + "\n"


def make_card(
    note: Note,
    findings: Findings,
    context: ExperimentContext,
    pictures: Sequence[Picture],
    command: str,
    seconds: float,
) -> Card:
    """Put the card together; its verdict follows from the laws and claims by `overall`."""
    return Card(
        note=note,
        findings=replace(
            findings,
            data={**findings.data, "learning_rates": context.tunings},
            remarks=[*findings.remarks, *edge_words(context.tunings)],
        ),
        kind=overall(findings.laws, findings.claims),
        budget=context.budget.name,
        seeds=context.budget.seeds,
        command=command,
        provenance=provenance(context),
        seconds=seconds,
        pictures=tuple((picture.name, picture.caption) for picture in pictures),
    )


def provenance(context: ExperimentContext) -> dict[str, Any]:
    """Return the machine, the versions, the text and the base settings."""
    settings = json.dumps(context.config.to_dict(), sort_keys=True)
    return {
        "lightwell": version("lightwell"),
        **describe_host(),
        "seed": context.seed,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "dtype": context.config.training.precision,
        "text": context.config.text.corpus if not context.config.text.paths else "the user's own",
        "tokens": len(context.corpus.train.tokens),
        "bits_per_byte_of_a_nat": bits_of_a_nat(context),
        "data_hash": context.corpus.digest,
        "settings_hash": hashlib.sha256(settings.encode()).hexdigest(),
        "parameters": context.config.model.parameter_count(),
        "settings": context.config.to_dict(),
    }


def bits_of_a_nat(context: ExperimentContext) -> float:
    """Return 1 / (ln 2 x bytes per token) of the held-out tokens that losses are measured on."""
    held_out = context.corpus.held_out
    ids = held_out.take(np.arange(1, min(context.config.training.eval_tokens + 1, len(held_out))))
    lengths = true_byte_lengths(held_out, context.corpus.tokenizer.byte_lengths)
    return float(len(ids) / (math.log(2.0) * np.asarray(lengths)[ids].sum()))
