"""Note 2, the stride of the windows: its words, written before any run."""

from __future__ import annotations

from lightwell.lab.experiments.note import Note

NOTE = Note(
    number=2,
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
)
