"""Random changes for detectors: which part of the image is seen, and where its boxes and masks go.

A region of the image, or one larger than it, is drawn and rendered by `preprocessing`'s one resize;
flips, rotation and colour follow as for whole images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms.v2 import functional as kernels

from blemish.arrays import FloatArray, Mask
from blemish.config.schema import AugmentationConfig
from blemish.errors import BadRecipe
from blemish.geometry import pairwise_iou
from blemish.geometry.masks import crop_window
from blemish.model_file import InputSpec
from blemish.preprocessing import Placement
from blemish.structures import Sample, Task
from blemish.training.image_augmentation import (
    AugmentationParams,
    change_pixels,
    draw_change,
    draw_crop,
    move_boxes,
)
from blemish.training.image_dataset import ImageSource

Region = tuple[float, float, float, float]

OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, None)  # SSD's choices; None takes the whole
TRIALS = 40  # of a part, before another overlap is drawn
ROUNDS = 20  # of overlaps, before the whole is taken


@dataclass(frozen=True)
class CropParams:
    """What is seen of one image in one epoch.

    Attributes:
        region_xyxy: pixels of the image; what lies beyond it becomes border. None for the whole.
        change: flips, rotation and colour of what is seen.
    """

    region_xyxy: Region | None = None
    change: AugmentationParams = field(default_factory=AugmentationParams)


def check_changes(part: AugmentationConfig, task: Task) -> None:
    """Refuse changes that networks of this task do not learn from, before any work.

    Raises:
        BadRecipe: the message names the key.
    """
    mixes, views = ("mixup", "cutmix"), ("scale_jitter", "iou_crop", "zoom_out")
    for name in (*mixes, *views):
        fits = task.is_image_level if name in mixes else task.has_objects
        if getattr(part, name) and not fits:
            whom = "classification and multilabel" if name in mixes else "detection and segmentation"
            raise BadRecipe(f"augmentation.{name} is for {whom}; leave it out")


def draw_view(
    part: AugmentationConfig, random: np.random.Generator, size_hw: tuple[int, int], boxes_xyxy: FloatArray
) -> CropParams:
    """What is seen of one image.

    Args:
        part: probabilities and ranges.
        random: every draw comes from it, in one order.
        size_hw: of the image, pixels.
        boxes_xyxy: (n, 4) pixels of the image.
    """
    height, width = size_hw
    whole: Region = (0.0, 0.0, float(width), float(height))
    region = whole
    if part.zoom_out and random.random() < part.zoom_out:
        region = _zoomed_out(whole, random.uniform(1, part.max_zoom_out), random)
    if part.iou_crop and random.random() < part.iou_crop:
        region = _iou_crop(region, random, boxes_xyxy)
    if part.scale_jitter is not None and region == whole:
        region = _scaled(region, random.uniform(*part.scale_jitter), random)
    if part.random_resized_crop is not None and region == whole:
        region = draw_crop(part.random_resized_crop, random, size_hw, boxes_xyxy) or whole
    return CropParams(None if region == whole else region, draw_change(part, random))


def see(
    source: ImageSource, sample: Sample, spec: InputSpec, view: CropParams
) -> tuple[NDArray[Any], Placement, Region]:
    """The picture that a view gives.

    Args:
        source: of images.
        sample: which.
        spec: the network's input.
        view: without region the picture equals that of prediction, but for `view.change`.

    Returns:
        (H, W, C) uint8, or float32 in [0, 1]; where the image lies in it before flips and rotation;
        and the part of the input that shows the image, pixels of the input.
    """
    height, width = spec.size_hw
    if view.region_xyxy is None:
        pixels, placement = source.resized(sample, spec, AugmentationParams())
        shown = placement.to_network(np.array([[0, 0, placement.size_hw[1], placement.size_hw[0]]]))[0]
        shown = np.clip(shown, 0, [width, height, width, height])
        return change_pixels(view.change, pixels), placement, (shown[0], shown[1], shown[2], shown[3])
    size_hw = source.size_hw(sample)
    left, top, right, bottom = view.region_xyxy
    scale_xy, start_xy = _plan(spec, right - left, bottom - top)
    seen = (max(left, 0.0), max(top, 0.0), min(right, float(size_hw[1])), min(bottom, float(size_hw[0])))
    # Whole pixels, at least one: the boxes then follow the picture as it was rounded.
    x1, x2 = _span(start_xy[0], scale_xy[0], seen[0] - left, seen[2] - left, width)
    y1, y2 = _span(start_xy[1], scale_xy[1], seen[1] - top, seen[3] - top, height)
    small = spec.model_copy(update={"size_hw": (y2 - y1, x2 - x1), "resize": "stretch"})
    part, _ = source.resized(sample, small, AugmentationParams(crop_xyxy=seen))
    border = spec.pad_value if part.dtype == np.uint8 else np.float32(spec.pad_value / 255)
    pixels = np.full((height, width, part.shape[2]), border, part.dtype)
    pixels[y1:y2, x1:x2] = part
    scale = ((x2 - x1) / (seen[2] - seen[0]), (y2 - y1) / (seen[3] - seen[1]))
    offset = (x1 - seen[0] * scale[0], y1 - seen[1] * scale[1])
    placement = Placement(size_hw, spec.size_hw, scale, offset)
    return change_pixels(view.change, pixels), placement, (float(x1), float(y1), float(x2), float(y2))


@dataclass(frozen=True)
class TrainingObjects:
    """The objects of one image as a detector learns them.

    Attributes:
        boxes: (n, 4) float64 corners in pixels of the input, each with an area.
        labels: (n,) int64 from 0.
        masks: (n, H, W) bool, or None.
    """

    boxes: FloatArray
    labels: NDArray[np.int64]
    masks: NDArray[np.bool_] | None

    def as_target(self) -> dict[str, torch.Tensor]:
        """What `Network.loss` takes."""
        target = {
            "boxes": torch.as_tensor(self.boxes, dtype=torch.float32),
            "labels": torch.as_tensor(self.labels),
        }
        if self.masks is not None:
            target["masks"] = torch.as_tensor(self.masks.astype(np.uint8))
        return target


def objects_of(
    sample: Sample, placement: Placement, shown: Region, change: AugmentationParams, *, masks: bool
) -> TrainingObjects:
    """The objects of an image after a view.

    An object stays if its centre is shown, and its box and mask are cut to what is shown; a crowd is
    left out, since nobody says how many objects it holds.

    Args:
        sample: with its truth.
        placement: where the image lies before `change`.
        shown: the part of the input that shows the image.
        change: flips and rotation.
        masks: whether to draw them.
    """
    ground_truth = sample.ground_truth
    height, width = placement.input_hw
    if ground_truth is None or ground_truth.boxes_xyxy is None:
        none = np.zeros((0, height, width), bool) if masks else None
        return TrainingObjects(np.zeros((0, 4)), np.zeros(0, np.int64), none)
    placed = placement.to_network(ground_truth.boxes_xyxy)
    centre = (placed[:, :2] + placed[:, 2:]) / 2
    inside = (centre >= shown[:2]).all(1) & (centre <= shown[2:]).all(1) & ~ground_truth.crowd
    cut = np.clip(placed, (shown[0], shown[1]) * 2, (shown[2], shown[3]) * 2)
    tight = (cut != placed).any(1) | bool(change.angle)
    boxes = np.clip(move_boxes(change, cut, placement.input_hw), 0, (width, height) * 2)
    drawn = None
    if masks:
        drawn = np.zeros((len(boxes), height, width), bool)
        for row in np.flatnonzero(inside):
            if ground_truth.masks is None:
                x1, y1, x2, y2 = cut[row].round().astype(int)
                drawn[row, y1:y2, x1:x2] = True
            else:
                draw_mask(drawn[row], ground_truth.masks[row], placement, shown)
            drawn[row] = _change_mask(change, drawn[row])
            if not drawn[row].any():
                inside[row] = False
            elif tight[row]:
                boxes[row] = _box_of(drawn[row])
    keep = inside & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return TrainingObjects(
        boxes[keep], ground_truth.label_index[keep], None if drawn is None else drawn[keep]
    )


def draw_mask(canvas: NDArray[np.bool_], mask: Mask, placement: Placement, shown: Region) -> None:
    """Set the pixels of an input whose area a mask covers by at least a half, inside what is shown.

    What is thinner than a pixel of the input covers none by a half: then half as much as of the most covered
    one counts, so that a crack does not fall to dots or vanish with its object.
    """
    window, (left, top) = crop_window(mask)
    if not window.size:
        return
    corners = np.array([[left, top, left + window.shape[1], top + window.shape[0]]], np.float64)
    x1, y1, x2, y2 = placement.to_network(corners)[0]
    first = (max(math.floor(x1), round(shown[0])), max(math.floor(y1), round(shown[1])))
    last = (min(math.ceil(x2), round(shown[2])), min(math.ceil(y2), round(shown[3])))
    if first[0] >= last[0] or first[1] >= last[1]:
        return
    # A ring of zeros wider than a pixel of the input, whose pixels need not begin where the window does.
    ring = [math.ceil(1 / s) + 1 for s in placement.scale_xy]
    padded = np.pad(window, ((ring[1],) * 2, (ring[0],) * 2))
    back = placement.to_image(np.array([[*first, *last]], np.float64))[0]
    box = back - np.array([left - ring[0], top - ring[1]] * 2)
    box = np.clip(box, 0, (padded.shape[1], padded.shape[0]) * 2)
    image = Image.fromarray(padded.astype(np.uint8) * np.uint8(255))
    size = (last[0] - first[0], last[1] - first[1])
    part = np.asarray(image.resize(size, Image.Resampling.BOX, box=(box[0], box[1], box[2], box[3])))
    most = int(part.max())
    if most:
        canvas[first[1] : last[1], first[0] : last[0]] |= 2 * part.astype(np.int64) >= most


def _change_mask(change: AugmentationParams, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    if change.flip_horizontal:
        mask = mask[:, ::-1]
    if change.flip_vertical:
        mask = mask[::-1]
    if change.angle:
        turned = kernels.rotate_mask(torch.from_numpy(mask[None].astype(np.uint8)), change.angle)
        mask = turned.numpy()[0] > 0
    return mask


def _box_of(mask: NDArray[np.bool_]) -> FloatArray:
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], np.float64)


def _zoomed_out(region: Region, times: float, random: np.random.Generator) -> Region:
    """A canvas `times` as wide and high, the region somewhere in it."""
    left, top, right, bottom = region
    width, height = right - left, bottom - top
    x = left - random.uniform(0, (times - 1) * width)
    y = top - random.uniform(0, (times - 1) * height)
    return x, y, x + times * width, y + times * height


def _scaled(region: Region, scale: float, random: np.random.Generator) -> Region:
    """A part of the region where the scale is above 1, a canvas around it where it is below."""
    if scale <= 1:
        return _zoomed_out(region, 1 / scale, random)
    left, top, right, bottom = region
    width, height = (right - left) / scale, (bottom - top) / scale
    x = left + random.uniform(0, right - left - width)
    y = top + random.uniform(0, bottom - top - height)
    return x, y, x + width, y + height


def _iou_crop(region: Region, random: np.random.Generator, boxes_xyxy: FloatArray) -> Region:
    """A part of the region that overlaps some box by a drawn minimum, and shows a box's centre.

    Source:
        SSD, section 2.2; torchvision.transforms.v2.RandomIoUCrop.
    """
    left, top, right, bottom = region
    for _ in range(ROUNDS):
        least = OVERLAPS[random.integers(len(OVERLAPS))]
        if least is None or not len(boxes_xyxy):
            return region
        for _ in range(TRIALS):
            width, height = random.uniform(0.3, 1, 2) * (right - left, bottom - top)
            if not 0.5 <= width / height <= 2:
                continue
            x = left + random.uniform(0, right - left - width)
            y = top + random.uniform(0, bottom - top - height)
            part = (float(x), float(y), float(x + width), float(y + height))
            centre = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
            shown = (centre > part[:2]).all(1) & (centre < part[2:]).all(1)
            if shown.any() and pairwise_iou(boxes_xyxy[shown], np.array([part])).max() >= least:
                return part
    return region


def _plan(spec: InputSpec, width: float, height: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Scale and start, along x and y, of a region in the input."""
    input_height, input_width = spec.size_hw
    if spec.resize != "letterbox":
        return (input_width / width, input_height / height), (0.0, 0.0)
    ratio = min(input_width / width, input_height / height)
    if spec.letterbox_align == "corner":
        return (ratio, ratio), (0.0, 0.0)
    return (ratio, ratio), (
        float((input_width - round(width * ratio)) // 2),
        float((input_height - round(height * ratio)) // 2),
    )


def _span(start: float, scale: float, low: float, high: float, most: int) -> tuple[int, int]:
    """First and past-the-last pixel of [low, high), at least one."""
    first = min(max(round(start + low * scale), 0), most - 1)
    return first, min(max(round(start + high * scale), first + 1), most)
