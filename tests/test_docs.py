"""The documentation says what the program does: settings, links, commands, names and examples are checked."""

from __future__ import annotations

import ast
import doctest
import itertools
import re
import shlex
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import lightwell
from lightwell.cli.app import build_app
from lightwell.cli.commands import COMMANDS
from lightwell.training.settings.table import configuration_page
from paths import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = sorted([*DOCS.glob("*.md"), REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md"])
SOURCES = [*(REPOSITORY / "src").rglob("*.py"), *(REPOSITORY / "tests").rglob("*.py")]
pages = pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(REPOSITORY)))

FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`\n]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
PYTHON_NAME = re.compile(r"([\w/]+\.py)(?::([\w.]+))?")
COMMAND_LINE = re.compile(r"(\$ )?([A-Z_]+=\S* )*([^|#]*\| *)?lightwell ")
END_OF_COMMAND = {"|", "||", "&&", ";", ">", ">>", "2>", "&"}


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in one of some languages."""
    return [body for language, body in FENCE.findall(page.read_text(encoding="utf-8")) if language in languages]


def spans(page: Path) -> list[str]:
    """What stands between backticks outside of fenced blocks."""
    return SPAN.findall(prose(page))


def command_lines(page: Path) -> Iterator[list[str]]:
    """The arguments of every `lightwell ...` line in fenced blocks, but of those that are shown to be refused."""
    for block in blocks(page, "", "sh", "console"):
        lines = block.replace("\\\n", " ").splitlines()
        for line, below in itertools.zip_longest(lines, lines[1:], fillvalue=""):
            if COMMAND_LINE.match(line) and not below.startswith("lightwell: "):
                words = shlex.split(line, comments=True)
                words = words[words.index("lightwell") + 1 :]
                end = next((place for place, word in enumerate(words) if word in END_OF_COMMAND), len(words))
                yield words[:end]


def flags_of(command: str) -> set[str]:
    """Every flag of a command."""
    return {name for argument in build_app()[command].assemble_argument_collection() for name in argument.names}


def heading_anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@cache
def defined_names(path: Path) -> set[str]:
    """Functions, classes, their methods as Class.method, and assigned names of a module."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        names |= _names(node)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{inner}" for statement in node.body for inner in _names(statement)}
    return names


def _names(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def test_the_configuration_page_is_that_of_the_configuration() -> None:
    assert (DOCS / "configuration.md").read_text(encoding="utf-8") == configuration_page(), (
        "python -m lightwell.training.settings.table > docs/configuration.md"
    )


def test_every_setting_of_the_configuration_page_is_a_flag() -> None:
    page = (DOCS / "configuration.md").read_text(encoding="utf-8")
    flags = {f"--{flag}" for flag in re.findall(r"^\| `\w+` \| `--([\w-]+)`", page, re.MULTILINE)}
    assert len(flags) > 60
    assert not flags - flags_of("train")


def test_the_index_leads_to_every_page() -> None:
    linked = set(LINK.findall((DOCS / "README.md").read_text(encoding="utf-8")))
    assert linked >= {path.name for path in DOCS.glob("*.md")} - {"README.md"}


@pages
def test_links_lead_somewhere(page: Path) -> None:
    for link in LINK.findall(prose(page)):
        if re.match(r"https?:|mailto:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not anchor or anchor in heading_anchors(target), link


@pages
def test_command_lines_are_understood(page: Path) -> None:
    parser = build_app()
    for words in command_lines(page):
        _, bound, _ = parser.parse_args(words, exit_on_error=False, print_error=False)
        assert bound is not None, words


@pages
def test_commands_in_a_sentence_exist(page: Path) -> None:
    for span in spans(page):
        if span.startswith("lightwell "):
            name = span.split()[1]
            flags = set(re.findall(r"(?<!\S)\[?(--[a-z][\w-]*)", span))
            if name in COMMANDS:
                assert flags <= flags_of(name) | {"--help"}, span
            else:
                assert name in ("COMMAND", "--help", "--version"), span


@pages
def test_modules_and_functions_that_are_named_exist(page: Path) -> None:
    for span in spans(page):
        if match := PYTHON_NAME.fullmatch(span):
            path, name = match.groups()
            found = [source for source in SOURCES if f"/{source.as_posix()}".endswith(f"/{path}")]
            assert found, span
            assert not name or any(name in defined_names(source) for source in found), span
        elif re.fullmatch(r"test_\w+", span):
            assert any(span in defined_names(source) for source in SOURCES), span


@pages
def test_python_examples_give_what_they_show(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = blocks(page, "python")
    for example in examples:
        for name in re.findall(r"\blw\.(\w+)", example):
            assert name in lightwell.__all__, f"lw.{name}"
        if ">>>" not in example:
            compile(example, page.name, "exec")
    shown = "\n".join(example for example in examples if ">>>" in example)
    test = doctest.DocTestParser().get_doctest(shown, {}, page.name, str(page), 0)
    report: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=report.append)
    assert not result.failed, "".join(report)


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_no_page_has_a_place_that_was_to_be_filled_in(path: Path) -> None:
    assert not re.search(r"@[A-Z]+@|TODO|FIXME|XXX", path.read_text(encoding="utf-8"))


def test_the_map_names_every_folder_in_the_order_of_its_imports() -> None:
    """The map of CONTRIBUTING.md is true: all folders, in the order that import-linter holds."""
    map_ = blocks(REPOSITORY / "CONTRIBUTING.md", "text")[0]
    sources = REPOSITORY / "src" / "lightwell"
    folders = {path.parent for path in sources.rglob("__init__.py")} - {sources}
    assert not [folder.name for folder in folders if f"{folder.name}/" not in map_]
    contracts = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = contracts["contracts"][0]["layers"]
    drawn = re.findall(r"^   (\w+)/", map_, re.MULTILINE)
    assert drawn == [layer for layer in reversed(layers) if (sources / layer).is_dir()]


def test_each_law_has_its_tests_and_each_test_of_a_law_its_line() -> None:
    """docs/laws.md is the one list of the laws: numbers, sentences and the files that hold the tests."""
    rows = re.findall(r"^\| (\d+) \| (.+?) \| (.+?) \|$", (DOCS / "laws.md").read_text(encoding="utf-8"), re.MULTILINE)
    listed = {int(number): set(re.findall(r"`(tests/\S+)`", files)) for number, _, files in rows}
    assert list(listed) == list(range(1, len(rows) + 1))
    defined: dict[int, set[str]] = {}
    for path in (REPOSITORY / "tests").rglob("test_*.py"):
        for number in re.findall(r"^def test_law_(\d+)_", path.read_text(encoding="utf-8"), re.MULTILINE):
            defined.setdefault(int(number), set()).add(str(path.relative_to(REPOSITORY)))
    assert listed == defined


def test_laws_that_are_cited_are_listed() -> None:
    laws = len(re.findall(r"^\| \d+ \|", (DOCS / "laws.md").read_text(encoding="utf-8"), re.MULTILINE))
    for path in [*SOURCES, *PAGES]:
        for first, second in re.findall(r"\b[Ll]aws? (\d+)(?: and (\d+))?", path.read_text(encoding="utf-8")):
            for number in filter(None, (first, second)):
                assert 1 <= int(number) <= laws, f"{path.name} cites law {number}"


def rows_of(page: Path, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, its head among them."""
    below = page.read_text(encoding="utf-8").partition(f"{heading}\n")[2]
    table = re.search(r"(?:^\|.*\n)+", below, re.MULTILINE)
    assert table, heading
    return [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in table[0].splitlines()]


def test_the_comparison_of_the_readme_is_what_was_measured() -> None:
    """Each number of the README's table stands in the row of the same contender in docs/performance.md."""
    head, _, *measured = rows_of(REPOSITORY / "README.md", "## Beside nanoGPT, litgpt and the book's code")
    page = DOCS / "performance.md"
    names = {
        "Lightwell": "lightwell", "nanoGPT": "nanogpt", "nanoGPT, bf16": "nanogpt-bf16", "litgpt": "litgpt",
        "the book's code": "llms-from-scratch",
    }  # fmt: skip
    assert [names[column] for column in head[1:]] == list(names.values())
    for row, heading, column in zip(measured, ("### S", "### M", "### M"), ("tokens/s", "tokens/s", "peak memory"),
                                    strict=False):  # fmt: skip
        columns, _, *contenders = rows_of(page, heading)
        known = {cells[0]: cells[columns.index(column)].removesuffix(" GB") for cells in contenders}
        assert row[1:] == [known[name] for name in names.values()], row[0]
    _, _, lightwell, nanogpt = rows_of(page, "## Time to quality")
    for row, place in zip(measured[3:], (3, 4), strict=True):
        found = [cells[place].split(" ")[0] for cells in (lightwell, nanogpt)]
        assert row[1:] == [*found, "", "", ""], row[0]


def test_the_readme_names_no_host_but_that_of_torch() -> None:
    """What a stranger has to look up is looked up where it is kept, and not copied from here."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert set(re.findall(r"https?://([^/)\s]+)", text)) == {"pytorch.org"}
    assert "--index-url" not in text


@pytest.mark.parametrize(
    "page", [*PAGES, *DOCS.glob("lab/**/*.md")], ids=lambda path: str(path.relative_to(REPOSITORY))
)
def test_held_out_is_the_one_word_for_what_is_not_trained_on(page: Path) -> None:
    """Files, fields and flags keep the name that they have always had; sentences do not use it."""
    sentences = SPAN.sub("", prose(page))
    assert not re.search(r"\bvalidat", sentences, re.IGNORECASE)


@pytest.mark.parametrize("page", [*PAGES, REPOSITORY / "CONTRIBUTING.md"], ids=lambda path: path.name)
def test_make_knows_the_targets_and_variables_that_are_named(page: Path) -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    lines = [line for block in blocks(page, "sh") for line in block.splitlines()] + spans(page)
    for line in lines:
        if match := re.match(r"(?:[A-Z_]+=\S+ )?make (.+)", line):
            for word in shlex.split(match[1], comments=True):
                variable, given, _ = word.partition("=")
                known = rf"\$\([^)]*{variable}|{variable} \?=" if given else rf"^{re.escape(word)}:"
                assert re.search(known, makefile, re.MULTILINE), f"{line}: {word}"


@pages
def test_modules_that_are_run_are_there_and_know_their_flags(page: Path) -> None:
    found = re.findall(r"-m (lightwell(?:\.[\w.]+)?)((?: [^`\n#|>]+)?)", page.read_text(encoding="utf-8"))
    for module, arguments in found:
        if module == "lightwell":
            continue
        source = (REPOSITORY / "src" / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        for flag in re.findall(r"--([a-z][a-z-]*)", arguments):
            assert re.search(rf"\b{flag.replace('-', '_')}\b|--{flag}\b", source), f"{module} --{flag}"
