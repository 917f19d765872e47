"""Augmentation of whole images, compared with torchvision, and the boxes that change with it."""

import colorsys

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as v2

from blemish.config.schema import AugmentationConfig
from blemish.training.augmentation.color_transforms import adjust_hsv
from blemish.training.augmentation.image_augmentation import (
    AugmentationParams,
    augment_boxes,
    augment_pixels,
    draw_params,
    visible_share,
)


def test_augment_pixels_equals_torchvision():
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    image = torch.from_numpy(pixels.transpose(2, 0, 1).copy())
    change = AugmentationParams(
        flip_horizontal=True, angle=7.5, color=(("contrast", 1.2), ("brightness", 0.8), ("hue", 0.05))
    )
    expected = v2.rotate(v2.horizontal_flip(image), 7.5, interpolation=InterpolationMode.BILINEAR)
    expected = v2.adjust_hue(v2.adjust_brightness(v2.adjust_contrast(expected, 1.2), 0.8), 0.05)
    assert np.array_equal(augment_pixels(change, pixels), expected.numpy().transpose(1, 2, 0))
    assert np.array_equal(augment_pixels(AugmentationParams(flip_vertical=True), pixels), pixels[::-1])


def test_augment_pixels_with_flips_and_a_quarter_turn_gives_all_eight_orientations():
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, 3), np.uint8)
    turned = augment_pixels(AugmentationParams(quarter_turn=True), pixels)
    assert np.array_equal(turned, np.rot90(pixels))
    part = AugmentationConfig(horizontal_flip=0.5, vertical_flip=0.5, quarter_turn=0.5)
    random = np.random.default_rng(0)
    drawn = [augment_pixels(draw_params(part, random), pixels).tobytes() for _ in range(800)]
    expected = {np.rot90(p, k).tobytes() for p in (pixels, pixels[::-1]) for k in range(4)}
    assert set(drawn) == expected
    assert min(drawn.count(orientation) for orientation in expected) > 60


def test_draw_params_follows_probabilities_and_ranges():
    part = AugmentationConfig(
        horizontal_flip=0.4, brightness=0.2, rotation_degrees=10, probability={"brightness": 0.5}
    )
    random = np.random.default_rng(0)
    drawn = [draw_params(part, random) for _ in range(4000)]
    assert abs(np.mean([d.flip_horizontal for d in drawn]) - 0.4) < 0.03
    assert not any(d.flip_vertical for d in drawn)
    factors = [f for d in drawn for _, f in d.color]
    assert abs(len(factors) / 4000 - 0.5) < 0.03
    assert 0.8 <= min(factors) < 0.82
    assert 1.18 < max(factors) <= 1.2
    angles = [d.angle for d in drawn]
    assert -10 <= min(angles) < -9.8
    assert 9.8 < max(angles) <= 10


@pytest.mark.parametrize(
    "change",
    [
        AugmentationParams(flip_horizontal=True),
        AugmentationParams(flip_vertical=True),
        AugmentationParams(angle=20.0),
        AugmentationParams(flip_horizontal=True, flip_vertical=True, angle=-35.0),
    ],
)
def test_augment_boxes_equals_torchvision(change):
    boxes = np.array([[5.0, 8, 20, 30], [0, 0, 40, 50], [12, 3, 13, 44]])
    moved = tv_tensors.BoundingBoxes(boxes, format="XYXY", canvas_size=(50, 40), clamping_mode=None)
    if change.flip_horizontal:
        moved = v2.horizontal_flip(moved)
    if change.flip_vertical:
        moved = v2.vertical_flip(moved)
    if change.angle:
        moved = v2.rotate(moved, change.angle)
    np.testing.assert_allclose(augment_boxes(change, boxes, (50, 40)), moved.numpy(), atol=1e-4)


def test_augment_boxes_contains_the_rotated_object():
    """The painted rectangle is turned as a image; its bright pixels must lie in the moved box."""
    pixels = np.zeros((60, 80, 3), np.uint8)
    pixels[20:35, 10:40] = 255
    change = AugmentationParams(flip_horizontal=True, angle=25.0)
    turned = augment_pixels(change, pixels)[..., 0] > 128
    rows, columns = np.flatnonzero(turned.any(1)), np.flatnonzero(turned.any(0))
    left, top, right, bottom = augment_boxes(change, np.array([[10.0, 20, 40, 35]]), (60, 80))[0]
    seen = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    np.testing.assert_allclose([left, top, right, bottom], seen, atol=1.0)


def test_draw_crop_shows_half_of_every_box():
    part = AugmentationConfig(random_resized_crop={"scale": (0.08, 1)})
    box = np.array([[60.0, 10, 90, 40]])
    random = np.random.default_rng(0)
    crops = [draw_params(part, random, (100, 120), box).crop_xyxy for _ in range(300)]
    shares = [visible_share(box, c)[0] for c in crops if c is not None]
    assert len(shares) > 200
    assert min(shares) >= 0.5
    assert min(shares) < 0.7
    assert min(c[2] - c[0] for c in crops if c is not None) < 60


def test_draw_crop_returns_the_whole_image_if_no_crop_shows_enough():
    part = AugmentationConfig(random_resized_crop={})
    box = np.array([[10.0, 100, 890, 200]])
    random = np.random.default_rng(0)
    crops = {draw_params(part, random, (300, 900), box).crop_xyxy for _ in range(5)}
    assert crops == {(0, 0, 900, 300)}


@pytest.mark.parametrize("gains", [(0.0, 1.0, 1.0), (0.1, 1.5, 0.6), (-0.5, 0.3, 1.2)])
def test_adjust_hsv_equals_colorsys(gains):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), np.uint8)
    expected = []
    for red, green, blue in pixels.reshape(-1, 3) / 255:
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        changed = (hue + gains[0]) % 1, min(saturation * gains[1], 1), min(value * gains[2], 1)
        expected.append(colorsys.hsv_to_rgb(*changed))
    changed_pixels = adjust_hsv(pixels, gains)
    assert changed_pixels.dtype == np.uint8
    assert np.abs(changed_pixels.reshape(-1, 3) - 255 * np.array(expected)).max() < 12  # 8 bits per channel


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_adjust_hsv_of_gray_changes_the_value_only(dtype):
    pixels = np.full((2, 2, 1), 100 if dtype == np.uint8 else 0.4, dtype)
    changed = adjust_hsv(pixels, (0.3, 0.1, 1.5))
    assert changed.dtype == dtype
    np.testing.assert_allclose(changed, pixels * 1.5, rtol=1e-6)
    assert adjust_hsv(pixels, (0, 1, 100)).max() == (255 if dtype == np.uint8 else 1)


def test_draw_params_draws_hsv_gains_within_their_range():
    config = AugmentationConfig(hsv_gains=(0.02, 0.7, 0.4), probability={"hsv_gains": 0.5})
    random = np.random.default_rng(0)
    drawn = [draw_params(config, random).hsv for _ in range(60)]
    gains = np.array([g for g in drawn if g is not None])
    assert 15 < len(gains) < 45
    assert np.abs(gains - [0, 1, 1]).max(0) == pytest.approx([0.02, 0.7, 0.4], rel=0.2)
    assert (np.abs(gains - [0, 1, 1]) <= [0.02, 0.7, 0.4]).all()
