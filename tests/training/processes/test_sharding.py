"""A model in parts: several processes learn what one does, each in a part of the memory, and any number goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cli_house import as_flags
from lightwell.cli.app import run as run_command
from lightwell.errors import SettingError
from lightwell.training.checkpoints.checkpoint import checkpoint_folder, load_checkpoint
from lightwell.training.planning.resolve import refuse_process_group
from lightwell.training.processes.process_group import ProcessGroup
from lightwell.training.runs.run import Run
from lightwell.training.settings.config import RunConfig
from small import final_state, same_bits, small_run, untimed, write_text
from teams import SETTINGS, close, lightwell, lost, plant_abort

# Muon on a width whose rows no three processes share equally, AdamW on the rest, clipped at each step.
PARTS: dict[str, Any] = {**SETTINGS, "optimizer": "muon", "grad_clip": 0.05, "parallel": "fsdp"}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_text(tmp_path_factory.mktemp("corpus") / "text")


@pytest.fixture(scope="module")
def alone(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return small_run(text, tmp_path_factory.mktemp("runs") / "alone", **PARTS)


@pytest.fixture(scope="module")
def of_three(text: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three processes, of which one is aborted after the end: nothing of that is seen, or done again."""
    out, plant = tmp_path_factory.mktemp("runs") / "three", plant_abort(tmp_path_factory.mktemp("plant"), rank=1)
    done = lightwell("train", text, "--out", out, "--processes", "3", *as_flags(PARTS), env=plant)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Saved in") == 1
    assert "exitcode" not in done.stderr  # torchrun's words for what died
    assert (Path(plant["PYTHONPATH"].split(":")[0]) / "aborted").read_text() == "1"
    return out


def test_for_one_process_it_changes_nothing(text: Path, tmp_path: Path, alone: Run) -> None:
    other = small_run(text, tmp_path / "run", **{**PARTS, "parallel": "ddp"})
    assert same_bits(final_state(other), final_state(alone))
    assert untimed(other.metrics()) == untimed(alone.metrics())


def test_three_processes_with_a_part_each_have_the_losses_of_one(of_three: Path, alone: Run) -> None:
    close(Run(of_three), alone)
    assert [record["text"] for record in Run(of_three).samples()] == [record["text"] for record in alone.samples()]


def test_each_process_writes_a_file_and_together_they_are_one_checkpoint(of_three: Path, alone: Run) -> None:
    folder = checkpoint_folder(of_three / "checkpoints", 8)
    kinds = [f"{kind}-0000{number}-of-00003.safetensors" for kind in ("model", "training") for number in (1, 2, 3)]
    assert sorted(path.name for path in folder.iterdir()) == sorted([*kinds, "state.json"])
    assert json.loads((folder / "state.json").read_text())["sha256"].keys() == {*kinds, "state.json"}
    found, expected = load_checkpoint(folder), load_checkpoint(checkpoint_folder(alone.checkpoints, 8))
    for side in ("model", "training"):
        shapes = {name: tensor.shape for name, tensor in getattr(expected, side).items()}
        assert {name: tensor.shape for name, tensor in getattr(found, side).items()} == shapes
    sizes = [(folder / name).stat().st_size for name in kinds[:3]]
    assert max(sizes) < 0.6 * sum(sizes)


@pytest.mark.parametrize(("before", "after"), [(3, 1), (1, 2), (3, 2)])
def test_a_run_in_parts_goes_on_with_another_number_of_processes(
    tmp_path: Path, alone: Run, of_three: Path, before: int, after: int
) -> None:
    run = lost(of_three if before == 3 else alone.path, tmp_path / "run")
    if after == 1:
        assert run_command(["resume", str(run)]) == 0
    else:
        done = lightwell("resume", run, "--processes", str(after))
        assert done.returncode == 0, done.stderr
    close(Run(run), alone)


def test_a_process_holds_its_part_of_weights_gradients_and_moments_and_without_fsdp_all_of_them() -> None:
    (alone,) = held_by(1, "fsdp")
    parts = held_by(2, "fsdp")
    for name in ("weights", "gradients", "moments"):
        assert sum(one[name] for one in parts) == pytest.approx(alone[name], rel=0.001)
        assert max(one[name] for one in parts) < 0.51 * alone[name]
    assert [one["weights"] for one in held_by(2, "ddp")] == 2 * [alone["weights"]]


def held_by(processes: int, parallel: str) -> list[dict[str, int]]:
    """What `python -m lightwell.bench.held` says of so many processes."""
    torchrun = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    command = [
        sys.executable, "-m", *(torchrun if processes > 1 else []),
        "lightwell.bench.held", "--preset", "tiny", "--parallel", parallel,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, encoding="utf-8", env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    found: list[dict[str, int]] = json.loads(done.stdout)["held"]
    return found


def test_reproducible_is_not_for_models_in_parts() -> None:
    config = RunConfig().with_values({"parallel": "fsdp", "reproducible": True, "batch_size": 8})
    refuse_process_group(config, ProcessGroup())
    with pytest.raises(SettingError, match="leave --parallel fsdp out"):
        refuse_process_group(config, ProcessGroup(size=2))
