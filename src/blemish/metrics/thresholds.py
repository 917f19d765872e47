"""The score from which a verdict is yes, chosen where F1 is best."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.metrics.coco_matching import HIT, IGNORED, Matches
from blemish.metrics.ranking import Ranking

Array = NDArray[Any]
PLAIN = 0.5
LEAST_OF_OBJECTS = 0.05


def choose_thresholds(scores: Array, ground_truth: Array, *, min_gap: float = 1e-4) -> NDArray[np.float64]:
    """For each label the threshold with the best F1.

    A threshold stands midway between two neighbouring scores, so that rounding in another runtime turns no
    verdict. Among equally good ones the widest gap wins, then the higher threshold. Figures on the
    images a threshold was chosen on are tuned: better than the truth.

    Args:
        scores: (n, L) in [0, 1].
        ground_truth: (n, L) bool.
        min_gap: neighbouring scores nearer than this are not parted, unless all are that near.

    Returns:
        (L,) float64 in [0, 1]; near .5, in a gap, for a label that is never true.

    Example:
        >>> scores, ground_truth = np.array([[0.9], [0.7], [0.2]]), np.array([[True], [True], [False]])
        >>> choose_thresholds(scores, ground_truth).round(2).tolist()
        [0.45]
    """
    scores, ground_truth = np.asarray(scores, np.float64), np.asarray(ground_truth, bool)
    return np.array(
        [choose_threshold(scores[:, i], ground_truth[:, i], min_gap=min_gap) for i in range(scores.shape[1])]
    )


def choose_object_thresholds(
    matches: Matches, *, least: float = LEAST_OF_OBJECTS, min_gap: float = 1e-4
) -> NDArray[np.float64]:
    """For each label the threshold with the best F1 over objects, at an overlap of .5.

    Args:
        matches: of the images to choose on, with .5 as the first overlap.
        least: no threshold is lower. Where a network has not learned a label, F1 is often best where
            thousands of boxes are let through for the few that are right: nobody could look at them.
        min_gap: as in `choose_thresholds`.

    Returns:
        (L,) float64 in [`least`, 1]; near .5 for a label without any right box from `least` up.
    """
    outcome = matches.outcome[:, 0, 0]
    out = []
    for label, positives in enumerate(matches.positives.tolist()):
        rows = (matches.found.label == label) & (outcome != IGNORED)
        hits = outcome[rows] == HIT
        scores = matches.found.score[rows]
        heard = scores >= least
        missed = positives - int(hits[heard].sum())
        unheard = float(scores[~heard].max(initial=0.0))
        cut = choose_threshold(
            scores[heard], hits[heard], misses=missed, min_gap=min_gap, least=least, unheard=unheard
        )
        out.append(max(cut, least))
    return np.array(out, np.float64)


def choose_threshold(
    scores: Array,
    ground_truth: Array,
    *,
    misses: int = 0,
    min_gap: float = 1e-4,
    least: float = 0.0,
    unheard: float = 0.0,
) -> float:
    """The threshold of one label; see `choose_thresholds`.

    Args:
        scores: (n,) in [0, 1], of images or of boxes.
        ground_truth: (n,) bool.
        misses: true things that have no score at all (objects that no box found).
        min_gap: as in `choose_thresholds`.
        least: no cut is lower, and no score is.
        unheard: the highest score that `least` leaves out; a cut keeps away from it too.
    """
    ranking = Ranking.of(scores, ground_truth)
    if not ranking.ground_truth.any():
        return _gap_around(ranking.scores, PLAIN, min_gap)
    hits, alarms = ranking.cumulated()
    f1 = 2 * hits / (hits + alarms + hits[-1] + misses)
    # A cut below score k lies midway to the next score down; below the lowest one, to what is not heard.
    below = np.append(ranking.scores[1:], unheard)
    places, gap = (ranking.scores + below) / 2, ranking.scores - below
    if places[-1] < least:
        places[-1], gap[-1] = least, 2 * min(ranking.scores[-1] - least, least - unheard)
    cuts = np.flatnonzero(gap >= min_gap)
    if not len(cuts):
        cuts = np.flatnonzero(gap > 0) if (gap > 0).any() else np.array([len(gap) - 1])
    best = cuts[f1[cuts] >= f1[cuts].max() - 1e-12]
    cut = best[np.lexsort((best, -gap[best]))[0]]
    return float(places[cut])


def _gap_around(descending: Array, place: float, min_gap: float) -> float:
    """The middle of the gap nearest to `place`; `place` itself where no score is near it."""
    if not len(descending) or np.abs(descending - place).min() >= min_gap:
        return place
    edges = np.unique(np.concatenate([[0.0], descending, [1.0]]))
    middles, gaps = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    wide = gaps >= min_gap if (gaps >= min_gap).any() else gaps > 0
    return float(middles[wide][np.abs(middles[wide] - place).argmin()])
