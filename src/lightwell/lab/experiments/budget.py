"""How much a run of the lab may take: three budgets, each with its seeds and its length of a training."""

from __future__ import annotations

from dataclasses import dataclass

from lightwell.errors import SettingError
from lightwell.settings import nearest


@dataclass(frozen=True)
class Budget:
    """Numbers, not times: the same budget does the same on every machine, faster or slower."""

    name: str
    seeds: int
    """Paired repetitions of each arm."""
    steps: int
    """Optimizer steps of a training."""
    rates: int
    """Learning rates that are tried for each arm where it must be retuned, on seeds of their own."""
    draws: int
    """Random draws of a measurement that needs no training."""


BUDGETS = {
    "glance": Budget("glance", seeds=2, steps=120, rates=1, draws=32),
    "coffee": Budget("coffee", seeds=3, steps=360, rates=3, draws=64),
    "night": Budget("night", seeds=8, steps=1000, rates=3, draws=128),
}


def budget_of(name: str) -> Budget:
    """Return the budget of that name.

    Raises:
        SettingError: there is none.
    """
    if name not in BUDGETS:
        raise SettingError(f"There is no budget {name}; there are {', '.join(BUDGETS)}.{nearest(name, BUDGETS)}")
    return BUDGETS[name]
