"""Maps from what happens to the answer when parts of the image are hidden; any model file, any task.

All work on a `MaskedPredictor` and a question, take a budget of looks, and give a map over the image or
the network's input. The result depends on the budget and the seed only, never on the machine's speed.
"""

from __future__ import annotations

import math

import numpy as np

from blemish.arrays import FloatArray
from blemish.errors import BadInput
from blemish.explanation.heatmap_coordinates import ReceptiveGrid
from blemish.explanation.masked_inference import MaskedPredictor, Question

RISE_CELLS = 7  # the paper's grid
RISE_KEPT = 0.5  # the paper's share of cells shown
RISE_MAP = 56  # cells a side of the map over the image
WINDOW_CELLS = 2  # an occluding window's side; it moves by one cell: every place is hidden 4 times


def occlusion(asker: MaskedPredictor, question: Question, *, budget: int = 256) -> FloatArray:
    """How far the answer falls while a grey window hides a place, averaged over the windows that hid it.

    The grid is as fine as the budget allows: `side` cells need (side + 1)^2 looks and one for the whole.

    Returns:
        (side, side) float64 over the image; negative where hiding helps.

    Source:
        Zeiler and Fergus, Visualizing and Understanding Convolutional Networks (ECCV 2014), section 4.2.
    """
    side = math.isqrt(budget - 1) - 1 if budget > 1 else 0
    if side < 2:
        raise BadInput(f"occlusion needs at least 10 looks an image, not {budget}")
    whole = asker.ask(np.ones((1, side, side)), question)[0]
    starts = [
        (row, column) for row in range(1 - WINDOW_CELLS, side) for column in range(1 - WINDOW_CELLS, side)
    ]
    masks = np.ones((len(starts), side, side), np.float32)
    for mask, (row, column) in zip(masks, starts, strict=True):
        mask[max(row, 0) : row + WINDOW_CELLS, max(column, 0) : column + WINDOW_CELLS] = 0
    falls = whole - asker.ask(masks, question)
    hidden = 1 - masks.astype(np.float64)
    return np.asarray(np.tensordot(falls, hidden, 1) / hidden.sum(0), np.float64)


def rise(asker: MaskedPredictor, question: Question, *, budget: int = 1000, seed: int = 0) -> FloatArray:
    """The mean answer of random masks, weighted by what they showed, less the mean answer of all.

    Returns:
        (56, 56) float64 over the image; above 0 where showing a place raises the answer.

    Source:
        Petsiuk et al., RISE (BMVC 2018), equation 6, and D-RISE for detections; centred, because
        otherwise a place's value is mostly how often it was shown.
    """
    if budget < 2:
        raise BadInput(f"rise needs at least 2 looks an image, not {budget}")
    generator = np.random.default_rng(seed)
    weighted, shown, total = np.zeros((RISE_MAP, RISE_MAP)), np.zeros((RISE_MAP, RISE_MAP)), 0.0
    for start in range(0, budget, asker.batch_size):
        masks = _random_masks(generator, min(asker.batch_size, budget - start))
        answers = asker.ask(masks, question)
        weighted += np.tensordot(answers, masks, 1)
        shown += masks.sum(0)
        total += float(answers.sum())
    return weighted / np.maximum(shown, 1e-9) - total / budget


def score_cam(
    asker: MaskedPredictor,
    question: Question,
    features: FloatArray,
    *,
    budget: int = 512,
    lattice: ReceptiveGrid | None = None,
) -> FloatArray:
    """Feature maps weighted by the answer to the image as seen through each of them.

    Args:
        asker: the image.
        question: for a label's score.
        features: (c, h, w) over the network's input.
        budget: how many channels are asked: those that vary most.
        lattice: where their cells look; evenly over the input where nobody knows.

    Returns:
        (h, w) float64 over the network's input.

    Source:
        Wang et al., Score-CAM (CVPRW 2020), equations 6 to 8, the softmax being over log-odds.
    """
    spread = np.ptp(features, (1, 2))
    channels = np.argsort(-spread, kind="stable")[:budget]
    channels = channels[spread[channels] > 0]
    if not channels.size:
        return np.zeros(features.shape[1:])
    chosen = features[channels].astype(np.float64)
    masks = (chosen - chosen.min((1, 2), keepdims=True)) / spread[channels][:, None, None]
    answers = np.clip(
        asker.ask(masks, question, lattice=lattice or ReceptiveGrid.even(chosen.shape[1:])), 1e-7, 1 - 1e-7
    )
    odds = np.log(answers / (1 - answers))
    weights = np.exp(odds - odds.max())
    return np.maximum(np.tensordot(weights / weights.sum(), chosen, 1), 0)


def _random_masks(generator: np.random.Generator, count: int) -> FloatArray:
    """(count, 56, 56) in [0, 1]: a coarse random grid, shifted by part of a cell and made smooth."""
    from blemish.explanation.heatmap_coordinates import linear_weights

    cells = RISE_CELLS + 1  # one more than is shown, for the shift
    grids = (generator.random((count, cells, cells)) < RISE_KEPT).astype(np.float64)
    shifts = generator.random((count, 2)) / cells
    places = (np.arange(RISE_MAP) + 0.5) / RISE_MAP * RISE_CELLS / cells
    masks = np.empty((count, RISE_MAP, RISE_MAP))
    for mask, grid, (down, across) in zip(masks, grids, shifts, strict=True):
        mask[...] = linear_weights(places + down, cells) @ grid @ linear_weights(places + across, cells).T
    return masks
