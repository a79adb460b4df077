"""`lightwell generate`."""

from __future__ import annotations

import secrets
import sys
from typing import Annotated

from cyclopts import Parameter

from lightwell.cli import words
from lightwell.cli.flags import FLATTEN, Checkpoint, Device, Json, RunPath, SamplingFlags, check, given
from lightwell.cli.printer import Streamed, show, width_of
from lightwell.cli.progress import progress
from lightwell.plain_json import plain_json

BETWEEN = "\n" + "-" * 40 + "\n"  # texts of a batch


def generate(
    run: RunPath,
    /,
    *,
    prompt: Annotated[
        tuple[str, ...],
        Parameter(
            help="What the text begins with; - reads it from stdin. Given several times: a batch.",
            metavar="TEXT",
            negative=(),
            show_default=False,
            allow_leading_hyphen=True,
        ),
    ] = (),
    seed: Annotated[
        int | None, Parameter(help="Makes the text repeatable; else it is drawn anew.", metavar="N")
    ] = None,
    checkpoint: Checkpoint = "best",
    context_length: Annotated[int, Parameter(help="Tokens seen at once; 0: as many as in training.", metavar="N")] = 0,
    device: Device = "auto",
    json: Json = False,
    sampling: Annotated[SamplingFlags, FLATTEN] = None,
) -> None:
    """Let a trained model write: the prompt and what follows it, token by token."""
    from lightwell.generation.language_model import sampling_config
    from lightwell.training.runs.load import load

    settings = sampling_config(given(sampling)).to_dict()  # wrong ones are found before the model is loaded
    seed = secrets.randbits(32) if seed is None else seed
    check(seed=seed)
    prompts = [sys.stdin.read() if text == "-" else text for text in prompt] or [""]
    model = load(run, checkpoint=checkpoint, context_length=context_length, device=device, listener=progress())
    shown = words.visible if sys.stdout.isatty() else str  # a file or a pipe gets the text as it is
    if json:
        texts = model.generate(prompts, seed=seed, **settings)
        results = [
            {"prompt": begin, "text": text, "seed": seed + row}
            for row, (begin, text) in enumerate(zip(prompts, texts, strict=True))
        ]
        print(plain_json(results[0] if len(results) == 1 else results))
    elif len(prompts) > 1:
        texts = model.generate(prompts, seed=seed, **settings)
        show(BETWEEN.join(shown(begin + text) for begin, text in zip(prompts, texts, strict=True)))
    else:
        streamed = Streamed(width_of(sys.stdout))
        print(streamed.push(shown(prompts[0])), end="", flush=True)
        try:
            for piece in model.stream(prompts[0], seed=seed, **settings):
                print(streamed.push(shown(piece)), end="", flush=True)
        finally:
            print(streamed.flush())  # also where Ctrl-C ends the text
            if sys.stdout.isatty():
                show(f"--seed {seed} writes this again.", file=sys.stderr)
