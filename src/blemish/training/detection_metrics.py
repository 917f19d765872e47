"""What detections on the validation images are worth: by the metrics of `evaluate`."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.matched_objects import match_objects
from blemish.metrics.average_precision import accumulate
from blemish.metrics.thresholds import choose_object_thresholds
from blemish.structures import GroundTruth, Prediction, Sample
from blemish.training.validation import measure_custom_metrics

NAMES = ("ap", "ap50", "ap75", "ar_100")


def measure_detections(predictions: Sequence[Prediction], samples: Sequence[Sample]) -> dict[str, float]:
    """AP, AP50, AP75 and AR by COCO's rules; of masks for segmentation, where the boxes' begin with `box_`.

    Args:
        predictions: in the order of the samples.
        samples: with truths; those without are passed over, and nothing is known of none.
    """
    kept, ground_truths = _known(predictions, samples)
    if not kept:
        return dict.fromkeys(NAMES, math.nan)
    metrics: dict[str, float] = {}
    segmentation = kept[0].task.has_masks
    for prefix, masks in (("", True), ("box_", False)) if segmentation else (("", False),):
        found = accumulate(match_objects(kept, ground_truths, masks=masks))
        metrics |= {f"{prefix}{name}": found.metric(name) for name in NAMES}
    return metrics | measure_custom_metrics(predictions, samples)


def best_thresholds(predictions: Sequence[Prediction], samples: Sequence[Sample]) -> NDArray[np.float64]:
    """(L,) the score from which each label has its best F1 at an overlap of .5."""
    return choose_object_thresholds(match_objects(*_known(predictions, samples)))


def _known(
    predictions: Sequence[Prediction], samples: Sequence[Sample]
) -> tuple[list[Prediction], list[GroundTruth]]:
    pairs = [
        (p, s.ground_truth) for p, s in zip(predictions, samples, strict=True) if s.ground_truth is not None
    ]
    return [p for p, _ in pairs], [t for _, t in pairs]
