"""Heatmaps of the model that answered, within the time that one request has."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.drawing import reduce_image
from blemish.errors import BlemishError
from blemish.explanation import EXPLAINERS, Explainer
from blemish.inference import Predictor
from blemish.inference.backend import BACKENDS, Backend, DeviceKind, available_cores
from blemish.inference.backend_choice import open_backend
from blemish.service.fair_executor import StopSignal, WorkStopped
from blemish.service.served_model import open_upload
from blemish.service.settings import Settings
from blemish.structures import Prediction

log = logging.getLogger("blemish.service")

_MAX_SIDE = 1024  # of a stored heatmap: it is smooth, and is enlarged again when it is rendered
_MAX_PASSES = 170  # forward passes for one target; occlusion on a grid of 12 x 12
_MIN_PASSES = 10
_PLANNED_SHARE = 0.7  # of the time; the rest is for reading the image and for the load of the server
_BATCH_SIZE = 4  # masked images in one forward pass, which cannot be stopped
_MAX_PIXELS, _MAX_LONG_SIDE = 4_000_000, 8192  # of the image that is explained; a larger one is reduced
_MAX_TARGETS = 5  # detections that one heatmap explains
_FAITHFULNESS_STEPS = 8  # of deletion and of insertion; two forward passes each
_FAITHFULNESS_SECONDS = 3.0  # a model that needs longer for them gives its heatmap unmeasured


@dataclass(frozen=True, eq=False)
class HeatmapResult:
    """The heatmap of one image.

    Attributes:
        values: (h, w) uint8 over the whole image, perhaps at a lower resolution; 255 is the highest
            influence.
        method: the explanation method.
        label: the label whose score it explains; None for a model without labels.
        display_name: the display name of `label`.
        is_faithful: whether hiding the highlighted places lowers the score; None if it was not measured.
    """

    values: NDArray[np.uint8]
    method: str
    label: str | None
    display_name: str | None
    is_faithful: bool | None = None

    @property
    def is_empty(self) -> bool:
        """Whether no part of the image raises the score of the label."""
        return not self.values.any()


class HeatmapUnavailable(BlemishError):
    """A heatmap cannot be computed; the message is one sentence for the client.

    Reasons: `nothing-found`, `too-slow` and `no-model-file`.
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
        self._explainers: dict[int, _TimedExplainer] = {}

    def is_offered(self, pass_seconds: float, gradients: bool) -> bool:
        """Return whether the time for one heatmap is long enough for the smallest one of a model.

        Args:
            pass_seconds: duration of one forward pass of the model, with every core.
            gradients: whether one forward pass of an explanation graph is all that is needed.
        """
        passes = 1 if gradients and self._settings.heatmap_method is None else _MIN_PASSES
        slower = available_cores() / explanation_threads()
        return pass_seconds * slower * passes < self._settings.heatmap_seconds

    def compute(
        self,
        predictor: Predictor,
        image: bytes,
        prediction: Prediction,
        label: str | None,
        pass_seconds: float,
        stop: StopSignal,
    ) -> HeatmapResult:
        """Return the heatmap of one label for one image; called in a thread.

        Args:
            predictor: the model that answered.
            image: the bytes of the image file.
            prediction: its prediction for the image.
            label: the name of the label; None selects the one with the highest score.
            pass_seconds: duration of one forward pass of the model, with every core.
            stop: the end of the time for the heatmap, checked after each forward pass.

        Raises:
            HeatmapUnavailable: there is no detection to explain, or it would take too long.
            WorkStopped: `canceled`.
        """
        timed = self._explainer(predictor, pass_seconds)
        explainer = timed.explainer
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
        method = self._settings.heatmap_method or explainer.default_method(label)
        # A heatmap has the size of its image while it is computed, and there may be one for each detection.
        opened = reduce_image(open_upload(image, self._settings), _MAX_PIXELS, _MAX_LONG_SIDE)
        try:
            stop.check()
            heatmaps = None
            if EXPLAINERS.get(method).default_max_evals is None:  # one forward pass
                try:
                    seconds = 2 * _FAITHFULNESS_STEPS * timed.pass_seconds
                    limit = min(_FAITHFULNESS_SECONDS, _PLANNED_SHARE * stop.remaining_seconds)
                    heatmaps = explainer.explain(
                        opened,
                        method=method,
                        label=label,
                        faithfulness=seconds <= limit,
                        faithfulness_steps=_FAITHFULNESS_STEPS,
                        progress=timed.on_pass(stop),
                    )
                except WorkStopped:
                    raise
                except Exception:  # a fault of the explanation graph leaves methods that need only the model
                    log.exception("the explanation graph beside the model cannot be used")
                    method = "occlusion"
            if heatmaps is None:
                max_passes = self._max_passes(timed.pass_seconds, stop.remaining_seconds)
                max_targets = min(max_targets, max_passes // _MIN_PASSES)
                heatmaps = explainer.explain(
                    opened,
                    method=method,
                    label=label,
                    max_evals=min(max_passes // max_targets, _MAX_PASSES),
                    faithfulness=False,
                    max_targets=max_targets,
                    progress=timed.on_pass(stop),
                )
        except WorkStopped as error:
            if error.code != "work-stopped.too-slow":
                raise
            raise self.too_slow() from error
        if not heatmaps:
            raise HeatmapUnavailable(
                "The model found no detection in this image, so there is nothing to explain.",
                reason="nothing-found",
            )
        values = np.maximum.reduce([_reduce(heatmap.normalized()) for heatmap in heatmaps])
        name = heatmaps[0].label or None
        display_name = None if name is None else prediction.labels.display_name(name)
        is_faithful = heatmaps[0].is_faithful if len(heatmaps) == 1 else None
        return HeatmapResult(values, method, name, display_name, is_faithful)

    def too_slow(self) -> HeatmapUnavailable:
        """Return the error of a heatmap that takes longer than it may."""
        return HeatmapUnavailable(
            f"A heatmap of this model would take longer than the {self._settings.heatmap_seconds:g} seconds "
            "that are allowed.",
            reason="too-slow",
        )

    def _max_passes(self, pass_seconds: float, allowed: float) -> int:
        max_passes = int(_PLANNED_SHARE * allowed / max(pass_seconds, 1e-4))
        if max_passes < _MIN_PASSES:
            raise self.too_slow()
        return max_passes

    def _explainer(self, predictor: Predictor, pass_seconds: float) -> _TimedExplainer:
        model_file = predictor.model_file
        if model_file is None:
            raise HeatmapUnavailable(
                "This model was not loaded from a model file, so it has no heatmaps.", reason="no-model-file"
            )
        with self._lock:
            key = id(predictor)
            if key not in self._explainers:
                threads, slower = explanation_threads(), available_cores() / explanation_threads()
                backend: Backend = predictor.backend
                name = backend.name.partition(" ")[0]
                if backend.device_kind is DeviceKind.CPU and name in BACKENDS:
                    # The network once more, with a share of the cores and threads of low priority: in the
                    # session of the predictions, each of them would wait for the masked images.
                    name += ":bf16" if backend.precision == "bf16" else ""
                    backend = open_backend(model_file, backend=name, threads=threads)
                explainer = Explainer(backend, model_file, batch_size=_BATCH_SIZE, threads=threads)
                self._explainers[key] = _TimedExplainer(explainer, pass_seconds * slower)
            return self._explainers[key]


@dataclass(eq=False)
class _TimedExplainer:
    """The explainer of one model.

    Attributes:
        explainer: it computes one heatmap at a time for each thread.
        pass_seconds: the moving average of the duration of one forward pass.
    """

    explainer: Explainer
    pass_seconds: float

    def on_pass(self, stop: StopSignal) -> Callable[[int], None]:
        """Return a function that is called after each batch with its number of images."""
        began = time.monotonic()

        def record(num_passes: int) -> None:
            nonlocal began
            now = time.monotonic()
            self.pass_seconds += 0.2 * ((now - began) / max(num_passes, 1) - self.pass_seconds)
            began = now
            stop.check()

        return record


def explanation_threads() -> int:
    """Return the number of threads of the network that computes heatmaps: half of the cores, at least one."""
    return max(available_cores() // 2, 1)


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
