"""Windows: parts of the input that training images show, so that a step costs less than the whole input.

A convolutional detector that is trained on windows sees objects at the size that they have in its input,
and is validated and exported for the whole input.

Source:
    Singh et al. 2018 (SNIPER): training on regions around objects at the scale of prediction.
"""

from __future__ import annotations

import numpy as np

from blemish.config.schema import WindowConfig
from blemish.errors import BadRecipe
from blemish.model_file import InputSpec
from blemish.models._network import Network
from blemish.structures import Sample
from blemish.training.augmentation.detection_augmentation import Region, scale_and_offset


def check_window(config: WindowConfig, network: Network) -> None:
    """Refuse a window that a network cannot be trained on.

    Raises:
        BadRecipe: the network takes one size only, its input is not square or crops the image, or the side is
            not a multiple of the network's stride below the input's ("bad-recipe.unsuitable-augmentation").
    """
    stride, spec = network.window_stride, network.inputs[0]
    problem = ""
    height, width = spec.size_hw
    if stride is None:
        problem = "this network is trained at the size of its input only. Remove the key"
    elif spec.resize == "shortest":
        problem = "the input shows a part of the image only. Set model.resize=letterbox, or remove the key"
    elif height != width:
        problem = f"the input has {height} x {width} pixels. Set a square input size, or remove the key"
    elif config.side % stride or config.side >= width:
        problem = f"side: expected a multiple of {stride} below the input's {width} pixels, got {config.side}"
    if problem:
        raise BadRecipe(f"augmentation.window: {problem}", reason="unsuitable-augmentation")


def window_spec(config: WindowConfig, spec: InputSpec) -> InputSpec:
    """Return the input with the size of the window."""
    return spec.model_copy(update={"size_hw": (config.side, config.side)})


def draw_window(
    config: WindowConfig, spec: InputSpec, region_xyxy: Region, sample: Sample, random: np.random.Generator
) -> Region:
    """Return the part of a region that a window of the input shows, x1 y1 x2 y2 in pixels of the image.

    With probability `config.focus` an object is drawn, each label of the region with the same probability,
    and along each axis the window contains the object, or is inside its box if the box is longer. If the
    window is longer than the image, it contains all of the image that the region shows.

    Args:
        config: side and focus.
        spec: the whole input.
        region_xyxy: what the whole input would show, in pixels of the image.
        sample: the image with its ground truth and its size.
        random: the source of every draw.
    """
    assert sample.size_hw is not None  # noqa: S101  (known once the image was opened)
    left, top, right, bottom = region_xyxy
    scale_xy, _ = scale_and_offset(spec, right - left, bottom - top)
    sides = [config.side / scale for scale in scale_xy]
    low = [max(left, 0.0), max(top, 0.0)]
    high = [min(right, float(sample.size_hw[1])), min(bottom, float(sample.size_hw[0]))]
    box = None
    if config.focus and random.random() < config.focus:
        box = _draw_object(sample, (low[0], low[1], high[0], high[1]), random)
    start = []
    for axis in (0, 1):
        first, last = sorted((low[axis], high[axis] - sides[axis]))
        if box is not None:
            nearest, farthest = sorted((box[axis], box[axis + 2] - sides[axis]))
            first, last = np.clip((nearest, farthest), first, last)
        start.append(float(random.uniform(first, last)))
    return start[0], start[1], start[0] + sides[0], start[1] + sides[1]


def _draw_object(
    sample: Sample, region_xyxy: Region, random: np.random.Generator
) -> tuple[float, ...] | None:
    """Return the visible box of a random object whose center is in a region; None if there is none."""
    ground_truth = sample.ground_truth
    if ground_truth is None or ground_truth.boxes_xyxy is None:
        return None
    centers = (ground_truth.boxes_xyxy[:, :2] + ground_truth.boxes_xyxy[:, 2:]) / 2
    is_inside = (centers >= region_xyxy[:2]).all(1) & (centers <= region_xyxy[2:]).all(1)
    rows = np.flatnonzero(is_inside & ~ground_truth.crowd)
    if not len(rows):
        return None
    label = random.choice(np.unique(ground_truth.label_index[rows]))
    row = random.choice(rows[ground_truth.label_index[rows] == label])
    box = np.clip(ground_truth.boxes_xyxy[row], region_xyxy[:2] * 2, region_xyxy[2:] * 2)
    return tuple(box.tolist())
