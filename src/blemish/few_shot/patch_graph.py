"""Features of patches of an image as ONNX nodes: three stages of the frozen trunk on one grid."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput
from blemish.explanation.heatmap_coordinates import interpolation_weights
from blemish.few_shot.trunk_graph import FEATURE_LAYERS, GraphParts, add_trunk, receptive_grids

STRIDE = 16  # pixels of the input from one patch to the next
FINE, MIDDLE, COARSE = "blocks.2", "blocks.3", "blocks.4"  # at an eighth and twice a sixteenth of the input
LAST_STAGE = 4
HEATMAP_CELLS = 4  # cells of the heatmap per patch and side


def check_input_size(input_size: int) -> int:
    """Return the number of patches per side.

    Raises:
        BadInput: the size is no multiple of 16 pixels, or below 64.
    """
    if input_size < 4 * STRIDE or input_size % STRIDE:
        raise BadInput(
            f"input size: expected a multiple of {STRIDE} pixels from {4 * STRIDE}, got {input_size}",
            reason="input-size",
        )
    return input_size // STRIDE


def add_patches(parts: GraphParts, trunk: str, state: dict[str, NDArray[Any]], input_size: int) -> str:
    """Append the trunk and its patches.

    Returns:
        The name of (b, c, g, g) features, with g patches per side.
    """
    check_input_size(input_size)
    maps = dict(
        zip(
            FEATURE_LAYERS,
            add_trunk(parts, trunk, state, "image", input_size, last_stage=LAST_STAGE),
            strict=False,
        )
    )
    fine = parts.add("AveragePool", [maps[FINE]], "fine.pooled", kernel_shape=[2, 2], strides=[2, 2])
    return parts.add("Concat", [fine, maps[MIDDLE], maps[COARSE]], "patches", axis=1)


def patch_graph(trunk: str, state: dict[str, NDArray[Any]], input_size: int) -> bytes:
    """Return the graph from images (b, 3, s, s) to patches (b, c, g, g)."""
    parts = GraphParts()
    patches = add_patches(parts, trunk, state, input_size)
    grid = input_size // STRIDE
    return parts.to_bytes(
        {"image": ("batch", 3, input_size, input_size)}, {patches: ("batch", "c", grid, grid)}
    )


def upsampling(trunk: str, state: dict[str, NDArray[Any]], input_size: int) -> NDArray[np.float32]:
    """Return (h, g) weights from the patches of a row or column to the cells of the heatmap.

    The cells of the heatmap cover the input evenly; patches are centered where the trunk's padding puts them.
    """
    grid = check_input_size(input_size)
    place = receptive_grids(trunk, state, input_size)[COARSE]
    cells = (np.arange(grid * HEATMAP_CELLS) + 0.5) / (grid * HEATMAP_CELLS)
    positions = (cells - place["start_yx"][0]) / place["stride_yx"][0]
    return interpolation_weights(positions, grid).astype(np.float32)
