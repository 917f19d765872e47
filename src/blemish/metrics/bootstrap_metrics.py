"""Figures of detection on resampled images, counted from stored matches: nothing is matched again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.metrics.average_precision import FIGURES, RECALLS
from blemish.metrics.classification import Counts, ones_if_none, ratio
from blemish.metrics.coco_matching import HIT, IGNORED, Matches

Array = NDArray[Any]
CHUNK_CELLS = 4_000_000


def label_figures(matches: Matches, weights: Array) -> dict[str, FloatArray]:
    """COCO's twelve figures of each label, (L, r) each; nan for a label without truths in the range.

    Args:
        matches: done once.
        weights: (images, r) whole numbers, how often each image counts.
    """
    weights = ones_if_none(weights, matches.ground_truths.images)
    precision = {area: precisions(matches, weights, area=area) for area in matches.areas}
    figures = {}
    for name, (kind, iou, area, most) in FIGURES.items():
        if kind == "ap":
            at = slice(None) if iou is None else np.flatnonzero(np.isclose(matches.ious, iou))
            values = precision[area][:, at].mean(1)
        else:
            values = recalls(matches, weights, area=area, most=most)
        figures[name] = values
    return figures


def mean_of_defined(values: Array) -> FloatArray:
    """(L, r) to (r,): the mean over labels for which the figure is defined; nan where it is for none."""
    defined = ~np.isnan(values)
    held = defined.sum(0)
    return np.where(held > 0, ratio(np.where(defined, values, 0).sum(0), held), np.nan)


def recalls(matches: Matches, weights: Array, *, area: str = "all", most: int = 100) -> FloatArray:
    """(L, r) the highest recall reached, the mean over all overlaps; nan for a label without truths.

    Args:
        matches: done once.
        weights: (images, r), how often each image counts.
        area: name of the range of areas.
        most: detections considered for each image and label.
    """
    a = matches.areas.index(area)
    rows = matches.rank < most
    found, ground_truths = matches.found, matches.ground_truths
    hits = (matches.outcome[rows, a] == HIT).sum(1)
    shape = (ground_truths.label_count, ground_truths.images)
    held, there = np.zeros(shape), np.zeros(shape)
    np.add.at(held, (found.label[rows], found.image[rows]), hits)
    counted = ~matches.ignored[:, a]
    np.add.at(there, (ground_truths.label[counted], ground_truths.image[counted]), len(matches.ious))
    positives = there @ weights
    return np.where(positives > 0, (held @ weights) / np.maximum(positives, 1), np.nan)


def precisions(matches: Matches, weights: Array, *, area: str = "all") -> FloatArray:
    """Average precision of every label at every overlap, at most 100 detections.

    Args:
        matches: done once.
        weights: (images, r) whole numbers, how often each image counts.
        area: name of the range of areas.

    Returns:
        (L, t, r) float64 in [0, 1]; nan where a label has no truths in a resample.

    Source:
        pycocotools.cocoeval.COCOeval.accumulate, on a set in which images are repeated as often as the
        weights say; where scores tie, the copies of one detection stand together here.
    """
    weights = ones_if_none(weights, matches.ground_truths.images)
    labels, ious = matches.ground_truths.label_count, len(matches.ious)
    out = np.full((labels, ious, weights.shape[1]), np.nan)
    a = matches.areas.index(area)
    order = np.lexsort((-matches.found.score, matches.found.label))
    order = order[(matches.outcome[order, a] != IGNORED).any(1)]
    borders = np.searchsorted(matches.found.label[order], np.arange(labels + 1))
    for label in range(labels):
        positives = _positives(matches, label, a, weights)
        rows = order[borders[label] : borders[label + 1]]
        step = max(1, CHUNK_CELLS // max(len(rows), 1))
        for start in range(0, weights.shape[1], step):
            columns = slice(start, start + step)
            of_rows = weights[matches.found.image[rows], columns]
            out[label, :, columns] = _label_precisions(
                matches.outcome[rows, a], of_rows, positives[columns].astype(np.int64)
            )
    return out


def counts_at(matches: Matches, thresholds: Array, weights: Array) -> Counts:
    """Hits, false alarms and misses of each label among detections that score at least its threshold.

    Args:
        matches: done once; the first of their overlaps counts.
        thresholds: (L,).
        weights: (images, r), how often each image counts.

    Returns:
        Counts of shape (L, r); crowds are neither found nor missed.
    """
    labels = matches.ground_truths.label_count
    said = matches.found.score >= np.asarray(thresholds)[matches.found.label]
    outcome = matches.outcome[:, 0, 0]

    def per_label(rows: Array, image: Array, label: Array) -> Array:
        member = np.zeros((labels, matches.ground_truths.images))
        np.add.at(member, (label[rows], image[rows]), 1)
        return np.asarray(member @ weights)

    found, ground_truths = matches.found, matches.ground_truths
    hits = per_label(said & (outcome == HIT), found.image, found.label)
    alarms = per_label(said & (outcome != HIT) & (outcome != IGNORED), found.image, found.label)
    positives = per_label(~matches.ignored[:, 0], ground_truths.image, ground_truths.label)
    return Counts(hits, alarms, positives - hits)


def verdicts(matches: Matches, thresholds: Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether anything was found in each image, and whether anything is there.

    Args:
        matches: of every image.
        thresholds: (L,) scores from which a detection counts.

    Returns:
        Two (images,) bool arrays: said, true.
    """
    said = np.zeros(matches.ground_truths.images, bool)
    sure = matches.found.score >= np.asarray(thresholds)[matches.found.label]
    said[matches.found.image[sure]] = True
    true = np.zeros(matches.ground_truths.images, bool)
    true[matches.ground_truths.image] = True
    return said, true


