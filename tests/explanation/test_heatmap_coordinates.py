import numpy as np
import pytest
import torch

from blemish.explanation.heatmap_coordinates import linear_weights, resample, to_image, to_network
from blemish.imaging import LoadedImage
from blemish.model_file import InputSpec
from blemish.preprocessing import Placement, resize


@pytest.mark.parametrize("size_hw", [(40, 60), (9, 16), (64, 11)])
def test_resample_equals_torch_interpolation(size_hw):
    grid = np.random.default_rng(0).normal(size=(9, 11))
    theirs = torch.nn.functional.interpolate(
        torch.from_numpy(grid)[None, None], size_hw, mode="bilinear", align_corners=False
    )[0, 0].numpy()
    np.testing.assert_allclose(resample(grid, size_hw), theirs, atol=1e-12)


def test_to_image_stretched():
    placement = Placement((50, 80), (32, 32), (0.4, 0.64), (0.0, 0.0))
    grid = np.random.default_rng(0).normal(size=(4, 4))
    np.testing.assert_allclose(to_image(grid, placement), resample(grid, (50, 80)), atol=1e-6)
    assert np.allclose(to_network(np.ones((1, 3, 3)), placement), 1)


@pytest.mark.parametrize("how", ["stretch", "letterbox", "shortest"])
@pytest.mark.parametrize("size_hw", [(60, 200), (200, 60), (33, 33)])
def test_to_network_and_to_image_agree_with_resize(how, size_hw):
    """The brightest place of the resized image is the peak of the map that is moved to the input."""
    spec = InputSpec(size_hw=(48, 64), resize=how, resize_to=64 if how == "shortest" else None)
    pixels = np.zeros((*size_hw, 3), np.uint8)
    row, column = size_hw[0] // 2 - 5, size_hw[1] // 2 + 3
    pixels[row - 3 : row + 4, column - 3 : column + 4] = 255
    small, placement = resize(LoadedImage(pixels), spec)
    shown = small[..., 0].astype(float) * (small[..., 0] != spec.pad_value)
    mask = (pixels[None, ..., 0] > 0).astype(float)
    there = to_network(mask, placement, outside=0.0)[0]
    centre = [np.average(np.arange(n), weights=shown.sum(1 - a)) for a, n in enumerate(shown.shape)]
    ours = [np.average(np.arange(n), weights=there.sum(1 - a)) for a, n in enumerate(there.shape)]
    assert np.abs(np.subtract(centre, ours)).max() < 0.6
    back = to_image(there, placement)
    peak = np.unravel_index(back.argmax(), back.shape)
    assert abs(peak[0] - row) <= 4 and abs(peak[1] - column) <= 4


def test_to_image_is_zero_outside_center_crop():
    placement = Placement((10, 30), (10, 10), (1.0, 1.0), (0.0, -10.0)[::-1])
    seen = to_image(np.ones((2, 2)), placement)
    assert seen[:, 10:20].min() == 1
    assert seen[:, :10].max() == seen[:, 20:].max() == 0


def test_to_network_shows_padding_of_letterbox():
    placement = Placement((10, 20), (20, 20), (1.0, 1.0), (0.0, 5.0))
    mask = to_network(np.zeros((1, 2, 2)), placement)[0]
    assert mask[:5].min() == mask[15:].min() == 1
    assert mask[5:15].max() == 0


def test_linear_weights_one_cell():
    assert linear_weights(np.array([0.0, 0.3, 1.0]), 1).tolist() == [[1], [1], [1]]
