"""Image-level outputs: a probability per label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import FloatArray
from blemish.decoding.decoder import DetectionFilter, Outputs, decoder, finite, required
from blemish.errors import BadModelFile, WrongTask
from blemish.model_file import Contract
from blemish.preprocessing import Placement
from blemish.structures import Prediction, Task


def probabilities(
    raw: NDArray[Any], task: Task, activation: str = "logits", temperature: float = 1.0
) -> FloatArray:
    """(B, L) float64 in [0, 1]: softmax for classification, whose rows add up to 1, sigmoid for multilabel.

    Args:
        raw: (B, L) logits or probabilities.
        task: classification or multilabel.
        activation: `logits` or `probabilities`, what `raw` holds.
        temperature: logits are divided by it; probabilities are turned back into logits first.

    Raises:
        BadModelFile: `raw` is not finite, or the activation is none that gives probabilities.
        WrongTask: the task has no probability per label.

    Example:
        >>> probabilities(np.array([[0.0, 0.0]]), Task.CLASSIFICATION).tolist()
        [[0.5, 0.5]]
        >>> probabilities(np.array([[0.0, 1000.0]]), Task.MULTILABEL).tolist()
        [[0.5, 1.0]]
    """
    if not task.is_image_level:
        raise WrongTask(f"{task} has no probability per label of the whole image")
    values: FloatArray = finite(np.asarray(raw, np.float64), "scores")
    if activation == "probabilities":
        values = np.clip(values, 0.0, 1.0)
        if temperature == 1.0:
            return values
        tiny = np.finfo(np.float64).tiny
        values = np.log(np.maximum(values, tiny)) - (
            0.0 if task.has_one_label else np.log(np.maximum(1.0 - values, tiny))
        )
    elif activation != "logits":
        raise BadModelFile(f"the output's activation is {activation!r}; scores are logits or probabilities")
    values = values / temperature
    if task.has_one_label:
        values = np.exp(values - values.max(1, keepdims=True))
        return np.asarray(values / values.sum(1, keepdims=True))
    return sigmoid(values)


def sigmoid(values: NDArray[Any]) -> FloatArray:
    """1 / (1 + exp(-x)) in float64, without overflow at either end."""
    small = np.exp(-np.abs(np.asarray(values, np.float64)))
    return np.asarray(np.where(np.asarray(values) >= 0, 1.0, small) / (1.0 + small))


@decoder("scores")
def decode_scores(
    contract: Contract,
    outputs: Outputs,
    placements: Sequence[Placement],
    selection: DetectionFilter,
) -> list[Prediction]:
    """The output of role `scores`, (B, L): the best label, or every label at its threshold or above."""
    labels = contract.label_vocabulary()
    raw, spec = required(contract, outputs, "scores", (len(placements), len(labels)))
    thresholds = contract.threshold_array()
    scores = probabilities(raw, contract.task, spec.activation, contract.temperature)
    predictions = []
    for row, placement in zip(scores, placements, strict=True):
        single = contract.task.has_one_label
        index = np.array([row.argmax()]) if single else np.flatnonzero(row >= thresholds)
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
