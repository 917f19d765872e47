"""The explanation method `quadrants`: how far the score falls when a quarter of the image is hidden."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blemish.explanation.explanation_method import (
    ExplanationMethod,
    MethodInput,
    Requirement,
    register_method,
)


def quadrants(given: MethodInput) -> NDArray[np.floating]:
    """Return (2, 2) score differences: of the whole image, and with one quadrant hidden."""
    masks = np.ones((5, 2, 2), np.float32)
    for number in range(4):
        masks[number + 1, number // 2, number % 2] = 0
    scores = np.asarray(given.masked_predictor.predict_masked(masks, given.score_function))
    return (scores[0] - scores[1:]).reshape(2, 2)


register_method(
    ExplanationMethod(
        name="quadrants",
        compute=quadrants,
        requires=Requirement.ANY_MODEL,
        default_max_evals=5,
        summary="score differences when a quarter of the image is hidden",
    ),
    module=__name__,
)
