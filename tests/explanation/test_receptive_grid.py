"""Positions of the cells of a feature map: measured, compared with the geometry of the layers."""

import numpy as np
import pytest
import torch
from torch import nn

from blemish.explanation.heatmap_coordinates import ReceptiveGrid, resample, to_image
from blemish.models import create
from blemish.models._network import Network
from blemish.models._receptive_field import receptive_grids
from blemish.preprocessing import Placement

SIDE = 128


class Convolutions(Network):
    """Three layers that halve the map, with the attributes that Blemish needs of a network."""

    owns_loss = False

    def __init__(self, kernel, padding):
        super().__init__()
        layers = [nn.Conv2d(4 if i else 3, 4, kernel, 2, padding, bias=False) for i in range(3)]
        self.body = nn.Sequential(*layers)
        self.feature_layers = ("body",)
        self.inputs = create("timm/test_resnet", task="multilabel", label_count=2, input_size=SIDE).inputs

    def forward(self, *inputs):
        return (self.body(inputs[0]).mean((2, 3)),)


@pytest.mark.parametrize(
    ("kernel", "padding", "start"),
    [(3, 1, 0.5), (2, 0, 4.0), (4, 1, 4.0), (5, 2, 0.5), (3, 0, 7.5)],
)
def test_receptive_grid_follows_from_kernel_and_padding(kernel, padding, start):
    """By hand: each layer of stride s so far adds s * ((kernel - 1) / 2 - padding) to the center."""
    torch.manual_seed(0)
    network = Convolutions(kernel, padding)
    with torch.no_grad():  # every kernel's weight is spread evenly, so that the mean place is the middle
        for layer in network.body:
            assert isinstance(layer, nn.Conv2d)
            layer.weight.copy_(layer.weight.mean((2, 3), keepdim=True).expand_as(layer.weight))
    measured = receptive_grids(network)["body"]
    assert np.multiply(measured.start_yx, SIDE) == pytest.approx([start, start], abs=0.1)
    assert np.multiply(measured.stride_yx, SIDE) == pytest.approx([8, 8], abs=0.05)
    assert network.training and all(p.requires_grad for p in network.parameters())


def test_receptive_grid_of_resnet_is_half_a_cell_off_even_grid():
    torch.manual_seed(0)
    network = create("resnet18", task="multilabel", label_count=2, input_size=128)
    measured = receptive_grids(network)["backbone.layer4.1"]
    # By geometry 0.5; an even grid would start at 16.
    assert np.multiply(measured.start_yx, 128) == pytest.approx([0.5, 0.5], abs=0.5)
    assert np.multiply(measured.stride_yx, 128) == pytest.approx([32, 32], abs=0.1)
    assert ReceptiveGrid.even((4, 4)).start_yx == (16 / 128, 16 / 128)


def test_to_image_places_peak_at_receptive_grid():
    grid = np.zeros((4, 4))
    grid[1, 2] = 1
    placement = Placement((256, 256), (128, 128), (0.5, 0.5), (0.0, 0.0))
    receptive_grid = ReceptiveGrid((0.5 / 128, 0.5 / 128), (32 / 128, 32 / 128))
    heatmap = to_image(grid, placement, receptive_grid)
    row, column = np.unravel_index(heatmap.argmax(), heatmap.shape)
    assert abs(row - 2 * 32.5) <= 1 and abs(column - 2 * 64.5) <= 1
    np.testing.assert_allclose(
        to_image(grid, placement, ReceptiveGrid.even((4, 4))), to_image(grid, placement)
    )
    assert np.argmax(resample(grid, (128, 128), receptive_grid)) // 128 == 32


def test_receptive_grid_of_layer_without_effect_is_left_out():
    network = create("timm/test_resnet", task="multilabel", label_count=2, input_size=32)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert receptive_grids(network) == {}
