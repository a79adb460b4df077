"""A corpus larger than memory becomes token shards: in parallel, in bounded memory, and to the same bytes every time.

    sources --units/cutting.py--> units --units/encoding.py, in several processes--> shards of both sides
            --held_out_order.py--> held-out documents in the order of their hash --manifest.py--> a finished folder

What is finished of it is taken up again after a kill, because a unit's record is written last of that unit, and the
manifest last of all. No byte depends on the number of processes. `corpus/corpus.py:prepare`, and so every command,
takes such a folder for a text.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lightwell.corpus.held_out_order import put_in_order
from lightwell.corpus.manifest import FORMAT, MANIFEST, TOKENIZER, Manifest, Side, read_manifest, write_manifest
from lightwell.corpus.plan import (
    Plan,
    clear_records,
    first_skipped,
    is_ours,
    make_plan,
    plan_tokenizer,
    sampled_bytes,
    take_folder,
)
from lightwell.corpus.report import sentences
from lightwell.corpus.shards import Shard
from lightwell.corpus.units.cutting import UNIT_BYTES, Unit
from lightwell.corpus.units.encoding import HELD_OUT, RECORDS, SHARDS, TRAIN, UnitRecord, finished
from lightwell.corpus.units.reading import Findings
from lightwell.corpus.workers import available_cpus, encode_units, make_tokenizer_aside
from lightwell.errors import SettingError, TextError
from lightwell.text.config import TextConfig
from lightwell.tokens.fast_encoding import EncodersDifferError
from lightwell.tokens.token_file import token_type
from lightwell.tokens.tokenizer import Tokenizer

REFERENCE_ONLY = "reference-only"
"""In the folder of records, once the faster encoder was found to differ: everybody uses the reference from then on."""

Say = Callable[[str], None]
OnProgress = Callable[[int, int], None]


@dataclass(frozen=True)
class PreparedCorpus:
    """What preparing came to."""

    folder: Path
    documents: int
    train_tokens: int
    held_out_tokens: int
    text_bytes: int
    bytes_per_token: float
    """Bytes of text for each token, those between documents not counted."""
    shards: int
    workers: int
    encoder: str
    """The package that encoded."""
    bytes_done: int
    """Bytes of text that were encoded now, and not by a call before."""
    seconds: float
    report: list[str]
    digest: str

    @property
    def megabytes_per_second(self) -> float:
        """Return the speed from the files to the shards, in text; a training of the tokenizer is included."""
        return self.bytes_done / 1e6 / self.seconds if self.seconds else 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        values = asdict(self)
        values["validation_tokens"] = values.pop("held_out_tokens")  # as scripts know it
        return {**values, "folder": str(self.folder), "megabytes_per_second": self.megabytes_per_second}


def prepare_corpus(
    config: TextConfig,
    vocab_size: int,
    folder: Path,
    *,
    workers: int = 0,
    force: bool = False,
    unit_bytes: int = UNIT_BYTES,
    say: Say = lambda sentence: None,
    on_progress: OnProgress = lambda done, of: None,
) -> PreparedCorpus:
    """Prepare the text of `config.paths` in `folder`, or go on where a call with the same arguments was stopped.

    Args:
        config: what to read and how; `corpus` is not used.
        vocab_size: tokens of a tokenizer trained here; 0 chooses by the size of the sample that it is trained on.
        folder: where the shards go; new, empty, or begun by a call before.
        workers: processes; 0 takes as many as there are CPUs. They change no byte of the result.
        force: begin anew, whatever was prepared in the folder.
        unit_bytes: text that a process takes at a time. It decides the shards, and so the bytes of the result.
        say: is given each sentence of the report.
        on_progress: is called with the bytes of text that are done, and with those that there are, about.

    Raises:
        SettingError: a setting that is not allowed.
        TextError: a text or tokenizer that cannot be had; a folder that holds something else, or cannot be written; a
            side without documents; a worker that was killed.
        KeyboardInterrupt: Ctrl-C; what is finished is kept.
    """
    if workers < 0:
        raise SettingError(f"workers is {workers}, but must be 1 or more, or 0 for as many as there are processors.")
    began = time.monotonic()
    plan = make_plan(config, vocab_size, folder, unit_bytes)
    workers = min(workers or available_cpus(), len(plan.units))
    try:
        take_folder(plan, force=force)
        bytes_done = 0
        if (folder / MANIFEST).is_file():
            say(f"{folder} is prepared already, from this text and with these settings.")
        else:
            bytes_done = _carry_out(plan, workers, say, on_progress)
        manifest = read_manifest(folder)
        _tidy(folder, manifest)
    except OSError as error:
        raise TextError(_cannot_write(error, folder)) from None
    return _result(plan, manifest, workers, bytes_done, time.monotonic() - began)


def finish_units(plan: Plan, units: Sequence[Unit], workers: int, say: Say, on_progress: OnProgress) -> None:
    """Encode those of the units that are not done yet. The folder and the tokenizer must be there.

    Raises:
        TextError, OSError, KeyboardInterrupt: as `encode_units`.
    """
    vocab_size = plan_tokenizer(plan).vocab_size
    marker = plan.folder / RECORDS / REFERENCE_ONLY
    while True:
        reference_only = marker.exists()
        left = [unit for unit in units if _record(unit, plan, vocab_size, reference_only) is None]
        done = sum(unit.size for unit in units) - sum(unit.size for unit in left)

        def add(size: int) -> None:
            nonlocal done
            done += size
            on_progress(done, max(done, plan.bytes))

        on_progress(done, plan.bytes)
        try:
            if left:
                encode_units(left, plan.work, workers, reference_only, add)
            return
        except EncodersDifferError:
            marker.touch()
            say(
                "The encoder fastokens gives other ids than the tokenizers library for this text; "
                "the tokenizers library encodes all of it now, which takes longer."
            )


def _carry_out(plan: Plan, workers: int, say: Say, on_progress: OnProgress) -> int:
    """Do all of it, up to the manifest, and return how many bytes of text were encoded now."""
    if workers > 1 and not (plan.folder / TOKENIZER).is_file():
        make_tokenizer_aside(plan)
    tokenizer = plan_tokenizer(plan)
    before = _records(plan, tokenizer.vocab_size)
    if before:
        say(f"Going on in {plan.folder}: {len(before):,} of {len(plan.units):,} units were done before.")
    try:
        finish_units(plan, plan.units, workers, say, on_progress)
    except KeyboardInterrupt as stop:
        done = len(_records(plan, tokenizer.vocab_size))
        raise type(stop)(
            f"Stopped; {done:,} of {len(plan.units):,} units are in {plan.folder}, "
            "and the same command goes on from there."
        ) from None
    records = _records(plan, tokenizer.vocab_size)
    assert len(records) == len(plan.units)
    manifest = _manifest(plan, tokenizer, records)
    for sentence in manifest.report:
        say(sentence)
    write_manifest(plan.folder, manifest)
    return sum(record.found.bytes for record in records) - sum(record.found.bytes for record in before)


def _manifest(plan: Plan, tokenizer: Tokenizer, records: Sequence[UnitRecord]) -> Manifest:
    """Put the held-out documents in order, and return what describes the folder."""
    dtype = np.dtype(token_type(tokenizer.vocab_size))
    shards = {side: [shard for record in records for shard in record.shards[side]] for side in (TRAIN, HELD_OUT)}
    findings = Findings()
    for record in records:
        findings.add(record.found)
    _refuse_empty(plan, shards, findings)
    shards[HELD_OUT] = put_in_order(plan.folder, shards[HELD_OUT], dtype)
    sides = {
        side: Side(
            documents=sum(shard.documents for shard in shards[side]),
            tokens=sum(shard.tokens for shard in shards[side]) + 1,
            text_bytes=sum(record.text_bytes[side] for record in records),
            shards=shards[side],
        )
        for side in (TRAIN, HELD_OUT)
    }
    return Manifest(
        format=FORMAT,
        settings=plan.settings,
        fingerprint=tokenizer.fingerprint,
        vocab_size=tokenizer.vocab_size,
        end_of_text=tokenizer.end_of_text,
        dtype=dtype.str,
        train=sides[TRAIN],
        validation=sides[HELD_OUT],
        report=sentences(findings, plan.sources.skipped, tokenizer, sampled_bytes(plan), sides[TRAIN], sides[HELD_OUT]),
    )


def _refuse_empty(plan: Plan, shards: dict[str, list[Shard]], findings: Findings) -> None:
    documents = {side: sum(shard.documents for shard in made) for side, made in shards.items()}
    total, fraction = sum(documents.values()), plan.config.validation_fraction
    names = " ".join(plan.config.paths)
    if not total:
        raise TextError(f"There is no text to read in {names}{first_skipped(plan, findings)}.")
    for side, remedy in ((HELD_OUT, "raise"), (TRAIN, "lower")):
        if not documents[side]:
            what = "held out" if side == HELD_OUT else "left to train on"
            raise TextError(
                f"None of the {total:,} documents is {what} at a validation_fraction of {fraction:g}, as each is put "
                f"on its side by itself; {remedy} --validation-fraction, or, where the text fits into memory, "
                f"`lightwell train {names}`, which cuts a document."
            )


def _record(unit: Unit, plan: Plan, vocab_size: int, reference_only: bool) -> UnitRecord | None:
    record = finished(unit, plan.work, vocab_size)
    return None if record and reference_only and record.encoder == "fastokens" else record


def _records(plan: Plan, vocab_size: int) -> list[UnitRecord]:
    """Return the records of the units that are done, in order."""
    reference_only = (plan.folder / RECORDS / REFERENCE_ONLY).exists()
    records = (_record(unit, plan, vocab_size, reference_only) for unit in plan.units)
    return [record for record in records if record is not None]


def _tidy(folder: Path, manifest: Manifest) -> None:
    """Remove what only the work needed: the records, and shards that are not in the manifest."""
    kept = {shard.name for side in (manifest.train, manifest.validation) for shard in side.shards}
    for path in (folder / SHARDS).iterdir():
        needed = f"{SHARDS}/{path.name.split('.')[0]}" in kept and path.suffix in (".tokens", ".offsets")
        if is_ours(path) and not needed:
            path.unlink()
    clear_records(folder)


def _result(plan: Plan, manifest: Manifest, workers: int, bytes_done: int, seconds: float) -> PreparedCorpus:
    train, held_out = manifest.train, manifest.validation
    documents, text_bytes = train.documents + held_out.documents, train.text_bytes + held_out.text_bytes
    text_tokens = train.tokens + held_out.tokens - documents - 2
    return PreparedCorpus(
        folder=plan.folder,
        documents=documents,
        train_tokens=train.tokens,
        held_out_tokens=held_out.tokens,
        text_bytes=text_bytes,
        bytes_per_token=text_bytes / text_tokens,
        shards=len(train.shards) + len(held_out.shards),
        workers=workers,
        encoder=Tokenizer.load(plan.folder / TOKENIZER).encoder,
        bytes_done=bytes_done,
        seconds=seconds,
        report=manifest.report,
        digest=manifest.digest,
    )


def _cannot_write(error: OSError, folder: Path) -> str:
    remedy = "the same command goes on from what is done, or choose another --out"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"The disk of {folder} is full; free some space, and {remedy}."
    return f"{folder} cannot be written ({error.strerror or error}); {remedy}."
