"""The examples of the documentation, carried out: the texts that they name, every command line, and what it prints.

    PYTHONPATH=src:tests python tests/examples.py        writes what commands print today into docs/commands.md

A command whose output a page shows is carried out as it stands. What else trains does two steps of a tiny model
instead, and what would measure for minutes is only understood (test_docs.py).
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import zstandard

from lightwell.cli.app import run
from lightwell.training.settings.config import RunConfig
from paths import REPOSITORY

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HOME = "/home/ada"
"""Where the examples of the documentation are."""
TIMED = re.compile(r"^step +[\d,]+/.*\n", re.MULTILINE)
"""A line that is there because some seconds have passed."""
LETTER = "Dear Ada,\nrain falls into the well, drop by drop, and the light falls after it.\nYours, the moss.\n\n"
TINY: dict[str, Any] = {
    "steps": 2, "epochs": 0, "minutes": 0, "size": "given", "n_layers": 1, "n_heads": 1, "n_kv_heads": 0, "d_model": 8,
    "d_ff": 0, "context_length": 16, "batch_size": 2, "micro_batch_size": 0, "precision": "fp32", "warmup_steps": 0,
    "eval_tokens": 64, "max_new_tokens": 8, "vocab_size": 0, "stride": 0,
}  # fmt: skip


@dataclass(frozen=True)
class Example:
    """A command line of a page, and the lines that the page shows below it."""

    line: str
    shown: str

    @property
    def words(self) -> list[str]:
        """The command's words, without what stands before and behind it."""
        words = shlex.split(self.line, comments=True)
        words = words[words.index("lightwell") + 1 :]
        ends = [place for place, word in enumerate(words) if word in ("|", ">", "2>", "&&")]
        return words[: min(ends, default=len(words))]

    @property
    def whole(self) -> bool:
        """Whether the page shows all that is printed; three dots leave out what comes first."""
        return bool(self.shown) and not self.shown.startswith("...")

    @property
    def takes_minutes(self) -> bool:
        """Whether it measures for minutes at least, which is what it is for."""
        return self.words[0] == "bench" or (self.words[0] == "lab" and len(self.words) > 1)


def examples(page: Path) -> Iterator[Example]:
    """Every `lightwell` line of a page, in order."""
    for language, body in FENCE.findall(page.read_text(encoding="utf-8")):
        if language == "console":
            command, _, shown = body.partition("\n")
            yield Example(command.removeprefix("$ "), shown)
        elif language in ("", "sh"):
            for line in body.replace("\\\n", " ").splitlines():
                if re.match(r"(printf [^|]*\| *)?lightwell ", line):
                    yield Example(line, "")


def write_texts(folder: Path) -> None:
    """Write every text that an example names, and the notes as docs/commands.md says."""
    page = (REPOSITORY / "docs" / "commands.md").read_text(encoding="utf-8")
    recipe = next(body for _, body in FENCE.findall(page) if body.startswith("mkdir notes"))
    subprocess.run(["bash", "-c", recipe], cwd=folder, check=True)
    (folder / "mine.toml").write_text(next(body for language, body in FENCE.findall(page) if language == "toml"))
    letters = [f"{number} {LETTER}" for number in range(60)]
    mail = "".join(json.dumps({"text": letter, "body": letter}) + "\n" for letter in letters)
    for name, content in {
        "my_folder/one.txt": LETTER * 40, "notes.md": LETTER * 40, "letters/a.txt": LETTER * 40,
        "logs/deep/b.txt.gz": LETTER * 40, "mail.jsonl": mail, "src/a/b.py": "import this\n" * 99,
        "letters.jsonl.gz": mail, "the-verdict.txt": LETTER * 40, "dump/a.jsonl.zst": mail,
        "corpus/a.jsonl": mail,
        "my_notes/a.txt": LETTER * 40, "gpt2-vocabulary/vocab.bpe": "#version: 0.2\n",
        "gpt2-vocabulary/encoder.json": json.dumps(byte_vocabulary()),
    }.items():  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode()
        if path.suffix == ".gz":
            data = gzip.compress(data)
        path.write_bytes(zstandard.compress(data) if path.suffix == ".zst" else data)


