"""Heatmaps from the change of the score when parts of the image are hidden.

The functions run a `MaskedPredictor` with a score function, at most `max_evals` times, and return a map over
the image or the network's input. The result depends on `max_evals` and the seed only, never on the speed
of the machine.
"""

from __future__ import annotations

import math

import numpy as np

from blemish.arrays import FloatArray
from blemish.errors import BadInput
from blemish.explanation.explanation_method import ExplanationMethod, Requirement, register_method
from blemish.explanation.heatmap_coordinates import ReceptiveGrid, linear_weights
from blemish.explanation.masked_inference import MaskedPredictor, ScoreFunction

RISE_CELLS = 7  # grid size of the paper
RISE_PROBABILITY = 0.5  # probability of a visible cell, of the paper
RISE_MAP_SIZE = 56  # cells per side of the map over the image
WINDOW_CELLS = 2  # side of an occluding window, which moves by one cell: every cell is hidden 4 times


def occlusion(
    masked_predictor: MaskedPredictor, score_function: ScoreFunction, *, max_evals: int = 256
) -> FloatArray:
    """Return how much the score falls when a gray window hides a cell, averaged over its windows.

    The grid is as fine as `max_evals` allows: `side` cells need (side + 1)^2 forward passes and one for the
    whole image.

    Returns:
        (side, side) float64 over the image; negative where hiding raises the score.

    Source:
        Zeiler and Fergus, Visualizing and Understanding Convolutional Networks (ECCV 2014), section 4.2.
    """
    side = math.isqrt(max_evals - 1) - 1 if max_evals > 1 else 0
    if side < 2:
        raise BadInput(f"occlusion: max_evals: expected 10 or more, got {max_evals}", reason="max-evals")
    full_score = masked_predictor.predict_masked(np.ones((1, side, side)), score_function)[0]
    starts = [
        (row, column) for row in range(1 - WINDOW_CELLS, side) for column in range(1 - WINDOW_CELLS, side)
    ]
    masks = np.ones((len(starts), side, side), np.float32)
    for mask, (row, column) in zip(masks, starts, strict=True):
        mask[max(row, 0) : row + WINDOW_CELLS, max(column, 0) : column + WINDOW_CELLS] = 0
    falls = full_score - masked_predictor.predict_masked(masks, score_function)
    hidden = 1 - masks.astype(np.float64)
    return np.asarray(np.tensordot(falls, hidden, 1) / hidden.sum(0), np.float64)


def rise(
    masked_predictor: MaskedPredictor, score_function: ScoreFunction, *, max_evals: int = 1000, seed: int = 0
) -> FloatArray:
    """Return, per cell, the mean score of random masks that show it, minus the mean score of all masks.

    Returns:
        (56, 56) float64 over the image; above 0 where showing a cell raises the score.

    Source:
        Petsiuk et al., RISE (BMVC 2018), equation 6, and D-RISE for detections; centered, because
        otherwise the value of a cell is mostly how often it was shown.
    """
    if max_evals < 2:
        raise BadInput(f"rise: max_evals: expected 2 or more, got {max_evals}", reason="max-evals")
    generator = np.random.default_rng(seed)
    shape = (RISE_MAP_SIZE, RISE_MAP_SIZE)
    weighted, shown, total = np.zeros(shape), np.zeros(shape), 0.0
    for start in range(0, max_evals, masked_predictor.batch_size):
        masks = _random_masks(generator, min(masked_predictor.batch_size, max_evals - start))
        scores = masked_predictor.predict_masked(masks, score_function)
        weighted += np.tensordot(scores, masks, 1)
        shown += masks.sum(0)
        total += float(scores.sum())
    return weighted / np.maximum(shown, 1e-9) - total / max_evals


def score_cam(
    masked_predictor: MaskedPredictor,
    score_function: ScoreFunction,
    features: FloatArray,
    *,
    max_evals: int = 512,
    receptive_grid: ReceptiveGrid | None = None,
) -> FloatArray:
    """Return the sum of the feature maps, each weighted by the score of the image masked with it.

    Args:
        masked_predictor: runs the model on the image.
        score_function: returns a label's score.
        features: (c, h, w) over the network's input.
        max_evals: number of channels used: those that vary most.
        receptive_grid: position of their cells. Default: evenly over the input.

    Returns:
        (h, w) float64 over the network's input.

    Source:
        Wang et al., Score-CAM (CVPRW 2020), equations 6 to 8, with the softmax over log-odds.
    """
    spread = np.ptp(features, (1, 2))
    channels = np.argsort(-spread, kind="stable")[:max_evals]
    channels = channels[spread[channels] > 0]
    if not channels.size:
        return np.zeros(features.shape[1:])
    chosen = features[channels].astype(np.float64)
    masks = (chosen - chosen.min((1, 2), keepdims=True)) / spread[channels][:, None, None]
    grid = receptive_grid or ReceptiveGrid.even(chosen.shape[1:])
    scores = masked_predictor.predict_masked(masks, score_function, receptive_grid=grid)
    scores = np.clip(scores, 1e-7, 1 - 1e-7)
    log_odds = np.log(scores / (1 - scores))
    weights = np.exp(log_odds - log_odds.max())
    return np.maximum(np.tensordot(weights / weights.sum(), chosen, 1), 0)


def _random_masks(generator: np.random.Generator, count: int) -> FloatArray:
    """Return (count, 56, 56) in [0, 1]: coarse random grids, shifted by part of a cell and smoothed."""
    cells = RISE_CELLS + 1  # one more than is visible, for the shift
    grids = (generator.random((count, cells, cells)) < RISE_PROBABILITY).astype(np.float64)
    shifts = generator.random((count, 2)) / cells
    positions = (np.arange(RISE_MAP_SIZE) + 0.5) / RISE_MAP_SIZE * RISE_CELLS / cells
    masks = np.empty((count, RISE_MAP_SIZE, RISE_MAP_SIZE))
    for mask, grid, (down, across) in zip(masks, grids, shifts, strict=True):
        rows, columns = linear_weights(positions + down, cells), linear_weights(positions + across, cells)
        mask[...] = rows @ grid @ columns.T
    return masks


register_method(
    ExplanationMethod(
        "score-cam",
        lambda m: score_cam(
            m.masked_predictor,
            m.score_function,
            m.layer.features.astype(np.float64),
            max_evals=m.max_evals,
            receptive_grid=m.layer.receptive_grid,
        ),
        Requirement.GRADIENTS,
        default_max_evals=512,
        summary="feature maps weighted by the score of the image seen through them",
    ),
    module=__name__,
)
register_method(
    ExplanationMethod(
        "occlusion",
        lambda m: occlusion(m.masked_predictor, m.score_function, max_evals=m.max_evals),
        Requirement.ANY_MODEL,
        default_max_evals=256,
        summary="fall of the score when a gray window hides a place",
    ),
    module=__name__,
)
register_method(
    ExplanationMethod(
        "rise",
        lambda m: rise(m.masked_predictor, m.score_function, max_evals=m.max_evals, seed=m.seed),
        Requirement.ANY_MODEL,
        default_max_evals=1000,
        summary="mean score of random masks that show a place; for detections D-RISE",
    ),
    module=__name__,
)
