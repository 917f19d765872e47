"""How far the thresholds of a model can be trusted: intervals, and labels below a required precision."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.metrics.coco_matches import IGNORED, TRUE_POSITIVE, Matches
from blemish.metrics.intervals import resample
from blemish.metrics.rank_metrics import Ranking
from blemish.metrics.thresholds import (
    MIN_OBJECT_THRESHOLD,
    candidate_thresholds,
    expected_f1,
    is_rare,
)
from blemish.model_file import ThresholdEvidence

Array = NDArray[Any]
RESAMPLES = 200
MIN_GAP = 1e-4
Z = 1.959964  # of a two-sided interval of 95 %


def label_evidence(
    scores: Array,
    ground_truth: Array,
    thresholds: Array,
    *,
    min_precision: float | None = None,
    groups: Array | None = None,
    seed: int = 0,
) -> list[ThresholdEvidence]:
    """Measure the thresholds of image labels on the images that they were chosen on.

    Args:
        scores: (n, L) in [0, 1].
        ground_truth: (n, L) bool.
        thresholds: (L,).
        min_precision: the precision that was required, or None.
        groups: (n,) the group of each image; whole groups are resampled.
        seed: of the resamples.

    Returns:
        One per label.
    """
    images = np.arange(len(scores))
    weights = _weights(len(scores), groups, seed)
    return [
        _evidence(
            scores[:, i],
            ground_truth[:, i],
            images,
            1.0 * ground_truth[:, i],
            weights,
            threshold,
            min_precision,
            expected=is_rare(ground_truth[:, i]),
        )
        for i, threshold in enumerate(np.asarray(thresholds).tolist())
    ]


def object_evidence(
    matches: Matches,
    thresholds: Array,
    *,
    min_precision: float | None = None,
    groups: Array | None = None,
    seed: int = 0,
) -> list[ThresholdEvidence]:
    """Measure the thresholds of objects on the images that they were chosen on, at the first IoU threshold.

    Args:
        matches: of those images.
        thresholds: (L,).
        min_precision: the precision that was required, or None.
        groups: the group of each image; whole groups are resampled.
        seed: of the resamples.

    Returns:
        One per label.
    """
    detections, ground_truths = matches.detections, matches.ground_truths
    outcome = matches.outcome[:, 0, 0]
    weights = _weights(ground_truths.images, groups, seed)
    out = []
    for label, threshold in enumerate(np.asarray(thresholds).tolist()):
        rows = (detections.label == label) & (outcome != IGNORED) & (detections.score >= MIN_OBJECT_THRESHOLD)
        counted = (ground_truths.label == label) & ~matches.ignored[:, 0]
        objects = np.bincount(ground_truths.image[counted], minlength=ground_truths.images).astype(float)
        correct = outcome[rows] == TRUE_POSITIVE
        scores, images = detections.score[rows], detections.image[rows]
        out.append(
            _evidence(
                scores, correct, images, objects, weights, threshold, min_precision, MIN_OBJECT_THRESHOLD
            )
        )
    return out


def wilson_interval(successes: float, trials: float) -> tuple[float, float]:
    """Return the 95 % interval of a share, (0, 1) without trials.

    Args:
        successes: at most `trials`.
        trials: at least 0.

    Source:
        Wilson (1927), "Probable inference, the law of succession, and statistical inference".

    Example:
        >>> low, high = wilson_interval(8, 10)
        >>> round(low, 3), round(high, 3)
        (0.49, 0.943)
    """
    if not trials:
        return 0.0, 1.0
    share = successes / trials
    middle = share + Z**2 / (2 * trials)
    spread = Z * math.sqrt(share * (1 - share) / trials + Z**2 / (4 * trials**2))
    scale = 1 + Z**2 / trials
    low = 0.0 if successes == 0 else (middle - spread) / scale
    return low, 1.0 if successes == trials else (middle + spread) / scale


def _weights(images: int, groups: Array | None, seed: int) -> Array:
    drawn = list(resample(images, groups=groups, resamples=RESAMPLES, seed=seed))
    return np.concatenate(drawn, 1) if drawn else np.zeros((0, 0))


def _evidence(
    scores: Array,
    correct: Array,
    images: Array,
    positives: Array,
    weights: Array,
    threshold: float,
    min_precision: float | None,
    min_threshold: float = 0.0,
    *,
    expected: bool = False,
) -> ThresholdEvidence:
    """Measure one threshold.

    Args:
        scores: (n,) of images or detections.
        correct: (n,) bool.
        images: (n,) the image of each score.
        positives: (images,) the number of positives in each image.
        weights: (images, r) the number of times that each resample draws each image.
        threshold: the chosen one.
        min_precision: the precision that was required, or None.
        min_threshold: the smallest threshold.
        expected: whether thresholds are chosen by expected F1, as for rare labels.
    """
    reached = scores >= threshold
    predicted, hits = int(reached.sum()), int((reached & correct).sum())
    low, high = wilson_interval(hits, predicted)
    precision = hits / predicted if predicted else 0.0
    chosen = _resampled_choices(
        scores, correct, images, positives, weights, min_precision, min_threshold, expected=expected
    )
    edges = (0.0, 1.0) if not len(chosen) else np.percentile(chosen, [2.5, 97.5]).tolist()
    return ThresholdEvidence(
        positives=int(positives.sum()),
        predicted=predicted,
        correct=hits,
        precision_low=low,
        precision_high=high,
        threshold_low=min(edges[0], threshold),
        threshold_high=max(edges[1], threshold),
        min_precision=min_precision,
        reliable=min_precision is None or (predicted > 0 and precision >= min_precision),
    )


def _resampled_choices(
    scores: Array,
    correct: Array,
    images: Array,
    positives: Array,
    weights: Array,
    min_precision: float | None,
    min_threshold: float,
    *,
    expected: bool,
) -> Array:
    """Return the threshold that each resample would choose; resamples without a true positive choose none."""
    if not correct.any() or not weights.size:
        return np.zeros(0)
    ranking = Ranking.of(scores, correct)
    candidates, _, allowed = candidate_thresholds(ranking, min_gap=MIN_GAP, min_threshold=min_threshold)
    chosen = []
    step = max(1, 2_000_000 // len(scores))
    for start in range(0, weights.shape[1], step):
        part = weights[:, start : start + step]
        true_positives, false_positives = (c[allowed] for c in ranking.cumulative_counts(part[images]))
        decided = true_positives + false_positives
        if expected:
            f1 = expected_f1(ranking, part[images])[allowed]
        else:
            f1 = 2 * true_positives / np.maximum(decided + positives @ part, 1e-9)
        if min_precision is not None:
            precision = true_positives / np.maximum(decided, 1e-9)
            f1 = np.where(precision >= np.minimum(min_precision, precision.max(0)), f1, -1)
        chosen.append(candidates[allowed][f1.argmax(0)][true_positives[-1] > 0])
    return np.concatenate(chosen)
