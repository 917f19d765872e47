"""Boxes from one network, masks from another that says for every pixel which labels hold: the hybrid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from blemish.decoding.decoder import DECODERS, DetectionFilter, Outputs, decoder, finite, required
from blemish.decoding.mask_grids import over_input
from blemish.errors import BadModelFile
from blemish.model_file import Contract, DecoderSpec
from blemish.preprocessing import Placement
from blemish.structures import Prediction, Task


@decoder("label-maps")
def decode_label_maps(
    contract: Contract, outputs: Outputs, placements: Sequence[Placement], selection: DetectionFilter
) -> list[Prediction]:
    """The boxes of another decoder, each with the map of its label cut to it.

    A detection whose map holds nothing inside its box keeps its place, with an empty mask.

    Roles:
        label_maps: (B, L, h, w) logits, each covering the whole image, stretched.
        those of the decoder of the boxes.

    Settings:
        boxes: name of the decoder of the boxes; all other settings are its own.
    """
    settings = dict(contract.decoder.settings)
    name = settings.pop("boxes", "dense")
    if name not in DECODERS or name == contract.decoder.name:
        raise BadModelFile(f"the contract's boxes are decoded by {name!r}, which is no decoder of boxes")
    of_boxes = contract.model_copy(
        update={"task": Task.DETECTION, "decoder": DecoderSpec(name=name, settings=settings)}
    )
    shape = (len(placements), len(contract.labels), None, None)
    maps = finite(required(contract, outputs, "label_maps", shape)[0], "label maps")
    predictions = []
    for found, label_maps, placement in zip(
        DECODERS[name](of_boxes, outputs, placements, selection), maps, placements, strict=True
    ):
        height, width = placement.size_hw
        grid_hw = (label_maps.shape[1], label_maps.shape[2])
        over = Placement(placement.size_hw, grid_hw, (grid_hw[1] / width, grid_hw[0] / height), (0.0, 0.0))
        assert found.boxes_xyxy is not None  # noqa: S101  (a detection has boxes)
        masks = tuple(
            over_input(label_maps[label], box, over)
            for label, box in zip(found.label_index, found.boxes_xyxy, strict=True)
        )
        predictions.append(replace(found, task=contract.task, masks=masks))
    return predictions
