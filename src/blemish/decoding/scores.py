"""Image-level outputs: a probability per label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.decoding.decoder import DetectionFilter, Outputs, decoder, require_finite, require_output
from blemish.errors import BadModelFile, WrongTask
from blemish.model_file import Contract
from blemish.preprocessing import Placement
from blemish.structures import Prediction, Task


def probabilities(
    raw: NDArray[Any], task: Task, activation: str = "logits", temperature: float = 1.0
) -> FloatArray:
    """Return (B, L) float64 probabilities: softmax for classification, sigmoid for multilabel.

    Args:
        raw: (B, L) logits or probabilities.
        task: classification or multilabel.
        activation: what `raw` contains: `logits` or `probabilities`.
        temperature: divides the logits; probabilities are converted back to logits first.

    Raises:
        BadModelFile: `raw` is not finite, or the activation is neither logits nor probabilities.
        WrongTask: the task has no probability per label.

    Example:
        >>> probabilities(np.array([[0.0, 0.0]]), Task.CLASSIFICATION).tolist()
        [[0.5, 0.5]]
        >>> probabilities(np.array([[0.0, 1000.0]]), Task.MULTILABEL).tolist()
        [[0.5, 1.0]]
    """
    if not task.is_image_level:
        raise WrongTask(f"expected classification or multilabel, got {task}", reason="image-level-scores")
    values: FloatArray = require_finite(np.asarray(raw, np.float64), "scores")
    if activation == "probabilities":
        values = np.clip(values, 0.0, 1.0)
        if temperature == 1.0:
            return values
        tiny = np.finfo(np.float64).tiny
        values = np.log(np.maximum(values, tiny)) - (
            0.0 if task.has_one_label else np.log(np.maximum(1.0 - values, tiny))
        )
    elif activation != "logits":
        raise BadModelFile(
            f"contract: activation of the scores: expected logits or probabilities, got {activation!r}",
            reason="activation",
        )
    values = values / temperature
    if task.has_one_label:
        return softmax(values)
    return sigmoid(values)


def softmax(logits: NDArray[Any]) -> FloatArray:
    """Return (B, L) float64 probabilities whose rows sum to 1, without overflow for large logits."""
    values = np.asarray(logits, np.float64)
    values = np.exp(values - values.max(1, keepdims=True))
    return np.asarray(values / values.sum(1, keepdims=True))


def sigmoid(values: NDArray[Any]) -> FloatArray:
    """Return 1 / (1 + exp(-x)) in float64, without overflow for large |x|."""
    small = np.exp(-np.abs(np.asarray(values, np.float64)))
    return np.asarray(np.where(np.asarray(values) >= 0, 1.0, small) / (1.0 + small))


@decoder("scores")
def decode_scores(
    contract: Contract,
    outputs: Outputs,
    placements: Sequence[Placement],
    detection_filter: DetectionFilter,
) -> list[Prediction]:
    """Return the best label (classification), or every label at or above its threshold (multilabel).

    Roles:
        scores: (B, L) logits or probabilities.
    """
    labels = contract.to_labels()
    raw, spec = require_output(contract, outputs, "scores", (len(placements), len(labels)))
    thresholds = contract.threshold_array()
    scores = probabilities(raw, contract.task, spec.activation, contract.temperature)
    predictions = []
    for row, placement in zip(scores, placements, strict=True):
        is_single = contract.task.has_one_label
        index = np.array([row.argmax()]) if is_single else np.flatnonzero(row >= thresholds)
        predictions.append(
            Prediction(
                task=contract.task,
                labels=labels,
                size_hw=placement.size_hw,
                label_index=index,
                scores=row[index],
                label_scores=row,
                thresholds=thresholds,
            )
        )
    return predictions
