"""Training images of a detector: inputs, and the objects visible in them as the target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from blemish.config.schema import AugmentationConfig
from blemish.errors import BadRecipe
from blemish.models._network import Network
from blemish.preprocessing import normalize
from blemish.structures import Sample
from blemish.training.augmentation.detection_augmentation import CropParams
from blemish.training.augmentation.scenes import SceneImages, SceneParams
from blemish.training.augmentation.windows import check_window, window_spec
from blemish.training.batch_sampler import Key
from blemish.training.image_dataset import TrainingImageDataset
from blemish.training.rng import RngPurpose, rng_stream


class DetectionImageDataset(TrainingImageDataset):
    """Images by (epoch, position); their targets are dictionaries as `Network.loss` takes them.

    Args:
        samples: images with ground truth.
        network: its inputs and its task are used.
        mixed_epochs: number of first epochs in which inputs show several images; None for all.
        augmentation: of the recipe; None changes nothing.
        options: `seed` and `source`, as `TrainingImageDataset` takes them.

    Raises:
        BadRecipe: `copy_paste`, and the network has its masks in another input; or a `window` that does not
            suit the network ("bad-recipe.unsuitable-augmentation").
    """

    def __init__(
        self,
        samples: Sequence[Sample],
        network: Network,
        *,
        mixed_epochs: int | None = None,
        augmentation: AugmentationConfig | None = None,
        **options: Any,
    ) -> None:
        super().__init__(samples, network.inputs, _no_target, augmentation=augmentation, **options)
        if augmentation is not None and augmentation.mixup:  # which leaves single images as they are
            self.augmentation = augmentation
        self.masks = network.task.has_masks
        self.mask_input = network.mask_input
        self.mixed_epochs = mixed_epochs
        config = self.augmentation or AugmentationConfig()
        check_network_augmentation(config, network)
        if config.window is not None:
            self.inputs = (window_spec(config.window, network.inputs[0]),)
        self.scenes = SceneImages(self.samples, self.source, config, network.inputs[0], self.transforms)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        epoch, position = key[:2]
        scene = SceneParams((position,), CropParams())
        if self.augmentation is not None:
            random = rng_stream(self.seed, RngPurpose.AUGMENTATION, *key)
            closing = self.mixed_epochs is not None and epoch >= self.mixed_epochs
            scene = self.scenes.draw(position, random, closing=closing)
        arrays, placements = [], []
        target: dict[str, torch.Tensor] = {}
        for i, spec in enumerate(self.inputs):
            has_masks = self.masks and i == self.mask_input
            pixels, objects, placement = self.scenes.render(scene, spec, masks=has_masks)
            arrays.append(torch.from_numpy(normalize(pixels, spec)))
            placements.append(placement)
            if i == 0:
                target = objects.as_target()
            elif has_masks:
                # The masks are in the pixels of another input; objects too small for a mask are left out.
                masked = objects.as_target()
                target |= {"masks": masked["masks"], "mask_labels": masked["labels"]}
        placement = placements[0]
        return {
            "inputs": tuple(arrays),
            "target": target,
            "position": position,
            "placement": np.array(
                [*placement.size_hw, *placement.scale_xy, *placement.offset_xy], np.float64
            ),
        }


def check_network_augmentation(config: AugmentationConfig, network: Network) -> None:
    """Refuse augmentation that a network cannot be trained with.

    Raises:
        BadRecipe: `copy_paste`, and the network has its masks in another input; or a `window` that does not
            suit the network ("bad-recipe.unsuitable-augmentation").
    """
    if config.copy_paste and network.mask_input:
        raise BadRecipe(
            "augmentation.copy_paste: this network has its masks in an input of its own, in which no "
            "objects can be pasted. Remove the key",
            reason="unsuitable-augmentation",
        )
    if config.window is not None:
        check_window(config.window, network)


def _no_target(*_: Any) -> None:
    """Take the place of a target encoder: a detector's target is computed from the visible objects."""
