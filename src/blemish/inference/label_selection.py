"""Select the images that are worth labeling next: those the model is unsure of, and unlike each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.data.image_hashes import detail_hash
from blemish.errors import BadInput, BlemishError
from blemish.imaging import open_image
from blemish.inference.predictor import Predictor
from blemish.structures import Prediction

Progress = Callable[[int], None]
MIN_WEIGHT = 0.05  # an image that the model is sure of still counts a little, so that blind spots are found


@dataclass(frozen=True)
class SelectedImage:
    """An image to label.

    Attributes:
        path: the file.
        rank: from 1.
        uncertainty: in [0, 1]; see `prediction_uncertainty`.
        p_value: of the model's familiarity with the image; None if its file has no features.
        distance: to the nearest image that was selected or labeled before, in the units of the features.
    """

    path: Path
    rank: int
    uncertainty: float
    p_value: float | None
    distance: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**vars(self), "path": self.path.as_posix()}


@dataclass(frozen=True)
class LabelSelection:
    """The images to label, the best first.

    Attributes:
        images: the selected images.
        features: what "unlike each other" is measured by: `familiarity` (features of the model) or `pixels`.
        failed: images that could not be used, with the error.
    """

    images: tuple[SelectedImage, ...]
    features: str
    failed: tuple[tuple[Path, BlemishError], ...]


def select_images(
    predictor: Predictor,
    paths: Sequence[Path],
    count: int,
    *,
    labeled: Sequence[Path] = (),
    progress: Progress | None = None,
) -> LabelSelection:
    """Return the images that are worth labeling next.

    The weight of an image is its uncertainty, or 1 minus its p-value if that is higher: unfamiliar images are
    worth a label even if the model is sure. The images are then selected one by one, each with the highest
    product of weight and distance to the nearest one before it.

    Args:
        predictor: of the model trained so far.
        paths: candidates.
        count: number of images to select.
        labeled: images that have labels already; similar candidates are postponed.
        progress: called with the number of images done.

    Raises:
        BadInput: `count` is below 1, or no candidate can be used ("bad-input.no-images").

    Source:
        Sener and Savarese 2018, "Active Learning for Convolutional Neural Networks: A Core-Set Approach"
        (greedy k-center), with weights.
    """
    if count < 1:
        raise BadInput(f"count: expected at least 1, got {count}", reason="count")
    failed: list[tuple[Path, BlemishError]] = []
    read = list(_predictions(predictor, [*labeled, *paths], failed, progress))
    known = set(labeled)
    candidates = [entry for entry in read if entry[0] not in known]
    if not candidates:
        raise BadInput("no image is left to select from", reason="no-images")
    has_features = all(prediction.familiarity is not None for _, prediction in read)
    features = np.stack([_features(path, prediction, has_features) for path, prediction in read])
    is_known = np.array([path in known for path, _ in read])
    uncertainty = np.array([prediction_uncertainty(prediction) for _, prediction in candidates])
    p_values = [None if p.familiarity is None else p.familiarity.p_value for _, p in candidates]
    unfamiliar = np.array([0.0 if p is None else 1 - p for p in p_values])
    weights = np.maximum(uncertainty, unfamiliar)
    chosen, distances = choose_diverse(weights, features[~is_known], count, features[is_known])
    images = tuple(
        SelectedImage(
            candidates[row][0], rank, round(float(uncertainty[row]), 6), p_values[row], float(distance)
        )
        for rank, (row, distance) in enumerate(zip(chosen, distances, strict=True), 1)
    )
    return LabelSelection(images, "familiarity" if has_features else "pixels", tuple(failed))


def choose_diverse(
    weights: FloatArray, features: FloatArray, count: int, known: FloatArray | None = None
) -> tuple[list[int], list[float]]:
    """Return rows in the order of their choice: each maximizes weight x distance to the nearest one before.

    Args:
        weights: (n,) float64 in [0, 1].
        features: (n, d) float64.
        count: number of rows; at most n are returned.
        known: (m, d) float64, rows that are chosen already; None for none.

    Returns:
        The rows, and their distances to the nearest row before them; the first of all has the distance 0.
    """
    weights = np.maximum(np.asarray(weights, np.float64), MIN_WEIGHT)
    features = np.asarray(features, np.float64)
    nearest = np.full(len(features), np.inf)
    for row in np.zeros((0, features.shape[1])) if known is None else np.asarray(known, np.float64):
        nearest = np.minimum(nearest, np.sqrt(((features - row) ** 2).sum(1)))
    chosen: list[int] = []
    distances: list[float] = []
    left = np.ones(len(features), bool)
    for _ in range(min(count, len(features))):
        gain = weights * np.where(np.isinf(nearest), 1.0, nearest)
        gain[~left] = -1
        row = int(gain.argmax())
        chosen.append(row)
        distances.append(0.0 if np.isinf(nearest[row]) else float(nearest[row]))
        left[row] = False
        nearest = np.minimum(nearest, np.sqrt(((features - features[row]) ** 2).sum(1)))
    return chosen, distances


def prediction_uncertainty(prediction: Prediction) -> float:
    """Return how unsure a model is of its own decision about an image, in [0, 1].

    For one label per image, 1 minus the difference of the two highest scores. Else the highest over labels,
    or over detections, of 1 minus the distance of the score from its threshold, relative to its side of the
    threshold; 0 for an image without detections.
    """
    if prediction.task.has_one_label and prediction.task.is_image_level:
        top = np.sort(prediction.label_scores)[-2:]
        return float(1 - (top[-1] - top[0])) if len(top) == 2 else 0.0
    if prediction.task.is_image_level:
        scores, thresholds = prediction.label_scores, prediction.thresholds
    else:
        scores = prediction.scores
        has_labels = len(prediction.labels) > 0
        thresholds = (
            prediction.thresholds[prediction.label_index] if has_labels else np.full(len(scores), 0.5)
        )
    if not len(scores):
        return 0.0
    side = np.where(scores >= thresholds, 1 - thresholds, thresholds)
    return float(np.clip(1 - np.abs(scores - thresholds) / np.maximum(side, 1e-9), 0, 1).max())


def _predictions(
    predictor: Predictor,
    paths: Sequence[Path],
    failed: list[tuple[Path, BlemishError]],
    progress: Progress | None,
) -> Iterator[tuple[Path, Prediction]]:
    for done, (path, result) in enumerate(zip(paths, predictor.stream(paths), strict=True), 1):
        if result.prediction is None:
            assert result.error is not None  # noqa: S101  (a result has a prediction or an error)
            failed.append((path, result.error))
        else:
            yield path, result.prediction
        if progress is not None:
            progress(done)


def _features(path: Path, prediction: Prediction, has_features: bool) -> NDArray[np.float64]:
    """Return the model's own features of an image, or the 256 bits of its detail hash."""
    if has_features and prediction.familiarity is not None:
        return np.asarray(prediction.familiarity.features, np.float64)
    words = detail_hash(open_image(path))
    return np.unpackbits(words.view(np.uint8)).astype(np.float64)
