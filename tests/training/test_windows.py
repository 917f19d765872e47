"""Windows of the input: what they show equals the same part of the whole input."""

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from blemish.config.schema import AugmentationConfig, WindowConfig
from blemish.model_file import InputSpec
from blemish.models import create
from blemish.testing import raises
from blemish.training.augmentation.detection_augmentation import CropParams, render_crop
from blemish.training.augmentation.scenes import SceneImages
from blemish.training.augmentation.windows import check_window, draw_window, window_spec
from blemish.training.detection_dataset import DetectionImageDataset

from .test_scenes import PAD, Painted

INPUT = InputSpec(size_hw=(128, 128), resize="letterbox", pad_value=PAD)
IMAGE = (0.0, 0.0, 128.0, 128.0)


def images(**changes):
    return Painted(
        **({"sizes_hw": ((128, 128),) * 2, "blocks": ((16, 24, 28, 36), (36, 8, 48, 56))} | changes)
    )


@pytest.mark.parametrize("left_top", [(0, 0), (64, 64), (17, 40)])
def test_window_shows_the_pixels_of_the_whole_input(left_top):
    left, top = left_top
    painted, spec = images(), window_spec(WindowConfig(side=64), INPUT)
    whole, _, _ = render_crop(painted, painted.samples[0], INPUT, CropParams())
    region = (float(left), float(top), left + 64.0, top + 64.0)
    pixels, placement, shown = render_crop(painted, painted.samples[0], spec, CropParams(region))
    assert (pixels == whole[top : top + 64, left : left + 64]).all()
    assert shown == (0, 0, 64, 64)
    box = np.array([[20.0, 30, 50, 60]])
    np.testing.assert_allclose(placement.to_network(box), box - [left, top, left, top])


@pytest.mark.parametrize("size_hw", [(128, 128), (256, 192), (90, 200)])
@pytest.mark.parametrize("seed", range(6))
def test_window_keeps_boxes_on_their_pixels_at_the_scale_of_the_whole_input(size_hw, seed):
    painted = images(sizes_hw=(size_hw,))
    window = {"side": 64, "focus": 1}
    scenes = painted.scenes(INPUT, window=window, horizontal_flip=0.5, min_visibility=0.05)
    spec = window_spec(scenes.config.window, INPUT)
    pixels, objects, placement = scenes.render(scenes.draw(0, np.random.default_rng(seed)), spec, masks=True)
    assert pixels.shape == (64, 64, 3)
    np.testing.assert_allclose(placement.scale_xy, 128 / max(size_hw), rtol=0.04)  # a part has whole pixels
    assert len(objects.labels)
    for box, label in zip(objects.boxes, objects.labels, strict=True):
        assert np.abs(box - painted.painted_box(pixels.astype(float), label)).max() <= 1


def test_draw_window_contains_objects_that_fit_and_is_inside_larger_ones():
    painted = images(blocks=((8, 8, 20, 24), (0, 30, 64, 40)))  # 24 x 32 and 128 x 20 pixels
    config = WindowConfig(side=64, focus=1)
    starts: Counter[str] = Counter()
    boxes = painted.samples[0].ground_truth.boxes_xyxy
    for seed in range(200):
        x1, y1, x2, y2 = draw_window(config, INPUT, IMAGE, painted.samples[0], np.random.default_rng(seed))
        np.testing.assert_allclose([x2 - x1, y2 - y1], 64)
        assert 0 <= x1 and x2 <= 128 and 0 <= y1 and y2 <= 128
        contains = [x1 <= b[0] and x2 >= b[2] and y1 <= b[1] and y2 >= b[3] for b in boxes]
        crosses = y1 <= boxes[1][1] and y2 >= boxes[1][3]  # the window's columns are all inside the box
        assert contains[0] or crosses
        starts["small"] += bool(contains[0])
        starts["wide"] += bool(crosses)
    assert min(starts.values()) > 80


