"""Scenes of several images: boxes and masks stay on their pixels, and nothing depends on order or cache."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch.utils.data import DataLoader

from blemish.config.recipe import Recipe
from blemish.config.schema import AugmentationConfig
from blemish.geometry import mask_from_array
from blemish.imaging import LoadedImage
from blemish.model_file import InputSpec
from blemish.models import create
from blemish.preprocessing import resize
from blemish.structures import GroundTruth, Labels, Sample, Task
from blemish.testing import raises
from blemish.training.augmentation.detection_augmentation import CropParams, TrainingObjects, render_part
from blemish.training.augmentation.image_augmentation import AugmentationParams
from blemish.training.augmentation.scenes import (
    MosaicParams,
    SceneImages,
    SceneParams,
    blend,
    mosaic_part,
    paste_objects,
)
from blemish.training.batch_sampler import collate
from blemish.training.decoded_images import DecodedImages
from blemish.training.detection_dataset import DetectionImageDataset
from blemish.training.image_source import FileImageSource
from blemish.training.recipe_checks import check_augmentation

PAD = 114
# Every object of every image has a color of its own, far from those of the others, the border and the ground.
COLORS = [
    (255, 0, 0),
    (0, 255, 0),
    (0, 0, 255),
    (255, 255, 0),
    (255, 0, 255),
    (0, 255, 255),
    (255, 128, 0),
    (0, 128, 255),
]


class Painted:
    """Images in memory: a grid of blocks, each of one color, on black."""

    def __init__(self, sizes_hw=((64, 64),) * 4, blocks=((8, 12, 24, 28), (36, 16, 56, 48))):
        self.images: dict[str, LoadedImage] = {}
        self.samples: list[Sample] = []
        self.colors: list[tuple[int, int, int]] = []
        for i, (height, width) in enumerate(sizes_hw):
            pixels, boxes, masks = np.zeros((height, width, 3), np.uint8), [], []
            for x1, y1, x2, y2 in blocks:
                box = [x1 * width // 64, y1 * height // 64, x2 * width // 64, y2 * height // 64]
                color = COLORS[len(self.colors) % len(COLORS)]
                pixels[box[1] : box[3], box[0] : box[2]] = color
                mask = np.zeros((height, width), bool)
                mask[box[1] : box[3], box[0] : box[2]] = True
                self.colors.append(color)
                boxes.append(box)
                masks.append(mask_from_array(mask))
            objects = GroundTruth(
                task=Task.SEGMENTATION,
                labels=Labels(tuple(f"l{n}" for n in range(len(sizes_hw) * len(blocks)))),
                size_hw=(height, width),
                label_index=np.arange(len(blocks)) + i * len(blocks),  # a label for each color
                boxes_xyxy=np.array(boxes, float),
                masks=tuple(masks),
            )
            self.images[str(i)] = LoadedImage(pixels)
            self.samples.append(
                Sample(id=str(i), path=Path(f"{i}.png"), size_hw=(height, width), ground_truth=objects)
            )

    def resized(self, sample, spec, crop_xyxy=None):
        return resize(self.images[sample.id], spec, crop_xyxy)

    def size_hw(self, sample):
        return self.images[sample.id].size_hw

    def scenes(self, spec=None, **config):
        return SceneImages(self.samples, self, AugmentationConfig(**config), spec or SPECS[0])

    def painted_box(self, pixels, label):
        """Return the box of the pixels that are nearer to a label's color than to anything else."""
        others = np.array([(0, 0, 0), (PAD,) * 3, *COLORS], float)
        distance = np.linalg.norm(pixels[:, :, None] - others, axis=3)
        own = distance.argmin(2) == 2 + COLORS.index(self.colors[label])
        if not own.any():
            return None
        rows, columns = np.flatnonzero(own.any(1)), np.flatnonzero(own.any(0))
        return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


SPECS = [
    InputSpec(size_hw=(128, 128), pad_value=PAD),
    InputSpec(size_hw=(128, 96), resize="letterbox", pad_value=PAD),
]


@pytest.mark.parametrize("center", [(0.5, 0.5), (0.25, 0.375), (0.75, 0.5)])
def test_mosaic_of_unscaled_images_has_boxes_equal_to_the_painted_ones(center):
    images = Painted(sizes_hw=((128, 128),) * 3 + ((128, 128),), blocks=((8, 12, 24, 28),))
    scene = SceneParams((0, 1, 2, 3), CropParams(), MosaicParams(center, 1.0))
    pixels, objects, _ = images.scenes(min_visibility=0.01).render(scene, SPECS[0], masks=True)
    assert len(objects.labels)
    for box, label, mask in zip(objects.boxes, objects.labels, objects.masks, strict=True):
        assert box.tolist() == images.painted_box(pixels.astype(float), label)
        assert (pixels[mask] == images.colors[label]).all()


