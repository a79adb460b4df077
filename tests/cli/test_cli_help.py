from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import lightwell
from cli_house import call
from lightwell.cli.commands import COMMANDS
from lightwell.cli.help import USUAL
from lightwell.training.settings.config import RunConfig
from lightwell.training.settings.presets import DEFAULT_PRESET, preset

Capture = pytest.CaptureFixture[str]


ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(lightwell.__file__).parent.parent)}


def in_a_new_process(code: str) -> str:
    """Run Python code by itself; what it prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, env=ENVIRONMENT).stdout


def test_help_imports_nothing_that_computes() -> None:
    # How long it takes depends on the machine; what it imports decides it.
    printed = in_a_new_process(
        "import sys; from lightwell.cli.app import run; run(['--help']); help_ = set(sys.modules)\n"
        "run(['train', '--help']); run(['runs', '--help'])\n"
        "slow = {'torch', 'numpy', 'matplotlib', 'tokenizers', 'pyarrow', 'rich.progress'}\n"
        "print('IMPORTED', sorted(slow & help_), sorted(slow & set(sys.modules) & {'torch', 'matplotlib', 'pyarrow'}))"
    )
    assert "IMPORTED [] []" in printed


def test_importing_the_library_imports_nothing_that_computes() -> None:
    printed = in_a_new_process(
        "import sys, lightwell as lw; slow = {'torch', 'numpy', 'tokenizers', 'cyclopts'}\n"
        "assert not slow & set(sys.modules); lw.ModelConfig(n_layers=3); print('torch' in sys.modules)"
    )
    assert printed == "False\n"


def test_a_reader_that_has_enough_is_no_error() -> None:
    code = "import sys; from lightwell.cli.app import run; sys.exit(run(['runs', '--json']))"
    command = [sys.executable, "-c", code]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == b""
    assert process.wait() == 0


def test_a_terminal_without_the_characters_is_no_error(house: Path) -> None:
    (house / "runs" / "notes").rename(house / "runs" / "nötes")
    environment = {**ENVIRONMENT, "PYTHONIOENCODING": "ascii", "COLUMNS": "80"}
    command = [sys.executable, "-m", "lightwell", "runs"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=house)
    assert done.returncode == 0, done.stderr
    assert "n?tes" in done.stdout


def test_help_lists_every_command_with_a_sentence(capsys: Capture) -> None:
    result = call(capsys, "--help")
    assert result.code == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name} +[A-Z]", result.out, re.MULTILINE), name
    assert call(capsys).out == result.out  # no command at all is answered likewise


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(name: str, capsys: Capture) -> None:
    result = call(capsys, name, "--help")
    assert result.code == 0
    assert result.out.startswith(f"Usage: lightwell {name}")
    assert "--json" in result.out


def test_every_setting_is_a_flag_with_its_sentence_and_default(capsys: Capture) -> None:
    shown = " ".join(call(capsys, "train", "--help-all").out.split())
    defaults = preset(DEFAULT_PRESET).to_dict()
    for name, (section, field) in RunConfig.all_fields().items():
        if name == "paths":
            continue
        flag = f"--{name.replace('_', '-')}"
        assert f" {flag} " in shown or f" {flag}, --no-{flag[2:]} " in shown, flag
        assert field.help in shown, flag
        default = defaults[section][name]
        if isinstance(default, int) and not isinstance(default, bool):
            assert re.search(rf" {flag} N .*?\[(\d+)\]", shown)[1] == str(default)  # type: ignore[index]


def test_help_fits_the_terminal(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    for columns in (60, 100):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert max(map(len, call(capsys, "train", "--help").out.splitlines())) <= columns


def test_the_version_is_shown(capsys: Capture) -> None:
    result = call(capsys, "--version")
    assert result.code == 0
    assert result.out.strip()


def test_help_shows_the_usual_settings_and_all_of_them_when_asked(capsys: Capture) -> None:
    usual, every = call(capsys, "train", "--help").out, call(capsys, "train", "--help-all").out
    flags = {f"--{field.name.replace('_', '-')}" for _, field in RunConfig.all_fields().values()} - {"--paths"}
    shown = {flag for flag in flags if re.search(rf"^  {flag}[ ,]", usual, re.M)}
    assert shown == set(USUAL)
    assert {flag for flag in flags if re.search(rf"^  {flag}[ ,]", every, re.M)} == flags
    assert "--help-all all of them" in " ".join(usual.split())
    for flag in ("--preset", "--out", "--dry-run", "--processes"):
        assert f"  {flag}" in usual
    assert call(capsys, "generate", "--help").out == call(capsys, "generate", "--help-all").out
