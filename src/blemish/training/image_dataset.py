"""Training images as tensors: opened, resized, augmented and normalized."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from blemish.arrays import FloatArray
from blemish.config.schema import AugmentationConfig
from blemish.model_file import InputSpec
from blemish.preprocessing import Placement, normalize, place
from blemish.structures import Sample
from blemish.training.augmentation.image_augmentation import (
    AugmentationParams,
    augment_boxes,
    augment_pixels,
    draw_params,
)
from blemish.training.augmentation.transforms import build_transforms
from blemish.training.batch_sampler import Key
from blemish.training.image_source import FileImageSource, ImageSource
from blemish.training.rng import RngPurpose, rng_stream

Target = Callable[[Sample, "FloatArray | None", Placement], Any]


class TrainingImageDataset(TorchDataset[dict[str, Any]]):
    """Images by (epoch, position), as `collate` takes them.

    Args:
        samples: images with ground truth.
        inputs: of the network.
        target: the target encoder: from a sample, its boxes in pixels of the first input, and the placement
            of the unchanged image in it.
        augmentation: None changes nothing; the inputs then equal those of prediction bit for bit.
        seed: of the recipe.
        source: where images come from; None opens the files.
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        inputs: Sequence[InputSpec],
        target: Target,
        *,
        augmentation: AugmentationConfig | None = None,
        seed: int = 0,
        source: ImageSource | None = None,
    ) -> None:
        self.samples = tuple(samples)
        self.inputs = tuple(inputs)
        self.target = target
        self.augmentation = None if augmentation is None or augmentation.is_off else augmentation
        self.transforms = build_transforms(self.augmentation.transforms if self.augmentation else ())
        self.seed = seed
        self.source = source or FileImageSource()

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        position = key[1]
        sample = self.samples[position]
        boxes = None if sample.ground_truth is None else sample.ground_truth.boxes_xyxy
        change = AugmentationParams()
        if self.augmentation is not None:
            needs_size = self.augmentation.random_resized_crop is not None
            size_hw = self.source.size_hw(sample) if needs_size else None
            random = rng_stream(self.seed, RngPurpose.AUGMENTATION, *key)
            change = draw_params(self.augmentation, random, size_hw, boxes, self.transforms)
        arrays: list[Tensor] = []
        first: Placement | None = None
        for spec in self.inputs:
            pixels, placement = self.source.resized(sample, spec, change.crop_xyxy)
            first = first or placement
            arrays.append(torch.from_numpy(normalize(augment_pixels(change, pixels), spec)))
        assert first is not None  # noqa: S101  (a network has an input)
        if boxes is not None:
            if change.crop_xyxy is not None:  # only the visible part of a box is rotated, not its rest
                boxes = np.clip(boxes, change.crop_xyxy[:2] * 2, change.crop_xyxy[2:] * 2)
            boxes = augment_boxes(change, first.to_network(boxes), first.input_hw)
            height, width = first.input_hw
            if change.crop_xyxy is not None or change.is_warped:
                boxes = np.clip(boxes, 0, [width, height, width, height])
        return {
            "inputs": tuple(arrays),
            # The placement without the crop: the network sees neither the crop's position nor its scale.
            "target": _as_tensors(self.target(sample, boxes, place(first.size_hw, self.inputs[0]))),
            "position": position,
            "placement": np.array([*first.size_hw, *first.scale_xy, *first.offset_xy], np.float64),
        }


def _as_tensors(target: Any) -> Any:
    if isinstance(target, dict):
        return {name: torch.as_tensor(array) for name, array in target.items()}
    return torch.as_tensor(target)
