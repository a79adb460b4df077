"""Several processes train what one would: the same losses, the same order of the data, from any number to any other."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cli_house import as_flags
from decoders import L, V, decoder
from lightwell.batches.config import BatchConfig
from lightwell.batches.loader import BatchLoader
from lightwell.cli.app import run as run_command
from lightwell.errors import SettingError
from lightwell.tokens.token_file import TokenFile
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.runs.load import choose_checkpoint
from lightwell.training.runs.run import Run
from lightwell.training.update.loss import TrainedLoss, accumulate_gradients, head_loss
from lightwell.training.update.reproducible import number_of_leaves, refuse_uneven, tree_gradients
from small import final_state, same_bits, small_run, untimed, write_text
from teams import SETTINGS, close, lightwell, lost

REPRODUCIBLE = {**SETTINGS, "batch_size": 8, "optimizer": "muon", "reproducible": True}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("corpus") / "text")


@pytest.fixture(scope="module")
def alone(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(text, tmp_path_factory.mktemp("runs") / "alone", **SETTINGS)


def loader(batch_size: int) -> BatchLoader:
    ids = np.random.default_rng(0).integers(0, V, 20_000)
    return BatchLoader(TokenFile.from_ids(ids, vocab_size=V), BatchConfig(batch_size=batch_size), L, seed=1)


@given(st.integers(1, 9), st.integers(1, 40))
def test_the_shares_are_the_batch(size: int, batch_size: int) -> None:
    rows = [row for rank in range(size) for row in range(batch_size)[ProcessGroup(rank, size).rows(batch_size)]]
    assert rows == list(range(batch_size))


def test_one_process_is_a_team_that_waits_for_nobody() -> None:
    group = ProcessGroup()
    group.barrier()
    assert (
        group.is_main,
        group.all_reduce_sum([1.5])[0],
        group.all_reduce_any([False])[0],
        group.broadcast([2.0]),
    ) == (
        True,
        1.5,
        False,
        [2.0],
    )


def test_one_process_of_each_machine_checks_the_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert ProcessGroup().is_local_main
    for rank, local, first in [(0, 0, True), (1, 1, False), (2, 0, True)]:
        monkeypatch.setenv("LOCAL_RANK", str(local))
        assert ProcessGroup(rank, 3).is_local_main == first


@pytest.fixture(scope="module")
def of_two(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes that was lost after its checkpoint of step 4."""
    out = tmp_path_factory.mktemp("runs") / "two"
    done = lightwell("train", text, "--out", out, "--processes", "2", *as_flags(SETTINGS))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Saved in") == 1
    return out


def test_two_processes_have_the_losses_of_one(of_two: Path, alone: Run) -> None:
    close(Run(of_two), alone)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 3)])
def test_a_run_goes_on_with_another_number_of_processes(
    tmp_path: Path, alone: Run, of_two: Path, before: int, after: int
) -> None:
    run = lost(of_two if before == 2 else alone.path, tmp_path / "run")
    if after == 1:
        assert run_command(["resume", str(run)]) == 0
    else:
        done = lightwell("resume", run, "--processes", str(after))
        assert done.returncode == 0, done.stderr
    close(Run(run), alone)


def test_stopped_by_sigterm_all_agree_on_a_step_and_say_so(text: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        sys.executable, "-m", "lightwell", "train", str(text), "--out", str(out), "--processes", "2",
        *as_flags({**SETTINGS, "steps": 100_000, "eval_every": 0, "sample_every": 0}),
    ]  # fmt: skip
    started = subprocess.Popen(command, stderr=subprocess.PIPE, encoding="utf-8")
    patience = time.monotonic() + 120
    while not list((out / "checkpoints").glob("0*")) and time.monotonic() < patience:
        time.sleep(0.05)
    started.send_signal(signal.SIGTERM)
    _, said = started.communicate(timeout=120)
    assert started.returncode == 143, said
    step = choose_checkpoint(Run(out), "newest").step
    assert said.count(f"is saved at step {step}") == 1
    assert max(record["step"] for record in Run(out).metrics()) == step