def test_draw_window_draws_each_label_equally_often():
    many = tuple((x, 4, x + 2, 8) for x in range(4, 40, 4))  # nine objects of one label, left
    painted = images(blocks=(*many, (60, 58, 63, 62)), sizes_hw=((128, 128),))
    objects = painted.samples[0].ground_truth
    sample = replace(painted.samples[0], ground_truth=replace(objects, label_index=np.array([0] * 9 + [1])))
    config = WindowConfig(side=32, focus=1)
    right = sum(
        draw_window(config, INPUT, IMAGE, sample, np.random.default_rng(seed))[2] > 100 for seed in range(400)
    )
    assert 160 < right < 240


def test_draw_window_without_focus_is_anywhere_in_the_image_and_not_in_its_border():
    painted = images(sizes_hw=((128, 256),))
    config, region = WindowConfig(side=64, focus=0), (0.0, 0.0, 256.0, 128.0)
    left = [
        draw_window(config, INPUT, region, painted.samples[0], np.random.default_rng(seed))
        for seed in range(100)
    ]
    x1, y1, x2, y2 = np.array(left).T
    np.testing.assert_allclose([x2 - x1, y2 - y1], 128)  # the input shows two pixels in one
    assert x1.min() < 10 and x2.max() > 246
    np.testing.assert_allclose(y1, 0, atol=1e-9)


def test_draw_window_contains_an_image_that_is_narrower():
    painted = images(sizes_hw=((128, 32),))
    region = draw_window(
        WindowConfig(side=64, focus=1), INPUT, (0.0, 0, 32, 128), painted.samples[0], np.random.default_rng(0)
    )
    assert region[0] <= 0 and region[2] >= 32


def test_mosaic_in_a_window_has_the_scale_of_the_whole_input():
    painted = Painted(sizes_hw=((128, 128),) * 4, blocks=((2, 2, 18, 18), (46, 46, 62, 62)))
    whole = painted.scenes(INPUT, mosaic=1)
    part = painted.scenes(INPUT, mosaic=1, window={"side": 64})
    spec = window_spec(part.config.window, INPUT)
    sizes = []
    for scenes, shown in ((whole, INPUT), (part, spec)):
        for seed in range(30):
            scene = scenes.draw(0, np.random.default_rng(seed))
            boxes = scenes.render(scene, shown, masks=False)[1].boxes
            inside = (boxes > 0).all(1) & (boxes < shown.size_hw[0]).all(1)
            sides = (boxes[:, 2:] - boxes[:, :2])[inside]
            sizes.append(sides.max(initial=0))
    assert max(sizes[:30]) == pytest.approx(32, abs=1)
    assert max(sizes[30:]) == pytest.approx(32, abs=1)


@pytest.mark.parametrize(
    ("stride", "spec", "side"),
    [
        (None, INPUT, 64),
        (32, INPUT, 48),
        (32, INPUT, 128),
        (32, InputSpec(size_hw=(128, 96), resize="letterbox"), 64),
        (32, InputSpec(size_hw=(128, 128), resize="shortest", resize_to=160), 64),
    ],
)
def test_check_window_refuses_what_a_network_cannot_be_trained_on(stride, spec, side):
    network: Any = SimpleNamespace(window_stride=stride, inputs=(spec,))
    with raises("bad-recipe.unsuitable-augmentation", "augmentation.window"):
        check_window(WindowConfig(side=side), network)


def test_dataset_refuses_windows_of_other_detectors():
    network = create("fasterrcnn-resnet18-fpn", task="detection", label_count=8, input_size=96)
    with raises("bad-recipe.unsuitable-augmentation", "augmentation.window"):
        DetectionImageDataset([], network, augmentation=AugmentationConfig(window={"side": 64}))


def test_scenes_without_a_window_draw_what_they_drew():
    painted = images()
    plain = {"scale_jitter": (0.5, 1.5), "horizontal_flip": 0.5}
    scenes = painted.scenes(INPUT, **plain)
    first = scenes.draw(0, np.random.default_rng(3))
    windowed = SceneImages(
        painted.samples, painted, AugmentationConfig(**plain, window={"side": 64}), INPUT
    ).draw(0, np.random.default_rng(3))
    assert windowed.crop.change == first.crop.change