def test_mosaic_shows_four_images_that_abut():
    images = Painted()
    scene = SceneParams((0, 1, 2, 3), CropParams(), MosaicParams((0.5, 0.5), 1.0))
    pixels, objects, _ = images.scenes().render(scene, SPECS[0], masks=True)
    assert not (pixels == PAD).all(2).any()
    assert sorted(objects.labels) == sorted(set(objects.labels))


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("seed", range(8))
def test_scenes_keep_boxes_and_masks_on_their_pixels(spec, seed):
    images = Painted(sizes_hw=((64, 64), (128, 96), (80, 160), (200, 100)), blocks=((8, 12, 40, 52),))
    config = {"mosaic": 1, "scale_jitter": (0.5, 1.5), "translate": 0.1, "horizontal_flip": 0.5}
    config |= {"vertical_flip": 0.5, "min_visibility": 0.05}
    if seed % 2:
        config |= {"rotation_degrees": 20, "shear_degrees": 10}
    scenes = images.scenes(**config)
    scene = scenes.draw(seed % 4, np.random.default_rng(seed))
    pixels, objects, _ = scenes.render(scene, spec, masks=True)
    boxes_alone = scenes.render(scene, spec, masks=False)[1]
    once = [label for label in objects.labels if (objects.labels == label).sum() == 1]
    for box, label, mask in zip(objects.boxes, objects.labels, objects.masks, strict=True):
        near = np.linalg.norm(pixels[mask].astype(float) - images.colors[label], axis=1) < 128
        assert near.mean() > (0.8 if seed % 2 else 0.9)
        if label in once:
            painted = images.painted_box(pixels.astype(float), label)
            assert np.abs(box - painted).max() <= (2 if seed % 2 else 1)
    if not seed % 2:  # without rotation the box of a mask is the moved box
        for box, label in zip(objects.boxes, objects.labels, strict=True):
            moved = boxes_alone.boxes[boxes_alone.labels == label]
            assert np.abs(moved - box).max(1).min() <= 1


@pytest.mark.parametrize("corner", range(4))
@pytest.mark.parametrize("spec", SPECS)
def test_mosaic_part_moved_to_the_input_and_back_is_the_same(corner, spec):
    images = Painted(sizes_hw=((90, 70),))
    sample = images.samples[0]
    part, scale_xy, origin_xy = mosaic_part(MosaicParams((0.4, 0.6), 1.3), corner, (90, 70), spec)
    _, placement, shown = render_part(images, sample, spec, part, scale_xy, origin_xy)
    boxes = np.random.default_rng(0).uniform(0, 70, (5, 4))
    np.testing.assert_allclose(placement.to_image(placement.to_network(boxes)), boxes, atol=1e-9)
    np.testing.assert_allclose(placement.to_network(np.array([part]))[0], shown, atol=1e-9)
    assert 0 <= shown[0] < shown[2] <= spec.size_hw[1]
    assert 0 <= shown[1] < shown[3] <= spec.size_hw[0]


def test_mosaic_around_a_point_far_outside_is_border():
    images = Painted(sizes_hw=((400, 10),) * 4)
    scene = SceneParams((0, 1, 2, 3), CropParams(), MosaicParams((1.9, 0.5), 1.0))
    spec = InputSpec(size_hw=(64, 64), resize="letterbox", pad_value=PAD)
    pixels, objects, _ = images.scenes().render(scene, spec, masks=True)
    assert (pixels == PAD).all()
    assert objects.boxes.shape == (0, 4)
    assert objects.masks.shape == (0, 64, 64)


def test_images_of_other_depth_join_a_mosaic():
    images = Painted()
    gray = np.full((64, 64), 65535, np.uint16)
    images.images["3"] = LoadedImage(gray)
    scene = SceneParams((0, 1, 2, 3), CropParams(), MosaicParams((0.5, 0.5), 1.0))
    pixels, _, _ = images.scenes().render(scene, SPECS[0], masks=True)
    assert pixels.dtype == np.uint8
    assert (pixels[64:, 64:] == 255).all()
    reverse = replace(scene, positions=(3, 1, 2, 0))
    pixels, _, _ = images.scenes().render(reverse, SPECS[0], masks=True)
    assert pixels.dtype == np.float32
    assert pixels.max() == 1


