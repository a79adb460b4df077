"""Note 7, ReLU: its words, written before any run."""

from __future__ import annotations

from lightwell.lab.experiments.note import Note

NOTE = Note(
    number=7,
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
        "lightwell train --preset tiny --activation relu, then relu2, gelu and swiglu; compare them in lightwell runs."
    ),
)
