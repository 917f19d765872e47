"""Heatmaps of the model that answered, within the time that one request has."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import BlemishError
from blemish.explanation import EXPLAINERS, Explainer
from blemish.inference import Predictor
from blemish.service.settings import Settings
from blemish.structures import Prediction

log = logging.getLogger("blemish.service")

_MAX_SIDE = 1024  # of a stored heatmap: it is smooth, and is enlarged again when it is rendered
_MAX_PASSES = 170  # forward passes for one target; occlusion on a grid of 12 x 12
_MIN_PASSES = 10
_MAX_TARGETS = 5  # detections that one heatmap explains


@dataclass(frozen=True, eq=False)
class HeatmapResult:
    """The heatmap of one image.

    Attributes:
        values: (h, w) uint8 over the whole image, perhaps at a lower resolution; 255 is the highest
            influence.
        method: the explanation method.
        label: the label whose score it explains; None for a model without labels.
        display_name: the display name of `label`.
    """

    values: NDArray[np.uint8]
    method: str
    label: str | None
    display_name: str | None

    @property
    def is_empty(self) -> bool:
        """Whether no part of the image raises the score of the label."""
        return not self.values.any()


class HeatmapUnavailable(BlemishError):
    """A heatmap cannot be computed; the message is one sentence for the client.

    Reasons: `nothing-found`, `too-slow`, `stopped` and `no-model-file`.
    """

    class_code = "heatmap-unavailable"


class HeatmapService:
    """Computes heatmaps, and keeps one explainer for each model.

    Raises:
        UnknownName: `settings.heatmap_method` is not a registered method.
    """

    def __init__(self, settings: Settings) -> None:
        if settings.heatmap_method is not None:
            EXPLAINERS.get(settings.heatmap_method)
        self._settings = settings
        self._lock = threading.Lock()
        self._explainers: dict[int, Explainer] = {}
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Stop the computation in progress after its next forward pass, and later ones after their first."""
        self._stopped.set()

    def compute(
        self,
        predictor: Predictor,
        image: bytes,
        prediction: Prediction,
        label: str | None,
        pass_seconds: float,
    ) -> HeatmapResult:
        """Return the heatmap of one label for one image.

        Args:
            predictor: the model that answered.
            image: the bytes of the image file.
            prediction: its prediction for the image.
            label: the name of the label; None selects the one with the highest score.
            pass_seconds: duration of one forward pass.

        Raises:
            HeatmapUnavailable: there is no detection to explain, or it would take too long.
        """
        explainer = self._explainer(predictor)
        label = label or _best_label(prediction)
        max_targets = 1
        if not prediction.task.is_image_level:
            target = None if label is None else prediction.labels.index(label)
            rows = [row for row, index in enumerate(prediction.label_index) if target in (None, index)]
            if not rows:
                raise HeatmapUnavailable(
                    "The model found no detection of this label, so there is nothing to explain.",
                    reason="nothing-found",
                )
            # The detections above their thresholds, or else the best one; as many as there is time for.
            num_positive = sum(_is_positive(prediction, row) for row in rows)
            max_targets = min(max(num_positive, 1), _MAX_TARGETS)
        method = self._settings.heatmap_method or explainer.default_method()
        heatmaps = None
        if EXPLAINERS.get(method).default_max_evals is None:  # one forward pass
            try:
                heatmaps = explainer.explain(image, method=method, label=label, faithfulness=False)
            except Exception:  # a fault of the explanation graph leaves methods that need only the model
                log.exception("the explanation graph beside the model cannot be used")
                method = "occlusion"
        if heatmaps is None:
            max_passes = self._max_passes(pass_seconds)
            max_targets = min(max_targets, max_passes // _MIN_PASSES)
            heatmaps = explainer.explain(
                image,
                method=method,
                label=label,
                max_evals=min(max_passes // max_targets, _MAX_PASSES),
                faithfulness=False,
                max_targets=max_targets,
                progress=self._on_pass,
            )
        if not heatmaps:
            raise HeatmapUnavailable(
                "The model found no detection in this image, so there is nothing to explain.",
                reason="nothing-found",
            )
        values = np.maximum.reduce([heatmap.normalized() for heatmap in heatmaps])
        name = heatmaps[0].label or None
        display_name = None if name is None else prediction.labels.display_name(name)
        return HeatmapResult(_reduce(values), method, name, display_name)

    def _on_pass(self, num_passes: int) -> None:
        if self._stopped.is_set():
            raise HeatmapUnavailable("The server is stopping.", reason="stopped")

    def _max_passes(self, pass_seconds: float) -> int:
        allowed = self._settings.heatmap_seconds
        max_passes = int(allowed / max(pass_seconds, 1e-4))
        if max_passes < _MIN_PASSES:
            raise HeatmapUnavailable(
                f"A heatmap of this model would take longer than the {allowed:g} seconds that are allowed.",
                reason="too-slow",
            )
        return max_passes

    def _explainer(self, predictor: Predictor) -> Explainer:
        if predictor.model_file is None:
            raise HeatmapUnavailable(
                "This model was not loaded from a model file, so it has no heatmaps.", reason="no-model-file"
            )
        with self._lock:
            key = id(predictor)
            if key not in self._explainers:
                self._explainers[key] = Explainer(predictor.backend, predictor.model_file)
            return self._explainers[key]


def _best_label(prediction: Prediction) -> str | None:
    """Return the label with the highest score, or None for a model without labels."""
    if not len(prediction.labels):
        return None
    return prediction.labels.names[int(prediction.label_scores.argmax())]


def _is_positive(prediction: Prediction, row: int) -> bool:
    if not len(prediction.labels):
        return True
    return bool(prediction.scores[row] >= prediction.thresholds[prediction.label_index[row]])


def _reduce(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return values of [0, 1] as 8 bits, with the longer side at most `_MAX_SIDE`."""
    height, width = values.shape
    image = Image.fromarray((values * 255).round().astype(np.uint8))
    scale = _MAX_SIDE / max(height, width)
    if scale < 1:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        image = image.resize(size, Image.Resampling.BOX)
    return np.asarray(image)
