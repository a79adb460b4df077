"""The cards in docs/lab again, from their numbers: the laws and claims that follow from them, and the pictures.

The numbers were made once, by real trainings; what is made of them must not change unnoticed.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from lightwell.corpus.corpus import Corpus
from lightwell.lab.cards.card import Card
from lightwell.lab.cards.figures import drawing
from lightwell.lab.catalogue import experiment
from lightwell.lab.experiments.budget import BUDGETS
from lightwell.lab.experiments.context import ExperimentContext
from lightwell.lab.experiments.rate_search import LearningRateSearch, TunedArm, edge_words
from lightwell.lab.experiments.setup import base_config
from lightwell.lab.experiments.store import UNTRAINED, Store
from lightwell.lab.experiments.trial import Trained
from lightwell.lab.notes.activation import experiment as activation
from lightwell.lab.notes.batch_size import experiment as batch_size
from lightwell.lab.notes.batch_size import gradients
from lightwell.lab.notes.causal import experiment as causal
from lightwell.lab.notes.dropout import experiment as dropout
from lightwell.lab.notes.self_attention import experiment as self_attention
from lightwell.lab.notes.self_attention.saturation import crossing
from lightwell.lab.notes.stride import experiment as stride
from lightwell.lab.notes.stride.arms import Arm, Arms, name_of, prefix_tokens, settings_of
from lightwell.lab.notes.stride.exposure import exposure_laws
from lightwell.lab.notes.stride.leaks import leak_laws
from lightwell.lab.verdicts.crossing import crossing_of
from lightwell.lab.verdicts.verdict import Claim, Law
from lightwell.model.config import ModelConfig

DOCS = Path(__file__).parents[3] / "docs" / "lab"
NOTES = ("batch-size", "stride", "self-attention", "causal", "dropout", "buffer", "activation")


@functools.cache
def card_of(name: str) -> Card:
    return Card.from_dict(json.loads((DOCS / f"{name}-night" / "card.json").read_text(encoding="utf-8")))


def data_of(name: str) -> Mapping[str, Any]:
    return card_of(name).findings.data


def assert_laws(name: str, laws: Sequence[Law], first: int = 0) -> None:
    """These are the laws of the card, from its `first` on."""
    kept = list(card_of(name).findings.laws)[first : first + len(laws)]
    assert [(law.text, law.expected, law.holds) for law in laws] == [
        (law.text, law.expected, law.holds) for law in kept
    ]
    assert [law.measured for law in laws] == pytest.approx([law.measured for law in kept], rel=1e-9, abs=1e-12)


def assert_claims(claims: Sequence[Claim], kept: Sequence[Claim]) -> None:
    assert [(claim.text, claim.rule, claim.beside, claim.verdict.kind, claim.verdict.sentence) for claim in claims] == [
        (claim.text, claim.rule, claim.beside, claim.verdict.kind, claim.verdict.sentence) for claim in kept
    ]
    for claim, other in zip(claims, kept, strict=True):
        assert claim.points == pytest.approx(other.points, rel=1e-9, abs=1e-12)
        for end in ("mean", "low", "high", "n", "p", "bootstrap"):
            assert getattr(claim.verdict, end) == pytest.approx(getattr(other.verdict, end), rel=1e-9, abs=1e-12)


def runs_of(losses: Sequence[float], **fields: Sequence[Any]) -> list[Trained]:
    """Results with these losses; fields: another value for each of them."""
    return [
        dataclasses.replace(UNTRAINED, loss=loss, **{name: values[at] for name, values in fields.items()})
        for at, loss in enumerate(losses)
    ]


def night(tokens: int = 0) -> ExperimentContext:
    """The base configuration at night, on a text of which only the length counts."""
    corpus = SimpleNamespace(train=range(tokens))
    config = base_config([], "", "bible", BUDGETS["night"])
    return ExperimentContext("", config, cast("Corpus", corpus), BUDGETS["night"], cast("Store", None))


def pixels(found: re.Match[str]) -> str:
    """An image in the picture, by what it shows."""
    image = Image.open(io.BytesIO(base64.b64decode(found[1])))
    return hashlib.sha256(image.convert("RGBA").tobytes()).hexdigest()


def in_words(svg: str, whole: bool) -> list[str]:
    """A picture, line by line; only its words where another matplotlib drew it, whose geometry may differ."""
    if whole:
        return re.sub(r'"data:image/png;base64,\s*([^"]*)"', pixels, svg).splitlines()
    return re.findall(r"<!-- (.*?) -->", svg)


@pytest.mark.parametrize("name", NOTES)
def test_the_pictures_are_drawn_again_from_the_numbers(name: str) -> None:
    card = card_of(name)
    with drawing():
        pictures = experiment(name).draw(card.findings.data, card.findings.timings)
        assert [(picture.name, picture.caption) for picture in pictures] == list(card.pictures)
        for picture in pictures:
            written = io.StringIO()
            picture.figure.savefig(written, format="svg", metadata={"Date": None})
            kept = (DOCS / f"{name}-night" / f"{picture.name}.svg").read_text(encoding="utf-8")
            whole = f"Matplotlib v{mpl.__version__}," in kept
            assert in_words(written.getvalue(), whole) == in_words(kept, whole), picture.name


@pytest.mark.parametrize("name", NOTES)
def test_the_base_configuration_and_the_budget_are_those_of_the_cards(name: str) -> None:
    card = card_of(name)
    config = json.loads(json.dumps(base_config([], "", "bible", BUDGETS["night"]).to_dict()))
    kept = card.provenance["settings"]
    for section in ("text", "batches", "model"):
        assert config[section] == kept[section]
    for setting in ("optimizer", "learning_rate", "schedule", "warmup_steps", "final_learning_rate", "beta1", "beta2",
                    "weight_decay", "grad_clip", "device", "precision", "compile", "eval_tokens", "steps"):  # fmt: skip
        assert config["training"][setting] == kept["training"][setting]
    assert (card.budget, card.seeds) == ("night", BUDGETS["night"].seeds)
    assert card.provenance["parameters"] == ModelConfig(**kept["model"]).parameter_count()


def test_what_follows_for_activations() -> None:
    data = data_of("activation")
    assert_laws("activation", activation.laws_of(data))
    last, first = ({a: along[at]["layers"] for a, along in data["zeros"].items()} for at in (-1, 0))

    def probed(rows: Sequence[Mapping[str, Any]], seed: int) -> list[dict[str, float]]:
        """Layer by layer; of the negative values, only means over seeds were kept."""
        return [{"zero": row["seeds"][seed], "negative": row["negative"]} for row in rows]

    arms = {
        name: TunedArm(
            data["rates"][name],
            runs_of(losses, probed=[[(0, probed(first[name], i)), (1, probed(last[name], i))] for i in range(8)]),
        )
        for name, losses in data["losses"].items()
    }
    claims = activation.claims_of(arms)
    claims.insert(-1, activation.wide_claim(data["wide"]))
    kept = list(card_of("activation").findings.claims)
    assert [(claim.text, claim.rule, claim.beside) for claim in claims] == [
        (claim.text, claim.rule, claim.beside) for claim in kept
    ]
    exact = [at for at, claim in enumerate(kept) if "negative" not in claim.text]
    assert_claims([claims[at] for at in exact], [kept[at] for at in exact])
    for at in set(range(len(kept))) - set(exact):
        assert claims[at].verdict.mean == pytest.approx(kept[at].verdict.mean)
    assert data["wide"]["std"] == 1 / 8


def test_what_follows_for_batch_sizes() -> None:
    data = data_of("batch-size")
    assert_laws(
        "batch-size",
        [
            *gradients.noise_laws(data["noise"]),
            *batch_size.memory_laws(data["sizes"], data["memory"]),
            *batch_size.identity_laws(data["micro_batches"]),
        ],
    )
    arms = {
        batch_size.Arm(each["size"], each["steps"]): TunedArm(each["learning_rate"], runs_of(each["loss"]))
        for each in data["arms"].values()
    }
    planned = batch_size.Arms.of(night())
    assert [arm.name for arm in planned.equal_steps] == data["equal_steps"]
    assert [arm.name for arm in planned.equal_tokens] == data["equal_tokens"]
    assert [arm.name for arm in planned.all] == list(data["arms"])
    assert_claims(batch_size.claims_of(planned, arms), card_of("batch-size").findings.claims)
    timings = card_of("batch-size").findings.timings
    equal = batch_size.equal_seconds(planned, timings["seconds_per_step"])
    assert [(arm.size, arm.steps) for arm in equal] == [
        (each["size"], each["steps"]) for each in timings["equal_seconds_arms"]
    ]
    assert batch_size.base_seconds(planned, timings["seconds_per_step"]) == pytest.approx(timings["equal_seconds"])


def test_the_remarks_follow_from_the_numbers() -> None:
    """The text of an experiment has as many tokens as its card says."""
    made: dict[str, Callable[[ExperimentContext, Any], list[str]]] = {
        "batch-size": lambda context, data: batch_size.remarks_of(context, data["noise"], data["memory"]),
        "stride": lambda context, data: stride.remarks_of(context, data["leaks"]),
        "self-attention": self_attention.remarks_of,
        "dropout": dropout.remarks_of,
        "activation": activation.remarks_of,
    }
    for name, remarks_of in made.items():
        data = data_of(name)
        remarks = remarks_of(night(card_of(name).provenance["tokens"]), data)
        assert [*remarks, *edge_words(data["learning_rates"])] == card_of(name).findings.remarks


def test_the_estimates_follow_from_the_draws() -> None:
    for state in data_of("batch-size")["noise"]:
        # The parts of the largest batches were not kept; with any others, what does not rest on them is the same.
        made = gradients.estimates({**state, "parts": state["squared"]})
        for name in ("pool", "sizes", "cosine_mean", "cosine_foretold"):
            assert made[name] == pytest.approx(state[name])
        assert made["line"] == pytest.approx(state["line"])
        assert (made["two_sizes"]["small"], made["two_sizes"]["big"]) == (4, 64)


def test_what_follows_for_dropout() -> None:
    data = data_of("dropout")
    assert_laws("dropout", [*dropout.row_laws(data["rows"]), *dropout.mode_laws(data["modes"])])
    effects = {each["epochs"]: each["points"] for each in data["effects"]}
    assert_claims(dropout.claims_of(effects), card_of("dropout").findings.claims)
    for each in data["effects"]:
        made = dropout.effect_data(each["epochs"], each["points"])
        assert made.pop("points") == each["points"]
        assert made == pytest.approx({name: each[name] for name in made})
    found = crossing_of(list(effects), list(effects.values())).to_dict()
    assert found == pytest.approx(data["crossing"])


def test_what_follows_for_causal_attention() -> None:
    data = data_of("causal")
    laws = causal.laws_of([data["checks"]["rows"]])
    kept = list(card_of("causal").findings.laws)[: len(laws)]
    assert [(law.text, law.expected, law.holds) for law in laws] == [
        (law.text, law.expected, law.holds) for law in kept
    ]


def test_what_follows_for_self_attention() -> None:
    data = data_of("self-attention")
    heads = [head for view in data["heads"] for head in view]
    assert_laws(
        "self-attention", [*self_attention.random_laws(data["saturation"]), *self_attention.trained_laws(heads)]
    )
    assert crossing(data["saturation"]) == pytest.approx(data["crossing"])
    pairs = [
        self_attention.Pair(
            each["size"], each["unit"],
            TunedArm(each["rates"]["scaled"], runs_of(each["scaled"])),
            TunedArm(each["rates"]["unscaled"], runs_of(each["unscaled"])),
        )
        for each in data["pairs"]
    ]  # fmt: skip
    assert [pair.to_dict() for pair in pairs] == data["pairs"]
    claims = [*self_attention.order_claims(data["heads"]), *map(self_attention.claim_of, pairs)]
    assert_claims(claims, card_of("self-attention").findings.claims)
    assert [(pair.size, pair.unit) for pair in pairs] == self_attention.pairs(night())


def test_what_follows_for_strides() -> None:
    data = data_of("stride")
    L = data["context_length"]
    assert_laws("stride", [*exposure_laws(data["exposures"], L), *leak_laws(data["leaks"])])
    runs = {
        Arm(each["ratio"], each["passes"], each["random"]): runs_of(each["loss"], train_loss=each["train_loss"])
        for each in data["arms"]
    }
    context = night()
    arms = Arms.of(context)
    assert list(runs) == arms.all
    claims = [*stride.claims_of(context, arms, runs), stride.evaluation_claim(data["evaluated"])]
    assert_claims(claims, card_of("stride").findings.claims)
    assert [list(np.array(each["loss"]) - each["train_loss"]) for each in data["arms"]] == [
        each["gap"] for each in data["arms"]
    ]
    assert data["evaluated"][0]["strides"] == stride.scored_strides(L)


def context_of(name: str) -> ExperimentContext:
    return night(card_of(name).provenance["tokens"])


def test_the_arms_of_dropout_are_those_of_the_card() -> None:
    data, context = data_of("dropout"), context_of("dropout")
    cells = dropout.cells_of(context)
    assert [
        (cell.arm, cell.p, cell.where, cell.everywhere, len(dropout.seeds_of(context, cell))) for cell in cells
    ] == [(each["arm"], each["p"], each["where"], each["everywhere"], len(each["losses"])) for each in data["cells"]]
    assert dropout.presented(context) == data["tokens"] == data["cells"][0]["tokens"]
    for cell, each in zip(cells, data["cells"], strict=True):
        windows = (dropout.settings_of(context, cell)["prefix_tokens"] - 1) / 64
        assert data["tokens"] / 64 / windows == pytest.approx(each["epochs"], rel=1e-3)
    assert set(data["learning_rates"]) == {cell.arm for cell in cells if cell.counts}


def test_the_arms_of_strides_are_those_of_the_card() -> None:
    data, context = data_of("stride"), context_of("stride")
    made = [(settings_of(context, arm), name_of(context, arm)) for arm in Arms.of(context).all]
    assert [(name, settings["stride"], settings["steps"]) for settings, name in made] == [
        (each["name"], each["stride"], each["steps"]) for each in data["arms"]
    ]
    assert prefix_tokens(context) == data["part"]
    assert set(data["learning_rates"]) == {name_of(context, arm) for arm in Arms.of(context).without_overlap}


def test_the_arms_of_activations_are_those_of_the_card() -> None:
    data, context = data_of("activation"), context_of("activation")
    models = {
        a: context.config.with_values(activation.settings_of(context, a)).model for a in activation.arms_of(context)
    }
    assert {name: model.parameter_count() for name, model in models.items()} == data["parameters"]
    assert {name: activation.NAMES[name] for name in models} == data["names"]
    assert [name for name in data["learning_rates"] if "wide" in name] == ["ReLU, wide start", "SwiGLU, wide start"]
    assert activation.wide_std(context) == data["wide"]["std"]


def test_the_arms_of_self_attention_are_those_of_the_card() -> None:
    data, context = data_of("self-attention"), context_of("self-attention")
    arms = [
        self_attention.Arm(size, scaling, unit)
        for size, unit in self_attention.pairs(context)
        for scaling in ("scaled", "unscaled")
    ]
    assert [arm.name for arm in arms] == list(data["learning_rates"])
    assert [arm for arm in arms if arm.probing()] == [self_attention.Arm(8, "scaled")]
    for arm in arms:
        settings = arm.settings(context)
        assert (settings["head_dim"], settings["qk_norm"], settings["attention"]) == (arm.size, False, "explicit")
        assert (settings["steps"], settings["change"]) == (300, "unscaled" if arm.scaling == "unscaled" else "")
        assert settings.get("init_std") == (1 / 8 if arm.unit else None)


@pytest.mark.parametrize("name", [name for name in NOTES if name not in ("causal", "buffer")])
def test_the_grids_of_learning_rates_are_those_of_the_card(name: str) -> None:
    context = context_of(name)
    sizes = {arm.name: arm for arm in batch_size.Arms.of(context).all}
    for arm, tuning in data_of(name)["learning_rates"].items():
        base = batch_size.first_rate(context, sizes[arm]) if name == "batch-size" else 0.0
        tried = [rate for rate, _ in tuning["tried"]]
        grid = LearningRateSearch(context, arm, {}, base).grid
        assert min(abs(np.log(np.array(tried[at : at + 3]) / grid)).max() for at in range(len(tried) - 2)) < 1e-9
        assert tuning["chosen"] == min(tuning["tried"], key=lambda each: each[1])[0]
