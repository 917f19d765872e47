"""Cells of drawn solar modules: found at their true places, counted, or refused."""

from typing import Any

import numpy as np
import pytest
from bench.quads import lowest_iou, quad_iou

from blemish.data.synthetic import modules
from blemish.geometry import polygon_area
from blemish.imaging import LoadedImage
from blemish.inspections.module_grid import ModuleGrid, cell_name, find_grid, parse_grid
from blemish.testing import raises


@pytest.fixture(scope="module")
def drawn():
    return next(modules(1, 4, size=900))


def test_quad_iou_of_squares():
    square = np.array([[0, 0], [4, 0], [4, 4], [0, 4]], float)
    assert quad_iou(square, square) == pytest.approx(1)
    assert quad_iou(square, square + np.array([2, 0])) == pytest.approx(8 / 24)
    assert quad_iou(square, square + 9) == 0
    diamond = np.array([[2, 0], [4, 2], [2, 4], [0, 2]], float)
    assert quad_iou(square, diamond) == pytest.approx(0.5) and polygon_area(diamond) == 8


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({"seed": 40}, 0.98),
        ({"seed": 41, "max_angle": 30, "perspective": 0.3}, 0.97),
        ({"seed": 42, "half_cut": True, "grids": [(20, 6)]}, 0.96),
    ],
)
def test_find_grid_counts_and_cuts_all_cells(options: Any, limit: float) -> None:
    for module in modules(3, **options, size=1000):
        found = find_grid(module.image)
        assert (found.rows, found.columns) == module.grid
        assert lowest_iou(found, module.cell_quads) >= limit
        assert found.support > 0.9 and found.residual < 0.01


@pytest.mark.slow
@pytest.mark.parametrize("half_cut", [False, True])
def test_find_grid_of_many_modules(half_cut):
    options: Any = {"half_cut": True, "grids": [(20, 6), (24, 6)]} if half_cut else {}
    for module in modules(120, 100, **options):
        found = find_grid(module.image)
        assert (found.rows, found.columns) == module.grid, module.id
        assert lowest_iou(found, module.cell_quads) >= 0.95, module.id


def test_find_grid_accepts_the_true_counts_only(drawn):
    assert drawn.grid == (6, 10)
    assert find_grid(drawn.image, (6, 10)).rows == 6
    for wrong in ((10, 6), (6, 12), (6, 9), (5, 10), (3, 5), (12, 20), (1, 10)):
        with raises("bad-input.grid", "6x10"):
            find_grid(drawn.image, wrong)


def test_find_grid_uses_corners_beside_another_bright_object(drawn):
    pixels = drawn.image.pixels.copy()
    pixels[:, :40] = 255
    quads = drawn.cell_quads
    corners = np.array([quads[0, 0, 0], quads[0, -1, 1], quads[-1, -1, 2], quads[-1, 0, 3]])
    found = find_grid(LoadedImage(pixels), corners=corners + 3)
    assert lowest_iou(found, quads) > 0.97
    with raises("bad-input.corners"):
        find_grid(drawn.image, corners=corners[::-1])
    with raises("bad-input.corners"):
        find_grid(drawn.image, corners=corners[:3])


def test_find_grid_of_an_image_that_ends_at_the_module():
    module = next(modules(1, 4, size=900, max_angle=0, perspective=0))
    quads = module.cell_quads
    (x1, y1), (x2, y2) = quads.min((0, 1, 2)).astype(int), quads.max((0, 1, 2)).astype(int)
    cropped = LoadedImage(module.image.pixels[y1:y2, x1:x2].copy())
    assert lowest_iou(find_grid(cropped), quads - (x1, y1)) > 0.97


def test_find_grid_of_16_bits(drawn):
    gray = drawn.image.pixels[..., 0].astype(np.uint16) * 16  # 12 bits
    found = find_grid(LoadedImage(gray))
    assert lowest_iou(found, drawn.cell_quads) > 0.98


def test_find_grid_refuses_what_shows_no_module(drawn):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    box = np.zeros((300, 400, 3), np.uint8)
    box[50:250, 50:350] = 200
    for pixels, code in ((noise, "no-grid"), (box, "no-grid"), (box * 0, "no-module")):
        with raises(f"bad-input.{code}"):
            find_grid(LoadedImage(pixels))
    width = drawn.image.size_hw[1]
    with raises("bad-input.grid"):
        find_grid(LoadedImage(drawn.image.pixels[:, : width // 2].copy()), (6, 10))


@pytest.mark.parametrize("text", ["6", "6x", "0x10", "6x99", "axb", "6x10x2"])
def test_parse_grid_refuses(text):
    with raises("bad-input.grid"):
        parse_grid(text)
    assert parse_grid("6X10") == (6, 10) and cell_name(1, 4) == "R2C5"


def test_module_grid_survives_plain_values(drawn):
    found = find_grid(drawn.image)
    again = ModuleGrid.from_dict(found.to_dict(), found.size_hw)
    assert np.abs(again.cell_quads() - found.cell_quads()).max() < 0.5


@pytest.mark.parametrize("grid", [(6,), (6, 10, 2), (6.0, 10.0), "6x10", (0, 10)])
def test_find_grid_refuses_what_is_not_two_counts(drawn, grid):
    with raises("bad-input.grid"):
        find_grid(drawn.image, grid)
