"""Names become files: what is found where, what is skipped, and what a name that is none is told."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cli_house import call
from lightwell.errors import LightwellError, TextError, system_sentence
from lightwell.text.config import TextConfig
from lightwell.text.documents import read_documents
from lightwell.text.own_folders import LAB, PREPARED, RUN, own_folder
from lightwell.text.paths import expanded, shortened, shown, text_paths
from lightwell.text.sources import find_sources
from lightwell.tokens.tokenizer import make_tokenizer
from lightwell.training.runs.run import Run
from lightwell.training.settings.config import RunConfig
from small import system_error

Capture = pytest.CaptureFixture[str]


def write(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name}\n")


def found(root: Path, *names: str) -> list[str]:
    return [os.path.relpath(source.path, root) for source in find_sources(names).files]


@contextlib.contextmanager
def as_ordinary_user() -> Iterator[None]:
    """Within, this process may not do what only root may."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


OURS = {
    RUN: ["config.toml", "checkpoints/step-1/model.safetensors", "tokenizer.json", "samples.jsonl"],
    PREPARED: ["plan.json", "shards/train-00000-000.tokens", "tokenizer.json"],
    LAB: [f"trials/{'ab' * 16}.json", "index.md", "dropout-glance/card.md"],
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Two texts, and beside and below them one of everything that Lightwell writes."""
    write(tmp_path, "a.txt", "notes/b.txt")
    for where in ("runs/mine", "notes/deep/other"):
        for kind, names in OURS.items():
            write(tmp_path / where / kind.split()[-1], *names)
    return tmp_path


@pytest.mark.parametrize("name", ["{}", "{}/**/*.*", "{}/**", "{}/*", "{}/**/*/*.json", "{}/*/*/*", "{}/**/**/*.txt"])
def test_what_lightwell_has_written_is_no_text(project: Path, name: str) -> None:
    sources = find_sources([name.format(project)])
    assert {os.path.relpath(source.path, project) for source in sources.files} <= {"a.txt", "notes/b.txt"}
    reasons = dict(sources.skipped)
    assert {RUN, PREPARED, LAB} & set(reasons.values())
    assert len(reasons) == len(sources.skipped)


def test_a_folder_of_lightwells_that_is_named_itself_is_read(project: Path) -> None:
    assert "runs/mine/run/config.toml" in found(project, str(project / "runs/mine/run"))
    assert "runs/mine/run/config.toml" in found(project, str(project / "runs/mine/run/config.toml"))


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (["config.toml"], ""),
        (["checkpoints/x"], ""),
        (["config.toml", "checkpoints/x"], RUN),
        (["shards/x"], ""),
        (["shards/x", "manifest.json"], PREPARED),
        (["trials/notes.json"], ""),
        ([f"measures/{'0' * 32}.json"], LAB),
        (["card.json", "card.md"], ""),
        (["card.json", "card.md", "card.html"], LAB),
    ],
)
def test_folders_are_known_by_what_is_in_them(tmp_path: Path, names: list[str], kind: str) -> None:
    write(tmp_path, *names)
    assert own_folder(tmp_path) == kind


def test_a_text_is_the_same_when_runs_and_prepared_text_lie_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(12):
        write(tmp_path, f"notes/{number}.txt")
    config = TextConfig(paths=(".",), tokenizer="byte", validation_fraction=0.5)
    before, _ = read_documents(config)
    Run.create(Path("runs/one"), RunConfig(), make_tokenizer(config, 0, ()))
    out = ["--out", "tokens", "--workers", "1", "--tokenizer", "byte", "--validation-fraction", "0.5"]
    assert call(capsys, "prepare", ".", *out).code == 0
    after, report = read_documents(config)
    assert after == before
    assert {skipped.source: skipped.reason for skipped in report.skipped} == {"runs/one": RUN, "tokens": PREPARED}
    assert "is prepared already" in call(capsys, "prepare", ".", *out).err


def test_two_stars_follow_no_links_and_end(tmp_path: Path) -> None:
    write(tmp_path, "loop/a.txt", "loop/deep/b.txt", "other/c.txt")
    for name in ("x", "y"):
        (tmp_path / "loop" / name).symlink_to(".")
    (tmp_path / "loop/away").symlink_to("../other")
    assert found(tmp_path, f"{tmp_path}/loop/**/*.txt") == ["loop/a.txt", "loop/deep/b.txt"]
    assert found(tmp_path, f"{tmp_path}/loop/away/**/*.txt") == ["loop/away/c.txt"]  # named by the user


def test_globs_find_what_the_shell_would(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", ".hidden.txt", "d/b.txt", "d/e/c.txt", ".git/x.txt", "d/[1].md", "n.md")
    for pattern, names in {
        "*.txt": ["a.txt"],
        "**/*.txt": ["a.txt", "d/b.txt", "d/e/c.txt"],
        "**": ["a.txt", "d/[1].md", "d/b.txt", "d/e/c.txt", "n.md"],
        "d/**/c.*": ["d/e/c.txt"],
        "*/[bc].txt": ["d/b.txt"],
        ".*.txt": [".hidden.txt"],
        "?": ["d/[1].md", "d/b.txt", "d/e/c.txt"],
        "d/../*.md": ["n.md"],
        "d/[[]1].md": ["d/[1].md"],
    }.items():  # fmt: skip
        assert found(tmp_path, f"{tmp_path}/{pattern}") == names, pattern


def test_a_link_to_itself_is_skipped_or_named(tmp_path: Path, capsys: Capture) -> None:
    write(tmp_path, "a.txt")
    (tmp_path / "self").symlink_to("self")
    assert len(find_sources([str(tmp_path)]).files) == 2  # reading says what it is
    with pytest.raises(
        TextError, match=r"self cannot be read \(Too many levels of symbolic links\); remove the link\.$"
    ):
        find_sources([str(tmp_path / "self")])
    for command in ("train", "prepare"):
        more = ["--dry-run"] if command == "train" else ["--out", str(tmp_path.parent / "out"), "--workers", "1"]
        result = call(capsys, command, str(tmp_path), "--validation-fraction", "0.5", *more)
        assert "Traceback" not in result.err
        assert result.code in (0, 1)


@pytest.mark.parametrize("command", ["train", "prepare"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("It was the best of times. " * 20, "is too long for the name of a file; put a text into a file"),
        ("", "One of the paths is empty"),
        ("~$notes.md", "~$notes.md."),
        ("~nobody-of-this-name/x.txt", "~nobody-of-this-name/x.txt."),
        (os.fsdecode(b"caf\xe9.md"), "is not UTF-8"),
        ("a\0b", "is not UTF-8"),
    ],
)
def test_what_is_no_name_gets_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture, command: str, name: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = call(capsys, command, name, "--out", "out")
    assert result.code in (1, 2)
    assert said in result.err
    assert len(result.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_names_that_editors_and_old_systems_make_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["~$notes.md", "~backup.txt", os.fsdecode(b"caf\xe9.md")]
    for name in names:
        Path(name).write_text("text")
    assert sorted(found(tmp_path, ".")) == sorted(names)
    assert "caf\ufffd.md" in [Path(source.name).name for source in find_sources(["."]).files]
    assert found(tmp_path, "~$notes.md", "~backup.txt") == names[:2]


def test_a_home_is_expanded_by_one_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert expanded("~") == tmp_path / "home"
    assert expanded("~/a b/*.txt") == tmp_path / "home/a b/*.txt"
    for literal in ("~$x", "~nobody-of-this-name", "a/~/b", "x~"):
        assert expanded(literal) == Path(literal)
    Path("~root").write_text("mine")
    assert expanded("~root") == Path("~root")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that any user may enter; pytest's own is root's."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_what_may_not_be_entered_is_skipped_or_said(open_folder: Path) -> None:
    tmp_path = open_folder
    write(tmp_path, "open/a.txt", "open/closed/b.txt")
    (tmp_path / "open/closed").chmod(0)
    try:
        with as_ordinary_user():
            sources = find_sources([str(tmp_path / "open")])
            assert [source.path.name for source in sources.files] == ["a.txt"]
            assert "Permission denied" in sources.skipped[0][1]
            assert sources.skipped[0][0].endswith("closed")
            with pytest.raises(TextError, match=r"b.txt cannot be read \(Permission denied\); check that it is there"):
                find_sources([str(tmp_path / "open/closed/b.txt")])
            assert [source.path.name for source in find_sources([f"{tmp_path}/open/**/*.txt"]).files] == ["a.txt"]
    finally:
        (tmp_path / "open/closed").chmod(0o755)


def test_a_refusal_of_the_system_is_a_sentence() -> None:
    for code, remedy in ((36, "put a text into a file"), (13, "ask its owner"), (40, "remove it"), (5, "check it, or")):
        error = system_error(code)
        assert system_sentence(error) == ""
        error.filename = "/some/where"
        assert system_sentence(error).startswith(f"/some/where cannot be used ({error.strerror}); ")
        assert remedy in system_sentence(error)
    error.filename = "x" * 400
    assert len(system_sentence(error)) < 150


def test_names_in_sentences_are_short_and_in_one_line() -> None:
    assert shown(os.fsdecode(b"a\xe9\nb")) == "a\ufffd\\nb"
    assert shortened("x" * 60) == "x" * 60
    assert len(shortened("x" * 61)) == 60
    with pytest.raises(TextError, match="A text is named by its path"):
        text_paths([b"x"])  # type: ignore[list-item]


NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(
    tree=st.lists(st.tuples(NAMES, NAMES, st.booleans()), max_size=4),
    asked=st.lists(NAMES | st.sampled_from(["**", "**/*", "*/*", "~", "[", "[!a]*"]), min_size=1, max_size=2),
)
def test_any_tree_and_any_name_give_files_or_a_sentence(tree: list[tuple[str, str, bool]], asked: list[str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for folder, file, linked in tree:
            with contextlib.suppress(OSError, ValueError):
                (root / "t" / folder).mkdir(parents=True, exist_ok=True)
                if linked:
                    (root / "t" / folder / file).symlink_to("..")
                else:
                    (root / "t" / folder / file).write_text("text")
        real: list[str] = []
        with contextlib.suppress(LightwellError):
            real += [
                os.path.realpath(source.path) for source in find_sources([f"{root}/t/{one}" for one in asked]).files
            ]
        assert len(set(real)) == len(real)
