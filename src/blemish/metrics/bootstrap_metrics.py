"""Detection metrics on resampled images, counted from stored matches: nothing is matched again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.metrics.average_precision import COCO_METRICS, RECALLS
from blemish.metrics.classification import OutcomeCounts, ones_if_none
from blemish.metrics.coco_matches import IGNORED, TRUE_POSITIVE, Matches

Array = NDArray[Any]
CHUNK_CELLS = 4_000_000


def label_metrics(matches: Matches, weights: Array) -> dict[str, FloatArray]:
    """Return COCO's twelve metrics of each label.

    Args:
        matches: of all images.
        weights: (images, r) whole numbers, the number of times that each image counts.

    Returns:
        By name, (L, r) float64; NaN for a label without ground truth in the metric's area range.
    """
    weights = ones_if_none(weights, matches.ground_truths.images)
    precision = {area: label_average_precision(matches, weights, area=area) for area in matches.areas}
    metrics = {}
    for name, (kind, iou, area, limit) in COCO_METRICS.items():
        if kind == "ap":
            at = slice(None) if iou is None else np.flatnonzero(np.isclose(matches.ious, iou))
            values = precision[area][:, at].mean(1)
        else:
            values = label_recall(matches, weights, area=area, max_detections=limit)
        metrics[name] = values
    return metrics


def label_recall(
    matches: Matches, weights: Array, *, area: str = "all", max_detections: int = 100
) -> FloatArray:
    """Return the highest recall of each label, averaged over all IoU thresholds.

    Args:
        matches: of all images.
        weights: (images, r), the number of times that each image counts.
        area: the name of the area range.
        max_detections: the number of detections per image and label that count.

    Returns:
        (L, r) float64 in [0, 1]; NaN for a label without ground truth.
    """
    a = matches.areas.index(area)
    rows = matches.rank < max_detections
    detections, ground_truths = matches.detections, matches.ground_truths
    shape = (ground_truths.label_count, ground_truths.images)
    detected, existing = np.zeros(shape), np.zeros(shape)
    at_ious = (matches.outcome[rows, a] == TRUE_POSITIVE).sum(1)
    np.add.at(detected, (detections.label[rows], detections.image[rows]), at_ious)
    counted = ~matches.ignored[:, a]
    np.add.at(existing, (ground_truths.label[counted], ground_truths.image[counted]), len(matches.ious))
    positives = existing @ weights
    return np.where(positives > 0, (detected @ weights) / np.maximum(positives, 1), np.nan)


def label_average_precision(matches: Matches, weights: Array, *, area: str = "all") -> FloatArray:
    """Return the average precision of each label at each IoU threshold, at most 100 detections per image.

    Args:
        matches: of all images.
        weights: (images, r) whole numbers, the number of times that each image counts.
        area: the name of the area range.

    Returns:
        (L, t, r) float64 in [0, 1]; NaN for a label without ground truth in a resample.

    Source:
        pycocotools.cocoeval.COCOeval.accumulate on a data set in which images are repeated according to the
        weights. Among tied scores, the copies of one detection are adjacent here; pycocotools interleaves
        the copies of different detections.
    """
    weights = ones_if_none(weights, matches.ground_truths.images)
    labels, ious = matches.ground_truths.label_count, len(matches.ious)
    out = np.full((labels, ious, weights.shape[1]), np.nan)
    a = matches.areas.index(area)
    order = np.lexsort((-matches.detections.score, matches.detections.label))
    order = order[(matches.outcome[order, a] != IGNORED).any(1)]
    borders = np.searchsorted(matches.detections.label[order], np.arange(labels + 1))
    for label in range(labels):
        positives = _positives(matches, label, a, weights)
        rows = order[borders[label] : borders[label + 1]]
        step = max(1, CHUNK_CELLS // max(len(rows), 1))
        for start in range(0, weights.shape[1], step):
            columns = slice(start, start + step)
            of_rows = weights[matches.detections.image[rows], columns]
            out[label, :, columns] = _average_precision(
                matches.outcome[rows, a], of_rows, positives[columns].astype(np.int64)
            )
    return out


def count_at_thresholds(matches: Matches, thresholds: Array, weights: Array) -> OutcomeCounts:
    """Count true positives, false positives and false negatives among detections that reach a threshold.

    Args:
        matches: of all images; their first IoU threshold counts.
        thresholds: (L,) confidence thresholds.
        weights: (images, r), the number of times that each image counts.

    Returns:
        Counts of shape (L, r); ignored ground truth (crowds) is neither detected nor missed.
    """
    labels = matches.ground_truths.label_count
    confident = matches.detections.score >= np.asarray(thresholds)[matches.detections.label]
    outcome = matches.outcome[:, 0, 0]

    def per_label(rows: Array, image: Array, label: Array) -> Array:
        member = np.zeros((labels, matches.ground_truths.images))
        np.add.at(member, (label[rows], image[rows]), 1)
        return np.asarray(member @ weights)

    detections, ground_truths = matches.detections, matches.ground_truths
    correct = outcome == TRUE_POSITIVE
    true_positives = per_label(confident & correct, detections.image, detections.label)
    wrong = ~correct & (outcome != IGNORED)
    false_positives = per_label(confident & wrong, detections.image, detections.label)
    positives = per_label(~matches.ignored[:, 0], ground_truths.image, ground_truths.label)
    return OutcomeCounts(true_positives, false_positives, positives - true_positives)


def image_presence(matches: Matches, thresholds: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return whether each image has any detection, and whether it contains any object.

    Args:
        matches: of all images.
        thresholds: (L,) confidence thresholds of the detections that count.

    Returns:
        Two (images,) bool arrays: predicted, true.
    """
    predicted = np.zeros(matches.ground_truths.images, bool)
    confident = matches.detections.score >= np.asarray(thresholds)[matches.detections.label]
    predicted[matches.detections.image[confident]] = True
    true = np.zeros(matches.ground_truths.images, bool)
    true[matches.ground_truths.image] = True
    return predicted, true


