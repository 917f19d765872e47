"""Boxes from one network, masks from one map per label of another network: the hybrid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from blemish.decoding.decoder import (
    DECODERS,
    DetectionFilter,
    Outputs,
    decoder,
    require_finite,
    require_output,
)
from blemish.decoding.mask_grids import mask_over_input
from blemish.errors import BadModelFile
from blemish.model_file import Contract, DecoderSpec
from blemish.preprocessing import Placement
from blemish.structures import Prediction, Task


@decoder("label-maps")
def decode_label_maps(
    contract: Contract,
    outputs: Outputs,
    placements: Sequence[Placement],
    detection_filter: DetectionFilter,
) -> list[Prediction]:
    """Return the boxes of another decoder, each with the map of its label inside it as its mask.

    A detection whose map is empty inside its box is kept with an empty mask.

    Roles:
        label_maps: (B, L, h, w) logits, each covering the whole image, stretched.
        and those of the decoder of the boxes.

    Settings:
        boxes: name of the decoder of the boxes, to which all other settings belong. Default: `dense`.
    """
    settings = dict(contract.decoder.settings)
    name = settings.pop("boxes", "dense")
    if name not in DECODERS or name == contract.decoder.name:
        raise BadModelFile(
            f"contract: boxes: expected the name of a decoder of boxes, got {name!r}", reason="box-decoder"
        )
    box_contract = contract.model_copy(
        update={"task": Task.DETECTION, "decoder": DecoderSpec(name=name, settings=settings)}
    )
    shape = (len(placements), len(contract.labels), None, None)
    maps = require_finite(require_output(contract, outputs, "label_maps", shape)[0], "label maps")
    box_predictions = DECODERS.get(name).function(box_contract, outputs, placements, detection_filter)
    predictions = []
    for prediction, label_maps, placement in zip(box_predictions, maps, placements, strict=True):
        height, width = placement.size_hw
        grid_hw = (label_maps.shape[1], label_maps.shape[2])
        over_image = Placement(
            placement.size_hw, grid_hw, (grid_hw[1] / width, grid_hw[0] / height), (0.0, 0.0)
        )
        assert prediction.boxes_xyxy is not None  # noqa: S101  (a detection has boxes)
        masks = tuple(
            mask_over_input(label_maps[label], box, over_image)
            for label, box in zip(prediction.label_index, prediction.boxes_xyxy, strict=True)
        )
        predictions.append(replace(prediction, task=contract.task, masks=masks))
    return predictions
