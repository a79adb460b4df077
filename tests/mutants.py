"""Plausible slips, one at a time: `make mutants` says which of them no test notices.

mutants.toml has them, each as a line of the sources and what it becomes. A slip is made in a copy of the repository,
and the tests run until the first one fails: those that mirror the changed module, then those of its folder, then all
others. A slip that fails none is named, and the exit code is 1. The test that failed is then run without the slip: it
must pass, or it says nothing.

    python tests/mutants.py                 all of them
    python tests/mutants.py clip deadline   those whose name contains one of these words
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
LIST = Path(__file__).with_name("mutants.toml")
PYTEST = (sys.executable, "-m", "pytest", "-x", "-q", "-rfE", "-p", "no:cacheprovider", "-n", "2")
TIMEOUT = 1200
"""Seconds after which a run of tests counts as failed: a slip may make something wait for ever."""


@dataclass(frozen=True)
class Mutant:
    """One slip."""

    name: str
    """What goes wrong, in a few words."""
    file: str
    """The module, from src/lightwell on."""
    old: str
    """What stands there, once."""
    new: str
    """What the slip makes of it."""

    @property
    def path(self) -> Path:
        """The module, from the repository's root on."""
        return Path("src", "lightwell", self.file)

    def test_folders(self) -> Iterator[Path]:
        """Yield where its tests are likely to be, the likeliest first."""
        folders = [
            Path("tests", *Path(self.file).parts[:depth]) for depth in range(len(Path(self.file).parts) - 1, 0, -1)
        ]
        yield from (folder for folder in folders if (REPOSITORY / folder).is_dir())
        yield Path("tests")


def read_mutants(path: Path = LIST) -> list[Mutant]:
    """Return the list."""
    return [Mutant(**values) for values in tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]]


def apply(mutant: Mutant, root: Path) -> str:
    """Make the slip in the repository at `root`; return the module as it was."""
    path = root / mutant.path
    source = path.read_text(encoding="utf-8")
    assert source.count(mutant.old) == 1, f"{mutant.name}: {mutant.file} has its line {source.count(mutant.old)} times"
    path.write_text(source.replace(mutant.old, mutant.new), encoding="utf-8")
    return source


def run_tests(root: Path, *arguments: str) -> tuple[int, str]:
    """Run some tests of the repository at `root`; return pytest's exit code and what it printed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(root / "src"), str(root / "tests")])}
    try:
        tests = subprocess.run(
            [*PYTEST, *arguments],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return 1, f"FAILED {arguments[-1]} took more than {TIMEOUT} s"
    return tests.returncode, tests.stdout + tests.stderr


def first_failure(root: Path, mutant: Mutant) -> str:
    """Return the test that fails first, or nothing where all pass."""
    done = [Path("tests", "test_mutants.py")]  # which would miss the line that was changed
    for folder in mutant.test_folders():
        code, output = run_tests(root, *(f"--ignore={path}" for path in done), str(folder))
        if code not in (0, 5):  # 5: no test there
            named = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.MULTILINE)
            return named[1] if named else output.strip().splitlines()[-1]
        done.append(folder)
    return ""


def copy_repository(root: Path) -> None:
    """Copy what git has or would take to `root`."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.split("\0")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(REPOSITORY / name, root / name)


def main(words: Sequence[str]) -> int:
    """Try the slips whose names contain one of the words, all of them without any; 1 where one goes unnoticed."""
    mutants = [mutant for mutant in read_mutants() if not words or any(word in mutant.name for word in words)]
    unnoticed = []
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "repository"
        copy_repository(root)
        shared = REPOSITORY.parent / "shared"
        if shared.is_dir():
            (Path(folder) / "shared").symlink_to(shared)
        for number, mutant in enumerate(mutants, 1):
            started = time.monotonic()
            source = apply(mutant, root)
            try:
                failure = first_failure(root, mutant)
            finally:
                (root / mutant.path).write_text(source, encoding="utf-8")
            if failure and run_tests(root, failure)[0] != 0:
                verdict, failure = f"INVALID, {failure} fails without it, too", ""
            else:
                verdict = failure or "NOTHING FAILED"
            print(f"{number}/{len(mutants)} {mutant.name}  {time.monotonic() - started:.0f} s  {verdict}", flush=True)
            if not failure:
                unnoticed.append(mutant.name)
    print(f"{len(mutants) - len(unnoticed)} of {len(mutants)} slips were noticed.")
    return 1 if unnoticed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
