"""Random numbers: functions of (seed, purpose, epoch, sample or step), without carried state.

A training that was killed and resumed therefore ends with exactly the weights of an uninterrupted one.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class RngPurpose(IntEnum):
    """What random numbers are drawn for; streams of different purposes are independent."""

    INITIAL_WEIGHTS = 0
    ORDER = 1
    AUGMENTATION = 2
    FORWARD = 3
    MIXING = 4
    TILES = 5


def rng_stream(seed: int, purpose: RngPurpose, *place: int) -> np.random.Generator:
    """Return a random generator for one purpose at one place, the same on every machine.

    Args:
        seed: of the recipe.
        purpose: what the numbers are for.
        place: non-negative integers, such as (epoch, sample).

    Example:
        >>> draws = [rng_stream(0, RngPurpose.ORDER, epoch).integers(1000) for epoch in (0, 0, 1)]
        >>> draws[0] == draws[1] != draws[2]
        np.True_
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, int(purpose), *place))))


def rng_seed(seed: int, purpose: RngPurpose, *place: int) -> int:
    """Return a seed in [0, 2**63) for generators that take one, such as torch's."""
    high, low = np.random.SeedSequence((seed, int(purpose), *place)).generate_state(2)
    return (int(high) << 32 | int(low)) >> 1
