"""The metric `worst_recall`: the recall of the label that is found least often."""

from __future__ import annotations

import math
from collections.abc import Sequence

from blemish.metrics.metric_table import MetricSpec, register_metric
from blemish.structures import GroundTruth, Prediction


@register_metric(
    MetricSpec(
        name="worst_recall",
        display_name="Worst recall",
        meaning="the recall of the label with the lowest recall",
        direction="max",
        tasks=("classification", "multilabel"),
        reads=("label_index", "label_scores", "thresholds"),
    )
)
def worst_recall(ground_truths: Sequence[GroundTruth], predictions: Sequence[Prediction]) -> float:
    """Return the smallest recall of any label that occurs in the ground truth; NaN if none occurs."""
    found = sum(p.decide() & t.presence_mask() for t, p in zip(ground_truths, predictions, strict=True))
    present = sum(t.presence_mask().astype(int) for t in ground_truths)
    recalls = [f / n for f, n in zip(found, present, strict=True) if n]
    return float(min(recalls)) if recalls else math.nan
