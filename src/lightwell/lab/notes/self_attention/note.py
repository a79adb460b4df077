"""Note 3, self-attention as scaled dot product: its words, written before any run."""

from __future__ import annotations

from lightwell.lab.experiments.note import Note

NOTE = Note(
    number=3,
    name="self-attention",
    title="Self-attention as scaled dot product",
    sentence=(
        "The dot product of query and key measures similarity: the higher it is, the higher the attention score."
    ),
    prediction=(
        "Dot products of vectors with components of variance 1 have a standard deviation of sqrt(d_k), scaled "
        "ones of 1. Unscaled, 18 % of rows are saturated at d_k = 64 and 48 % at 256; the gradient of softmax is "
        "larger than the scaled one up to d_k = 32, and smaller only from 64 to 100 on. Trained, scaling lowers "
        "the held-out loss at d_k = 64 or more, and makes no difference above 0.02 nats at 8. On real activations, "
        "weights follow dot products within a row; across rows, and by angle alone, their order is another one."
    ),
    leaves_out=(
        "It is higher within one row only: adding a constant to a row changes nothing. The form is learned "
        "and not symmetric, key norms count, and high attention is not high influence: the value has to "
        "matter, too."
    ),
    flips=(
        "For small heads: unscaled, d_k of 8 to 32 train as well, and their softmax has larger gradients. "
        "And where weights start so small that queries and keys are far from variance 1, or where qk_norm "
        "normalises them."
    ),
    file="model/attention.py",
    function="explicit_attention",
    exercise=(
        "Remove the division by math.sqrt in explicit_attention, train with --attention explicit --no-qk-"
        "norm and --n-heads 1, then 8, and compare."
    ),
)
