"""Labels, predictions and pixel counts for the tests of drawings."""

import numpy as np

from blemish.structures import Labels, Prediction

LABELS = Labels(("crack", "dent", "chip"), ("Crack", "Dent", "Chip"))


def prediction(task, label_index, scores, label_scores, **rest):
    thresholds = rest.pop("thresholds", np.full(len(LABELS), 0.5))
    return Prediction(
        task=task,
        labels=LABELS,
        label_index=np.array(label_index, np.int64),
        scores=np.array(scores, float),
        label_scores=np.array(label_scores, float),
        thresholds=thresholds,
        **rest,
    )


def count_pixels(image, color, window=None, tolerance=12):
    """Return the number of pixels of a color."""
    pixels = np.asarray(image if window is None else image.crop(window)).astype(int)
    return int((np.abs(pixels - color).max(2) <= tolerance).sum())
