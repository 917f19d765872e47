"""The report of anomaly models: how well the scores separate good images from defects, and where."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from blemish.evaluation.eval_input import EvalInput, Statistic
from blemish.evaluation.image_level_report import score_image_level
from blemish.evaluation.report import MetricValue, Report, ReportWarning
from blemish.explanation.heatmap_coordinates import resample
from blemish.geometry import mask_to_array
from blemish.metrics.pixel_metrics import measure_pixels
from blemish.metrics.rank_metrics import Ranking
from blemish.structures import GroundTruth, Prediction

FALSE_ALARM_RATES = {"recall_at_1_fpr": 0.01, "recall_at_5_fpr": 0.05}
MAX_SIDE = 1024  # of a heatmap that is compared with a mask, pixels
LEFT_OUT = ("reliability",)  # charts of probabilities


def score_anomaly(eval_input: EvalInput) -> Report:
    """Return the report of a model that scores how anomalous an image is."""
    report = score_image_level(eval_input)
    scores = np.array([p.label_scores[0] for p in eval_input.predictions], np.float64)
    decided = np.array([p.decide()[0] for p in eval_input.predictions], bool)
    anomalous = np.array([len(t) > 0 for t in eval_input.ground_truths], bool)
    metrics = eval_input.with_intervals(_statistic(scores, decided, anomalous))
    pairs = list(zip(eval_input.predictions, eval_input.ground_truths, strict=True))
    masked = sum(t.masks is not None and len(t) > 0 for _, t in pairs)
    pixels = measure_pixels(_maps_and_masks(pairs)) if masked else {"pixel_auroc": np.nan, "au_pro": np.nan}
    warnings = []
    if masked and masked < anomalous.sum():
        text = f"Pixel metrics leave out {int(anomalous.sum()) - masked} images of defects without a mask."
        warnings.append(ReportWarning("note", text))
    if not anomalous.any() or anomalous.all():
        kind = "defects" if not anomalous.any() else "good images"
        warnings.append(ReportWarning("note", f"The data set has no {kind}: the ranking cannot be measured."))
    return replace(
        report,
        primary_metric=eval_input.task.primary_metric,
        metrics={**metrics, **{name: MetricValue.of(value) for name, value in pixels.items()}},
        charts={name: chart for name, chart in report.charts.items() if name not in LEFT_OUT},
        warnings=(*report.warnings, *warnings),
    )


def _statistic(
    scores: NDArray[np.float64], decided: NDArray[np.bool_], anomalous: NDArray[np.bool_]
) -> Statistic:
    """Return every image metric as a function of (n, r) weights."""
    ranking = Ranking.of(scores, anomalous)

    def statistic(weights: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        aupr, auroc = ranking.ap_and_auroc(weights)
        true_positives, false_positives = ranking.cumulative_counts(weights)
        positives, negatives = (
            np.tensordot(side.astype(np.float64), weights, 1) for side in (anomalous, ~anomalous)
        )
        hits, alarms = (
            np.tensordot((decided & side).astype(np.float64), weights, 1) for side in (anomalous, ~anomalous)
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            recalls = {}
            for name, rate in FALSE_ALARM_RATES.items():
                found = np.where(false_positives <= rate * negatives, true_positives, 0.0).max(0)
                recalls[name] = np.where(negatives > 0, found / positives, np.nan)
            return {
                "auroc": auroc,
                "aupr": aupr,
                **recalls,
                "false_positive_rate": alarms / negatives,
                "precision": hits / (hits + alarms),
                "recall": hits / positives,
                "f1": 2 * hits / (hits + alarms + positives),
            }

    return statistic


def _maps_and_masks(
    pairs: list[tuple[Prediction, GroundTruth]],
) -> Iterator[tuple[NDArray[np.floating], NDArray[np.bool_]]]:
    """Yield heatmap and mask of each good image and of each defect with a mask."""
    for prediction, ground_truth in pairs:
        if prediction.heatmap is None or (len(ground_truth) and ground_truth.masks is None):
            continue
        if ground_truth.masks:
            mask = mask_to_array(ground_truth.masks[0])
        else:
            mask = np.zeros(prediction.size_hw or prediction.heatmap.shape, bool)
        step = -(-max(mask.shape) // MAX_SIDE)
        mask = mask[step // 2 :: step, step // 2 :: step]
        yield resample(prediction.heatmap, (mask.shape[0], mask.shape[1])), mask
