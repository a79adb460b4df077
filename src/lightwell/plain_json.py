"""JSON that every reader understands: the format has no Infinity and no NaN, so a number that is not finite is null."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def plain_json(value: Any, **options: Any) -> str:
    """Return a value as JSON, null in the place of numbers that are not finite; options are those of json.dumps."""
    return json.dumps(finite(value), allow_nan=False, **options)


def finite(value: Any) -> Any:
    """Return a plain value with None in the place of numbers that are not finite, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {name: finite(inside) for name, inside in value.items()}
    return [finite(inside) for inside in value] if isinstance(value, list | tuple) else value