def test_translate_shifts_by_a_share_of_the_input():
    images = Painted(sizes_hw=((64, 64),), blocks=((24, 24, 40, 40),))
    scenes = images.scenes(translate=0.25)
    spec = InputSpec(size_hw=(64, 64), pad_value=PAD)
    shifts = []
    for seed in range(20):
        scene = scenes.draw(0, np.random.default_rng(seed))
        pixels, objects, _ = scenes.render(scene, spec, masks=True)
        painted = images.painted_box(pixels.astype(float), 0)
        assert np.abs(objects.boxes[0] - painted).max() <= 1
        shifts.append(objects.boxes[0, 0] - 24)
    assert max(shifts) <= 16.5
    assert min(shifts) >= -16.5
    assert np.ptp(shifts) > 16


def test_min_visibility_keeps_objects_whose_center_is_cut_off():
    images = Painted(sizes_hw=((64, 64),), blocks=((8, 8, 40, 40),))
    spec = InputSpec(size_hw=(64, 64), pad_value=PAD)
    region = CropParams((28.0, 0.0, 64.0, 64.0))
    counts = [
        len(images.scenes(min_visibility=share).render(SceneParams((0,), region), spec, masks=True)[1].labels)
        for share in (None, 0.5, 0.3)
    ]
    assert counts == [0, 0, 1]  # 12 of 32 columns are visible


def test_paste_objects_covers_and_drops_what_is_below():
    pixels, other = np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 200, np.uint8)

    def objects(*boxes):
        masks = np.zeros((len(boxes), 8, 8), bool)
        for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
            mask[y1:y2, x1:x2] = True
        return TrainingObjects(np.array(boxes, float), np.arange(len(boxes)), masks)

    below = objects((0, 0, 4, 4), (2, 2, 4, 4), (6, 6, 8, 8))
    above = objects((2, 0, 5, 5))
    mixed, joined = paste_objects(pixels, below, other, above)
    assert (mixed[:5, 2:5] == 200).all()
    assert mixed.sum() == 200 * 3 * 15
    assert joined.boxes.tolist() == [[0, 0, 2, 4], [6, 6, 8, 8], [2, 0, 5, 5]]
    assert joined.labels.tolist() == [0, 2, 0]
    assert not (joined.masks[:2] & joined.masks[2]).any()
    same, kept = paste_objects(pixels, below, other, above.select(np.array([False])))
    assert same is pixels
    assert kept is below


def test_copy_paste_adds_objects_of_another_image():
    images = Painted(sizes_hw=((128, 128),) * 4)
    scenes = images.scenes(copy_paste=1)
    added = 0
    for seed in range(12):
        scene = scenes.draw(0, np.random.default_rng(seed))
        pixels, objects, _ = scenes.render(scene, SPECS[0], masks=True)
        added += sum(label > 1 for label in objects.labels)
        for box, label in zip(objects.boxes, objects.labels, strict=True):
            if label > 1:
                assert box.tolist() == images.painted_box(pixels.astype(float), label)
    assert added > 5


def test_mixup_blends_two_scenes_and_has_the_objects_of_both():
    images = Painted()
    scenes = images.scenes(mixup=8)
    scene = scenes.draw(0, np.random.default_rng(3))
    pixels, objects, _ = scenes.render(scene, SPECS[0], masks=True)
    alone = [scenes.render(s, SPECS[0], masks=True) for s in (replace(scene, mixed=None), scene.mixed)]
    assert 0 < scene.mix_share < 1
    expected = alone[0][0] * scene.mix_share + alone[1][0] * (1 - scene.mix_share)
    assert np.abs(pixels - expected).max() <= 0.51
    assert len(objects.labels) == sum(len(part[1].labels) for part in alone)


def test_mixup_probability_leaves_some_images_alone():
    scenes = Painted().scenes(mixup=8, probability={"mixup": 0.5})
    mixed = [scenes.draw(0, np.random.default_rng(s)).mixed is not None for s in range(40)]
    assert 8 < sum(mixed) < 32


def test_blend_of_floats_stays_float():
    mixed = blend(np.zeros((1, 1, 1), np.float32), np.ones((1, 1, 1), np.float32), 0.25)
    assert mixed.dtype == np.float32
    assert mixed.item() == pytest.approx(0.75)


