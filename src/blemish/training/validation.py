"""Metrics of raw network outputs on the validation images, those of `evaluate`; and calibration."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.decoding import decode
from blemish.decoding.scores import probabilities
from blemish.errors import BadModelFile, TrainingFailed
from blemish.metrics.calibration import expected_calibration_error, fit_temperature, log_losses
from blemish.metrics.classification import apply_thresholds, count_outcomes, exact_match, one_hot
from blemish.metrics.custom_metrics import compute_custom_metrics
from blemish.metrics.localization import BoxErrors
from blemish.metrics.metric_table import custom_metrics
from blemish.metrics.rank_metrics import Ranking
from blemish.metrics.threshold_evidence import label_evidence
from blemish.metrics.thresholds import choose_thresholds
from blemish.model_file import Contract
from blemish.preprocessing import Placement
from blemish.structures import GroundTruth, Prediction, Sample, Task

_log = logging.getLogger("blemish.training")


@dataclass(frozen=True, eq=False)
class Outputs:
    """Raw outputs of n images.

    Attributes:
        arrays: by output name, (n, …) float32.
        placements: n placements of the images in the first input.
        samples: n images with ground truth.
    """

    arrays: Mapping[str, NDArray[Any]]
    placements: Sequence[Placement]
    samples: Sequence[Sample]


def ground_truth_array(samples: Sequence[Sample], task: Task) -> NDArray[Any]:
    """Return the labels of images: (n,) int64 for exactly one per image, (n, L) bool for any number."""
    if task.has_one_label:
        return np.array(
            [int(s.ground_truth.label_index[0]) for s in samples if s.ground_truth is not None], np.int64
        )
    return np.array([s.ground_truth.presence_mask() for s in samples if s.ground_truth is not None], bool)


def measure(contract: Contract, outputs: Outputs) -> dict[str, float]:
    """Return the metrics of one validation: those of the task, by its hook `validate`, and those of plug-ins.

    Args:
        contract: task, labels, decoder, temperature and thresholds.
        outputs: of the validation images.

    Raises:
        TrainingFailed: an output is NaN or infinite ("training-failed.outputs-not-finite").
    """
    try:
        metrics: dict[str, float] = contract.task.hook("validate")(contract, outputs)
    except BadModelFile as error:
        if not error.code.endswith(".not-finite"):
            raise
        raise TrainingFailed(
            "the network's outputs for the validation images are NaN or infinite. Lower "
            "training.optimizer.learning_rate, or set training.gradient_clip_val=1",
            reason="outputs-not-finite",
        ) from error
    if custom_metrics(contract.task):
        predictions = decode(contract, outputs.arrays, outputs.placements)
        metrics |= measure_custom_metrics(predictions, outputs.samples)
    return metrics


def measure_custom_metrics(predictions: Sequence[Prediction], samples: Sequence[Sample]) -> dict[str, float]:
    """Return the metrics of plug-ins by name; NaN and a logged warning for one that fails.

    Args:
        predictions: one per sample.
        samples: those without ground truth are ignored.
    """
    pairs: list[tuple[Prediction, GroundTruth]] = [
        (p, s.ground_truth) for p, s in zip(predictions, samples, strict=True) if s.ground_truth is not None
    ]
    if not pairs:
        return {}
    computed = compute_custom_metrics(pairs[0][0].task, [t for _, t in pairs], [p for p, _ in pairs])
    for failure in computed.failures.values():
        _log.warning("%s", failure)
    return computed.values


def measure_box(contract: Contract, outputs: Outputs) -> dict[str, float]:
    """Return the metrics of one predicted box per image: IoU and coordinate errors."""
    predictions = decode(contract, outputs.arrays, outputs.placements)
    predicted = np.concatenate([p.boxes_xyxy for p in predictions if p.boxes_xyxy is not None])
    true = np.concatenate(
        [
            s.ground_truth.boxes_xyxy
            for s in outputs.samples
            if s.ground_truth and s.ground_truth.boxes_xyxy is not None
        ]
    )
    return {name: float(value) for name, value in BoxErrors.of(predicted, true).metrics().items()}


def measure_scores(contract: Contract, outputs: Outputs) -> dict[str, float]:
    """Return the metrics of one probability per label; multilabel decisions at the contract's thresholds.

    During training the thresholds are 0.5.
    """
    scores = scores_of(contract, outputs)
    ground_truth = ground_truth_array(outputs.samples, contract.task)
    single = contract.task.has_one_label
    label_count = scores.shape[1]
    positive = one_hot(ground_truth, label_count) if single else ground_truth
    thresholds = contract.threshold_array()
    decided = one_hot(scores.argmax(1), label_count) if single else apply_thresholds(scores, thresholds)
    counts = count_outcomes(decided, positive)
    # As in the report: the error of the decided label for one label per image, else the mean over labels.
    correct = (scores.argmax(1) == ground_truth)[:, None] if single else ground_truth
    confidence = scores.max(1, keepdims=True) if single else scores
    errors = [expected_calibration_error(s, c) for s, c in zip(confidence.T, correct.T, strict=True)]
    rankings = [Ranking.of(s, p).ap_and_auroc()[0] for s, p in zip(scores.T, positive.T, strict=True)]
    return {
        "macro_f1": float(counts.average("macro")["f1"]),
        "weighted_f1": float(counts.average("weighted")["f1"]),
        "accuracy" if single else "exact_match": float(exact_match(decided, positive)),
        "macro_ap": _mean_without_nan(rankings),
        "log_loss": float(log_losses(scores, ground_truth).mean()),
        "calibration_error": float(np.mean(errors)),
    }


def scores_of(contract: Contract, outputs: Outputs) -> NDArray[np.float64]:
    """Return the probabilities, (n, L), as prediction gives them."""
    spec = next(s for s in contract.outputs if s.role == "scores")
    return probabilities(outputs.arrays[spec.name], contract.task, spec.activation, contract.temperature)


def calibrate(
    contract: Contract, outputs: Outputs, *, split: str = "val", min_precision: float | None = None
) -> Contract:
    """Return the contract with a fitted temperature and, for multilabel, chosen thresholds.

    Args:
        contract: of an image-level task; others are returned unchanged.
        outputs: of the images to fit to.
        split: their split, which the contract records.
        min_precision: the precision that is required of each label, or None.
    """
    if not contract.task.is_image_level:
        return contract
    spec = next(s for s in contract.outputs if s.role == "scores")
    ground_truth = ground_truth_array(outputs.samples, contract.task)
    temperature = float(fit_temperature(outputs.arrays[spec.name], ground_truth))
    contract = contract.model_copy(update={"temperature": temperature})
    if not contract.task.has_label_set:
        return contract
    scores = scores_of(contract, outputs)
    chosen = choose_thresholds(scores, ground_truth, min_precision=min_precision)
    groups = np.array([s.group or s.id for s in outputs.samples])
    evidence = label_evidence(scores, ground_truth, chosen, min_precision=min_precision, groups=groups)
    names = [label.name for label in contract.labels]
    return contract.model_copy(
        update={
            "thresholds": dict(zip(names, map(float, chosen), strict=True)),
            "thresholds_tuned_on": split,
            "threshold_evidence": dict(zip(names, evidence, strict=True)),
        }
    )


def _mean_without_nan(values: Sequence[NDArray[Any]]) -> float:
    """Return the mean of the values that are not NaN; NaN if there is none."""
    known = [float(value) for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else math.nan
