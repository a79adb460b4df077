"""Note 6, registering a buffer: its words, written before any run."""

from __future__ import annotations

from lightwell.lab.experiments.note import Note

NOTE = Note(
    number=6,
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
)
