"""Whatever writes leaves alone what is not its own: files and folders without the marks of Lightwell."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

import lightwell as lw
from cli_house import SMALL_FLAGS, call
from lightwell.bench import minutes, quality
from lightwell.bench.table import main as table
from lightwell.cli.app import build_app
from lightwell.cli.commands import COMMANDS
from lightwell.errors import LightwellError
from lightwell.text.config import TextConfig
from lightwell.tokens.tokenizer import make_tokenizer
from lightwell.views import Picture
from small import write_text

FOREIGN: dict[str, dict[str, str]] = {
    "a site": {"index.html": "mine", "index.md": "mine"},
    "a project with a config.toml": {"config.toml": "[site]", "checkpoints/best.pt": "mine", "metrics.jsonl": "mine"},
    "plans": {"plan.json": "[]", "manifest.json": "{}", "tokenizer.json": "mine", "shards/train-0.txt": "mine"},
    "trials": {"index.html": "mine", "trials/one.json": "mine", "measures/two.json": "mine"},
    "a file": {"": "mine"},
}
FOLDERS: dict[str, list[str]] = {
    "train": ["train", "notes", *SMALL_FLAGS, "--out", "OUT"],
    "train --force": ["train", "notes", *SMALL_FLAGS, "--force", "--out", "OUT"],
    "train --processes": ["train", "notes", *SMALL_FLAGS, "--force", "--processes", "2", "--out", "OUT"],
    "train --dry-run": ["train", "notes", *SMALL_FLAGS, "--dry-run", "--out", "OUT"],
    "prepare": ["prepare", "notes", "--tokenizer", "byte", "--out", "OUT"],
    "prepare --force": ["prepare", "notes", "--tokenizer", "byte", "--force", "--out", "OUT"],
    "lab": ["lab", "buffer", "--corpus", "notes", "--out", "OUT"],
}
FILES: dict[str, list[str]] = {
    "bench": ["bench", "tiny", "--rounds", "1", "--out", "OUT"],
    "bench --profile": ["bench", "tiny", "--profile", "OUT"],
}
WRITES = {"--out", "--profile"}
"""The flags that name what is written."""


def plant(out: Path, files: dict[str, str]) -> dict[str, str]:
    for name, text in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tree(out)


def tree(out: Path) -> dict[str, str]:
    paths = [out, *sorted(out.rglob("*"))] if out.is_dir() else [out]
    return {str(path): path.read_text() for path in paths if path.is_file()}


@pytest.fixture
def text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return write_text(tmp_path / "notes", documents=3, sentences=2)


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("command", FOLDERS)
def test_a_command_leaves_a_folder_alone_that_is_not_its_own(
    text: Path, command: str, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = plant(Path("out"), FOREIGN[kind])
    refused = call(capsys, *("out" if word == "OUT" else word for word in FOLDERS[command]))
    assert refused.code in (1, 2), refused.err
    assert refused.err.count("\n") == 1 or command.startswith("prepare"), refused.err
    assert "out" in refused.err
    assert "--out" in refused.err
    assert tree(Path("out")) == before


@pytest.mark.parametrize("command", FILES)
def test_a_command_leaves_a_file_alone_that_is_not_its_own(
    text: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, said in (("mine.png", "name another file"), ("folder.png", "name another")):
        before = plant(Path(name), {"": "mine"} if name == "mine.png" else {"index.html": "mine"})
        refused = call(capsys, *(name if word == "OUT" else word for word in FILES[command]))
        assert refused.code == 2
        assert name in refused.err
        assert said in refused.err
        assert tree(Path(name)) == before


def test_every_flag_that_names_what_is_written_is_in_the_tables() -> None:
    app = build_app()
    found = {
        (command, name)
        for command in COMMANDS
        for argument in app[command].assemble_argument_collection()
        for name in argument.names
        if name in WRITES or any(word in name.split("-") for word in ("save", "export", "write", "file", "results"))
    }
    listed = {
        (line[0], flag) for line in (*FOLDERS.values(), *FILES.values()) for flag in WRITES if flag in line
    }  # fmt: skip
    assert found == listed


FUNCTIONS: dict[str, Callable[[Path], Any]] = {
    "train": lambda out: lw.train("notes", out=out, force=True, steps=1),
    "prepare": lambda out: lw.prepare("notes", out=out, force=True, tokenizer="byte"),
    "Tokenizer.save": lambda out: make_tokenizer(TextConfig(tokenizer="byte"), 0, ()).save(out),
    "bench.quality": lambda out: quality.main(Path("notes"), out=out),
    "bench.minutes": lambda out: minutes.main(3, out=out),
    "Picture.save": lambda out: Picture(Figure()).save(out.with_suffix(".png")),
}


@pytest.mark.parametrize("function", FUNCTIONS)
def test_a_function_leaves_a_file_alone_that_is_not_its_own(text: Path, function: str) -> None:
    for name in ("mine.json", "mine.png"):
        plant(Path(name), {"": "mine"})
    before = tree(Path())
    with pytest.raises(LightwellError, match=r"(name|choose|give) a"):
        FUNCTIONS[function](Path("mine.json"))
    assert tree(Path()) == before


def test_tables_go_only_into_a_page_that_has_a_place_for_them(text: Path) -> None:
    before = plant(Path("page.md"), {"": "mine"})
    assert table(["results.json", "page.md"]) == 1
    assert tree(Path("page.md")) == before


def test_its_own_folder_is_gone_on_with(text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also one in which a stop has left nothing but the folders of results."""
    from lightwell.lab.experiments.store import refuse_foreign

    Path("lab/trials").mkdir(parents=True)
    refuse_foreign(Path("lab"))
    (Path("lab/trials") / f"{'a' * 32}.json").write_text("{}")
    (Path("lab") / "index.html").write_text("the lab's")
    refuse_foreign(Path("lab"))
    refuse_foreign(Path("none"))
