"""The test suite that every registered decoder must pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.decoding import decode
from blemish.errors import BadModelFile
from blemish.model_file import Contract
from blemish.preprocessing import Placement
from blemish.structures import Prediction

Outputs = Mapping[str, NDArray[Any]]


def check_decoder(contract: Contract, outputs: Outputs, placements: Sequence[Placement]) -> None:
    """Check the decoder that `contract` names on a batch of raw outputs.

    Args:
        contract: of a model file with this decoder.
        outputs: arrays by output name, the first axis being the batch; at least two images with different
            outputs, so that a decoder that mixes them up is noticed.
        placements: one per image; include a portrait and a landscape image.

    Raises:
        AssertionError: a check failed; the message begins with its name.
    """
    sizes = [p.size_hw for p in placements]
    assert len(placements) >= 2, "arguments: give a batch of at least two images"
    assert any(h > w for h, w in sizes), "arguments: no image is portrait"
    assert any(w > h for h, w in sizes), "arguments: no image is landscape"
    predictions = decode(contract, outputs, placements)
    assert len(predictions) == len(placements), f"batch: {len(predictions)} for {len(placements)} images"
    for prediction, size_hw in zip(predictions, sizes, strict=True):
        _check_prediction(contract, prediction, size_hw)
    _check_independence(contract, outputs, placements, predictions)
    _check_refusals(contract, outputs, placements)


def _check_prediction(contract: Contract, prediction: Prediction, size_hw: tuple[int, int]) -> None:
    """The prediction has the task, labels and image size of the contract, and its boxes lie in the image."""
    assert prediction.task is contract.task, f"task: {prediction.task}, expected {contract.task}"
    assert prediction.labels == contract.to_labels(), "labels: not those of the contract"
    assert prediction.size_hw == size_hw, f"image size: {prediction.size_hw}, expected {size_hw}"
    if prediction.boxes_xyxy is None:
        return
    height, width = size_hw
    boxes = prediction.boxes_xyxy
    inside = (boxes >= 0).all() and (boxes[:, 0::2] <= width).all() and (boxes[:, 1::2] <= height).all()
    assert inside, f"boxes: outside an image of {height} x {width} pixels: {boxes.tolist()}"
    if contract.task.has_objects:
        assert (np.diff(prediction.scores) <= 0).all(), "scores: the best detection is not first"
    if contract.task.has_masks:
        masks = prediction.masks
        assert masks is not None, "masks: none"
        assert all(m.size_hw == size_hw for m in masks), "masks: not of the image's size"


def _check_independence(
    contract: Contract,
    outputs: Outputs,
    placements: Sequence[Placement],
    predictions: Sequence[Prediction],
) -> None:
    """The prediction of an image is the same alone and at every position of a batch."""
    different = any(not np.array_equal(array[0], array[1]) for array in outputs.values())
    assert different, "arguments: the first two images have equal outputs"
    for row, whole in enumerate(predictions):
        alone = decode(contract, {k: v[row : row + 1] for k, v in outputs.items()}, placements[row : row + 1])
        _check_equal(alone[0], whole, f"independence: image {row} alone differs from image {row} in a batch")
    reversed_batch = decode(contract, {k: v[::-1] for k, v in outputs.items()}, list(placements)[::-1])
    for row, (one, other) in enumerate(zip(reversed_batch[::-1], predictions, strict=True)):
        _check_equal(one, other, f"independence: image {row} changes with the order of the batch")


def _check_equal(one: Prediction, other: Prediction, what: str) -> None:
    for name in ("label_index", "scores", "label_scores", "boxes_xyxy"):
        first, second = getattr(one, name), getattr(other, name)
        if first is not None or second is not None:
            assert np.array_equal(first, second), f"{what} ({name})"


def _check_refusals(contract: Contract, outputs: Outputs, placements: Sequence[Placement]) -> None:
    """Outputs that are missing or not finite are refused with `BadModelFile`."""
    names = [spec.name for spec in contract.outputs]
    for name in names:
        broken = {k: v for k, v in outputs.items() if k != name}
        _check_refused(contract, broken, placements, f"refusal: output {name!r} is missing")
    floats = [n for n in names if np.issubdtype(outputs[n].dtype, np.floating)]
    for name in floats:
        array = outputs[name].copy()
        array[...] = np.nan
        _check_refused(contract, {**outputs, name: array}, placements, f"refusal: output {name!r} is NaN")


def _check_refused(contract: Contract, outputs: Outputs, placements: Sequence[Placement], what: str) -> None:
    try:
        decode(contract, outputs, placements)
    except BadModelFile:
        return
    raise AssertionError(f"{what}, and a prediction is made of it")
