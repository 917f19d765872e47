"""Cached features of a frozen backbone: each image passes it once, and the head is trained on the results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from blemish.config.recipe import Recipe
from blemish.errors import BadRecipe
from blemish.models._network import Network
from blemish.training.batch_sampler import EpochBatchSampler, Key, collate
from blemish.training.image_dataset import TrainingImageDataset


class CachedFeatures(Dataset[dict[str, Any]]):
    """The items of an image data set with the backbone's features in place of the pixels.

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


def can_cache_features(network: Network, recipe: Recipe) -> bool:
    """Return whether training the head on features that are computed once gives the same result.

    Args:
        network: with its frozen parameters.
        recipe: its key `training.feature_cache` and its section `augmentation` are used.

    Raises:
        BadRecipe: `feature_cache` is `on`, and the backbone is not frozen or images are mixed
            ("bad-recipe.feature-cache").
    """
    mode = recipe.training.feature_cache
    if mode == "off":
        return False
    has_parts = hasattr(network, "features") and hasattr(network, "head")
    head = {id(p) for p in network.parameters_of("head")} if has_parts else set()
    is_frozen = has_parts and not any(p.requires_grad for p in network.parameters() if id(p) not in head)
    is_mixed = bool(recipe.augmentation.mixup or recipe.augmentation.cutmix)
    if mode == "on":
        if not is_frozen:
            raise BadRecipe(
                "training.feature_cache: `on` needs a frozen backbone. Set model.trainable to []",
                reason="feature-cache",
            )
        if is_mixed:
            raise BadRecipe(
                "training.feature_cache: `on` cannot mix images. Remove augmentation.mixup and cutmix",
                reason="feature-cache",
            )
        return True
    return is_frozen and recipe.augmentation.is_off and not is_mixed


@torch.no_grad()
def cache_features(
    network: Network, images: TrainingImageDataset, batch_size: int, device: torch.device, workers: int
) -> CachedFeatures:
    """Return the features of every image without augmentation, from the backbone in evaluation mode.

    Args:
        network: moved to `device`.
        images: their augmentation is not applied.
        batch_size: images per forward pass.
        device: where the backbone runs.
        workers: number of processes that load images.
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
    batches: list[tuple[Tensor, Tensor, Tensor]] = []
    features: Any = network.features
    for batch in loader:
        inputs: Sequence[Tensor] = [x.to(device) for x in batch["inputs"]]
        batches.append((features(*inputs).float().cpu(), batch["target"], batch["placement"]))
    network.train(was_training)
    columns = [torch.cat(column) for column in zip(*batches, strict=True)]
    return CachedFeatures(columns[0], columns[1], columns[2])
