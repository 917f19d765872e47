"""An automatic annotation function of CVAT: `cvat-cli task auto-annotate` calls `create`, then `detect`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from itertools import groupby
from typing import TYPE_CHECKING, Any

import numpy as np

from blemish.arrays import Mask
from blemish.geometry import crop_window, mask_to_polygons
from blemish.inference import load
from blemish.structures import Prediction

if TYPE_CHECKING:
    from PIL import Image


def create(model: str, backend: str = "auto", device: str = "auto") -> CvatFunction:
    """Return the function for a model file.

    Args:
        model: path of the model file, or hf://USER/NAME.
        backend: see `blemish.load`.
        device: see `blemish.load`.

    Raises:
        ImportError: the package `cvat-sdk` is not installed.
    """
    return CvatFunction(model, backend=backend, device=device)


class CvatFunction:
    """The predictions of one model file as CVAT's annotations.

    Attributes:
        spec: the labels of the model, with their positions as ids.
    """

    def __init__(self, model: str, *, backend: str = "auto", device: str = "auto") -> None:
        self._cvat: Any = import_module("cvat_sdk.auto_annotation")
        self._predictor = load(model, backend=backend, device=device)
        task = self._predictor.task
        kind = "mask" if task.has_masks else "rectangle" if task.has_boxes else "tag"
        names = self._predictor.labels.names or ("object",)
        self.spec = self._cvat.DetectionFunctionSpec(
            labels=[self._cvat.label_spec(name, i, type=kind) for i, name in enumerate(names)]
        )

    def detect(self, context: Any, image: Image.Image) -> list[Any]:
        """Return the annotations of one image.

        Args:
            context: CVAT's; its `conf_threshold`, if there is one, replaces the thresholds of the model file.
            image: as CVAT decoded it.
        """
        prediction = self._predictor.predict(image).filter_scores(context.conf_threshold)
        if prediction.boxes_xyxy is None:
            return [self._cvat.tag(index) for index in self._positive(prediction, context.conf_threshold)]
        return list(self._shapes(prediction, polygons=bool(getattr(context, "conv_mask_to_poly", False))))

    def _positive(self, prediction: Prediction, threshold: float | None) -> list[int]:
        if threshold is None or prediction.task.has_one_label:
            rows = zip(prediction.label_index.tolist(), prediction.scores.tolist(), strict=True)
            return [index for index, score in rows if score >= (threshold or 0)]
        return np.flatnonzero(prediction.label_scores >= threshold).tolist()

    def _shapes(self, prediction: Prediction, *, polygons: bool) -> Iterator[Any]:
        assert prediction.boxes_xyxy is not None  # noqa: S101  (checked by the caller)
        for row, index in enumerate(prediction.label_index.tolist()):
            mask = None if prediction.masks is None else prediction.masks[row]
            if mask is None:
                yield self._cvat.rectangle(index, prediction.boxes_xyxy[row].tolist())
            elif mask.area and not polygons:
                yield self._cvat.mask(index, encode_mask(mask))
            elif mask.area:
                for outline in mask_to_polygons(mask):
                    yield self._cvat.polygon(index, outline.reshape(-1).tolist())


def encode_mask(mask: Mask) -> list[int]:
    """Return a mask as CVAT stores it: run lengths, then the first and last column and row of its window.

    The runs are in row-major order, the first one background; `cvat_sdk.masks.decode_mask` reads them.

    Args:
        mask: with at least one pixel.

    Example:
        >>> encode_mask(Mask((2, 3), np.array([2, 3, 1])))
        [0, 3, 1, 1, 0, 2, 1]
    """
    window, (left, top) = crop_window(mask)
    runs = [(value, sum(1 for _ in pixels)) for value, pixels in groupby(np.ravel(window).tolist())]
    lengths = [0] * bool(runs[0][0]) + [length for _, length in runs]
    height, width = window.shape
    return [*lengths, left, top, left + width - 1, top + height - 1]