def _positives(matches: Matches, label: int, area: int, weights: Array) -> Array:
    rows = (matches.ground_truths.label == label) & ~matches.ignored[:, area]
    return np.asarray(weights[matches.ground_truths.image[rows]].sum(0))


def _label_precisions(outcome: Array, weights: Array, positives: Array) -> Array:
    """(t, c) average precision of one label.

    Args:
        outcome: (n, t) in order of score.
        weights: (n, c).
        positives: (c,) int64.
    """
    out = np.full((outcome.shape[1], weights.shape[1]), np.nan)
    defined = positives > 0
    needed = _needed(positives)
    always = (outcome != IGNORED).all(1)
    counted_by_all = np.cumsum(weights, axis=0) if always.all() else None
    for iou in range(outcome.shape[1]):
        hit = outcome[:, iou] == HIT
        if counted_by_all is not None:
            counted = counted_by_all[hit]
        else:
            counted = np.cumsum(weights * (outcome[:, iou] != IGNORED)[:, None], axis=0)[hit]
        hits = np.cumsum(weights[hit], axis=0)
        precision = hits / (counted + np.spacing(1))
        precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
        out[iou, defined] = _mean_at(hits, precision, needed)[defined]
    return out


def _mean_at(hits: Array, precision: Array, needed: Array) -> Array:
    """(c,) the mean over 101 recalls of the precision where hits first reach what the recall needs."""
    h, c = hits.shape
    # Whole numbers, one column after the other, so that one search serves all columns exactly.
    span = int(max(hits[-1].max(initial=0) if h else 0, needed.max(initial=0))) + 1
    keys = (hits + np.arange(c) * span).T.ravel()
    queries = (needed + np.arange(c) * span).T  # (c, 101)
    place = np.searchsorted(keys, queries, side="left") - (np.arange(c) * h)[:, None]
    padded = np.concatenate([precision, np.zeros((1, c))])
    return np.asarray(padded[np.minimum(place, h), np.arange(c)[:, None]].mean(1))


def _needed(positives: Array) -> Array:
    """(101, c) float64: the fewest hits whose share of the positives is at least each recall."""
    whole = np.maximum(positives, 1)
    guess = np.floor(RECALLS[:, None] * whole) - 1
    for _ in range(3):  # exactly as the quotient is rounded, not as algebra would have it
        guess = np.where((guess >= 0) & (guess / whole >= RECALLS[:, None]), guess, guess + 1)
    return np.asarray(np.maximum(guess, 0))
