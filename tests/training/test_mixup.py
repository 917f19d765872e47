"""MixUp and CutMix mix labels in the proportion of the pixels."""

import pytest
import torch

from blemish.config.recipe import read_recipe
from blemish.training.augmentation.mixup import mix_batch


@pytest.mark.parametrize("part", ["mixup", "cutmix"])
def test_mix_batch_mixes_labels_like_pixels(part):
    recipe = read_recipe(settings=[f"augmentation.{part}=1.0"])
    inputs = [torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 40, 40).contiguous()] * 2
    target = torch.eye(6)
    for step in range(10):
        (first, second), mixed = mix_batch(recipe, inputs, target, 0, step)
        assert torch.equal(first, second)
        assert torch.equal(mixed, mix_batch(recipe, inputs, target, 0, step)[1])
        shown = first.mean((1, 2, 3))  # the pixel of image i is i
        torch.testing.assert_close(shown, mixed @ torch.arange(6.0), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(mixed.sum(1), torch.ones(6))
    assert not torch.equal(mixed, mix_batch(recipe, inputs, target, 1, step)[1])
