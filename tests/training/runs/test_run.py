"""The run folder: made whole, never overwritten by accident, and records of whole lines only."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lightwell.errors import RunError
from lightwell.text.config import TextConfig
from lightwell.tokens.tokenizer import Tokenizer, make_tokenizer
from lightwell.training.runs.records import Records, write_run_file
from lightwell.training.runs.references import References
from lightwell.training.runs.run import Run, list_runs, new_run_path, refuse_to_overwrite
from lightwell.training.settings.config import RunConfig
from small import raising, system_error


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return make_tokenizer(TextConfig(tokenizer="byte"), 0, ["light"])


def configured(seed: int) -> RunConfig:
    return RunConfig().with_values({"seed": seed})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_new_run_holds_its_configuration_and_tokenizer(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = Run.create(tmp_path / "runs" / "one", configured(5), tokenizer)
    assert names(run.path) == ["checkpoints", "config.toml", "machine.json", "tokenizer.json"]
    opened = Run(tmp_path / "runs" / "one")
    assert opened.config == configured(5)
    assert opened.tokenizer.fingerprint == tokenizer.fingerprint
    assert opened.name == "one"
    assert os.fspath(opened) == str(opened.path)
    assert Path(opened) == opened.path
    assert opened.checkpoints == run.path / "checkpoints"
    assert opened.metrics() == opened.samples() == []
    assert opened.references() == {}
    assert names(tmp_path / "runs") == ["one"]


def test_an_empty_folder_may_become_a_run(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "one").mkdir()
    assert Run.create(tmp_path / "one", configured(5), tokenizer).config == configured(5)


def test_an_existing_run_is_not_overwritten_without_force(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = Run.create(tmp_path / "one", configured(1), tokenizer)
    run.append_metric({"step": 1})
    with pytest.raises(RunError, match="--force"):
        Run.create(tmp_path / "one", configured(2), tokenizer)
    assert run.metrics() == [{"step": 1}]
    replaced = Run.create(tmp_path / "one", configured(2), tokenizer, force=True)
    assert replaced.config == configured(2)
    assert replaced.metrics() == []
    assert names(tmp_path) == ["one"]


def test_force_deletes_nothing_but_runs(tmp_path: Path, tokenizer: Tokenizer) -> None:
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mother.txt").write_text("Dear")
    (tmp_path / "file").write_text("x")
    for name in ("letters", "file"):
        with pytest.raises(RunError, match="is not a run"):
            Run.create(tmp_path / name, configured(1), tokenizer, force=True)
    assert names(tmp_path / "letters") == ["mother.txt"]


def test_a_path_without_a_name_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="no name for a run"):
        refuse_to_overwrite(Path())


@pytest.mark.parametrize(("call", "good"), [("mkdir", 0), ("write_text", 0), ("rename", 0), ("rename", 1)])
def test_a_replacement_that_fails_leaves_the_old_run(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch, call: str, good: int
) -> None:
    Run.create(tmp_path / "one", configured(1), tokenizer).append_metric({"step": 1})
    real, calls = getattr(Path, call), 0

    def failing_once(*arguments: Any, **keywords: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == good + 1:
            raise system_error(errno.ENOSPC)
        return real(*arguments, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(Path, call, failing_once)
        with pytest.raises(RunError, match="No space left on device"):
            Run.create(tmp_path / "one", configured(2), tokenizer, force=True)
    assert Run(tmp_path / "one").config == configured(1)
    assert Run(tmp_path / "one").metrics() == [{"step": 1}]
    assert names(tmp_path) == ["one"]


def test_a_replacement_killed_between_its_renames_gives_the_old_run_back(tmp_path: Path, tokenizer: Tokenizer) -> None:
    Run.create(tmp_path / "one", configured(1), tokenizer).path.rename(tmp_path / ".one.old")
    with pytest.raises(RunError, match="exists already"):
        Run.create(tmp_path / "one", configured(2), tokenizer)
    assert Run(tmp_path / "one").config == configured(1)


def test_a_missing_run_is_answered_with_the_nearest(
    tmp_path: Path, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RunError, match="No run is there yet"):
        Run("runs/one")
    Run.create("runs/verdict", configured(1), tokenizer)
    Run.create("runs/bible", configured(1), tokenizer)
    with pytest.raises(RunError, match=r"There is no run runs/verdct\. Did you mean runs/verdict\?"):
        Run("runs/verdct")
    with pytest.raises(RunError, match=r"Did you mean runs/bible\?"):
        Run("bible")
    with pytest.raises(RunError, match="There are runs/bible, runs/verdict"):
        Run("runs/xyz")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = Run.create(tmp_path / "one", configured(1), tokenizer)
    (run.path / "tokenizer.json").unlink()
    with pytest.raises(RunError, match=r"is not a run: it has no tokenizer.json"):
        Run(run.path)


def test_a_configuration_that_does_not_hold_names_the_run_and_the_setting(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = Run.create(tmp_path / "one", configured(1), tokenizer)
    (run.path / "config.toml").write_text("[training]\nlearning_rat = 1.0\n")
    with pytest.raises(RunError, match=r"one has a configuration that does not hold.*learning_rate"):
        _ = Run(run.path).config


def test_runs_are_listed_with_the_last_written_first(tmp_path: Path, tokenizer: Tokenizer) -> None:
    for name, written in {"old": 10, "new": 30, "middle": 20}.items():
        run = Run.create(tmp_path / name, configured(1), tokenizer)
        run.append_metric({"step": 1})
        os.utime(run.path / "metrics.jsonl", (written, written))
    (tmp_path / "notes").mkdir()
    assert [run.name for run in list_runs(tmp_path)] == ["new", "middle", "old"]
    assert list_runs(tmp_path / "missing") == []


@pytest.mark.parametrize(
    ("paths", "name"),
    [
        ((), "bible"),
        (("my_notes/",), "my_notes"),
        (("/somewhere/the-verdict.txt.gz", "other"), "the-verdict"),
        (("notes/**/*.md",), "notes"),
        (("my letters.txt",), "my-letters"),
        (("*.txt",), "here"),
        ((".",), "here"),
    ],
)
def test_a_run_is_named_after_its_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, paths: tuple[str, ...], name: str
) -> None:
    here = tmp_path / "here"
    (here / "my_notes").mkdir(parents=True)
    monkeypatch.chdir(here)
    config = TextConfig(paths=paths)
    assert new_run_path(config) == Path("runs") / name
    (here / "runs" / name).mkdir(parents=True)
    assert new_run_path(config) == Path("runs") / f"{name}-2"
    (here / "runs" / f"{name}-2").mkdir()
    assert new_run_path(config, "runs") == Path("runs") / f"{name}-3"


def test_records_come_back_as_written(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = Run.create(tmp_path / "one", configured(1), tokenizer)
    sample = {"step": 2, "text": 'Ein "Licht"\n\u2028 fällt 🌧'}
    run.append_metric({"step": 1, "loss": 0.1})
    run.append_sample(sample)
    run.sync()
    assert Run(run.path).metrics() == [{"step": 1, "loss": 0.1}]
    assert Run(run.path).samples() == [sample]
    assert "🌧" in (run.path / "samples.jsonl").read_text(encoding="utf-8")


def test_truncating_drops_what_came_after_a_step_and_nothing_else(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = Run.create(tmp_path / "one", configured(1), tokenizer)
    kept = [{"step": 0, "validation_loss": 5.0}, {"step": 1, "loss": 4.0}, {"step": 2, "loss": 3.0}]
    kept += [{"step": 2, "validation_loss": 3.5}]
    for record in [*kept, {"step": 3, "loss": 2.0}]:
        run.append_metric(record)
        run.append_sample(record)
    run.truncate(2)
    assert run.metrics() == run.samples() == kept
    run.append_metric({"step": 3, "loss": 2.0})
    assert [record["step"] for record in run.metrics()] == [0, 1, 2, 2, 3]
    run.truncate(-1)
    assert run.metrics() == []


@pytest.mark.parametrize("torn", [b'{"step": 3, "lo', b"\0\0\0\0", b"\0\0\0\n", b'{"step"\n'])
def test_a_torn_last_line_is_left_out_and_cut_off_on_resume(tmp_path: Path, torn: bytes) -> None:
    records = Records(tmp_path / "metrics.jsonl")
    records.append({"step": 1})
    records.append({"step": 2})
    with records.path.open("ab") as file:
        file.write(torn)
    assert records.read() == [{"step": 1}, {"step": 2}]
    records.truncate(2)
    records.append({"step": 3})
    assert records.read() == [{"step": 1}, {"step": 2}, {"step": 3}]


def test_a_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    records = Records(tmp_path / "metrics.jsonl")
    records.path.write_text('{"step": 1}\nnonsense\n{"step": 3}\n')
    with pytest.raises(RunError, match=r"Line 2 of .*metrics.jsonl is damaged"):
        records.read()


def test_a_full_disk_takes_a_whole_line_or_nothing(tmp_path: Path) -> None:
    records = Records(tmp_path / "metrics.jsonl")
    records.append({"step": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        with pytest.raises(RunError, match=r"metrics.jsonl could not be written"):
            records.append({"step": 2, "loss": 1.25})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert records.path.read_bytes() == b'{"step": 1}\n'


def test_a_truncation_that_fails_leaves_the_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = Records(tmp_path / "metrics.jsonl")
    records.append({"step": 1})
    records.append({"step": 2})

    monkeypatch.setattr(os, "fsync", raising(system_error(errno.ENOSPC)))
    with pytest.raises(RunError, match="No space left"):
        records.truncate(1)
    assert records.read() == [{"step": 1}, {"step": 2}]
    assert names(tmp_path) == ["metrics.jsonl"]


def test_references_are_kept_with_the_run(tmp_path: Path, tokenizer: Tokenizer) -> None:
    run = Run.create(tmp_path / "one", configured(1), tokenizer)
    references = References(5.5, 3.0, 2.0, 3.1, 2.5, 1.0)
    run.write_references(references)
    assert run.references() == references.to_dict()


def test_listing_runs_needs_no_torch() -> None:
    code = "import sys, lightwell.training.runs.run; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_several_processes_may_write_one_file_at_the_same_time(tmp_path: Path) -> None:
    writers = []
    for number in range(3):
        child = os.fork()
        if not child:
            try:
                for _ in range(40):
                    write_run_file(tmp_path / "config.toml", f"{number}\n".encode() * 1000)
                os._exit(0)
            finally:
                os._exit(1)
        writers.append(child)
    assert [os.waitpid(child, 0)[1] for child in writers] == [0, 0, 0]
    assert len(set((tmp_path / "config.toml").read_text().split())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["config.toml"]


def test_a_record_without_its_line_end_is_none_yet(tmp_path: Path) -> None:
    """It may be the beginning of a longer one, e.g. of 12 the 1, and the next record would stand in the same line."""
    records = Records(tmp_path / "metrics.jsonl")
    records.append({"step": 1})
    with records.path.open("ab") as file:
        file.write(b'{"step": 2}')
    assert records.read() == [{"step": 1}]
