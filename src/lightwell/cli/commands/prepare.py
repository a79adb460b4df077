"""`lightwell prepare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lightwell.cli import words
from lightwell.cli.flags import FLATTEN, Json, PrepareFlags, given
from lightwell.cli.printer import show
from lightwell.cli.progress import counting, progress
from lightwell.corpus.prepare import PreparedCorpus, prepare_corpus
from lightwell.plain_json import plain_json
from lightwell.training.settings.compose import compose


def prepare(
    *text: Annotated[str, Parameter(help="Files, folders or globs to prepare.")],
    out: Annotated[Path, Parameter(help="Where the tokens go: a new folder, or one that was begun.", metavar="FOLDER")],
    workers: Annotated[
        int, Parameter(help="Processes that share the work; 0: as many as there are processors.", metavar="N")
    ] = 0,
    force: Annotated[
        bool, Parameter(help="Begin anew, whatever was prepared in the folder.", negative=(), show_default=False)
    ] = False,
    json: Json = False,
    settings: Annotated[PrepareFlags, FLATTEN] = None,
) -> None:
    """Turn a text of any size into tokens on disk, in bounded memory."""
    config = compose(text, settings=given(settings))
    with counting("MB prepared") as prepared:
        done = prepare_corpus(
            config.text,
            config.model.vocab_size,
            out,
            workers=workers,
            force=force,
            say=progress().say,
            on_progress=lambda size, of: prepared(size // 10**6, max(1, of // 10**6)),
        )
    if json:
        print(plain_json(done.to_dict()))
    else:
        show(report(done))


def report(done: PreparedCorpus) -> str:
    """Return the result for a person."""
    rows = [
        ("documents", f"{done.documents:,}"),
        ("tokens", f"{done.train_tokens:,} to train on, {done.held_out_tokens:,} held out"),
        ("bytes per token", f"{done.bytes_per_token:.2f}"),
        ("shards", f"{done.shards:,}"),
    ]
    if done.bytes_done:
        speed = words.in_bytes(1e6 * done.megabytes_per_second)
        by = f"{done.workers} worker{'s' if done.workers > 1 else ''} with {done.encoder}"
        rows.append(("speed", f"{speed}/s by {by}, {words.duration(done.seconds)} in all"))
    rows += [("Saved in", str(done.folder)), ("Next", f"lightwell train {done.folder}")]
    return words.table(rows)
