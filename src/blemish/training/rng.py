"""Where every random number comes from: (seed, purpose, epoch, sample or step), never from carried state.

That is why a training that was killed and resumed ends with the very weights of one that never was.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class RngPurpose(IntEnum):
    """What numbers are drawn for; streams of different purposes have nothing in common."""

    INITIAL_WEIGHTS = 0
    ORDER = 1
    AUGMENTATION = 2
    FORWARD = 3
    MIXING = 4
    TILES = 5


def stream(seed: int, purpose: RngPurpose, *place: int) -> np.random.Generator:
    """Random numbers for one purpose at one place, the same on every machine.

    Args:
        seed: of the recipe.
        purpose: what they are for.
        place: such as (epoch, sample); none negative.

    Example:
        >>> draws = [stream(0, RngPurpose.ORDER, epoch).integers(1000) for epoch in (0, 0, 1)]
        >>> draws[0] == draws[1] != draws[2]
        np.True_
    """
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, int(purpose), *place))))


def number(seed: int, purpose: RngPurpose, *place: int) -> int:
    """One number in [0, 2**63) for generators that take a seed, such as torch's."""
    high, low = np.random.SeedSequence((seed, int(purpose), *place)).generate_state(2)
    return (int(high) << 32 | int(low)) >> 1
