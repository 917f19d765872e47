"""Confidence thresholds of labels, chosen for the best F1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.metrics.coco_matches import IGNORED, TRUE_POSITIVE, Matches
from blemish.metrics.rank_metrics import Ranking

Array = NDArray[Any]
DEFAULT_THRESHOLD = 0.5
MIN_OBJECT_THRESHOLD = 0.05


def choose_thresholds(
    scores: Array, ground_truth: Array, *, min_gap: float = 1e-4, min_precision: float | None = None
) -> NDArray[np.float64]:
    """Choose the threshold with the best F1 for each label.

    A threshold is midway between two neighboring scores, so that the rounding of another runtime changes no
    decision. Of equally good thresholds, the one in the widest gap is chosen, then the higher one. Metrics
    on the images that thresholds were chosen on are optimistically biased.

    Args:
        scores: (n, L) in [0, 1].
        ground_truth: (n, L) bool.
        min_gap: neighboring scores closer than this are not separated, unless all scores are that close.
        min_precision: the best F1 is sought among the thresholds with at least this precision; if a label has
            none, it gets the threshold with its highest precision.

    Returns:
        (L,) float64 in [0, 1]; close to 0.5, in a gap, for a label without positive images.

    Example:
        >>> scores, ground_truth = np.array([[0.9], [0.7], [0.2]]), np.array([[True], [True], [False]])
        >>> choose_thresholds(scores, ground_truth).round(2).tolist()
        [0.45]
    """
    scores, ground_truth = np.asarray(scores, np.float64), np.asarray(ground_truth, bool)
    return np.array(
        [
            choose_threshold(scores[:, i], ground_truth[:, i], min_gap=min_gap, min_precision=min_precision)
            for i in range(scores.shape[1])
        ]
    )


def choose_object_thresholds(
    matches: Matches,
    *,
    min_threshold: float = MIN_OBJECT_THRESHOLD,
    min_gap: float = 1e-4,
    min_precision: float | None = None,
) -> NDArray[np.float64]:
    """Choose the threshold with the best F1 over objects for each label, at the first IoU threshold.

    Args:
        matches: of the images to choose on, with 0.5 as the first IoU threshold.
        min_threshold: the smallest threshold. Without it, the best F1 of a label that the network has barely
            learned often comes with thousands of false positives for a few true ones.
        min_gap: see `choose_thresholds`.
        min_precision: see `choose_thresholds`.

    Returns:
        (L,) float64 in [`min_threshold`, 1]; close to 0.5 for a label without any true positive whose score
        reaches `min_threshold`.
    """
    outcome = matches.outcome[:, 0, 0]
    out = []
    for label, positives in enumerate(matches.positives.tolist()):
        rows = (matches.detections.label == label) & (outcome != IGNORED)
        correct = outcome[rows] == TRUE_POSITIVE
        scores = matches.detections.score[rows]
        included = scores >= min_threshold
        threshold = choose_threshold(
            scores[included],
            correct[included],
            false_negatives=positives - int(correct[included].sum()),
            min_gap=min_gap,
            min_threshold=min_threshold,
            highest_excluded=float(scores[~included].max(initial=0.0)),
            min_precision=min_precision,
        )
        out.append(max(threshold, min_threshold))
    return np.array(out, np.float64)


def choose_threshold(
    scores: Array,
    ground_truth: Array,
    *,
    false_negatives: int = 0,
    min_gap: float = 1e-4,
    min_threshold: float = 0.0,
    highest_excluded: float = 0.0,
    min_precision: float | None = None,
) -> float:
    """Choose the threshold of one label; see `choose_thresholds`.

    Args:
        scores: (n,) in [0, 1], of images or of detections.
        ground_truth: (n,) bool.
        false_negatives: the number of objects that no detection matches, and which thus have no score.
        min_gap: see `choose_thresholds`.
        min_threshold: the smallest threshold; every score reaches it.
        highest_excluded: the highest score below `min_threshold`; the threshold keeps its distance from it.
        min_precision: see `choose_thresholds`.
    """
    ranking = Ranking.of(scores, ground_truth)
    if not ranking.ground_truth.any():
        return _gap_around(ranking.scores, DEFAULT_THRESHOLD, min_gap)
    candidates, gap, allowed = candidate_thresholds(
        ranking, min_gap=min_gap, min_threshold=min_threshold, highest_excluded=highest_excluded
    )
    true_positives, false_positives = ranking.cumulative_counts()
    f1 = 2 * true_positives / (true_positives + false_positives + true_positives[-1] + false_negatives)
    if min_precision is not None:
        precision = (true_positives / (true_positives + false_positives))[allowed]
        allowed = allowed[precision >= min(min_precision, precision.max())]
    best = allowed[f1[allowed] == f1[allowed].max()]
    return float(candidates[best[np.lexsort((best, -gap[best]))[0]]])


def candidate_thresholds(
    ranking: Ranking, *, min_gap: float, min_threshold: float = 0.0, highest_excluded: float = 0.0
) -> tuple[Array, Array, Array]:
    """Return the thresholds that may be chosen.

    Args:
        ranking: of one label, not empty.
        min_gap: see `choose_thresholds`.
        min_threshold: see `choose_threshold`.
        highest_excluded: see `choose_threshold`.

    Returns:
        (k,) float64, one threshold below each distinct score; (k,) the width of the gap that it is in; and
        the positions of those that separate scores which are not too close to each other.
    """
    # Candidate k is midway between score k and the next lower one; the last, between the lowest score and the
    # highest excluded one.
    below = np.append(ranking.scores[1:], highest_excluded)
    candidates, gap = (ranking.scores + below) / 2, ranking.scores - below
    if candidates[-1] < min_threshold:
        # Then the lowest score is the neighbor that is closer to the threshold.
        candidates[-1] = min_threshold
        gap[-1] = 2 * (ranking.scores[-1] - min_threshold)
    allowed = np.flatnonzero(gap >= min_gap)
    if not len(allowed):
        allowed = np.flatnonzero(gap > 0) if (gap > 0).any() else np.array([len(gap) - 1])
    return candidates, gap, allowed


def _gap_around(descending: Array, place: float, min_gap: float) -> float:
    """Return the middle of the gap nearest to `place`, or `place` itself if no score is close to it."""
    if not len(descending) or np.abs(descending - place).min() >= min_gap:
        return place
    edges = np.unique(np.concatenate([[0.0], descending, [1.0]]))
    middles, gaps = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    wide = gaps >= min_gap if (gaps >= min_gap).any() else gaps > 0
    return float(middles[wide][np.abs(middles[wide] - place).argmin()])
