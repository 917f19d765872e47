"""Scenes: training inputs of a detector that are made of one image or of several.

A scene is drawn first and rendered afterwards. What is drawn depends on the recipe, the random generator and
the sizes of the images alone, never on the order in which images were read. The four images of a mosaic are
rendered at their final size and place, so that each is resized once.

Source:
    Bochkovskiy et al. 2020 (YOLOv4), section 3.3: mosaic; Zhang et al. 2018: MixUp; Ghiasi et al. 2021:
    simple copy-paste.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.config.schema import AugmentationConfig
from blemish.model_file import InputSpec
from blemish.preprocessing import Placement
from blemish.structures import Sample
from blemish.training.augmentation.detection_augmentation import (
    CropParams,
    TrainingObjects,
    blank_input,
    draw_crop_params,
    match_type,
    paste,
    raster_box,
    render_crop,
    render_part,
    visible_objects,
)
from blemish.training.augmentation.image_augmentation import augment_pixels, draw_params
from blemish.training.augmentation.transforms import BuiltTransform
from blemish.training.augmentation.windows import draw_window
from blemish.training.image_source import ImageSource

PASTE_SHARE = 0.5  # of the objects of the other image
MIN_UNCOVERED = 0.1  # share of a mask that pasted objects must leave visible


@dataclass(frozen=True)
class MosaicParams:
    """The layout of four images that meet in one point.

    Attributes:
        center_xy: the point, in shares of the input's width and height; it may be outside.
        scale: of each image, relative to its size as the only image of an input.
    """

    center_xy: tuple[float, float]
    scale: float


@dataclass(frozen=True)
class SceneParams:
    """What one training input shows.

    Attributes:
        positions: of the images in the training data: one, or four of a mosaic.
        crop: the crop of a single image; flips, rotation and colors of the input.
        mosaic: the layout of four images, or None.
        pasted: the scene whose objects are pasted, or None.
        paste_seed: selects them.
        mixed: the scene that is blended with this one, or None.
        mix_share: share of this scene in the blend.
    """

    positions: tuple[int, ...]
    crop: CropParams
    mosaic: MosaicParams | None = None
    pasted: SceneParams | None = None
    paste_seed: int = 0
    mixed: SceneParams | None = None
    mix_share: float = 1.0


@dataclass(frozen=True)
class SceneImages:
    """The images that scenes are made of.

    Attributes:
        samples: the training data.
        source: gives their pixels.
        config: the section `augmentation` of the recipe.
        spec: the network's input, of which `config.window` shows a part.
        transforms: `config.transforms`, built.
    """

    samples: Sequence[Sample]
    source: ImageSource
    config: AugmentationConfig
    spec: InputSpec
    transforms: Sequence[BuiltTransform] = ()

    def draw(self, position: int, random: np.random.Generator, *, closing: bool = False) -> SceneParams:
        """Return what one training input shows.

        Args:
            position: of the image that the input is for.
            random: the source of every draw; the order of the draws is fixed.
            closing: whether only a single image is drawn.
        """
        config, count = self.config, len(self.samples)
        scene = self._draw_base(position, random, closing=closing)
        if closing:
            return scene
        if config.copy_paste and random.random() < config.copy_paste:
            other = self._draw_base(int(random.integers(count)), random, closing=True)
            scene = replace(scene, pasted=other, paste_seed=int(random.integers(2**63)))
        if config.mixup and random.random() < config.probability.get("mixup", 1.0):
            other = self._draw_base(int(random.integers(count)), random)
            scene = replace(scene, mixed=other, mix_share=float(random.beta(config.mixup, config.mixup)))
        return scene

    def _draw_base(self, position: int, random: np.random.Generator, *, closing: bool = False) -> SceneParams:
        """Return a scene of a single image, or a mosaic."""
        config = self.config
        if not closing and config.mosaic and random.random() < config.mosaic:
            others = random.integers(len(self.samples), size=3)
            scale = float(random.uniform(*(config.scale_jitter or (1, 1))))
            if config.window is not None:  # the scale that the images would have in the whole input
                scale *= self.spec.size_hw[0] / config.window.side
            shift = config.translate or 0.0
            x, y = (random.uniform(-0.5, 0.5, 2) * scale + 0.5 + random.uniform(-shift, shift, 2)).tolist()
            change = draw_params(config, random, transforms=self.transforms)
            return SceneParams(
                (position, *map(int, others)), CropParams(None, change), MosaicParams((x, y), scale)
            )
        sample = self.samples[position]
        known = None if sample.ground_truth is None else sample.ground_truth.boxes_xyxy
        boxes = np.zeros((0, 4)) if known is None else known
        size_hw = self.source.size_hw(sample)
        crop = draw_crop_params(config, random, size_hw, boxes, self.transforms)
        if config.window is not None:
            region = crop.region_xyxy or (0.0, 0.0, float(size_hw[1]), float(size_hw[0]))
            known_size = replace(sample, size_hw=size_hw)
            crop = replace(
                crop, region_xyxy=draw_window(config.window, self.spec, region, known_size, random)
            )
        return SceneParams((position,), crop)

    def render(
        self, scene: SceneParams, spec: InputSpec, *, masks: bool
    ) -> tuple[NDArray[Any], TrainingObjects, Placement]:
        """Return the pixels of one input, its objects, and the placement of its first image.

        Args:
            scene: what it shows.
            spec: the network's input.
            masks: whether to rasterize the masks.

        Returns:
            (H, W, C) uint8, or float32 in [0, 1]; the objects in pixels of the input; and the placement of
            the first image before flips, shear and rotation.
        """
        pixels, objects, placement = self._render_base(scene, spec, masks=masks)
        if scene.pasted is not None:
            other_pixels, others, _ = self._render_base(scene.pasted, spec, masks=True)
            selected = np.random.default_rng(scene.paste_seed).random(len(others.labels)) < PASTE_SHARE
            other_pixels = match_type(other_pixels, pixels)
            pixels, objects = paste_objects(pixels, objects, other_pixels, others.select(selected))
        if scene.mixed is not None:
            other_pixels, others, _ = self._render_base(scene.mixed, spec, masks=masks)
            pixels = blend(pixels, match_type(other_pixels, pixels), scene.mix_share)
            objects = join((objects, others))
        return pixels, objects, placement

    def _render_base(
        self, scene: SceneParams, spec: InputSpec, *, masks: bool
    ) -> tuple[NDArray[Any], TrainingObjects, Placement]:
        change, smallest = scene.crop.change, self.config.min_visibility
        if scene.mosaic is None:
            sample = self.samples[scene.positions[0]]
            pixels, placement, shown = render_crop(self.source, sample, spec, scene.crop)
            objects = visible_objects(sample, placement, shown, change, masks=masks, min_visibility=smallest)
            return pixels, objects, placement
        canvas: NDArray[Any] | None = None
        found, placements = [], []
        for corner, position in enumerate(scene.positions):
            sample = self.samples[position]
            part, scale_xy, origin_xy = mosaic_part(scene.mosaic, corner, self.source.size_hw(sample), spec)
            if part is None:
                continue
            content, placement, shown = render_part(self.source, sample, spec, part, scale_xy, origin_xy)
            canvas = blank_input(spec, content) if canvas is None else canvas
            paste(canvas, content, shown)
            placements.append(placement)
            found.append(
                visible_objects(sample, placement, shown, change, masks=masks, min_visibility=smallest)
            )
        if canvas is None:  # four narrow images around a point far outside
            sample = self.samples[scene.positions[0]]
            content, placement = self.source.resized(sample, spec)
            return (
                blank_input(spec, content),
                visible_objects(
                    sample, placement, (0.0, 0.0, 0.0, 0.0), change, masks=masks, min_visibility=1.0
                ).select(slice(0)),
                placement,
            )
        return augment_pixels(change, canvas), join(found), placements[0]


def mosaic_part(
    mosaic: MosaicParams, corner: int, size_hw: tuple[int, int], spec: InputSpec
) -> tuple[tuple[float, float, float, float] | None, tuple[float, float], tuple[float, float]]:
    """Return the visible part of one image of a mosaic.

    Args:
        mosaic: the layout.
        corner: 0 to 3: top left, top right, bottom left, bottom right of the center.
        size_hw: of the image in pixels.
        spec: the network's input.

    Returns:
        The part in pixels of the image, None if nothing is visible; pixels of the input per pixel of the
        image, along x and y; and where the image's corner is in the input.
    """
    sizes, sides = (size_hw[1], size_hw[0]), (spec.size_hw[1], spec.size_hw[0])
    ratios = [side / size for side, size in zip(sides, sizes, strict=True)]
    if spec.resize == "letterbox":
        ratios = [min(ratios)] * 2
    scale_xy = (ratios[0] * mosaic.scale, ratios[1] * mosaic.scale)
    part = []
    origin = []
    for axis, after in enumerate((corner % 2, corner // 2)):
        center = float(round(mosaic.center_xy[axis] * sides[axis]))  # whole pixels, so that images abut
        length = sizes[axis] * scale_xy[axis]
        origin.append(center if after else center - length)
        low, high = max(origin[axis], 0.0), min(origin[axis] + length, float(sides[axis]))
        if high - low < 1:
            return None, scale_xy, (0.0, 0.0)
        part.append(
            (
                max((low - origin[axis]) / scale_xy[axis], 0.0),
                min((high - origin[axis]) / scale_xy[axis], float(sizes[axis])),
            )
        )
    (x1, x2), (y1, y2) = part
    return (x1, y1, x2, y2), scale_xy, (origin[0], origin[1])


def blend(pixels: NDArray[Any], others: NDArray[Any], share: float) -> NDArray[Any]:
    """Return a weighted mean of two images of the same shape and type."""
    mixed = pixels.astype(np.float32) * np.float32(share) + others.astype(np.float32) * np.float32(1 - share)
    return (np.rint(mixed) if pixels.dtype == np.uint8 else mixed).astype(pixels.dtype)


def join(parts: Sequence[TrainingObjects]) -> TrainingObjects:
    """Return the objects of several images as those of one."""
    masks = [part.masks for part in parts if part.masks is not None]
    return TrainingObjects(
        np.concatenate([part.boxes for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate(masks) if masks else None,
    )


def paste_objects(
    pixels: NDArray[Any], objects: TrainingObjects, other_pixels: NDArray[Any], others: TrainingObjects
) -> tuple[NDArray[Any], TrainingObjects]:
    """Return an image with objects of another one pasted in, and all its objects.

    Masks lose what the pasted objects cover; an object that is nearly covered is left out.

    Args:
        pixels: (H, W, C) of the image.
        objects: with masks.
        other_pixels: (H, W, C) of the other image, of the same type.
        others: the objects to paste, with masks.
    """
    assert objects.masks is not None and others.masks is not None  # noqa: S101  (of segmentation)
    if not len(others.labels):
        return pixels, objects
    covered = np.any(others.masks, axis=0)
    pixels = np.where(covered[..., None], other_pixels, pixels)
    masks: NDArray[np.bool_] = objects.masks & ~covered
    left, areas = masks.sum((1, 2)), objects.masks.sum((1, 2))
    boxes = objects.boxes.copy()
    for row in np.flatnonzero((left < areas) & (left > 0)):
        boxes[row] = raster_box(masks[row])
    kept = TrainingObjects(boxes, objects.labels, masks).select(left >= np.maximum(MIN_UNCOVERED * areas, 1))
    return pixels, join((kept, others))
