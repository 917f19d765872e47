"""COCO's figures: average precision and recall over labels, overlaps and sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.metrics.coco_matching import HIT, IGNORED, Matches

RECALLS = np.linspace(0.0, 1.0, 101)
MOST = (1, 10, 100)
# name: (AP or AR, overlap or None for the mean of all, area, most detections)
FIGURES: dict[str, tuple[str, float | None, str, int]] = {
    "ap": ("ap", None, "all", 100),
    "ap50": ("ap", 0.5, "all", 100),
    "ap75": ("ap", 0.75, "all", 100),
    "ap_small": ("ap", None, "small", 100),
    "ap_medium": ("ap", None, "medium", 100),
    "ap_large": ("ap", None, "large", 100),
    "ar_1": ("ar", None, "all", 1),
    "ar_10": ("ar", None, "all", 10),
    "ar_100": ("ar", None, "all", 100),
    "ar_small": ("ar", None, "small", 100),
    "ar_medium": ("ar", None, "medium", 100),
    "ar_large": ("ar", None, "large", 100),
}


@dataclass(frozen=True, eq=False)
class AccumulatedMatches:
    """What COCO's figures are made of; nan for a label without truths in a range.

    Attributes:
        precision: (L, a, t, 101) float64, interpolated at 101 recalls, at most 100 detections.
        recall: (L, a, t, m) float64, the highest reached with at most 1, 10 and 100 detections.
        ious: (t,) the overlaps.
        areas: names of the area ranges.
    """

    precision: FloatArray
    recall: FloatArray
    ious: FloatArray
    areas: tuple[str, ...]

    def per_label(self, name: str) -> FloatArray:
        """(L,) one of FIGURES for each label; nan where it has no truths in that range."""
        kind, iou, area, most = FIGURES[name]
        a = self.areas.index(area)
        t = slice(None) if iou is None else np.flatnonzero(np.isclose(self.ious, iou))
        values = self.precision[:, a, t] if kind == "ap" else self.recall[:, a, t, MOST.index(most)]
        return np.asarray(values.reshape(len(values), -1).mean(1))

    def figure(self, name: str) -> float:
        """One of FIGURES: the mean over labels that have truths in that range; nan where none has."""
        values = self.per_label(name)
        held = values[~np.isnan(values)]
        return float(held.mean()) if len(held) else float("nan")

    def figures(self) -> dict[str, float]:
        """All twelve of FIGURES."""
        return {name: self.figure(name) for name in FIGURES}


def accumulate(matches: Matches) -> AccumulatedMatches:
    """Precision at 101 recalls and the recall reached, for each label, area range and overlap.

    Source:
        pycocotools.cocoeval.COCOeval.accumulate; nan stands for its -1.
    """
    labels, (_, areas, ious) = matches.ground_truths.label_count, matches.outcome.shape
    precision = np.full((labels, areas, ious, len(RECALLS)), np.nan)
    recall = np.full((labels, areas, ious, len(MOST)), np.nan)
    order = np.lexsort((-matches.found.score, matches.found.label))
    borders = np.searchsorted(matches.found.label[order], np.arange(labels + 1))
    for label in range(labels):
        positives = (~matches.ignored[matches.ground_truths.label == label]).sum(0)  # (a,)
        rows = order[borders[label] : borders[label + 1]]
        outcome = matches.outcome[rows]
        for area in np.flatnonzero(positives):
            for m, most in enumerate(MOST):
                hits = (outcome[matches.rank[rows] < most, area] == HIT).sum(0)
                recall[label, area, :, m] = hits / positives[area]
            for iou in range(ious):
                precision[label, area, iou] = interpolated(outcome[:, area, iou], int(positives[area]))
    return AccumulatedMatches(precision, recall, matches.ious, matches.areas)


def interpolated(outcome: NDArray[np.int8], positives: int) -> FloatArray:
    """(101,) float64: the best precision at each recall or a higher one; 0 at recalls never reached.

    Args:
        outcome: (n,) HIT, FALSE_ALARM or IGNORED, in order of score.
        positives: how many can be found, at least 1.
    """
    counted = outcome[outcome != IGNORED] == HIT
    hits = np.cumsum(counted)
    # The smallest number keeps 0 / 0 from arising; it is there because COCO's own code has it.
    precision = hits / (np.arange(1, len(hits) + 1) + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    place = np.searchsorted(hits / positives, RECALLS, side="left")
    return np.append(precision, 0.0)[np.minimum(place, len(precision))]
