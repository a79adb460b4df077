"""`lightwell evaluate`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lightwell.cli import words
from lightwell.cli.flags import Checkpoint, Device, Json, RunPath, check
from lightwell.cli.printer import show
from lightwell.cli.progress import counting, progress
from lightwell.plain_json import plain_json

if TYPE_CHECKING:
    from lightwell.training.runs.scoring import Score


def evaluate(
    run: RunPath,
    /,
    *text: Annotated[str, Parameter(help="Files, folders or globs to score; none: the run's own held-out text.")],
    stride: Annotated[
        int,
        Parameter(
            help="Tokens from one window to the next; 0: the context length. Less gives each token more context.",
            metavar="N",
        ),
    ] = 0,
    checkpoint: Checkpoint = "best",
    context_length: Annotated[int, Parameter(help="Tokens seen at once; 0: as many as in training.", metavar="N")] = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Score a trained model: nats per token, perplexity and bits per byte, beside the reference lines."""
    from lightwell.training.runs.scoring import evaluate_run

    check(stride=stride)
    with counting("tokens scored") as scored:
        score = evaluate_run(
            run,
            *text,
            stride=stride,
            checkpoint=checkpoint,
            context_length=context_length,
            device=device,
            listener=progress(),
            scored=scored,
        )
    if json:
        print(plain_json(score.to_dict()))
    else:
        show("\n".join(report(score)))


def report(score: Score) -> list[str]:
    """Return the score for a person."""
    result = score.evaluation
    where = ", ".join(score.text) or "its held-out text"
    lines = [
        f"{score.run} at step {score.checkpoint} on {where}: "
        f"{result.tokens:,} tokens, {words.in_bytes(result.bytes)}, "
        f"windows of {score.context_length} every {score.stride}.",
        "",
        words.table(
            [
                ("nats per token", f"{result.nats_per_token:.4f}"),
                ("perplexity", f"{result.perplexity:,.2f}"),
                ("bits per byte", f"{result.bits_per_byte:.4f}"),
            ],
            right=(1,),
        ),
        "",
    ]
    if score.references is None:
        return [*lines, "The text that it learned from is not there any more, so there are no reference lines."]
    references = score.references.to_dict()
    standing = words.standing(result.nats_per_token, references)
    return [*lines, *words.reference_lines(references, where), f"The model is {standing}."]
