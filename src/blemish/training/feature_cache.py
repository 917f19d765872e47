"""A frozen trunk sees each image once: its features are kept, and the head learns from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from blemish.config.recipe import Recipe
from blemish.errors import BadRecipe
from blemish.models._network import Network
from blemish.training.image_dataset import EpochBatchSampler, Key, TrainingImageDataset, collate


class CachedFeatures(Dataset[dict[str, Any]]):
    """The items of a set of images, with the trunk's features in place of the pixels.

    Args:
        features: (n, f) float32.
        targets: (n, …).
        placements: (n, 6) float64.
    """

    def __init__(self, features: Tensor, targets: Tensor, placements: Tensor) -> None:
        self.features, self.targets, self.placements = features, targets, placements.numpy()

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, key: Key) -> dict[str, Any]:
        position = key[1]
        return {
            "inputs": (self.features[position],),
            "target": self.targets[position],
            "position": position,
            "placement": self.placements[position],
        }


def can_keep_features(network: Network, recipe: Recipe) -> bool:
    """Whether the head learns the same from features that are computed once.

    Raises:
        BadRecipe: the recipe insists and it cannot be.
    """
    wish = recipe.training.feature_cache
    if wish == "off":
        return False
    parted = hasattr(network, "features") and hasattr(network, "head")
    head = {id(p) for p in network.parameters_of("head")} if parted else set()
    frozen = parted and not any(p.requires_grad for p in network.parameters() if id(p) not in head)
    mixed = recipe.augmentation.mixup or recipe.augmentation.cutmix
    if wish == "on":
        if not frozen:
            raise BadRecipe("training.feature_cache: on needs a frozen trunk; set model.trainable to []")
        if mixed:
            raise BadRecipe("training.feature_cache: on cannot mix images; leave mixup and cutmix out")
        return True
    return frozen and recipe.augmentation.is_off and not mixed


@torch.no_grad()
def keep_features(
    network: Network, images: TrainingImageDataset, batch_size: int, device: torch.device, workers: int
) -> CachedFeatures:
    """The features of every image, unchanged, by the trunk in evaluation mode.

    Args:
        network: moved to `device` while it works.
        images: their augmentation is left out.
        batch_size: images at once.
        device: where the trunk runs.
        workers: processes that load.
    """
    plain = TrainingImageDataset(images.samples, images.inputs, images.target, source=images.source)
    loader: DataLoader[Any] = DataLoader(
        plain,
        batch_sampler=EpochBatchSampler(len(plain), batch_size, shuffle=False),
        collate_fn=collate,
        num_workers=workers,
    )
    was_training = network.training
    network.to(device).eval()
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    features: Any = network.features
    for batch in loader:
        inputs: Sequence[Tensor] = [x.to(device) for x in batch["inputs"]]
        parts.append((features(*inputs).float().cpu(), batch["target"], batch["placement"]))
    network.train(was_training)
    columns = [torch.cat(column) for column in zip(*parts, strict=True)]
    return CachedFeatures(columns[0], columns[1], columns[2])
