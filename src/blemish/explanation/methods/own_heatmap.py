"""The heatmap that the model itself computes, as anomaly models do: no further method is needed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from blemish.errors import WrongTask
from blemish.explanation.explanation_method import (
    ExplanationMethod,
    MethodInput,
    Requirement,
    register_method,
)


def own_heatmap(request: MethodInput) -> NDArray[np.floating]:
    """Return the heatmap of the model's prediction minus its threshold, (h, w) evenly over the image.

    Values above 0 are places that are more anomalous than the threshold of the image.

    Raises:
        WrongTask: the model computes none.
    """
    prediction = request.masked_predictor.predict()
    if prediction.heatmap is None:
        raise WrongTask(
            "method model: this model computes no heatmap of its own. Choose another method.",
            reason="no-own-heatmap",
        )
    return np.asarray(prediction.heatmap - prediction.thresholds.max(), np.float64)


register_method(
    ExplanationMethod(
        name="model",
        compute=own_heatmap,
        requires=Requirement.ANY_MODEL,
        summary="the heatmap that the model itself computes (anomaly models)",
        depends_on_label=False,
        is_model_output=True,
    ),
    module=__name__,
)
