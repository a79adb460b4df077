"""Note 1, batch size: its words, written before any run."""

from __future__ import annotations

from lightwell.lab.experiments.note import Note

NOTE = Note(
    number=1,
    name="batch-size",
    title="Batch size",
    sentence=(
        "A small batch size requires less memory but leads to more noisy updates; it is a trade-off to experiment with."
    ),
    prediction=(
        "The squared gradient norm falls with 1/B along a straight line (R^2 above 0.98), saved bytes grow "
        "with B along another; with the learning rate retuned, the large batch wins at equal steps and the "
        "small one at equal tokens."
    ),
    leaves_out=(
        "Noisy is not bad: at equal tokens a small batch makes more updates. The noise scale, where the two "
        "costs balance, grows as the loss falls; and gradients of small batches add up to that of a large "
        "one, so memory is no reason for a small batch_size, only for a small micro_batch_size."
    ),
    flips=("At equal tokens, or where the learning rate is not retuned: then one measures the learning rate."),
    file="training/update/loss.py",
    function="accumulate_gradients",
    exercise=(
        "Train with --batch-size 32 and with --batch-size 32 --micro-batch-size 4: compare memory_bytes in "
        "metrics.jsonl, and the losses."
    ),
)