def test_draw_depends_on_the_generator_alone():
    scenes = Painted().scenes(
        mosaic=0.5, mixup=8, copy_paste=0.5, scale_jitter=(0.5, 1.5), hsv_gains=(0.1, 0.5, 0.5)
    )
    drawn = [scenes.draw(1, np.random.default_rng(s)) for s in (1, 1, 2)]
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.fixture
def files(tmp_path):
    images = Painted(sizes_hw=((64, 64), (96, 64), (64, 96), (48, 48)))
    for sample in images.samples:
        Image.fromarray(images.images[sample.id].pixels).save(tmp_path / sample.path.name)
    return [replace(sample, path=tmp_path / sample.path.name) for sample in images.samples]


def dataset(files, source=None, **augmentation):
    config = {"mosaic": 0.7, "copy_paste": 0.5, "mixup": 8, "probability": {"mixup": 0.5}}
    config |= {"scale_jitter": (0.5, 1.5), "hsv_gains": (0.02, 0.7, 0.4), "horizontal_flip": 0.5}
    network = create("maskrcnn-resnet18-fpn", task="segmentation", label_count=8, input_size=96)
    chosen = AugmentationConfig(**(config | augmentation))
    return DetectionImageDataset(files, network, mixed_epochs=9, augmentation=chosen, source=source)


def equal(first, second):
    pairs = [(first["inputs"][0], second["inputs"][0])]
    pairs += [(first["target"][name], second["target"][name]) for name in first["target"]]
    return all(np.array_equal(a.numpy(), b.numpy()) for a, b in pairs)


def test_dataset_is_the_same_in_any_order_and_with_any_cache(files):
    keys = [(epoch, position) for epoch in (0, 1, 9) for position in range(4)]
    one, other = dataset(files, FileImageSource()), dataset(files, DecodedImages(30_000))
    items = {key: one[key] for key in keys}
    assert all(equal(items[key], other[key]) for key in reversed(keys))
    assert not equal(items[0, 1], items[1, 1])


@pytest.mark.slow
def test_dataset_is_the_same_in_spawned_processes(files):
    keys = [[(0, 0), (1, 1)], [(0, 2), (0, 3)]]
    images = dataset(files, DecodedImages(10**6))
    own = [[images[key] for key in batch] for batch in keys]
    loader = DataLoader(
        images, batch_sampler=keys, num_workers=1, multiprocessing_context="spawn", collate_fn=list
    )
    for batch, expected in zip(loader, own, strict=True):
        assert all(equal(*pair) for pair in zip(batch, expected, strict=True))


def test_dataset_closes_with_single_images(files):
    images = dataset(files, mosaic=1, mixup=0, probability={})
    random = [np.random.default_rng(0) for _ in range(2)]
    assert images.scenes.draw(0, random[0]).mosaic is not None
    assert images.scenes.draw(0, random[1], closing=True).mosaic is None
    assert collate([images[9, p] for p in range(4)])["inputs"][0].shape == (4, 3, 96, 96)


def test_dataset_with_mixup_alone_augments(files):
    config = AugmentationConfig(mixup=8)
    assert config.is_off
    images = dataset(files, mosaic=0, copy_paste=0, scale_jitter=None, hsv_gains=None, horizontal_flip=0)
    assert images.augmentation is not None


def test_shear_of_boxes_equals_torchvision():
    import torch
    from torchvision import tv_tensors
    from torchvision.transforms.v2 import functional as kernels

    from blemish.training.augmentation.image_augmentation import augment_boxes

    boxes = np.array([[10.0, 20, 50, 60], [0, 0, 5, 90]])
    change = AugmentationParams(angle=17, shear_xy=(8.0, -5.0))
    expected = kernels.affine(
        tv_tensors.BoundingBoxes(
            torch.from_numpy(boxes), format="XYXY", canvas_size=(100, 80), clamping_mode=None
        ),
        -17.0,
        [0, 0],
        1.0,
        [8.0, -5.0],
    )
    np.testing.assert_allclose(augment_boxes(change, boxes, (100, 80)), expected.numpy(), atol=1e-3)
    inverse = np.linalg.inv(change.matrix())
    np.testing.assert_allclose(inverse @ change.matrix(), np.eye(2), atol=1e-12)


@pytest.mark.parametrize(
    ("task", "key"), [("classification", "mosaic"), ("detection", "copy_paste"), ("localization", "mixup")]
)
def test_check_augmentation_names_the_tasks_that_use_a_key(task, key):
    recipe = Recipe.of({"task": task, "augmentation": {key: 0.5}})
    with raises("bad-recipe.key-of-another-task", f"augmentation.{key}", task):
        check_augmentation(recipe, recipe.task)
