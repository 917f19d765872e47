"""Whether a map points at what the answer rests on: deletion and insertion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.explanation.heatmap_coordinates import resample
from blemish.explanation.masked_inference import MaskedPredictor, Question

STEPS = 16
CELLS = 56  # the map is judged on this grid over the image
LOOKS = 2 * STEPS  # what judging one map costs beyond the image itself, seen whole and covered


def deletion_insertion(
    asker: MaskedPredictor, question: Question, values: NDArray[np.floating]
) -> tuple[float, float]:
    """How the answer falls as the map's places are hidden, and rises as they are shown, highest first.

    Args:
        asker: the image.
        question: whose answer the map explains.
        values: (h, w), the map over the image.

    Returns:
        Areas under the two curves over the share of places: deletion (lower is better) and insertion
        (higher is better). A map that ranks places at random has both near the curve's mean.

    Source:
        Petsiuk et al., RISE (BMVC 2018), section 4.2; hidden places have the image's mean colour.
    """
    grid = resample(values, (CELLS, CELLS)) if min(values.shape) < CELLS else _means(values)
    order = np.argsort(-grid.reshape(-1), kind="stable")
    flat = np.zeros((STEPS + 1, CELLS * CELLS))
    for step in range(STEPS + 1):
        flat[step, order[: round(step / STEPS * order.size)]] = 1
    shown = flat.reshape(-1, CELLS, CELLS)
    inserted = asker.ask(shown, question)
    deleted = np.concatenate([inserted[-1:], asker.ask(1 - shown[1:-1], question), inserted[:1]])
    return _area(deleted), _area(inserted)


def _means(values: NDArray[np.floating]) -> FloatArray:
    """The map on the judging grid, each cell the mean of what it covers."""
    for axis in (0, 1):
        edges = np.linspace(0, values.shape[axis], CELLS + 1).astype(int)[:-1]
        counts = np.diff(np.append(edges, values.shape[axis])).clip(1)
        sums = np.add.reduceat(values.astype(np.float64), edges, axis)
        values = sums / counts.reshape((-1, 1) if axis == 0 else (1, -1))
    return np.asarray(values, np.float64)


def _area(curve: FloatArray) -> float:
    return float(((curve[1:] + curve[:-1]) / 2).mean())
