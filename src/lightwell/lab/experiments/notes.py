"""The seven notes, as a reader wrote them down, with what is predicted of each and what there is to say about it.

All of these words are written before a run, and no run changes them. There is no torch here, so that they are listed at
once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Note:
    """The words of an experiment."""

    name: str
    """As on the command line."""
    title: str
    sentence: str
    """The note itself."""
    prediction: str
    """What should be seen if it is right, in numbers where there are any."""
    leaves_out: str
    """What is true beside it."""
    flips: str
    """The condition under which it is wrong."""
    file: str
    """Where Lightwell does it, e.g. "model/attention.py"."""
    function: str
    """And in which function or class there."""
    exercise: str
    """What to try next, with a command."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


_ALL = [
    Note(
        name="batch-size",
        title="Batch size",
        sentence=(
            "A small batch size requires less memory but leads to more noisy updates; it is a trade-off to "
            "experiment with."
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
    ),
    Note(
        name="stride",
        title="The stride of the windows",
        sentence=(
            "Increase the stride to avoid overlap between the batches, since more overlap could lead to "
            "increased overfitting."
        ),
        prediction=(
            "At equal epochs of the loader, a smaller stride ends with a wider gap between training and held-"
            "out loss, as wide as that of as many passes without overlap; at equal tokens, overlap makes no "
            "difference that matters."
        ),
        leaves_out=(
            "Overlap is between windows, and it multiplies the passes over the text: stride 1 at context 256 is "
            "256 passes called one epoch. A stride beyond the context length leaves tokens out. When a model is "
            "scored, overlap helps."
        ),
        flips=(
            "At equal tokens; and in evaluation, where a smaller stride gives each token more context and a lower loss."
        ),
        file="batches/windows.py",
        function="Windows",
        exercise=(
            'Read the line "each token is seen" of lightwell train --preset tiny --epochs 1 --dry-run with '
            "--stride 64, 16 and 1."
        ),
    ),
    Note(
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
    ),
    Note(
        name="causal",
        title="Causal attention",
        sentence="Causal attention restricts the model to previous and current inputs in a sequence.",
        prediction=(
            "Changing token t leaves every logit before t bit-identical, and the derivative by a later embedding is 0; "
            "random tokens stay at ln V or above. Without the mask the loss falls far below that of the causal model, "
            "while the same weights, scored or writing with the mask, are far worse."
        ),
        leaves_out=(
            "The mask also tells positions: the first row can only attend to itself. Documents packed into one "
            "window see each other unless that is masked as well, and a large negative number instead of -inf "
            "can leak."
        ),
        flips=(
            "Where the mask is a finite number and scores are driven below it, or where packed documents must not mix."
        ),
        file="model/attention.py",
        function="explicit_attention",
        exercise="print(lw.lab.check_causal(model)) with any model that you have, e.g. one from transformers.",
    ),
    Note(
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
            "DropoutMask weights are scaled by 1 / (1 - p), so that a row no longer sums to 1 each time; the first row "
            "is all zero with probability p. Losses in training are measured with dropout on, and are higher "
            "for that reason alone."
        ),
        flips=(
            "When each token is seen about once, as in pretraining: there is nothing to overfit, and dropout "
            "only costs."
        ),
        file="model/dropout.py",
        function="sample_dropout_mask",
        exercise=(
            "Train a short text of your own with --epochs 40 and --attention-dropout 0, then 0.2; compare the "
            "best held-out losses in lightwell runs."
        ),
    ),
    Note(
        name="buffer",
        title="Registering a buffer",
        sentence=("Registering the mask as a buffer prevents device mismatch errors, since it moves with the model."),
        prediction=(
            "A registered mask follows .to(device), a plain tensor attribute stays behind and the operation "
            "raises; a persistent fp32 mask adds T x T x 4 bytes per layer to a checkpoint, a non-persistent "
            "one adds 0."
        ),
        leaves_out=(
            "A buffer is also saved in every checkpoint unless persistent=False, changes its dtype with "
            ".half(), and is never in parameters(): no gradient, no optimizer state, no decay."
        ),
        flips=(
            "A persistent mask ties a checkpoint to one context length: loading it at a longer one fails. And "
            "where attention is told is_causal, there is no mask to move at all."
        ),
        file="model/decoder.py",
        function="Decoder.make_buffers",
        exercise=(
            "Set persistent=True in Decoder.make_buffers, train for 2 steps, and compare the size of "
            "model.safetensors; then load the run with a longer context_length and read the error."
        ),
    ),
    Note(
        name="activation",
        title="ReLU",
        sentence="ReLU sets negative inputs to 0, so that a layer passes on positive values only.",
        prediction=(
            "About half of a ReLU layer's outputs are exactly 0 at initialisation, and more after training; "
            "GELU and SiLU have next to none; at matched parameters the ungated ones end within 0.02 nats of "
            "each other, and SwiGLU below ReLU (by 0.04 to 0.05 in Shazeer 2020)."
        ),
        leaves_out=(
            "Not positive but not negative, and the zeros are the point: they can be skipped. A unit that is 0 "
            "for every token is dead. Squared ReLU keeps the zeros; the gate of SwiGLU is what gained quality in "
            "large models (Shazeer 2020)."
        ),
        flips=("With GELU, SiLU and gated ones, which pass small negative values on and have no exact zeros to skip."),
        file="model/feed_forward.py",
        function="FeedForward",
        exercise=(
            "lightwell train --preset tiny --activation relu, then relu2, gelu and swiglu; compare them in "
            "lightwell runs."
        ),
    ),
]
NOTES = {note.name: note for note in _ALL}
"""By name, in the order in which a reader meets them."""
