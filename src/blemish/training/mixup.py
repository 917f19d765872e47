"""MixUp and CutMix: two images of a batch made into one, their labels with them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from blemish.config.recipe import Recipe
from blemish.training.rng import RngPurpose, stream


def mix(
    recipe: Recipe, inputs: Sequence[Tensor], target: Tensor, epoch: int, step: int, rank: int = 0
) -> tuple[Sequence[Tensor], Tensor]:
    """The batch as the recipe mixes it; the batch itself where it does not.

    Args:
        recipe: its seed, and `augmentation.mixup` and `cutmix`.
        inputs: each (b, c, h, w); all are mixed alike.
        target: (b, L) shares of each label.
        epoch: from 0.
        step: batch of the epoch.
        rank: of the process.

    Source:
        Zhang et al. 2018 (mixup); Yun et al. 2019 (CutMix), algorithm A1.
    """
    part = recipe.augmentation
    if not (part.mixup or part.cutmix) or len(target) < 2:
        return inputs, target
    random = stream(recipe.training.seed, RngPurpose.MIXING, epoch, step, rank)
    pastes = bool(part.cutmix) and (not part.mixup or random.random() < 0.5)
    alpha = part.cutmix if pastes else part.mixup
    share = float(random.beta(alpha, alpha))
    partner = torch.from_numpy(random.permutation(len(target))).to(target.device)
    if not pastes:
        mixed = [x.lerp(x[partner], 1 - share) for x in inputs]
        return mixed, target.lerp(target[partner], 1 - share)
    side, centre_y, centre_x = math.sqrt(1 - share) / 2, random.random(), random.random()
    mixed = []
    for position, x in enumerate(inputs):
        height, width = x.shape[-2:]
        top, bottom = (round(min(max(centre_y + s, 0), 1) * height) for s in (-side, side))
        left, right = (round(min(max(centre_x + s, 0), 1) * width) for s in (-side, side))
        x = x.clone()
        x[..., top:bottom, left:right] = x[partner][..., top:bottom, left:right]
        mixed.append(x)
        if position == 0:  # the share that really remains, whole pixels and edges considered
            share = 1 - (bottom - top) * (right - left) / (height * width)
    return mixed, target.lerp(target[partner], 1 - share)
