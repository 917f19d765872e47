"""Class activation maps from the last feature maps and the gradient of a label's score: pure functions.

Each takes (c, h, w) features and (c, h, w) gradients and returns (h, w) float64. Positive values raise the
score. Nothing is normalized, so that heatmaps of one network can be compared.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.explanation.explanation_method import ExplanationMethod, Requirement, register_method

Features = NDArray[np.floating]


def grad_cam(features: Features, gradients: Features) -> FloatArray:
    """Return the sum of the features weighted by their channel's mean gradient; negative values become 0.

    Source:
        Selvaraju et al., Grad-CAM (ICCV 2017), equations 1 and 2; equals pytorch_grad_cam.GradCAM.
    """
    weights = gradients.mean((1, 2), dtype=np.float64)
    return _positive(np.tensordot(weights, features.astype(np.float64), 1))


def hires_cam(features: Features, gradients: Features) -> FloatArray:
    """Return features times gradients per cell: the exact contribution to the score for a linear head.

    Source:
        Draelos and Carin, HiResCAM (2020), equation 5; equals pytorch_grad_cam.HiResCAM.
    """
    return _positive((features.astype(np.float64) * gradients).sum(0))


def layer_cam(features: Features, gradients: Features) -> FloatArray:
    """Return the sum of the features weighted by the positive gradient per cell; finer on early layers too.

    Source:
        Jiang et al., LayerCAM (TIP 2021), equations 4 to 6; equals pytorch_grad_cam.LayerCAM.
    """
    return _positive((np.maximum(gradients, 0).astype(np.float64) * features).sum(0))


def eigen_cam(features: Features, gradients: Features | None = None) -> FloatArray:
    """Return the first principal component of the features: what is prominent, for any label.

    The sign of a component is arbitrary; it is chosen so that the map grows with the features.

    Source:
        Muhammad and Yeasin, Eigen-CAM (IJCNN 2020); equals pytorch_grad_cam.EigenCAM if the signs agree.
    """
    channels, height, width = features.shape
    flat = features.reshape(channels, -1).T.astype(np.float64)  # (h * w, c)
    centered = flat - flat.mean(0)
    direction = np.linalg.svd(centered, full_matrices=False)[2][0]
    projected = centered @ direction
    if np.dot(projected, centered.sum(1)) < 0:
        projected = -projected
    return _positive(projected.reshape(height, width))


def _positive(values: FloatArray) -> FloatArray:
    return np.asarray(np.maximum(values, 0), np.float64)


def _register(
    name: str,
    function: Callable[[Features, Features], FloatArray],
    summary: str,
    *,
    depends_on_label: bool = True,
) -> None:
    register_method(
        ExplanationMethod(
            name,
            lambda request: function(request.layer.features, request.layer.gradients),
            Requirement.GRADIENTS,
            summary=summary,
            depends_on_label=depends_on_label,
        ),
        module=__name__,
    )


_register("grad-cam", grad_cam, "feature maps weighted by their mean gradients")
_register("hires-cam", hires_cam, "feature maps times gradients")
_register("layer-cam", layer_cam, "feature maps weighted by positive gradients")
_register(
    "eigen-cam",
    eigen_cam,
    "principal component of the feature maps, for any label",
    depends_on_label=False,
)
