"""Metrics of detections on the validation images, the same as those of `evaluate`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.matched_objects import match_objects
from blemish.metrics.average_precision import accumulate
from blemish.metrics.threshold_evidence import object_evidence
from blemish.metrics.thresholds import choose_object_thresholds
from blemish.model_file import ThresholdEvidence
from blemish.structures import GroundTruth, Prediction, Sample
from blemish.training.validation import measure_custom_metrics

NAMES = ("ap", "ap50", "ap75", "ar_100")


def measure_detections(predictions: Sequence[Prediction], samples: Sequence[Sample]) -> dict[str, float]:
    """Return COCO's AP, AP50, AP75 and AR, and the metrics of plug-ins.

    For segmentation they are those of masks, and those of boxes have the prefix `box_`.

    Args:
        predictions: one per sample.
        samples: those without ground truth are ignored; without any, every value is NaN.
    """
    kept, ground_truths = _with_ground_truth(predictions, samples)
    if not kept:
        return dict.fromkeys(NAMES, math.nan)
    metrics: dict[str, float] = {}
    for prefix, masks in (("", True), ("box_", False)) if kept[0].task.has_masks else (("", False),):
        accumulated = accumulate(match_objects(kept, ground_truths, masks=masks))
        metrics |= {f"{prefix}{name}": accumulated.metric(name) for name in NAMES}
    return metrics | measure_custom_metrics(predictions, samples)


def best_thresholds(
    predictions: Sequence[Prediction], samples: Sequence[Sample], min_precision: float | None = None
) -> tuple[NDArray[np.float64], list[ThresholdEvidence]]:
    """Return the score threshold of each label with the best F1 at an IoU of 0.5, (L,), and its evidence.

    Args:
        predictions: one per sample.
        samples: those without ground truth are ignored.
        min_precision: see `choose_object_thresholds`.
    """
    matches = match_objects(*_with_ground_truth(predictions, samples))
    thresholds = choose_object_thresholds(matches, min_precision=min_precision)
    groups = np.array([s.group or s.id for s in samples if s.ground_truth is not None])
    return thresholds, object_evidence(matches, thresholds, min_precision=min_precision, groups=groups)


def _with_ground_truth(
    predictions: Sequence[Prediction], samples: Sequence[Sample]
) -> tuple[list[Prediction], list[GroundTruth]]:
    pairs = [
        (p, s.ground_truth) for p, s in zip(predictions, samples, strict=True) if s.ground_truth is not None
    ]
    return [p for p, _ in pairs], [t for _, t in pairs]
