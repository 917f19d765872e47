import matplotlib
import numpy as np
import pytest
from PIL import Image

from blemish.errors import UnknownName
from blemish.explanation.colormaps import COLOURS, colour_table, overlay


@pytest.mark.parametrize("name", COLOURS)
def test_tables_are_matplotlibs(name):
    theirs = np.array([matplotlib.colormaps[name](i)[:3] for i in range(256)]) * 255
    assert np.abs(colour_table(name) - theirs).max() <= 4.5


@pytest.mark.parametrize(
    ("name", "uniform"), [("viridis", True), ("inferno", True), ("cividis", True), ("jet", False)]
)
def test_the_default_maps_grow_lighter_all_the_way_and_jet_does_not(name, uniform):
    red, green, blue = (colour_table(name).astype(float) / 255).T
    lightness = 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2
    assert (np.diff(lightness[::5]) > 0).all() == (name != "jet")


def test_overlay_keeps_size_and_the_strengths_ends():
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8))
    values = np.linspace(0, 1, 35).reshape(5, 7)
    assert np.array_equal(overlay(image, values, strength=0), image)
    whole = np.asarray(overlay(image, values, strength=1))
    assert whole.shape == (5, 7, 3)
    assert whole[0, 0].tolist() == colour_table("viridis")[0].tolist()
    assert whole[4, 6].tolist() == colour_table("viridis")[255].tolist()


def test_an_unknown_table_offers_the_nearest():
    with pytest.raises(UnknownName, match="viridis"):
        colour_table("virids")
