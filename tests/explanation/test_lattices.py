"""Where the cells of a feature map look: measured, against the geometry of the layers."""

import numpy as np
import pytest
import torch
from torch import nn

from blemish.explanation.heatmap_coordinates import ReceptiveGrid, resample, to_image
from blemish.models import create
from blemish.models._receptive_field import lattices
from blemish.preprocessing import Placement

SIDE = 128


class Convolutions(nn.Module):
    """Three layers that halve the map, and what a network promises to the rest."""

    owns_loss = False

    def __init__(self, kernel, padding):
        super().__init__()
        layers = [nn.Conv2d(4 if i else 3, 4, kernel, 2, padding, bias=False) for i in range(3)]
        self.body = nn.Sequential(*layers)
        self.feature_layers = ("body",)
        self.inputs = create(
            "timm/test_resnet", task="multilabel", label_count=2, input_size=SIDE
        ).inputs

    def forward(self, x):
        return (self.body(x).mean((2, 3)),)


@pytest.mark.parametrize(
    ("kernel", "padding", "start"),
    [(3, 1, 0.5), (2, 0, 4.0), (4, 1, 4.0), (5, 2, 0.5), (3, 0, 7.5)],
)
def test_the_first_cells_place_follows_from_kernel_and_padding(kernel, padding, start):
    """By hand: each layer of stride s so far adds s * ((kernel - 1) / 2 - padding) to the centre."""
    torch.manual_seed(0)
    network = Convolutions(kernel, padding)
    with torch.no_grad():  # every kernel's weight is spread evenly, so that the mean place is the middle
        for layer in network.body:
            layer.weight.copy_(layer.weight.mean((2, 3), keepdim=True).expand_as(layer.weight))
    found = lattices(network)["body"]
    assert np.multiply(found.start_yx, SIDE) == pytest.approx([start, start], abs=0.1)
    assert np.multiply(found.stride_yx, SIDE) == pytest.approx([8, 8], abs=0.05)
    assert network.training and all(p.requires_grad for p in network.parameters())


def test_a_resnet_looks_half_a_cell_further_up_and_left_than_an_even_map():
    torch.manual_seed(0)
    network = create("resnet18", task="multilabel", label_count=2, input_size=128)
    found = lattices(network)["backbone.layer4.1"]
    # By geometry 0.5; an even map would say 16.
    assert np.multiply(found.start_yx, 128) == pytest.approx([0.5, 0.5], abs=0.5)
    assert np.multiply(found.stride_yx, 128) == pytest.approx([32, 32], abs=0.1)
    assert ReceptiveGrid.even((4, 4)).start_yx == (16 / 128, 16 / 128)


def test_a_cells_peak_is_drawn_where_the_cell_looks():
    grid = np.zeros((4, 4))
    grid[1, 2] = 1
    placement = Placement((256, 256), (128, 128), (0.5, 0.5), (0.0, 0.0))
    lattice = ReceptiveGrid((0.5 / 128, 0.5 / 128), (32 / 128, 32 / 128))
    drawn = to_image(grid, placement, lattice)
    row, column = np.unravel_index(drawn.argmax(), drawn.shape)
    assert abs(row - 2 * 32.5) <= 1 and abs(column - 2 * 64.5) <= 1
    np.testing.assert_allclose(
        to_image(grid, placement, ReceptiveGrid.even((4, 4))), to_image(grid, placement)
    )
    assert np.argmax(resample(grid, (128, 128), lattice)) // 128 == 32


def test_maps_that_cannot_be_measured_are_left_out():
    network = create("timm/test_resnet", task="multilabel", label_count=2, input_size=32)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert lattices(network) == {}
