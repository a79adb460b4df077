"""The border between a loss and a spike, and how the usual loss follows, in numbers worked out by hand."""

from __future__ import annotations

import pytest

from lightwell.training.update.loss_spikes import LossSpikeDetector


def test_the_first_losses_begin_the_usual_one() -> None:
    """A twentieth of each loss: 2, then 2 + 4 / 20 - 2 / 20."""
    detector = LossSpikeDetector()
    detector.is_spike(2.0)
    assert (detector.losses, detector.usual_loss, detector.usual_deviation) == (1, 2.0, 0.0)
    detector.is_spike(4.0)
    assert detector.losses == 2
    assert (detector.usual_loss, detector.usual_deviation) == pytest.approx((2.1, 0.1))


@pytest.mark.parametrize(
    ("losses", "loss", "spike", "usual", "deviation"),
    [
        (50, 5.0, False, 3.1, 0.3375),  # the border itself: 3 + 8 * 0.25
        (50, 5.0001, True, 3.1, 0.3375),
        (50, 11.0, True, 3.1, 0.3375),  # counts as the border
        (50, 1.0, False, 2.9, 0.3375),
        (50, -9.0, False, 2.4, 0.8375),  # far below is followed, and no spike
        (49, 11.0, False, 3.4, 0.6375),  # too early to tell, and followed as it is
    ],
)
def test_beyond_eight_deviations_a_loss_is_a_spike(
    losses: int, loss: float, spike: bool, usual: float, deviation: float
) -> None:
    detector = LossSpikeDetector(losses, 3.0, 0.25)
    assert detector.is_spike(loss) is spike
    assert detector.losses == losses + 1
    assert (detector.usual_loss, detector.usual_deviation) == pytest.approx((usual, deviation))