def test_a_killed_process_is_started_again_and_has_the_bits_of_one_alone(text: Path, tmp_path: Path) -> None:
    """With dropout, in micro-batches and with Muon: two processes, of which one is killed, and one run alone."""
    settings = {**REPRODUCIBLE, "steps": 40, "eval_every": 20, "sample_every": 20, "checkpoint_every": 5}
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "lightwell", "train", text, "--out", out, "--processes", "2", *as_flags(settings)]
    started = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, encoding="utf-8")
    patience = time.monotonic() + 120
    while len(list((out / "checkpoints").glob("0*"))) < 2 and time.monotonic() < patience:
        time.sleep(0.01)
    with suppress(ProcessLookupError):  # on a machine that is busy enough it may have finished before
        os.kill(int((out / ".lock").read_text().split()[1]), signal.SIGKILL)
    _, said = started.communicate(timeout=240)
    assert started.returncode == 0, said
    same_run(Run(out), small_run(text, tmp_path / "alone", **settings))


def test_reproducible_runs_have_the_same_bits_on_four_processes(text: Path, tmp_path: Path) -> None:
    settings = {**REPRODUCIBLE, "steps": 5, "eval_every": 5}
    done = lightwell("train", text, "--out", tmp_path / "four", "--processes", "4", *as_flags(settings))
    assert done.returncode == 0, done.stderr
    same_run(Run(tmp_path / "four"), small_run(text, tmp_path / "alone", **settings))


def same_run(one: Run, other: Run) -> None:
    assert same_bits(final_state(one), final_state(other))
    assert untimed(one.metrics()) == untimed(other.metrics())


@given(st.integers(1, 6), st.integers(0, 3), st.integers(0, 99))
def test_the_tree_is_the_gradient_of_the_batch(eighths: int, micro_batch_size: int, seed: int) -> None:
    batch = loader(eighths * 4).batch(seed)
    model = decoder()
    loss_module = TrainedLoss(model, head_loss, "fp32")
    found = []
    for gradients in (accumulate_gradients, tree_gradients):
        model.zero_grad()
        loss = gradients(loss_module, batch, micro_batch_size=micro_batch_size, seed=1, step=seed)
        found.append((loss, [parameter.grad for parameter in model.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-5)
    for one, other in zip(found[0][1], found[1][1], strict=True):
        assert one is not None
        assert other is not None
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("batch_size", "leaves"), [(1, 1), (2, 2), (6, 2), (8, 8), (12, 4), (64, 8)])
def test_the_leaves_of_a_batch_follow_from_its_size(batch_size: int, leaves: int) -> None:
    assert number_of_leaves(batch_size) == leaves
    refuse_uneven(batch_size, leaves)
    with pytest.raises(SettingError, match=f"{2 * leaves} processes cannot"):
        refuse_uneven(batch_size, 2 * leaves)


def test_what_fails_in_another_process_than_the_first_is_said_by_it_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("LIGHTWELL_FAILED", str(tmp_path / "failed"))
    for rank in ("2", "0", "1"):
        monkeypatch.setenv("RANK", rank)
        assert run_command(["show", str(tmp_path / "no-run")]) == 1
    said = capsys.readouterr().err
    assert said.startswith("lightwell, process 2: There is no run")
    assert said.count("There is no run") == 1
    assert (tmp_path / "failed").read_text() == "1"


def test_started_by_torchrun_itself_each_says_what_is_no_fault_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("LIGHTWELL_FAILED", raising=False)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr("lightwell.cli.processes.IS_MAIN", False)
    assert run_command(["show", str(tmp_path / "no-run")]) == 1
    assert run_command(["train", "--no-such-flag"]) == 2
    assert capsys.readouterr().err.count("lightwell, process 1: ") == 1


@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_a_disk_that_is_full_for_one_ends_all_with_one_sentence(text: Path, tmp_path: Path, parallel: str) -> None:
    def little_room() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    out = tmp_path / "run"
    flags = as_flags({**SETTINGS, "d_model": 64, "parallel": parallel})
    command = [sys.executable, "-m", "lightwell", "train", str(text), "--out", str(out), "--processes", "2", *flags]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", preexec_fn=little_room, timeout=120)
    assert done.returncode == 1
    assert done.stderr.count("could not be written (") == 1
    assert "Traceback" not in done.stderr
    assert not [path for path in (out / "checkpoints").iterdir() if path.name.isdigit()]
