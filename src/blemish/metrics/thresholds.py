"""Confidence thresholds of labels, chosen for the best F1."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput
from blemish.metrics.calibration import fit_offset, shift_logits
from blemish.metrics.coco_matches import IGNORED, TRUE_POSITIVE, Matches
from blemish.metrics.rank_metrics import Ranking

Array = NDArray[Any]
DEFAULT_THRESHOLD = 0.5
MIN_OBJECT_THRESHOLD = 0.05
MIN_COUNTED = 100  # images with and without a label; with fewer, expected F1 is better (docs/decisions/0026)


def choose_thresholds(
    scores: Array, ground_truth: Array, *, min_gap: float = 1e-4, min_precision: float | None = None
) -> NDArray[np.float64]:
    """Choose the threshold with the best F1 for each label.

    A label with at least `MIN_COUNTED` positive and as many negative images gets the threshold at which the
    F1 of these images is best (`choose_threshold`); a label with fewer, that with the best expected F1
    (`choose_expected_threshold`), which every image influences and not the few positives alone.

    A threshold is midway between two neighboring scores, so that the rounding of another runtime changes no
    decision. Of equally good thresholds, the one in the widest gap is chosen, then the higher one. Metrics
    on the images that thresholds were chosen on are optimistically biased.

    Args:
        scores: (n, L) in [0, 1], probabilities whose temperature has been fitted.
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
    out = []
    for values, positive in zip(scores.T, ground_truth.T, strict=True):
        choose = choose_expected_threshold if is_rare(positive) else choose_threshold
        out.append(choose(values, positive, min_gap=min_gap, min_precision=min_precision))
    return np.array(out, np.float64)


def is_rare(ground_truth: Array) -> bool:
    """Return whether fewer than `MIN_COUNTED` images are positive, or are negative; (n,) bool."""
    positives = int(np.count_nonzero(ground_truth))
    return min(positives, len(ground_truth) - positives) < MIN_COUNTED


def choose_expected_threshold(
    scores: Array, ground_truth: Array, *, min_gap: float = 1e-4, min_precision: float | None = None
) -> float:
    """Choose the threshold of one label with the best expected F1, for few positive or few negative images.

    A positive decision about a score p is right with probability p. The expected F1 of deciding positively
    down to rank k is then about 2 * (p_1 + ... + p_k) / (k + p_1 + ... + p_n), and it varies less from sample
    to sample than the F1 of counted images. First, an offset of the logits is fitted (`fit_offset`), so that
    the scores of a network trained with weighted labels become probabilities at the frequency of these
    images.

    Args:
        scores: (n,) in [0, 1].
        ground_truth: (n,) bool.
        min_gap: see `choose_thresholds`.
        min_precision: see `choose_thresholds`; the precision is that of the counted images.

    Returns:
        A threshold in [0, 1], of `scores` as given; close to 0.5, in a gap, without positive images.

    Raises:
        BadInput: a score is not in [0, 1] ("bad-input.scores"), or is not finite.

    Source:
        Lipton, Elkan and Naryanaswamy 2014, Optimal Thresholding of Classifiers to Maximize F1 Measure: the
        best threshold of calibrated scores is half of the best F1.

    Example:
        >>> scores = np.array([0.9, 0.8, 0.3, 0.1, 0.05])
        >>> round(choose_expected_threshold(scores, scores > 0.5), 2)
        0.55
    """
    ranking = Ranking.of(scores, ground_truth)
    if not ranking.ground_truth.any():
        return _gap_around(ranking.scores, DEFAULT_THRESHOLD, min_gap)
    candidates, gap, allowed = candidate_thresholds(ranking, min_gap=min_gap)
    f1 = expected_f1(ranking, np.ones(len(ranking.order)))
    return _best(f1, candidates, gap, _with_precision(ranking, allowed, min_precision))


def expected_f1(ranking: Ranking, weights: Array) -> NDArray[np.float64]:
    """Return the expected F1 of each threshold of a label: the ratio of the expected counts.

    Args:
        ranking: of the label; its scores become probabilities by an offset of their logits.
        weights: (n,) or (n, r), the number of times that each image counts, in the order of the images.

    Returns:
        (k,) or (k, r): one per distinct score.

    Raises:
        BadInput: a score is not in [0, 1] ("bad-input.scores").
    """
    if len(ranking.scores) and not (ranking.scores[-1] >= 0 and ranking.scores[0] <= 1):
        raise BadInput("scores: expected values in [0, 1]", reason="scores")
    scores = np.repeat(ranking.scores, np.diff(ranking.ends, prepend=-1))
    ordered = weights[ranking.order]
    offset = fit_offset(scores, ranking.ground_truth, ordered)
    p = shift_logits(scores if ordered.ndim == 1 else scores[:, None], offset)
    right = np.cumsum(ordered * p, axis=0)
    decided = np.cumsum(ordered, axis=0)[ranking.ends]
    return np.asarray(2 * right[ranking.ends] / np.maximum(decided + right[-1], 1e-9))


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
    return _best(f1, candidates, gap, _with_precision(ranking, allowed, min_precision))


def _with_precision(ranking: Ranking, allowed: Array, min_precision: float | None) -> Array:
    """Return the positions with at least this precision; those with the highest one if none has it."""
    if min_precision is None:
        return allowed
    true_positives, false_positives = ranking.cumulative_counts()
    precision = (true_positives / (true_positives + false_positives))[allowed]
    return np.asarray(allowed[precision >= min(min_precision, precision.max())])


def _best(f1: Array, candidates: Array, gap: Array, allowed: Array) -> float:
    """Return the allowed candidate with the best F1; of equals, the one in the widest gap."""
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
