"""Measure the faithfulness of a heatmap: deletion and insertion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.explanation.heatmap_coordinates import resample
from blemish.explanation.masked_inference import MaskedPredictor, ScoreFunction

STEPS = 16
CELLS = 56  # cells per side of the grid over the image on which places are hidden
FORWARD_PASSES = 2 * STEPS


def deletion_insertion(
    masked_predictor: MaskedPredictor,
    score_function: ScoreFunction,
    values: NDArray[np.floating],
    *,
    steps: int = STEPS,
) -> tuple[float, float]:
    """Return how the score changes when places are hidden, and when they are shown, the highest values first.

    Args:
        masked_predictor: runs the model on the image.
        score_function: returns the score that the heatmap explains.
        values: (h, w), the heatmap over the image.
        steps: number of equal shares of the places that are hidden one after the other; two forward passes
            each.

    Returns:
        Areas under the two curves over the fraction of places: deletion (lower is better) and insertion
        (higher is better). For a heatmap that ranks places at random, both are near the mean of the curve.

    Source:
        Petsiuk et al., RISE (BMVC 2018), section 4.2; hidden places have the image's mean color.
    """
    grid = resample(values, (CELLS, CELLS)) if min(values.shape) < CELLS else _cell_means(values)
    order = np.argsort(-grid.reshape(-1), kind="stable")
    flat = np.zeros((steps + 1, CELLS * CELLS))
    for step in range(steps + 1):
        flat[step, order[: round(step / steps * order.size)]] = 1
    shown = flat.reshape(-1, CELLS, CELLS)
    inserted = masked_predictor.predict_masked(shown, score_function)
    middle = masked_predictor.predict_masked(1 - shown[1:-1], score_function)
    deleted = np.concatenate([inserted[-1:], middle, inserted[:1]])
    return _area(deleted), _area(inserted)


def _cell_means(values: NDArray[np.floating]) -> FloatArray:
    """Return the heatmap on the grid of `CELLS` x `CELLS`: the mean of each cell."""
    for axis in (0, 1):
        edges = np.linspace(0, values.shape[axis], CELLS + 1).astype(int)[:-1]
        counts = np.diff(np.append(edges, values.shape[axis])).clip(1)
        sums = np.add.reduceat(values.astype(np.float64), edges, axis)
        values = sums / counts.reshape((-1, 1) if axis == 0 else (1, -1))
    return np.asarray(values, np.float64)


def _area(curve: FloatArray) -> float:
    """Return the area under a curve over [0, 1] by the trapezoidal rule."""
    return float(((curve[1:] + curve[:-1]) / 2).mean())
