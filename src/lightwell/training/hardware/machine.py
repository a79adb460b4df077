"""This machine, as training will find it: what is there, how fast it is, and what could be better."""

from __future__ import annotations

import os
import platform
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from lightwell.corpus.corpus import cache_folder
from lightwell.corpus.workers import available_cpus
from lightwell.training.hardware.device import has_bf16, resolve_device

SIZE = 1024  # rows and columns of the matrices that are multiplied
SECONDS = 0.3  # how long each product is timed
LITTLE_SPACE = 2 * 10**9  # bytes: less does not hold the tokens and checkpoints of a small run


@dataclass(frozen=True)
class Machine:
    """What matters for training; speeds are those of matrix products on the device that auto takes."""

    python: str
    torch: str
    build: str
    """The kind of torch's build: CPU, or CUDA and its version."""
    devices: list[str]
    device: str
    """What --device auto takes."""
    cores: int
    """CPU cores that this process may use."""
    threads: int
    """Threads that torch uses on them."""
    bf16_in_hardware: bool
    gflops_fp32: float
    gflops_bf16: float
    cache_folder: str
    cache_bytes: int
    disk_free_bytes: int

    def advice(self) -> list[str]:
        """Return a sentence for each thing that could be better, with what to type."""
        sentences = []
        if self.build != "CPU" and self.device == "cpu":
            sentences.append(
                f"This torch is for {self.build}, but no GPU is found; if there is none, the CPU build is smaller; "
                'PyTorch\'s own page "Get started" has the line to type.'
            )
        if self.build == "CPU" and _nvidia_gpu():
            sentences.append(
                "There is an NVIDIA GPU, but this torch is for the CPU alone: `pip install --force-reinstall torch`."
            )
        if self.device == "cpu" and self.threads != self.cores:
            unset = "OMP_NUM_THREADS" in os.environ and self.threads < self.cores
            remedy = "unset OMP_NUM_THREADS" if unset else f"export OMP_NUM_THREADS={self.cores}"
            sentences.append(f"{self.threads} threads on {self.cores} cores are slower than one on each: `{remedy}`.")
        if self.bf16_in_hardware and self.gflops_bf16 < self.gflops_fp32:
            sentences.append("bf16 is in the hardware, but slower than fp32 here: train with `--precision fp32`.")
        if not os.access(_existing(Path(self.cache_folder)), os.W_OK):
            sentences.append(f"{self.cache_folder} cannot be written: `export LIGHTWELL_CACHE=FOLDER` takes another.")
        elif self.disk_free_bytes < LITTLE_SPACE:
            sentences.append(
                f"The disk of {self.cache_folder} is nearly full: "
                "`export LIGHTWELL_CACHE=FOLDER` keeps tokens on another, `--out FOLDER` runs."
            )
        return sentences

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "advice": self.advice()}


def examine() -> Machine:
    """Look at this machine; takes about a second, most of it for the matrix products."""
    device = resolve_device("auto")
    cache = cache_folder()
    return Machine(
        python=platform.python_version(),
        torch=torch.__version__,
        build=f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU",
        devices=_devices(),
        device=device.type,
        cores=available_cpus(),
        threads=torch.get_num_threads(),
        bf16_in_hardware=has_bf16(device),
        gflops_fp32=_gflops(device, torch.float32),
        gflops_bf16=_gflops(device, torch.bfloat16),
        cache_folder=str(cache),
        cache_bytes=sum(path.stat().st_size for path in cache.rglob("*") if path.is_file()),
        disk_free_bytes=shutil.disk_usage(_existing(cache)).free,
    )


def _devices() -> list[str]:
    names = [f"cpu ({platform.processor() or platform.machine()})"]
    names += [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(torch.cuda.device_count())]
    return names + ["mps (Apple GPU)"] * torch.backends.mps.is_available()


def _gflops(device: torch.device, dtype: torch.dtype) -> float:
    """Return billions of multiplications and additions a second in a product of two square matrices."""
    matrix = torch.ones(SIZE, SIZE, device=device, dtype=dtype)
    matrix @ matrix  # the first one sets things up
    _wait(device)
    products, started = 0, time.perf_counter()
    while time.perf_counter() - started < SECONDS:
        matrix @ matrix
        _wait(device)
        products += 1
    return 2 * SIZE**3 * products / (time.perf_counter() - started) / 1e9


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _nvidia_gpu() -> bool:
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
