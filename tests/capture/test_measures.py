"""Measures of drawn scenes with known blur, exposure, glare, borders and size."""

import itertools

import numpy as np
import pytest
from PIL import Image

from blemish.capture import measure
from blemish.capture.measures import MIN_SIDE
from blemish.imaging import LoadedImage
from blemish.model_file import InputSpec
from blemish.model_file.capture_spec import DIRECTIONS
from blemish.preprocessing import prepare

SPEC = InputSpec(size_hw=(96, 96))


def measured(image, spec=SPEC):
    pixels = np.asarray(image)
    if pixels.dtype == np.uint8 and pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, 2)
    feed, placement = prepare(LoadedImage(pixels), spec)
    return measure(feed, spec, placement)


def test_sharpness_falls_with_defocus_in_every_direction(drawing, scenes):
    for image in scenes[:5]:
        found = [measured(drawing.blur(image, sigma)).values for sigma in (0, 1, 2, 4, 8)]
        sharpness = [values["sharpness"] for values in found]
        assert all(a > b for a, b in itertools.pairwise(sharpness))
        for values in found:
            assert sum(values[name] for name in DIRECTIONS) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(
    ("name", "direction"),
    [("sharpness_0", (0, 1)), ("sharpness_45", (1, 1)), ("sharpness_90", (1, 0)), ("sharpness_135", (1, -1))],
)
def test_motion_lowers_the_sharpness_of_its_direction(drawing, scenes, name, direction):
    for image in scenes[:5]:
        values = measured(drawing.motion(image, 11, direction)).values
        assert min(DIRECTIONS, key=values.__getitem__) == name
        assert values[name] < measured(image).values[name] - 0.3


def test_measures_do_not_depend_on_contrast_size_or_normalization(drawing, scenes):
    for image in scenes[:5]:
        before = measured(image).values
        darker = measured(drawing.gain(image, 0.5)).values
        assert darker["sharpness"] == pytest.approx(before["sharpness"], abs=0.15)
        assert darker["brightness"] == pytest.approx(before["brightness"] / 2, abs=0.01)
        larger = measured(image.resize((640, 640), Image.Resampling.BICUBIC)).values
        assert larger["sharpness"] == pytest.approx(before["sharpness"], abs=0.25)
        for other in (
            InputSpec(size_hw=(96, 96), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
            InputSpec(size_hw=(96, 96), mean=(0, 0, 0), std=(1, 1, 1), scale="byte"),
        ):
            same = measured(image, other)
            assert same.values == pytest.approx(before, abs=2e-4)
            assert np.bitwise_count(same.hash ^ measured(image).hash).sum() <= 2


def test_brightness_is_that_of_the_definition_for_one_and_three_channels():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (96, 96, 3), np.uint8)
    expected = pixels @ np.array([0.299, 0.587, 0.114]) / 255
    step = 96 // 32
    values = measured(pixels).values
    assert values["brightness"] == pytest.approx(float(expected[::step].mean()), abs=1e-5)
    assert values["bright"] == pytest.approx(float((expected[::step] >= 250 / 255).mean()), abs=1e-3)
    gray = np.full((96, 96), 128, np.uint8)
    values = measured(gray, InputSpec(size_hw=(96, 96), channels=1, mean=(0.5,), std=(0.2,))).values
    assert values["brightness"] == pytest.approx(128 / 255, abs=1e-5)


def test_shares_of_clipped_pixels(drawing):
    pixels = np.full((96, 96, 3), 128, np.uint8)
    pixels[:, :24] = 255
    pixels[:, 24:36] = 0
    values = measured(pixels).values
    assert values["bright"] == 0.25 and values["dark"] == 0.125
    sixteen = np.full((96, 96), 65535, np.uint16)
    sixteen[:, :48] = 0
    values = measured(sixteen).values
    assert values["bright"] == values["dark"] == 0.5


def test_coarse_sharpness_finds_blur_under_noise(drawing, scenes):
    rng = np.random.default_rng(0)
    for image in scenes[:5]:
        blurred = np.asarray(drawing.blur(image, 4), float)
        noisy = np.clip(blurred + rng.normal(0, 3, blurred.shape), 0, 255).astype(np.uint8)
        before, after = measured(image).values, measured(noisy).values
        assert after["sharpness"] > measured(blurred.astype(np.uint8)).values["sharpness"] + 0.2
        assert after["sharpness_coarse"] < before["sharpness_coarse"] - 0.5


def test_glare_is_found_in_spots_but_not_in_a_bright_sky(drawing, scenes):
    for image in scenes[:5]:
        assert measured(image).values["glare"] == 0
        assert measured(drawing.with_glare(image)).values["glare"] > 0.004
        sky = np.asarray(image).copy()
        sky[:70] = 255
        assert measured(sky).values["glare"] == 0


def test_border_is_the_share_of_bars_of_one_color(drawing, scenes):
    for image in scenes[:5]:
        assert measured(image).values["border"] == 0
        assert measured(drawing.with_bars(image, 32)).values["border"] == pytest.approx(0.4, abs=0.08)
        both = measured(drawing.with_bars(image, 16, 16)).values["border"]
        assert both == pytest.approx(1 - 0.8**2, abs=0.05)
        sky = np.asarray(image).copy()
        sky[:70] = 255
        assert measured(sky).values["border"] == 0
    assert measured(np.full((96, 96, 3), 40, np.uint8)).values["border"] == 1


def test_padding_of_the_network_is_not_a_border(scenes):
    wide = scenes[0].crop((0, 40, 160, 100))
    letterbox = InputSpec(size_hw=(96, 96), resize="letterbox")
    values = measured(wide, letterbox).values
    assert values["border"] == 0 and values["enlargement"] == pytest.approx(0.6)
    shortest = InputSpec(size_hw=(96, 96), resize="shortest", resize_to=110)
    assert measured(wide, shortest).values["enlargement"] == pytest.approx(110 / 60)


def test_strips_that_leave_no_pixels_are_not_measured():
    letterbox = InputSpec(size_hw=(96, 96), resize="letterbox")
    assert measured(np.zeros((10, 2000, 3), np.uint8), letterbox) is None
    small = measured(np.zeros((3, 3, 3), np.uint8), InputSpec(size_hw=(MIN_SIDE, MIN_SIDE)))
    assert small.values["enlargement"] == pytest.approx(MIN_SIDE / 3) and small.hash.shape == (4,)


def test_hash_is_similar_for_copies_and_different_for_other_scenes(drawing, scenes):
    hashes = [measured(image).hash for image in scenes[:20]]
    for image, known in zip(scenes[:20], hashes, strict=True):
        for copy in (image.resize((120, 120)), drawing.gain(image, 0.9), drawing.blur(image, 0.7)):
            assert np.bitwise_count(measured(copy).hash ^ known).sum() <= 24
    for a, b in itertools.combinations(hashes, 2):
        assert np.bitwise_count(a ^ b).sum() > 50