def byte_vocabulary() -> dict[str, int]:
    """A vocabulary in GPT-2's form with one token for each byte, and the end of text."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    signs = [*map(chr, printable), *(chr(256 + place) for place in range(len(others)))]
    return {sign: number for number, sign in enumerate([*signs, "<|endoftext|>"])}


def carry_out(words: Sequence[str]) -> tuple[int, str]:
    """Carry out a command line; return its exit code, and all that it printed."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run(list(words))
    return code, said.getvalue()


@contextlib.contextmanager
def small() -> Iterator[None]:
    """Within it, every training is two steps of a tiny model, on the notes where it would be the default corpus."""
    from lightwell.training import start

    def tiny(config: RunConfig) -> RunConfig:
        paths = config.text.paths or (str(Path("notes").absolute()),)
        return config.with_values({**TINY, "paths": list(paths), "corpus": "bible"})

    train, plan = start.train, start.plan
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(start, "train", lambda config, **others: train(tiny(config), **others))
        patch.setattr(start, "plan", lambda config, **others: plan(tiny(config), **others))
        patch.setattr(start, "draw_run", lambda run: None)
        patch.setattr("lightwell.cli.commands.train.launch", lambda processes, arguments: 0)
        patch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"The moss")))
        yield


def fewer(words: Sequence[str]) -> list[str]:
    """The words with numbers that suit the small texts, in place of those for large ones."""
    less = {"--vocab-size": "300", "--workers": "1", "--validation-fraction": "0.1"} if words[0] == "prepare" else {}
    return [less.get(before, word) for before, word in zip(["", *words], words, strict=False)]


def lines_of(text: str) -> list[str]:
    """What is the same each time: no figures, no course of figures, and nothing that a model has written."""
    text = at_home(text)
    text = re.sub(r"\d[\d,.:e+-]*( ?(h|min|s|ms|k|M|G|T|GFLOP/s|[kMGT]?B(/s)?)\b)?( \d+ (min|s))?", "#", text)
    lines = [re.sub(r"\s+", " ", line).strip() for line in text.splitlines() if not line.startswith("    ")]
    return [line for line in lines if line and not re.search("[▁▂▃▄▅▆▇█]|^precision", line)]


def at_home(text: str) -> str:
    """The text with the folders of the documentation in place of those of this machine."""
    return text.replace(os.environ["LIGHTWELL_CACHE"], f"{HOME}/.cache/lightwell").replace(str(Path.cwd()), HOME)


def as_a_user(example: Example, interrupt: bool) -> str:
    """Carry out a command line in a process of its own, interrupted after some steps or not; return what it prints."""
    shows_all = example.words[0] in ("train", "resume", "prepare") and "--dry-run" not in example.words
    command = [sys.executable, "-m", "lightwell", *example.words]
    errors = subprocess.STDOUT if shows_all else subprocess.PIPE
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process:
        while interrupt and not list(Path("runs/long").glob("checkpoints/*")):
            time.sleep(0.1)
        if interrupt:
            time.sleep(1.0)
            process.send_signal(signal.SIGINT)
        results, others = process.communicate()
    return at_home(results + (others or "" if process.returncode else "")).strip("\n")


def written_anew(text: str, shown: Sequence[Example]) -> str:
    """A page's text with what its commands print today."""
    for example in shown:
        printed = as_a_user(example, interrupt=example.words[0] == "train" and not example.whole)
        printed = TIMED.sub("", printed)
        if not example.whole:
            first = re.search("^(runs/long: |lightwell: )", printed, re.MULTILINE)
            assert first, printed
            printed = f"...\n{printed[first.start() :]}"
        text = text.replace(f"$ {example.line}\n{example.shown}```", f"$ {example.line}\n{printed}\n```")
    return text


if __name__ == "__main__":
    PAGE = REPOSITORY / "docs" / "commands.md"
    with tempfile.TemporaryDirectory() as home:
        os.environ["LIGHTWELL_CACHE"] = f"{home}/cache"
        os.chdir(home)
        write_texts(Path(home))
        page = written_anew(PAGE.read_text(encoding="utf-8"), [each for each in examples(PAGE) if each.shown])
        os.chdir("/")
    PAGE.write_text(page, encoding="utf-8")
