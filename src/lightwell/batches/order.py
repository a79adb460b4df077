"""The order of an epoch, computed from (seed, epoch, position) alone.

No list is shuffled and none is stored: position p of epoch e leads to its window by arithmetic. A run can therefore
resume at any position, on any number of machines, in O(1) memory, also with billions of windows.

permute   a bijection of 0..n-1: a Feistel network over the smallest 4^h >= n (Luby and Rackoff 1988), whose results
          outside 0..n-1 are sent through again until they fall inside ("cycle walking", Black and Rogaway 2002)
draw      independent uniform numbers in 0..n-1, from a counter-based hash (Salmon et al. 2011)
"""

from __future__ import annotations

from typing import overload

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Words = NDArray[np.uint64]

# The increment and the finaliser of SplitMix64 (Steele, Lea and Flood 2014, "Fast Splittable Pseudorandom Number
# Generators"): every input bit flips every output bit with probability 1/2.
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MULTIPLIERS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)

# Four rounds are enough in theory (Luby and Rackoff); small domains mix better with more, and a round is cheap.
_ROUNDS = 8
_PERMUTE, _DRAW = 1, 2  # keep the two apart, so that one seed gives them unrelated numbers


@overload
def permute(positions: int, n: int, seed: int, epoch: int) -> int: ...
@overload
def permute(positions: Integers, n: int, seed: int, epoch: int | Integers) -> Integers: ...
def permute(positions: int | Integers, n: int, seed: int, epoch: int | Integers) -> int | Integers:
    """Return where each position of the epoch leads: a seeded bijection of 0..n-1, another one for each epoch.

    `positions` is one number or an array of any shape, and the answer is alike; `epoch` may be an array of that shape.
    """
    x = np.atleast_1d(np.asarray(positions)).astype(np.uint64)
    assert n > 0
    assert bool((x < n).all())
    half = np.uint64(max(1, ((n - 1).bit_length() + 1) // 2))
    keys = np.broadcast_to(_hash(seed, epoch, _PERMUTE), x.shape)
    walking = np.ones(x.shape, dtype=bool)
    while walking.any():
        x[walking] = _feistel(x[walking], keys[walking], half)
        walking = x >= n
    return _like(positions, x)


@overload
def draw(positions: int, n: int, seed: int, epoch: int) -> int: ...
@overload
def draw(positions: Integers, n: int, seed: int, epoch: int | Integers) -> Integers: ...
def draw(positions: int | Integers, n: int, seed: int, epoch: int | Integers) -> int | Integers:
    """Return a uniform number in 0..n-1 for each position of the epoch, independent of all others.

    Its bias is below n / 2^64.
    """
    assert n > 0
    return _like(positions, _hash(seed, epoch, _DRAW, positions) % np.uint64(n))


def _feistel(x: Words, keys: Words, half: np.uint64) -> Words:
    """One pass of the network over numbers of 2 x half bits: invertible whatever the round function is."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = x >> half, x & mask
    for number in range(_ROUNDS):
        left, right = right, left ^ (_mix(keys + (right ^ (np.uint64(number) << half)) * _GOLDEN) & mask)
    return (left << half) | right


def _hash(*words: int | Integers) -> Words:
    """64 well mixed bits for each combination of the words, which broadcast against each other."""
    state = np.zeros(1, dtype=np.uint64)
    for word in words:
        if isinstance(word, int):
            word = np.array([word % 2**64], dtype=np.uint64)  # any size of seed
        state = _mix((state ^ word.astype(np.uint64)) + _GOLDEN)
    return state


def _mix(x: Words) -> Words:
    x = (x ^ (x >> np.uint64(30))) * _MULTIPLIERS[0]
    x = (x ^ (x >> np.uint64(27))) * _MULTIPLIERS[1]
    return x ^ (x >> np.uint64(31))


def _like(positions: int | Integers, values: Words) -> int | Integers:
    return values.astype(np.int64) if isinstance(positions, np.ndarray) else int(values[0])
