"""Augmentation for detectors: boxes and masks stay on their pixels."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms.v2 import functional as kernels

from blemish.config.recipe import Recipe
from blemish.config.schema import AugmentationConfig
from blemish.data import synthetic
from blemish.geometry import mask_box, mask_from_array, pairwise_iou
from blemish.imaging import LoadedImage
from blemish.model_file import InputSpec
from blemish.preprocessing import place, resize
from blemish.structures import GroundTruth, Labels, Sample, Task
from blemish.testing import raises
from blemish.training.augmentation.detection_augmentation import (
    CropParams,
    draw_crop_params,
    render_crop,
    visible_objects,
)
from blemish.training.augmentation.image_augmentation import AugmentationParams
from blemish.training.recipe_checks import check_augmentation


class InMemory:
    def __init__(self, image):
        self.image = image

    def resized(self, sample, spec, crop_xyxy=None):
        return resize(self.image, spec, crop_xyxy)

    def size_hw(self, sample):
        return self.image.size_hw


def scene(size_hw=(120, 160)):
    """Return an image of two bright blocks on black, which boxes and masks must cover."""
    pixels = np.zeros((*size_hw, 3), np.uint8)
    blocks = [(20, 30, 70, 80), (100, 60, 150, 110)]
    masks = []
    for x1, y1, x2, y2 in blocks:
        pixels[y1:y2, x1:x2] = 255
        array = np.zeros(size_hw, bool)
        array[y1:y2, x1:x2] = True
        masks.append(mask_from_array(array))
    ground_truth = GroundTruth(
        task=Task.SEGMENTATION,
        labels=Labels(("a", "b")),
        size_hw=size_hw,
        label_index=np.array([0, 1]),
        boxes_xyxy=np.array(blocks, float),
        masks=tuple(masks),
    )
    sample = Sample(id="s", path=Path("s.png"), size_hw=size_hw, ground_truth=ground_truth)
    return InMemory(LoadedImage(pixels, Path("s.png"))), sample


SPECS = [
    InputSpec(size_hw=(96, 96)),
    InputSpec(size_hw=(96, 128), resize="letterbox", pad_value=0),
    InputSpec(size_hw=(128, 96), resize="letterbox", letterbox_align="corner", pad_value=0),
]


@pytest.mark.parametrize("spec", SPECS)
def test_render_crop_without_region_equals_prediction(spec):
    source, sample = scene()
    pixels, placement, _ = render_crop(source, sample, spec, CropParams())
    expected, expected_placement = resize(source.image, spec)
    assert np.array_equal(pixels, expected)
    assert placement == expected_placement


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("seed", range(12))
def test_visible_objects_stay_on_their_pixels(spec, seed):
    source, sample = scene()
    part = AugmentationConfig(
        horizontal_flip=0.5,
        vertical_flip=0.5,
        iou_crop=0.6,
        zoom_out=0.4,
        scale_jitter=(0.4, 1.8),
        rotation_degrees=20 if seed % 3 == 0 else 0,
    )
    view = draw_crop_params(part, np.random.default_rng(seed), (120, 160), sample.ground_truth.boxes_xyxy)
    pixels, placement, shown = render_crop(source, sample, spec, view)
    found = visible_objects(sample, placement, shown, view.change, masks=True)
    bright = pixels[..., 0] > 127
    for box, mask in zip(found.boxes, found.masks, strict=True):
        # The pixels of a mask are bright, and its box is tight.
        assert bright[mask].mean() > 0.9
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        tight = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert np.abs(box - tight).max() <= 1.5
        assert (box >= 0).all()
        assert (box <= [spec.size_hw[1], spec.size_hw[0]] * 2).all()
    if len(found.boxes) == 2:
        assert found.masks.any(0).sum() >= 0.8 * bright.sum()


def test_draw_crop_params_depends_on_the_generator_alone():
    part = AugmentationConfig(horizontal_flip=0.5, iou_crop=1, zoom_out=0.5, brightness=0.3)
    boxes = scene()[1].ground_truth.boxes_xyxy
    drawn = [draw_crop_params(part, np.random.default_rng(s), (120, 160), boxes) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_iou_crop_contains_the_center_of_a_box():
    boxes = scene()[1].ground_truth.boxes_xyxy
    part = AugmentationConfig(iou_crop=1)
    random = np.random.default_rng(0)
    regions = [draw_crop_params(part, random, (120, 160), boxes).region_xyxy for _ in range(60)]
    cropped = [r for r in regions if r is not None]
    assert 20 < len(cropped) < 60
    for region in cropped:
        center = (boxes[:, :2] + boxes[:, 2:]) / 2
        assert ((center > region[:2]) & (center < region[2:])).all(1).any()
        width, height = region[2] - region[0], region[3] - region[1]
        assert 0.5 <= width / height <= 2
        assert 0 <= region[0] < region[2] <= 160
        assert pairwise_iou(boxes, np.array([region])).max() > 0


def test_flips_of_objects_equal_torchvision():
    source, sample = scene()
    spec = SPECS[0]
    for change, name in (
        (AugmentationParams(flip_horizontal=True), "horizontal"),
        (AugmentationParams(flip_vertical=True), "vertical"),
    ):
        _, placement, shown = render_crop(source, sample, spec, CropParams(None, change))
        plain = visible_objects(sample, placement, shown, AugmentationParams(), masks=True)
        found = visible_objects(sample, placement, shown, change, masks=True)
        flip = getattr(kernels, f"{name}_flip")
        boxes = tv_tensors.BoundingBoxes(torch.from_numpy(plain.boxes), format="XYXY", canvas_size=(96, 96))
        np.testing.assert_allclose(found.boxes, flip(boxes).numpy())
        assert np.array_equal(found.masks, flip(tv_tensors.Mask(torch.from_numpy(plain.masks))).numpy())


def test_visible_objects_drops_and_clips_objects_at_the_border():
    source, sample = scene()
    view = CropParams((40.0, 0.0, 120.0, 120.0))
    _, placement, shown = render_crop(source, sample, InputSpec(size_hw=(120, 80)), view)
    found = visible_objects(sample, placement, shown, AugmentationParams(), masks=True)
    assert found.labels.tolist() == [0]
    np.testing.assert_allclose(found.boxes, [[0, 30, 30, 80]], atol=0.01)
    assert found.masks[0].sum() == 30 * 50


@pytest.mark.parametrize("wide", [1, 2, 3])
def test_rasterize_mask_keeps_masks_thinner_than_a_pixel(wide):
    """A crack thinner than a pixel of the input would vanish, and its object with it."""
    array = np.zeros((400, 400), bool)
    for y in range(50, 350):
        array[y, 100 + y // 2 : 100 + y // 2 + wide] = True
    mask = mask_from_array(array)
    ground_truth = GroundTruth(
        task=Task.SEGMENTATION, labels=Labels(("crack",)), size_hw=(400, 400), label_index=np.array([0]),
        boxes_xyxy=mask_box(mask)[None], masks=(mask,),
    )  # fmt: skip
    sample = Sample(id="s", path=Path("s.png"), size_hw=(400, 400), ground_truth=ground_truth)
    placement = place((400, 400), InputSpec(name="image", size_hw=(80, 80), resize="stretch"))
    drawn = visible_objects(sample, placement, (0, 0, 80, 80), AugmentationParams(), masks=True).masks
    assert len(drawn) == 1 and drawn[0].any(1)[10:70].all(), "expected pixels in every row of the crack"
    assert drawn[0].sum() <= 2 * 62


def test_visible_objects_without_crowds_and_without_ground_truth():
    source, sample = scene()
    import dataclasses

    crowd = dataclasses.replace(sample.ground_truth, crowd=np.array([True, False]))
    crowded = dataclasses.replace(sample, ground_truth=crowd)
    _, placement, shown = render_crop(source, crowded, SPECS[0], CropParams())
    assert visible_objects(crowded, placement, shown, AugmentationParams(), masks=False).labels.tolist() == [
        1
    ]
    clean = dataclasses.replace(sample, ground_truth=None)
    target = visible_objects(clean, placement, shown, AugmentationParams(), masks=True).as_target()
    assert target["boxes"].shape == (0, 4)
    assert target["masks"].shape == (0, 96, 96)
    view = draw_crop_params(
        AugmentationConfig(iou_crop=1, zoom_out=1), np.random.default_rng(0), (120, 160), np.zeros((0, 4))
    )
    render_crop(source, clean, SPECS[0], view)


def test_synthetic_panels_have_masks_in_their_boxes():
    for panel in synthetic.panels(3, seed=2):
        ground_truth = panel.ground_truth
        for mask, box in zip(ground_truth.masks or (), ground_truth.boxes_xyxy, strict=True):
            assert pairwise_iou(mask_box(mask)[None], box[None])[0, 0] > 0.5


def test_check_augmentation_refuses_keys_of_other_tasks():
    def recipe(**keys):
        return Recipe.of({"augmentation": keys})

    reason = "bad-recipe.key-of-another-task"
    with raises(reason, "augmentation.cutmix", "classification", "multilabel", "detection"):
        check_augmentation(recipe(cutmix=0.2), Task.DETECTION)
    with raises(reason, "augmentation.zoom_out", "detection", "segmentation", "classification"):
        check_augmentation(recipe(zoom_out=0.2), Task.CLASSIFICATION)
    for task in (Task.LOCALIZATION, Task.SEGMENTATION):  # the boxes of two images do not mix
        with raises(reason, "augmentation.cutmix", task):
            check_augmentation(recipe(cutmix=1), task)
    check_augmentation(recipe(mixup=0.2, cutmix=1), Task.MULTILABEL)
    check_augmentation(recipe(zoom_out=0.2, iou_crop=1, scale_jitter=[0.5, 2]), Task.DETECTION)
