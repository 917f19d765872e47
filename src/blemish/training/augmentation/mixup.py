"""MixUp and CutMix: two images of a batch are combined into one, and their labels with them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from blemish.config.recipe import Recipe
from blemish.training.rng import RngPurpose, rng_stream


def mix_batch(
    recipe: Recipe, inputs: Sequence[Tensor], target: Tensor, epoch: int, step: int, rank: int = 0
) -> tuple[Sequence[Tensor], Tensor]:
    """Return a batch after MixUp or CutMix; the batch itself if the recipe uses neither.

    Args:
        recipe: its seed, `augmentation.mixup` and `augmentation.cutmix` are used.
        inputs: (b, C, H, W) each; all are mixed alike.
        target: (b, L) shares of each label.
        epoch: from 0.
        step: index of the batch in the epoch.
        rank: of the process.

    Source:
        Zhang et al. 2018 (mixup); Yun et al. 2019 (CutMix), algorithm A1.
    """
    config = recipe.augmentation
    if not (config.mixup or config.cutmix) or len(target) < 2:
        return inputs, target
    random = rng_stream(recipe.training.seed, RngPurpose.MIXING, epoch, step, rank)
    is_cutmix = bool(config.cutmix) and (not config.mixup or random.random() < 0.5)
    alpha = config.cutmix if is_cutmix else config.mixup
    probability = 1.0 if is_cutmix else config.probability.get("mixup", 1.0)
    if probability < 1 and random.random() >= probability:
        return inputs, target
    share = float(random.beta(alpha, alpha))
    partner = torch.from_numpy(random.permutation(len(target))).to(target.device)
    if not is_cutmix:
        mixed = [x.lerp(x[partner], 1 - share) for x in inputs]
        return mixed, target.lerp(target[partner], 1 - share)
    side, center_y, center_x = math.sqrt(1 - share) / 2, random.random(), random.random()
    mixed = []
    for position, x in enumerate(inputs):
        height, width = x.shape[-2:]
        top, bottom = (round(min(max(center_y + s, 0), 1) * height) for s in (-side, side))
        left, right = (round(min(max(center_x + s, 0), 1) * width) for s in (-side, side))
        x = x.clone()
        x[..., top:bottom, left:right] = x[partner][..., top:bottom, left:right]
        mixed.append(x)
        if position == 0:  # the share that remains, with whole pixels and clipped edges
            share = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, target.lerp(target[partner], 1 - share)
