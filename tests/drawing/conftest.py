"""Fixtures of the drawing tests: labels, a maker of predictions, and a counter of pixels."""

import numpy as np
import pytest

from blemish.structures import Labels, Prediction


@pytest.fixture
def labels():
    return Labels(("crack", "dent", "chip"), ("Crack", "Dent", "Chip"))


@pytest.fixture
def prediction(labels):
    """A function that returns a prediction of some labels."""

    def make(task, label_index, scores, label_scores, **fields):
        thresholds = fields.pop("thresholds", np.full(len(labels), 0.5))
        return Prediction(
            task=task,
            labels=labels,
            label_index=np.array(label_index, np.int64),
            scores=np.array(scores, float),
            label_scores=np.array(label_scores, float),
            thresholds=thresholds,
            **fields,
        )

    return make


@pytest.fixture
def count_pixels():
    """A function that returns the number of pixels of a color in a window of an image."""

    def count(image, color, window=None, tolerance=12):
        pixels = np.asarray(image if window is None else image.crop(window)).astype(int)
        return int((np.abs(pixels - color).max(2) <= tolerance).sum())

    return count
