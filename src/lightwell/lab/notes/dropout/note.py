"""Note 5, dropout on the attention weights: its words, written before any run."""

from __future__ import annotations

from lightwell.lab.experiments.note import Note

NOTE = Note(
    number=5,
    name="dropout",
    title="Dropout on the attention weights",
    sentence=(
        "Dropout ignores randomly chosen units during training to prevent overfitting; it is applied to the "
        "attention weights, and switched off afterwards."
    ),
    prediction=(
        "A row of weights keeps its sum on average, with a spread of sqrt(p / (1 - p) x the sum of "
        "squares); dropout lowers the held-out loss where the text is repeated often, and raises it where "
        "it is seen once (by 0.05 in a model of 163 million parameters)."
    ),
    leaves_out=(
        "Kept weights are scaled by 1 / (1 - p), so that a row no longer sums to 1 each time; the first row "
        "is all zero with probability p. Losses in training are measured with dropout on, and are higher "
        "for that reason alone."
    ),
    flips=(
        "When each token is seen about once, as in pretraining: there is nothing to overfit, and dropout only costs."
    ),
    file="model/dropout.py",
    function="sample_dropout_mask",
    exercise=(
        "Train a short text of your own with --epochs 40 and --attention-dropout 0, then 0.2; compare the "
        "best held-out losses in lightwell runs."
    ),
)