def _positives(matches: Matches, label: int, area: int, weights: Array) -> Array:
    """Return the (r,) numbers of objects of a label that can be detected in an area range."""
    rows = (matches.ground_truths.label == label) & ~matches.ignored[:, area]
    return np.asarray(weights[matches.ground_truths.image[rows]].sum(0))


def _average_precision(outcome: Array, weights: Array, positives: Array) -> Array:
    """Return the (t, c) average precision of one label at each IoU threshold, for c resamples.

    Args:
        outcome: (n, t) in descending order of score.
        weights: (n, c).
        positives: (c,) int64.
    """
    out = np.full((outcome.shape[1], weights.shape[1]), np.nan)
    defined = positives > 0
    required = _required_true_positives(positives)
    always = (outcome != IGNORED).all(1)
    counted_at_all = np.cumsum(weights, axis=0) if always.all() else None
    for iou in range(outcome.shape[1]):
        correct = outcome[:, iou] == TRUE_POSITIVE
        if counted_at_all is not None:
            counted = counted_at_all[correct]
        else:
            counted = np.cumsum(weights * (outcome[:, iou] != IGNORED)[:, None], axis=0)[correct]
        true_positives = np.cumsum(weights[correct], axis=0)
        precision = true_positives / (counted + np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        out[iou, defined] = _mean_at_recalls(true_positives, precision, required)[defined]
    return out


def _mean_at_recalls(true_positives: Array, precision: Array, required: Array) -> Array:
    """Return the (c,) mean over 101 recalls of the precision where each recall is first reached.

    Args:
        true_positives: (h, c) cumulative numbers, ascending along the first axis.
        precision: (h, c) interpolated.
        required: (101, c) the smallest number of true positives that reaches each recall.
    """
    h, c = true_positives.shape
    # Offset each column so that all columns are one ascending row: a single search serves all of them.
    span = int(max(true_positives[-1].max(initial=0) if h else 0, required.max(initial=0))) + 1
    keys = (true_positives + np.arange(c) * span).T.ravel()
    queries = (required + np.arange(c) * span).T  # (c, 101)
    place = np.searchsorted(keys, queries, side="left") - (np.arange(c) * h)[:, None]
    padded = np.concatenate([precision, np.zeros((1, c))])
    return np.asarray(padded[np.minimum(place, h), np.arange(c)[:, None]].mean(1))


def _required_true_positives(positives: Array) -> Array:
    """Return the (101, c) smallest numbers of true positives whose share of (c,) positives is each recall."""
    whole = np.maximum(positives, 1)
    guess = np.floor(RECALLS[:, None] * whole) - 1
    for _ in range(3):  # compare rounded quotients, as pycocotools does, instead of exact products
        guess = np.where((guess >= 0) & (guess / whole >= RECALLS[:, None]), guess, guess + 1)
    return np.asarray(np.maximum(guess, 0))
