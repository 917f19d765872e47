"""The decoders by name, and what all of them share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput, BadModelFile, UnknownName
from blemish.model_file import Contract, OutputSpec
from blemish.preprocessing import Placement
from blemish.structures import Prediction

Outputs = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class DetectionFilter:
    """Which boxes the caller wants, beyond what the model file says.

    Attributes:
        min_score: boxes below it are left out; the file's own floor where not given.
        max_detections: the best boxes of an image; the file's own number where not given.

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


EVERYTHING = DetectionFilter()
Decoder = Callable[[Contract, Outputs, Sequence[Placement], DetectionFilter], list[Prediction]]
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
    selection: DetectionFilter = EVERYTHING,
) -> list[Prediction]:
    """What a network's outputs say of each image of a batch.

    Args:
        contract: names the decoder, its settings and each output's role.
        outputs: by output name, the first axis being the batch.
        placements: one an image: where it lies in the network's first input.
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
                f"the output {spec.name!r} has {len(outputs[spec.name])} rows for {len(placements)} images"
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
