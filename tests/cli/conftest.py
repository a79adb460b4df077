from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cli_house import build


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the text notes/ and the run runs/notes, made by the command line; not to be changed."""
    folder = tmp_path_factory.mktemp("house")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LIGHTWELL_CACHE", str(folder / "cache"))
        patch.chdir(folder)
        return build(folder)


@pytest.fixture
def house(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it to work in, and to break."""
    copy = tmp_path / "house"
    shutil.copytree(built, copy)
    config = copy / "runs" / "notes" / "config.toml"
    config.write_text(config.read_text().replace(str(built), str(copy)))
    monkeypatch.setenv("LIGHTWELL_CACHE", str(copy / "cache"))
    monkeypatch.chdir(copy)
    return copy
