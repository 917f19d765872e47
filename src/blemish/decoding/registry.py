"""The decoders by name, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput, BadModelFile, UnknownName
from blemish.modelfile import Contract, OutputSpec
from blemish.preprocessing import Placement
from blemish.vocabulary import FloatArray, IntArray, Mask, Prediction

Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Selection:
    """Which boxes the caller wants, beyond what the model file says.

    Attributes:
        min_score: boxes below it are left out; the file's own floor where not given.
        max_detections: the best boxes of a photograph; the file's own number where not given.

    Raises:
        BadInput: a value that selects nothing.
    """

    min_score: float | None = None
    max_detections: int | None = None

    def __post_init__(self) -> None:
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise BadInput(f"the least score is {self.min_score:g}; give one from 0 to 1")
        if self.max_detections is not None and self.max_detections < 1:
            raise BadInput(f"at most {self.max_detections} detections are none; give 1 or more")


EVERYTHING = Selection()
Decoder = Callable[[Contract, Outputs, Sequence[Placement], Selection], list[Prediction]]
DECODERS: dict[str, Decoder] = {}


def decoder(name: str) -> Callable[[Decoder], Decoder]:
    """Register a function as the decoder that contracts call `name`."""

    def register(function: Decoder) -> Decoder:
        DECODERS[name] = function
        return function

    return register


def decode(
    contract: Contract,
    outputs: Outputs,
    placements: Sequence[Placement],
    selection: Selection = EVERYTHING,
) -> list[Prediction]:
    """What a network's outputs say of each photograph of a batch.

    Args:
        contract: names the decoder, its settings and each output's role.
        outputs: by output name, the first axis being the batch.
        placements: one a photograph: where it lies in the network's first input.
        selection: which boxes are wanted.

    Raises:
        BadModelFile: an output is missing, of another shape than the contract needs, or not finite.
        UnknownName: no decoder has that name.
    """
    function = DECODERS.get(contract.decoder.name)
    if function is None:
        raise UnknownName("decoder", contract.decoder.name, DECODERS, where="the model file's contract")
    for spec in contract.outputs:
        if spec.name not in outputs:
            raise BadModelFile(f"the network gives no output {spec.name!r}, which its contract promises")
        if len(outputs[spec.name]) != len(placements):
            raise BadModelFile(
                f"the output {spec.name!r} has {len(outputs[spec.name])} rows "
                f"for {len(placements)} photographs"
            )
    return function(contract, outputs, placements, selection)


def output_of(
    contract: Contract, outputs: Outputs, role: str, shape: tuple[int | None, ...]
) -> tuple[NDArray[Any], OutputSpec] | None:
    """The output of one role and what the contract says of it; None where the contract has none.

    Args:
        contract: read for its outputs.
        outputs: by output name.
        role: `scores`, `boxes`, ...
        shape: of the whole batch; None for any length.

    Raises:
        BadModelFile: another shape.
    """
    spec = next((s for s in contract.outputs if s.role == role), None)
    if spec is None:
        return None
    array = outputs[spec.name]
    if array.ndim != len(shape) or any(
        want not in (None, got) for want, got in zip(shape, array.shape, strict=True)
    ):
        wanted = " x ".join("any" if n is None else str(n) for n in shape)
        raise BadModelFile(
            f"the output {spec.name!r} ({role}) has shape {array.shape}; its contract needs {wanted}"
        )
    return array, spec


def required(
    contract: Contract, outputs: Outputs, role: str, shape: tuple[int | None, ...]
) -> tuple[NDArray[Any], OutputSpec]:
    """As `output_of`; BadModelFile where the contract has no such role."""
    found = output_of(contract, outputs, role, shape)
    if found is None:
        raise BadModelFile(
            f"the decoder {contract.decoder.name!r} reads an output of role {role!r}; "
            f"the contract has {', '.join(s.role for s in contract.outputs) or 'none'}"
        )
    return found


def finite(array: NDArray[Any], what: str) -> NDArray[Any]:
    """`array`, unless it holds a NaN or an infinity: then BadModelFile."""
    if not np.isfinite(array).all():
        raise BadModelFile(f"the network gave {what} that are not finite; export it again in fp32")
    return array


def boxes_prediction(
    contract: Contract,
    placement: Placement,
    boxes_xyxy: FloatArray,
    scores: FloatArray,
    label_index: IntArray,
    masks: Sequence[Mask] | None = None,
) -> Prediction:
    """A prediction of boxes that are already in the photograph, best first.

    Args:
        contract: labels, task and thresholds.
        placement: of the photograph.
        boxes_xyxy: (n, 4) pixels of the photograph, inside it.
        scores: (n,), descending.
        label_index: (n,).
        masks: one a box, or None.
    """
    labels = contract.label_vocabulary()
    label_scores = np.zeros(len(labels), np.float64)
    if len(labels):
        np.maximum.at(label_scores, label_index, scores)
    return Prediction(
        task=contract.task,
        labels=labels,
        size_hw=placement.size_hw,
        label_index=label_index,
        boxes_xyxy=boxes_xyxy,
        masks=None if masks is None else tuple(masks),
        scores=scores,
        label_scores=label_scores,
        thresholds=contract.threshold_array(),
    )


def corners(boxes: NDArray[Any], form: str) -> NDArray[Any]:
    """(n, 4) xyxy from boxes of another form, ordered so that x1 <= x2 and y1 <= y2.

    Args:
        boxes: (n, 4) float.
        form: `xyxy`, `cxcywh` (centre and size) or `xywh` (corner and size).

    Raises:
        BadModelFile: a form nobody knows.
    """
    if form == "xyxy":
        first, second = boxes[:, :2], boxes[:, 2:]
    elif form == "cxcywh":
        first, second = boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2
    elif form == "xywh":
        first, second = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    else:
        raise BadModelFile(f"boxes come as {form!r}; known are xyxy, cxcywh, xywh")
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], 1)


def in_photograph(boxes_xyxy: NDArray[Any], placement: Placement, *, normalized: bool) -> FloatArray:
    """(n, 4) float64, cut at the photograph's edge, from network pixels or shares of the input's sides."""
    boxes = np.asarray(boxes_xyxy, np.float64)
    input_height, input_width = placement.input_hw
    if normalized:
        boxes = boxes * (input_width, input_height, input_width, input_height)
    boxes = placement.to_photograph(boxes)
    height, width = placement.size_hw
    return np.clip(boxes, 0, np.array([width, height, width, height], np.float64))
