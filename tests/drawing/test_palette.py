"""blemish.drawing.palette: distinct colors, readable text, and honest percentages."""

import itertools

import numpy as np
import pytest

from blemish.drawing import PALETTE, label_color
from blemish.drawing.palette import format_score, luminance, shorten_text, text_color_on, text_width

# Perceived linear RGB: with all cones, and without the long, middle and short wavelength cones.
# Source: Machado, Oliveira and Fernandes, 2009, severity 1.
VISION = {
    "all cones": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]],
    "deuteranopia": [[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]],
    "tritanopia": [[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]],
}


def cielab(color, vision):
    share = np.array(color) / 255
    linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]
    xyz = np.array(to_xyz) @ np.clip(np.array(VISION[vision]) @ linear, 0, 1) / [0.9505, 1, 1.0888]
    x, y, z = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


@pytest.mark.parametrize("vision", VISION)
def test_palette_is_distinct_with_every_color_vision_deficiency(vision):
    for a, b in itertools.combinations(PALETTE, 2):
        assert np.linalg.norm(cielab(a, vision) - cielab(b, vision)) > 15, (a, b)


def test_palette_contrast_of_text():
    for color in PALETTE:
        light, dark = sorted((luminance(color), luminance(text_color_on(color))), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5  # WCAG's contrast for text
    assert label_color(len(PALETTE)) == label_color(0)


def test_shorten_text_to_a_width():
    assert shorten_text("Dent", 20, 500) == "Dent"
    cut = shorten_text("A very long name indeed", 20, 100)
    assert cut.endswith("...") and text_width(cut, 20) <= 100
    assert shorten_text("Dent", 20, 1) == ""


@pytest.mark.parametrize(
    ("score", "text"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.994, "99 %"),
        (0.995, ">99 %"),
        (0.99999, ">99 %"),
        (1e-9, "<1 %"),
        (0.0045, "<1 %"),
        (0.005, "<1 %"),
        (0.0051, "1 %"),
    ],
)
def test_format_score_never_rounds_to_certainty(score, text):
    assert format_score(score) == text
