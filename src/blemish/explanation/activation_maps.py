"""Maps from the last feature maps and the gradient of a label's score: pure functions.

Each takes (c, h, w) features and (c, h, w) gradients and gives (h, w) float64. Positive values speak for the
label. Nothing is normalised, so that maps of one network can be compared.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray

Features = NDArray[np.floating]


def grad_cam(features: Features, gradients: Features) -> FloatArray:
    """Features weighted by the mean gradient of their channel, what speaks against the label cut off.

    Source:
        Selvaraju et al., Grad-CAM (ICCV 2017), equations 1 and 2; equals pytorch_grad_cam.GradCAM.
    """
    weights = gradients.mean((1, 2), dtype=np.float64)
    return _positive(np.tensordot(weights, features.astype(np.float64), 1))


def hires_cam(features: Features, gradients: Features) -> FloatArray:
    """Features times gradients, place by place: what the score was computed from, for a linear head exactly.

    Source:
        Draelos and Carin, HiResCAM (2020), equation 5; equals pytorch_grad_cam.HiResCAM.
    """
    return _positive((features.astype(np.float64) * gradients).sum(0))


def layer_cam(features: Features, gradients: Features) -> FloatArray:
    """Features weighted by the positive gradient at each place: finer, also on early layers.

    Source:
        Jiang et al., LayerCAM (TIP 2021), equations 4 to 6; equals pytorch_grad_cam.LayerCAM.
    """
    return _positive((np.maximum(gradients, 0).astype(np.float64) * features).sum(0))


def eigen_cam(features: Features, gradients: Features | None = None) -> FloatArray:
    """The features' first principal component: what stands out, whatever the label.

    The sign of a component is arbitrary; it is chosen so that the map grows with the features.

    Source:
        Muhammad and Yeasin, Eigen-CAM (IJCNN 2020); equals pytorch_grad_cam.EigenCAM where its sign agrees.
    """
    channels, height, width = features.shape
    flat = features.reshape(channels, -1).T.astype(np.float64)  # (h * w, c)
    centred = flat - flat.mean(0)
    direction = np.linalg.svd(centred, full_matrices=False)[2][0]
    projected = centred @ direction
    if np.dot(projected, centred.sum(1)) < 0:
        projected = -projected
    return _positive(projected.reshape(height, width))


def _positive(values: FloatArray) -> FloatArray:
    return np.asarray(np.maximum(values, 0), np.float64)


ACTIVATION_METHODS: dict[str, Callable[[Features, Features], FloatArray]] = {
    "grad-cam": grad_cam,
    "hires-cam": hires_cam,
    "layer-cam": layer_cam,
    "eigen-cam": eigen_cam,
}
