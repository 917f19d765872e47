"""Where a model looked, within the time a request has: always by the model that answered."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.explanation import Explainer
from blemish.inference import Predictor
from blemish.service.settings import Settings
from blemish.structures import Prediction

log = logging.getLogger("blemish.service")

_LARGEST_SIDE = 1024  # of a map that is kept: it is smooth, and grows again when it is looked at
_MOST_LOOKS = 170  # occlusion on a grid of 12 x 12
_FEWEST_LOOKS = 10
_MOST_OBJECTS = 5
_GRADIENT_METHODS = ("grad-cam",)


@dataclass(frozen=True, eq=False)
class HeatmapResult:
    """A map over an image.

    Attributes:
        map: (h, w) uint8, 255 where it mattered most; the image's shape, perhaps smaller.
        method: that made it.
        label: whose score it explains; None for a model without labels.
        title: what people read for `label`.
    """

    map: NDArray[np.uint8]
    method: str
    label: str | None
    title: str | None

    @property
    def is_empty(self) -> bool:
        """Whether nothing in the image speaks for the label."""
        return not self.map.any()


class HeatmapUnavailable(Exception):
    """There is no map, and why, in a sentence for the client."""


class HeatmapService:
    """Makes maps, and remembers each model's explainer."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._explainers: dict[int, Explainer] = {}
        self._stopped = threading.Event()

    def stop(self) -> None:
        """End the map that is being made after its next look, and let no other take more than one."""
        self._stopped.set()

    def make(
        self,
        predictor: Predictor,
        image: bytes,
        prediction: Prediction,
        label: str | None,
        look_seconds: float,
    ) -> HeatmapResult:
        """The map of one label of one image.

        Args:
            predictor: the model that answered.
            image: the file's bytes.
            prediction: its answer.
            label: by name; None takes the best.
            look_seconds: what one look of the model takes.

        Raises:
            NoMap: nothing was found that could be explained, or it would take too long.
        """
        explainer = self._explainer(predictor)
        label = label or _best(prediction)
        targets = 1
        if not prediction.task.is_image_level:
            wanted = None if label is None else prediction.labels.index(label)
            alike = [row for row, index in enumerate(prediction.label_index) if wanted in (None, index)]
            if not alike:
                raise HeatmapUnavailable(
                    "The model found nothing of this label, so there is nothing to explain."
                )
            # Those it is sure of, or the best one; as many as there is time for.
            sure = sum(_holds(prediction, row) for row in alike)
            targets = min(max(sure, 1), _MOST_OBJECTS)
        method = explainer.default_method()
        if method in _GRADIENT_METHODS:
            try:
                found = explainer.explain(image, method=method, label=label, faithfulness=False)
            except Exception:  # whatever is wrong with that graph, the model itself can still be asked
                log.exception("the explanation graph beside the model cannot be used")
                method = "occlusion"
        if method not in _GRADIENT_METHODS:
            looks = self._looks(look_seconds)
            targets = min(targets, looks // _FEWEST_LOOKS)
            found = explainer.explain(
                image,
                method=method,
                label=label,
                max_evals=min(looks // targets, _MOST_LOOKS),
                faithfulness=False,
                max_targets=targets,
                progress=self._look,
            )
        if not found:
            raise HeatmapUnavailable(
                "The model found nothing in this photograph, so there is nothing to explain."
            )
        values = np.maximum.reduce([one.normalized() for one in found])
        name = found[0].label or None
        return HeatmapResult(
            _small(values), method, name, None if name is None else prediction.labels.display_name(name)
        )

    def _look(self, done: int) -> None:
        if self._stopped.is_set():
            raise HeatmapUnavailable("The server is being stopped.")

    def _looks(self, look_seconds: float) -> int:
        """How often the model may be asked."""
        allowed = self._settings.explain_seconds
        looks = int(allowed / max(look_seconds, 1e-4))
        if looks < _FEWEST_LOOKS:
            raise HeatmapUnavailable(
                f"A map would take this model longer than the {allowed:g} seconds it has here."
            )
        return looks

    def _explainer(self, predictor: Predictor) -> Explainer:
        if predictor.model_file is None:
            raise HeatmapUnavailable("This model has no file of its own, so it cannot say where it looked.")
        with self._lock:
            key = id(predictor)
            if key not in self._explainers:
                self._explainers[key] = Explainer(predictor.backend, predictor.model_file)
            return self._explainers[key]


def _best(prediction: Prediction) -> str | None:
    """The label of the highest score; None for a model without labels."""
    if not len(prediction.labels):
        return None
    return prediction.labels.names[int(prediction.label_scores.argmax())]


def _holds(prediction: Prediction, row: int) -> bool:
    if not len(prediction.labels):
        return True
    return bool(prediction.scores[row] >= prediction.thresholds[prediction.label_index[row]])


def _small(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """In 8 bits, its longer side at most 1,024."""
    height, width = values.shape
    image = Image.fromarray((values * 255).round().astype(np.uint8))
    scale = _LARGEST_SIDE / max(height, width)
    if scale < 1:
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        image = image.resize(size, Image.Resampling.BOX)
    return np.asarray(image)
