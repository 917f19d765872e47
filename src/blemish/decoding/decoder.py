"""The registry of decoders, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import LazyMasks, Mask
from blemish.errors import BadInput, BadModelFile
from blemish.model_file import Contract, OutputSpec
from blemish.preprocessing import Placement
from blemish.registry import Registry
from blemish.structures import Prediction

Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class DetectionFilter:
    """Limits on the detections of an image, in addition to those of the model file.

    Attributes:
        min_score: lower-scoring detections are removed; None keeps the model file's own limit.
        max_detections: only the highest-scoring detections of an image are kept; None keeps the model
            file's own limit.
        lazy_masks: whether masks are computed when they are read, as `LazyMasks`.

    Raises:
        BadInput: a value that would remove everything.
    """

    min_score: float | None = None
    max_detections: int | None = None
    lazy_masks: bool = False

    def __post_init__(self) -> None:
        if self.min_score is not None and not 0 <= self.min_score <= 1:
            raise BadInput(f"min_score: expected 0 to 1, got {self.min_score:g}", reason="min-score")
        if self.max_detections is not None and self.max_detections < 1:
            raise BadInput(
                f"max_detections: expected 1 or more, got {self.max_detections}", reason="max-detections"
            )

    def masks(self, functions: Sequence[Callable[[], Mask]]) -> tuple[Mask, ...] | LazyMasks:
        """Return the masks that functions compute, one each, now or when they are read."""
        masks = LazyMasks(functions)
        return masks if self.lazy_masks else tuple(masks)


NO_FILTER = DetectionFilter()
DecodeFunction = Callable[[Contract, Outputs, Sequence[Placement], DetectionFilter], list[Prediction]]


@dataclass(frozen=True)
class Decoder:
    """A registered decoder.

    Attributes:
        name: what contracts call it.
        function: computes the predictions of a batch.
        decodes_boxes_without_masks: whether a contract of an instance segmentation model whose task is
            replaced by detection is decoded to its boxes alone, which saves the masks where they are not
            needed.
    """

    name: str
    function: DecodeFunction
    decodes_boxes_without_masks: bool = False


DECODERS: Registry[Decoder] = Registry("decoders", noun="decoder", builtin="blemish.decoding")


def decoder(
    name: str, *, decodes_boxes_without_masks: bool = False
) -> Callable[[DecodeFunction], DecodeFunction]:
    """Return a decorator that registers a function as the decoder that contracts call `name`.

    Args:
        name: such as "dense".
        decodes_boxes_without_masks: see `Decoder`.
    """

    def register(function: DecodeFunction) -> DecodeFunction:
        entry = Decoder(name, function, decodes_boxes_without_masks)
        DECODERS.register(name, entry, module=function.__module__)
        return function

    return register


def decode(
    contract: Contract,
    outputs: Outputs,
    placements: Sequence[Placement],
    detection_filter: DetectionFilter = NO_FILTER,
) -> list[Prediction]:
    """Return the prediction of each image of a batch from a network's outputs.

    Args:
        contract: names the decoder, its settings and the role of each output.
        outputs: arrays by output name; the first axis is the batch.
        placements: one per image: its position in the network's first input.
        detection_filter: limits on the detections.

    Raises:
        BadModelFile: an output is missing, has a shape that contradicts the contract, or is not finite.
        UnknownName: no decoder of the contract's name is registered.
    """
    entry = DECODERS.get(contract.decoder.name)
    for spec in contract.outputs:
        if spec.name not in outputs:
            raise BadModelFile(
                f"output {spec.name!r}: named by the contract, but the network has no such output; "
                "export the model again",
                reason="missing-output",
            )
        if len(outputs[spec.name]) != len(placements):
            raise BadModelFile(
                f"output {spec.name!r}: expected {len(placements)} rows, one per image, "
                f"got {len(outputs[spec.name])}",
                reason="output-shape",
            )
    return entry.function(contract, outputs, placements, detection_filter)


def find_output(
    contract: Contract, outputs: Outputs, role: str, shape: tuple[int | None, ...]
) -> tuple[NDArray[Any], OutputSpec] | None:
    """Return the output of one role with its specification, or None if the contract has none.

    Args:
        contract: names the role of each output.
        outputs: arrays by output name.
        role: such as "scores" or "boxes".
        shape: expected shape of the whole batch; None for an axis of any length.

    Raises:
        BadModelFile: the output has another shape.
    """
    spec = next((s for s in contract.outputs if s.role == role), None)
    if spec is None:
        return None
    array = outputs[spec.name]
    if array.ndim != len(shape) or any(
        expected not in (None, actual) for expected, actual in zip(shape, array.shape, strict=True)
    ):
        text = " x ".join("any" if n is None else str(n) for n in shape)
        raise BadModelFile(
            f"output {spec.name!r} of role {role!r}: expected shape {text}, got {array.shape}",
            reason="output-shape",
        )
    return array, spec


def require_output(
    contract: Contract, outputs: Outputs, role: str, shape: tuple[int | None, ...]
) -> tuple[NDArray[Any], OutputSpec]:
    """Return what `find_output` returns; raise `BadModelFile` if the contract has no such role."""
    match = find_output(contract, outputs, role, shape)
    if match is None:
        roles = ", ".join(s.role for s in contract.outputs) or "none"
        raise BadModelFile(
            f"contract: decoder {contract.decoder.name!r} needs an output of role {role!r}, got {roles}",
            reason="missing-role",
        )
    return match


def require_finite(array: NDArray[Any], name: str) -> NDArray[Any]:
    """Return `array`; raise `BadModelFile` if it contains NaN or infinity.

    Args:
        array: of any shape.
        name: what the error calls its values, such as "scores".
    """
    if not np.isfinite(array).all():
        raise BadModelFile(
            f"{name} of the network: expected finite values, got NaN or infinity; export the model in fp32",
            reason="not-finite",
        )
    return array
