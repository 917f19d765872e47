"""Training images of a detector: inputs, and the objects visible in them as the target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from blemish.models._network import Network
from blemish.preprocessing import normalize
from blemish.structures import Sample
from blemish.training.augmentation.detection_augmentation import (
    CropParams,
    draw_crop_params,
    render_crop,
    visible_objects,
)
from blemish.training.batch_sampler import Key
from blemish.training.image_dataset import TrainingImageDataset
from blemish.training.rng import RngPurpose, rng_stream


class DetectionImageDataset(TrainingImageDataset):
    """Images by (epoch, position); their targets are dictionaries as `Network.loss` takes them.

    Args:
        samples: images with ground truth.
        network: its inputs and its task are used.
        options: `augmentation`, `seed` and `source`, as `TrainingImageDataset` takes them.
    """

    def __init__(self, samples: Sequence[Sample], network: Network, **options: Any) -> None:
        super().__init__(samples, network.inputs, _no_target, **options)
        self.masks = network.task.has_masks
        self.mask_input = network.mask_input

    def __getitem__(self, key: Key) -> dict[str, Any]:
        position = key[1]
        sample = self.samples[position]
        crop = CropParams()
        if self.augmentation is not None:
            known = None if sample.ground_truth is None else sample.ground_truth.boxes_xyxy
            boxes = np.zeros((0, 4)) if known is None else known
            random = rng_stream(self.seed, RngPurpose.AUGMENTATION, *key)
            size_hw = self.source.size_hw(sample)
            crop = draw_crop_params(self.augmentation, random, size_hw, boxes, self.transforms)
        arrays, placements = [], []
        for spec in self.inputs:
            pixels, placement, shown = render_crop(self.source, sample, spec, crop)
            arrays.append(torch.from_numpy(normalize(pixels, spec)))
            placements.append((placement, shown))
        placement, shown = placements[0]
        target = visible_objects(
            sample, placement, shown, crop.change, masks=self.masks and self.mask_input == 0
        ).as_target()
        if self.masks and self.mask_input:
            # The masks are in the pixels of another input; objects too small for a mask there are left out.
            objects = visible_objects(sample, *placements[self.mask_input], crop.change, masks=True)
            masked = objects.as_target()
            target |= {"masks": masked["masks"], "mask_labels": masked["labels"]}
        return {
            "inputs": tuple(arrays),
            "target": target,
            "position": position,
            "placement": np.array(
                [*placement.size_hw, *placement.scale_xy, *placement.offset_xy], np.float64
            ),
        }


def _no_target(*_: Any) -> None:
    """Take the place of a target encoder: a detector's target is computed from the visible objects."""
