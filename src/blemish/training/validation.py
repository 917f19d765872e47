"""What a network's raw outputs on the validation images are worth: by the metrics of `evaluate`."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.config.recipe import Recipe
from blemish.decoding import decode
from blemish.decoding.scores import probabilities
from blemish.errors import BadRecipe, suggestion
from blemish.metrics.calibration import expected_calibration_error, fit_temperature, log_losses
from blemish.metrics.classification import apply_thresholds, count_outcomes, exact_match, one_hot
from blemish.metrics.custom_metrics import compute_custom_metrics
from blemish.metrics.localization import BoxErrors
from blemish.metrics.metric_table import custom_metrics
from blemish.metrics.ranking import Ranking
from blemish.metrics.thresholds import choose_thresholds
from blemish.model_file import Contract
from blemish.preprocessing import Placement
from blemish.structures import Prediction, Sample, Task

_log = logging.getLogger("blemish.training")


def watched_of(recipe: Recipe, task: Task) -> tuple[str, ...]:
    """The metrics that decide on the best epoch, on when to stop and on the learning rate."""
    part = recipe.training
    monitor = part.monitor or task.primary_metric
    plateau = (part.schedule.metric,) if part.schedule.name == "plateau" and part.schedule.metric else ()
    return (monitor, *plateau)


def check_watched(recipe: Recipe, task: Task) -> None:
    """Refuse a metric that no epoch of this task will have, before any work.

    Raises:
        BadRecipe: the message names the key and offers the nearest metric.
    """
    custom = (spec.name for spec in custom_metrics(task))
    known = (*task.fields.validation_metrics, *custom, "train_loss", "val_loss")
    part = recipe.training
    watched = {"training.monitor": part.monitor}
    if part.schedule.name == "plateau":
        watched["training.schedule.metric"] = part.schedule.metric
    for key, name in watched.items():
        # A detector's loss has parts, which it names once it learns.
        of_a_part = task.has_objects and str(name).startswith(("train_", "val_"))
        of_a_part = of_a_part and str(name).endswith("_loss")
        if name is not None and name not in known and not of_a_part:
            raise BadRecipe(f"{key}: {task} has no metric {name!r}{suggestion(name, known)}")


@dataclass(frozen=True, eq=False)
class Outputs:
    """Raw outputs of some images.

    Attributes:
        arrays: by output name, (n, …) float32.
        placements: (n,) where each image lies in the first input.
        samples: (n,) with truths.
    """

    arrays: Mapping[str, NDArray[Any]]
    placements: Sequence[Placement]
    samples: Sequence[Sample]


def ground_truth_of(samples: Sequence[Sample], task: Task) -> NDArray[Any]:
    """(n,) int64 for one label an image, (n, L) bool for any number."""
    if task.has_one_label:
        return np.array(
            [int(s.ground_truth.label_index[0]) for s in samples if s.ground_truth is not None], np.int64
        )
    return np.array([s.ground_truth.presence_mask() for s in samples if s.ground_truth is not None], bool)


def measure(contract: Contract, outputs: Outputs) -> dict[str, float]:
    """Return the metrics of one validation, as the task's hook `validate` computes them.

    Args:
        contract: task, labels, decoder, temperature and thresholds.
        outputs: of the validation images.
    """
    metrics: dict[str, float] = contract.task.hook("validate")(contract, outputs)
    if custom_metrics(contract.task):
        predictions = decode(contract, outputs.arrays, outputs.placements)
        metrics |= measure_custom_metrics(predictions, outputs.samples)
    return metrics


def measure_custom_metrics(predictions: Sequence[Prediction], samples: Sequence[Sample]) -> dict[str, float]:
    """Return the third-party metrics of validation predictions; NaN and a log line for one that fails.

    Args:
        predictions: one per sample.
        samples: those without ground truth are left out.
    """
    pairs = [
        (s.ground_truth, p) for p, s in zip(predictions, samples, strict=True) if s.ground_truth is not None
    ]
    if not pairs:
        return {}
    computed = compute_custom_metrics(pairs[0][1].task, [t for t, _ in pairs], [p for _, p in pairs])
    for text in computed.failures.values():
        _log.warning("%s", text)
    return computed.values


def measure_box(contract: Contract, outputs: Outputs) -> dict[str, float]:
    """Return the metrics of one predicted box per image: overlap and coordinate errors."""
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

    While a network is trained, its thresholds are .5.
    """
    scores = scores_of(contract, outputs)
    ground_truth = ground_truth_of(outputs.samples, contract.task)
    single = contract.task.has_one_label
    label_count = scores.shape[1]
    holds = one_hot(ground_truth, label_count) if single else ground_truth
    predicted = (
        one_hot(scores.argmax(1), label_count)
        if single
        else apply_thresholds(scores, contract.threshold_array())
    )
    counts = count_outcomes(predicted, holds)
    # As the report has it: of the verdict for one label an image, else the mean over labels.
    right = (scores.argmax(1) == ground_truth)[:, None] if single else ground_truth
    confidence = scores.max(1, keepdims=True) if single else scores
    errors = [expected_calibration_error(s, r) for s, r in zip(confidence.T, right.T, strict=True)]
    ranked = [Ranking.of(s, h).ap_and_auroc()[0] for s, h in zip(scores.T, holds.T, strict=True)]
    return {
        "macro_f1": float(counts.average("macro")["f1"]),
        "weighted_f1": float(counts.average("weighted")["f1"]),
        "accuracy" if single else "exact_match": float(exact_match(predicted, holds)),
        "macro_ap": mean_of_known(ranked),
        "log_loss": float(log_losses(scores, ground_truth).mean()),
        "calibration_error": float(np.mean(errors)),
    }


def mean_of_known(values: Sequence[NDArray[Any]]) -> float:
    """The mean of the figures that are numbers; NaN where none is."""
    known = [float(value) for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def scores_of(contract: Contract, outputs: Outputs) -> NDArray[np.float64]:
    """(n, L) probabilities, as prediction gives them."""
    spec = next(s for s in contract.outputs if s.role == "scores")
    return probabilities(outputs.arrays[spec.name], contract.task, spec.activation, contract.temperature)


def tuned(contract: Contract, outputs: Outputs, *, split: str = "val") -> Contract:
    """The contract with the temperature and, for multilabel, the thresholds that suit these images."""
    if not contract.task.is_image_level:
        return contract
    spec = next(s for s in contract.outputs if s.role == "scores")
    ground_truth = ground_truth_of(outputs.samples, contract.task)
    temperature = float(fit_temperature(outputs.arrays[spec.name], ground_truth))
    contract = contract.model_copy(update={"temperature": temperature})
    if not contract.task.has_label_set:
        return contract
    chosen = choose_thresholds(scores_of(contract, outputs), ground_truth)
    names = [label.name for label in contract.labels]
    thresholds = dict(zip(names, map(float, chosen), strict=True))
    return contract.model_copy(update={"thresholds": thresholds, "thresholds_tuned_on": split})
