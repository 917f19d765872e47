"""blemish.geometry.components: regions of pixels that touch."""

import numpy as np
import pytest

from blemish.geometry import connected_components, mask_to_array


def flood(mask):
    """Return the regions by flooding from each pixel, column by column."""
    left = mask.copy()
    regions = []
    for x, y in np.argwhere(mask.T):
        if not left[y, x]:
            continue
        region = np.zeros_like(mask)
        stack = [(y, x)]
        while stack:
            row, column = stack.pop()
            inside = 0 <= row < mask.shape[0] and 0 <= column < mask.shape[1]
            if inside and left[row, column]:
                left[row, column] = False
                region[row, column] = True
                stack += [(row + i, column + j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
        regions.append(region)
    return regions


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("size_hw", [(1, 1), (1, 9), (9, 1), (13, 17), (40, 31)])
def test_connected_components_equals_flooding(size_hw, share):
    rng = np.random.default_rng(hash((size_hw, share)) % 2**32)
    for _ in range(5):
        mask = rng.random(size_hw) < share
        found = [mask_to_array(m) for m in connected_components(mask)]
        expected = flood(mask)
        assert len(found) == len(expected)
        assert all((a == b).all() for a, b in zip(found, expected, strict=True))


def test_connected_components_of_a_spiral_is_one():
    mask = np.zeros((9, 9), bool)
    mask[0, :] = mask[:, 8] = mask[8, :] = mask[2:, 0] = mask[2, :7] = mask[2:7, 6] = mask[6, 2:7] = True
    assert len(connected_components(mask)) == 1
