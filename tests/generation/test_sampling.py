"""Each sampling knob: what it changes, and that its neutral value changes nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightwell.errors import RunError
from lightwell.generation.config import SamplingConfig
from lightwell.generation.sampling import next_token_probabilities, sample

LOGITS = torch.tensor([[2.0, 1.0, 0.5, 0.0, -1.0, -3.0], [-1.0, 4.0, 4.0, 0.0, 3.5, 2.0]])
ROWS = st.lists(st.integers(-60, 60), min_size=1, max_size=12).map(lambda row: torch.tensor([row]) / 8)


def probabilities(logits: Tensor = LOGITS, seen: Tensor | None = None, **settings: Any) -> Tensor:
    return next_token_probabilities(logits, SamplingConfig(**({"temperature": 1.0} | settings)), seen)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_neutral_settings_give_the_softmax() -> None:
    neutral = probabilities(repetition_penalty=1.0, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0)
    torch.testing.assert_close(neutral, LOGITS.softmax(dim=-1))


@given(ROWS, st.floats(0.05, 5), st.integers(0, 15), st.floats(0.01, 1), st.floats(0, 1))
def test_any_setting_gives_a_distribution(logits: Tensor, temperature: float, k: int, p: float, share: float) -> None:
    result = probabilities(logits, temperature=temperature, top_k=k, top_p=p, min_p=share)
    assert result.sum().item() == pytest.approx(1, abs=1e-5)
    assert logits[0, result[0].argmax()] == logits.max()  # the likeliest token (one of them) always stays


@pytest.mark.parametrize("temperature", [0.25, 3.0])
def test_knob_temperature_divides_the_logits(temperature: float) -> None:
    result = probabilities(temperature=temperature)
    torch.testing.assert_close(result, (LOGITS / temperature).softmax(dim=-1))
    assert (result.amax(dim=-1) > probabilities().amax(dim=-1)).all() == (temperature < 1)


def test_knob_temperature_zero_takes_the_likeliest_token() -> None:
    result = probabilities(temperature=0.0, top_k=3, top_p=0.9, min_p=0.5)
    assert result.sum(dim=-1).tolist() == [1, 1]
    assert result.argmax(dim=-1).tolist() == LOGITS.argmax(dim=-1).tolist()


@pytest.mark.parametrize("temperature", [1e-3, 1e-30, 1e-37, 1e-45, 1e-300])
def test_a_very_low_temperature_does_not_overflow(temperature: float) -> None:
    assert probabilities(LOGITS[:1] * 1e4, temperature=temperature).tolist() == [[1, 0, 0, 0, 0, 0]]


def test_knob_top_k_keeps_exactly_k() -> None:
    result = probabilities(top_k=2)
    assert (result > 0).tolist() == [[True, True, *[False] * 4], [False, True, True, *[False] * 3]]
    assert (result[0, 0] / result[0, 1]).item() == pytest.approx(torch.tensor(1.0).exp().item())  # as without
    assert (probabilities(torch.zeros(1, 9), top_k=4) > 0).sum() == 4  # also among equals


@pytest.mark.parametrize("k", [0, 6, 100])
def test_knob_top_k_neutral(k: int) -> None:
    assert torch.equal(probabilities(top_k=k), probabilities())


@given(ROWS, st.floats(0.01, 0.999))
def test_knob_top_p_keeps_the_smallest_set_that_reaches_p(logits: Tensor, p: float) -> None:
    before, after = probabilities(logits)[0], probabilities(logits, top_p=p)[0]
    kept, left_out = before[after > 0], before[after == 0]
    assert kept.sum() >= p - 1e-5
    assert kept.sum() - kept.min() <= p + 1e-5  # one fewer would not do
    assert left_out.numel() == 0 or left_out.max() <= kept.min()
    torch.testing.assert_close(after[after > 0], kept / kept.sum())


def test_knob_top_p_neutral() -> None:
    many = torch.linspace(-30, 0, 5000).unsqueeze(0)  # rounding of the sum must not drop the rare ones
    assert torch.equal(probabilities(many, top_p=1.0), probabilities(many))
    assert (probabilities(many, top_p=1.0) > 0).all()
    assert (probabilities(LOGITS, top_p=1e-6) > 0).sum(dim=-1).tolist() == [1, 1]


@given(ROWS, st.floats(0.001, 1))
def test_knob_min_p_keeps_what_is_likely_enough(logits: Tensor, share: float) -> None:
    before, after = probabilities(logits)[0], probabilities(logits, min_p=share)[0]
    assert torch.equal(after > 0, before >= share * before.max())


def test_knob_min_p_neutral() -> None:
    assert torch.equal(probabilities(min_p=0.0), probabilities())
    assert (probabilities(min_p=1.0) > 0).sum(dim=-1).tolist() == [1, 2]  # only the likeliest, here two equal ones


def test_knob_repetition_penalty_makes_seen_tokens_less_likely() -> None:
    seen = torch.tensor([[True, False, False, False, True, False], [False] * 6])
    result, before = probabilities(seen=seen, repetition_penalty=2.0), probabilities()
    expected = torch.tensor([[1.0, 1.0, 0.5, 0.0, -2.0, -3.0]]).softmax(dim=-1)  # 2 / 2 and -1 x 2
    torch.testing.assert_close(result[:1], expected)
    torch.testing.assert_close(result[1], before[1])
    assert probabilities(seen=seen, repetition_penalty=0.5)[0, 0] > before[0, 0]


def test_knob_repetition_penalty_neutral() -> None:
    assert torch.equal(probabilities(seen=torch.ones(2, 6, dtype=torch.bool), repetition_penalty=1.0), probabilities())


def test_settings_apply_in_the_order_in_which_they_stand() -> None:
    logits = torch.tensor([[0.6, 0.2, 0.1, 0.1]]).log()
    # top_p sees what top_k left, renormalised: 0.75 and 0.25, so 0.7 is reached by one.
    assert (probabilities(logits, top_p=0.7) > 0).sum() == 2
    assert (probabilities(logits, top_p=0.7, top_k=2) > 0).sum() == 1
    # top_p sees the temperature: a daring one needs more tokens for the same share.
    assert (probabilities(logits, top_p=0.7, temperature=10.0) > 0).sum() == 3
    # The penalty comes before temperature 0 decides.
    assert probabilities(LOGITS, LOGITS == 2.0, temperature=0.0, repetition_penalty=4.0)[0].argmax() == 1


def test_half_precision_logits_are_sampled_in_full() -> None:
    assert probabilities(LOGITS.bfloat16()).dtype == torch.float32


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_named(bad: float) -> None:
    with pytest.raises(RunError, match="not finite"):
        probabilities(torch.tensor([[0.0, bad]]))


def test_sample_follows_the_probabilities() -> None:
    row = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0])
    (generator,) = generators(1)
    drawn = [int(sample(row.unsqueeze(0), [generator])) for _ in range(4000)]
    counts = torch.bincount(torch.tensor(drawn), minlength=6)
    assert counts[[0, 2, 5]].tolist() == [0, 0, 0]
    expected = 4000 * row[[1, 3, 4]]
    assert ((counts[[1, 3, 4]] - expected) ** 2 / expected).sum() < 2 + 4 * 2


def test_sample_takes_only_its_own_rows_stream() -> None:
    p = torch.full((3, 50), 1 / 50)
    together = [sample(p, streams).tolist() for streams in [generators(1, 2, 3)] for _ in range(20)]
    for row, seed in enumerate((1, 2, 3)):
        (alone,) = generators(seed)
        assert [int(sample(p[:1], [alone])) for _ in range(20)] == [step[row] for step in together]


@pytest.mark.parametrize(("uniform", "first"), [(0.0, True), (1 - 2**-53, False)])
def test_the_ends_of_the_unit_interval_draw_no_impossible_token(
    uniform: float, first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = torch.rand(64, 1000, generator=torch.Generator().manual_seed(0))
    p[:, :100] = p[:, 900:] = 0
    p = p / p.sum(dim=-1, keepdim=True)
    monkeypatch.setattr(torch, "rand", lambda *size, **others: torch.full(size, uniform, dtype=torch.float64))
    drawn = sample(p, generators(*range(64)))
    assert drawn.tolist() == [100 if first else 899] * 64


# Borders: probabilities that float32 has exactly, so that a border is met and not missed by rounding ------------------

HALVES = torch.tensor([[0.25, 0.5, 0.25]]).log()
EIGHTHS = torch.tensor([[0.5, 0.25, 0.125, 0.125]]).log()


@pytest.mark.parametrize(
    ("logits", "p", "expected"),
    [
        (HALVES, 0.49, [0.0, 1.0, 0.0]),
        (HALVES, 0.5, [0.0, 1.0, 0.0]),  # the first reaches p exactly: no second
        (HALVES, 0.51, [1 / 3, 2 / 3, 0.0]),  # of two equals, the one that comes first
        (HALVES, 0.75, [1 / 3, 2 / 3, 0.0]),
        (HALVES, 0.76, [0.25, 0.5, 0.25]),
        (EIGHTHS, 0.75, [2 / 3, 1 / 3, 0.0, 0.0]),
        (EIGHTHS, 0.875, [4 / 7, 2 / 7, 1 / 7, 0.0]),
        (EIGHTHS, 0.999, [0.5, 0.25, 0.125, 0.125]),
    ],
)
def test_top_p_at_its_borders(logits: Tensor, p: float, expected: list[float]) -> None:
    torch.testing.assert_close(probabilities(logits, top_p=p), torch.tensor([expected]))


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.25, [0.5, 0.25, 0.125, 0.125]),  # exactly a quarter as likely as the likeliest: kept
        (0.26, [2 / 3, 1 / 3, 0.0, 0.0]),
        (0.5, [2 / 3, 1 / 3, 0.0, 0.0]),
        (0.51, [1.0, 0.0, 0.0, 0.0]),
        (1.0, [1.0, 0.0, 0.0, 0.0]),
    ],
)
def test_min_p_at_its_borders(share: float, expected: list[float]) -> None:
    torch.testing.assert_close(probabilities(EIGHTHS, min_p=share), torch.tensor([expected]))


@pytest.mark.parametrize(("k", "kept"), [(1, [0.5]), (2, [0.25, 0.5]), (3, [0.125, 0.25, 0.5]), (4, EIGHTHS[0].exp())])
def test_top_k_keeps_as_many_of_equals_as_make_k(k: int, kept: Any) -> None:
    expected = torch.as_tensor(kept).sort().values
    result = probabilities(EIGHTHS, top_k=k)[0].sort().values[-k:]
    torch.testing.assert_close(result, expected / expected.sum())


def test_the_lowest_temperature_that_divides_and_the_highest_that_does_not() -> None:
    tiny = torch.finfo(torch.float32).tiny
    near = torch.tensor([[0.0, tiny]])  # logits so near each other that the division shows
    torch.testing.assert_close(probabilities(near, temperature=tiny), torch.tensor([[0.0, 1.0]]).softmax(-1))
    assert probabilities(near, temperature=tiny / 2).tolist() == [[0.0, 1.0]]
    equal = torch.tensor([[3.0, 3.0]])
    assert probabilities(equal, temperature=1e-30).tolist() == [[0.5, 0.5]]
    assert probabilities(equal, temperature=0.0).tolist() == [[1.0, 0.0]]  # the first of equals


def test_the_penalty_divides_what_is_above_zero_and_multiplies_what_is_not() -> None:
    logits = torch.tensor([[2.0, 0.0, -2.0, 2.0, -2.0]])
    seen = torch.tensor([[True, True, True, False, False]])
    expected = torch.tensor([[0.5, 0.0, -8.0, 2.0, -2.0]]).softmax(dim=-1)
    torch.testing.assert_close(probabilities(logits, seen, repetition_penalty=4.0), expected)
    more = torch.tensor([[4.0, 0.0, -1.0, 2.0, -2.0]]).softmax(dim=-1)
    torch.testing.assert_close(probabilities(logits, seen, repetition_penalty=0.5), more)


@pytest.mark.parametrize(("uniform", "token"), [(0.0, 0), (0.2499, 0), (0.25, 1), (0.7499, 1), (0.75, 2), (0.9999, 2)])
def test_sample_takes_the_first_token_whose_cumulative_probability_exceeds_the_draw(
    uniform: float, token: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "rand", lambda *size, **others: torch.full(size, uniform, dtype=torch.float64))
    assert sample(torch.tensor([[0.25, 0.5, 0.25]]), generators(1)).tolist() == [token]
