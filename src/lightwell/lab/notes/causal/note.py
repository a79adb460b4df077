"""Note 4, causal attention: its words, written before any run."""

from __future__ import annotations

from lightwell.lab.experiments.note import Note

NOTE = Note(
    number=4,
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
    flips=("Where the mask is a finite number and scores are driven below it, or where packed documents must not mix."),
    file="model/attention.py",
    function="explicit_attention",
    exercise="print(lw.lab.check_causal(model)) with any model that you have, e.g. one from transformers.",
)
