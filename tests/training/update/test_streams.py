"""Seeds of random streams: the same ones on every machine and in every version, or old runs could not be repeated."""

from __future__ import annotations

import hashlib

import pytest

from lightwell.training.update.streams import stream_seed


@pytest.mark.parametrize(
    ("arguments", "key"),
    [((1, "initialisation"), "1/initialisation"), ((7, "dropout", 3, 12), "7/dropout/3/12"), ((0, "x", 0), "0/x/0")],
)
def test_a_seed_is_63_bits_of_the_hash_of_its_place(arguments: tuple[int, str], key: str) -> None:
    first_eight = hashlib.sha256(key.encode()).digest()[:8]
    assert stream_seed(*arguments) == sum(byte << 8 * place for place, byte in enumerate(first_eight)) // 2
