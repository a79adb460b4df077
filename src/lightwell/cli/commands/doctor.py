"""`lightwell doctor`."""

from __future__ import annotations

from lightwell.cli import words
from lightwell.cli.flags import Json
from lightwell.cli.printer import show
from lightwell.plain_json import plain_json


def doctor(*, json: Json = False) -> None:
    """Look at this machine, measure its speed, and say what to type to change what is wrong."""
    from lightwell.training.hardware.machine import examine

    machine = examine()
    if json:
        print(plain_json(machine.to_dict()))
        return
    hardware = "in hardware" if machine.bf16_in_hardware else "not in hardware, so `--precision auto` takes fp32"
    rows = [
        ("python", machine.python),
        ("torch", f"{machine.torch}, built for {machine.build}"),
        ("devices", f"{', '.join(machine.devices)}; `--device auto` takes {machine.device}"),
        ("threads", f"{machine.threads} on {machine.cores} cores"),
        ("bf16", hardware),
        ("speed", f"{machine.gflops_fp32:,.0f} GFLOP/s in fp32, {machine.gflops_bf16:,.0f} in bf16 (matrix products)"),
        ("cache", f"{machine.cache_folder}: {words.in_bytes(machine.cache_bytes)} of tokens"),
        ("disk", f"{words.in_bytes(machine.disk_free_bytes)} free there"),
    ]
    show(words.table(rows))
    advice = machine.advice()
    show("\n" + ("\n".join(f"! {sentence}" for sentence in advice) or "Nothing is wrong."))
