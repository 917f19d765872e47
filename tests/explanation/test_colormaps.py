import matplotlib
import numpy as np
import pytest
from PIL import Image

from blemish.explanation.colormaps import COLORMAPS, color_table, overlay
from blemish.testing import raises


@pytest.mark.parametrize("name", COLORMAPS)
def test_color_table_equals_matplotlib(name):
    theirs = np.array([matplotlib.colormaps[name](i)[:3] for i in range(256)]) * 255
    assert np.abs(color_table(name) - theirs).max() <= 4.5


@pytest.mark.parametrize(
    ("name", "uniform"), [("viridis", True), ("inferno", True), ("cividis", True), ("jet", False)]
)
def test_color_table_lightness_increases_except_jet(name, uniform):
    red, green, blue = (color_table(name).astype(float) / 255).T
    lightness = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    assert (np.diff(lightness[::5]) > 0).all() == (name != "jet")


def test_overlay_size_and_opacity_limits():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8))
    values = np.linspace(0, 1, 35).reshape(5, 7)
    assert np.array_equal(np.asarray(overlay(image, values, opacity=0)), np.asarray(image))
    whole = np.asarray(overlay(image, values, opacity=1))
    assert whole.shape == (5, 7, 3)
    assert whole[0, 0].tolist() == color_table("viridis")[0].tolist()
    assert whole[4, 6].tolist() == color_table("viridis")[255].tolist()


def test_color_table_unknown_name():
    with raises("unknown-name.colormap", "'virids'", "'viridis'"):
        color_table("virids")
