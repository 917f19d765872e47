"""Training on tiles: large images are cut before training, and the tiles take their place.

An image of 100 megapixels that is resized to 640 pixels shows no scratch. Its tiles are written once, as
lossless files in the run's folder, so that a training step reads one tile and not the image.
"""

from __future__ import annotations

import hashlib
import shutil
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from blemish.arrays import IntArray, Mask
from blemish.config.schema import TilesConfig
from blemish.errors import StorageFull
from blemish.geometry import box_area, clip_boxes, crop_window, mask_box, paste_window
from blemish.imaging import LoadedImage, open_image
from blemish.inference.tiles import Tiling
from blemish.structures import GroundTruth, Sample
from blemish.training.data_setup import TrainingData
from blemish.training.rng import RngPurpose, rng_stream

FOLDER = "tiles"  # in the run's folder


def cut_into_tiles(data: TrainingData, config: TilesConfig, folder: Path, seed: int) -> TrainingData:
    """Return the data with the tiles of the images in place of the images.

    Args:
        data: the images; their fingerprints and splits stay those of whole images.
        config: how to cut.
        folder: of the run; the tiles are written below it.
        seed: selects the tiles without objects that are kept.

    Raises:
        StorageFull: a tile cannot be written.
    """
    target = folder / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    train = [tile for sample in data.train for tile in cut_image(sample, config, target)]
    kept = _limit_empty_tiles(train, config.empty_ratio, seed)
    validation = [tile for sample in data.validation for tile in cut_image(sample, config, target)]
    note = (
        f"tiles of {config.size} px: {len(data.train)} training images gave {len(train)} tiles, of which "
        f"{len(train) - len(kept)} without objects are left out; {len(data.validation)} validation images "
        f"gave {len(validation)}, and validation metrics are those of tiles"
    )
    dataset = replace(data.dataset, notes=(*data.dataset.notes, note))
    return replace(data, dataset=dataset, train=tuple(kept), validation=tuple(validation))


def remove_tiles(folder: Path) -> None:
    """Delete the tiles of a run."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def cut_image(sample: Sample, config: TilesConfig, folder: Path) -> Iterator[Sample]:
    """Yield the tiles of one image, row by row; the image itself if it is no larger than a tile.

    Args:
        sample: the image with its ground truth.
        config: how to cut.
        folder: where the tiles are written.
    """
    tiling = Tiling(config.size, config.overlap)
    if sample.size_hw is not None and max(sample.size_hw) <= config.size:
        yield sample
        return
    image = open_image(sample.path, config.limits)
    if max(image.size_hw) <= config.size:
        yield sample
        return
    digest = _digest(sample)
    for region in tiling.regions(image.size_hw):
        left, top, right, bottom = map(int, region)
        path = folder / f"{digest}@{left},{top},{right},{bottom}.png"
        _write(image, region, path)
        ground_truth = (
            None
            if sample.ground_truth is None
            else ground_truth_of_tile(sample.ground_truth, region, config.min_visibility)
        )
        yield replace(
            sample,
            id=f"{sample.id}@{left},{top}",
            path=path,
            size_hw=(bottom - top, right - left),
            ground_truth=ground_truth,
        )


def ground_truth_of_tile(ground_truth: GroundTruth, region: IntArray, min_visibility: float) -> GroundTruth:
    """Return the ground truth of one tile of an image.

    An object of which too little is visible becomes a crowd: it is no target, and in validation it counts
    neither as found nor as missed.

    Args:
        ground_truth: with boxes, and with masks or None.
        region: (4,) int64 xyxy, the tile in pixels of the image.
        min_visibility: share of an object's area, of its mask if it has one, that must be visible.
    """
    left, top, right, bottom = map(int, region)
    size_hw = (bottom - top, right - left)
    assert ground_truth.boxes_xyxy is not None  # noqa: S101  (the task has boxes)
    boxes = clip_boxes(ground_truth.boxes_xyxy - np.array([left, top] * 2), size_hw)
    whole = np.maximum(box_area(ground_truth.boxes_xyxy), 1e-9)
    share = box_area(boxes) / whole
    masks: list[Mask] = []
    if ground_truth.masks is not None:
        for row, mask in enumerate(ground_truth.masks):
            window, (x, y) = crop_window(mask)
            masks.append(paste_window(window, (x - left, y - top), size_hw))
            visible, area = int(masks[row].counts[1::2].sum()), int(window.sum())
            share[row] = visible / max(area, 1)
            if visible < area:
                boxes[row] = mask_box(masks[row])
    rows = np.flatnonzero(share > 0)
    names = ("truncated",) if len(ground_truth.truncated) else ()
    truncated = {name: getattr(ground_truth, name)[rows] | (share[rows] < 1) for name in names}
    return replace(
        ground_truth,
        size_hw=size_hw,
        label_index=ground_truth.label_index[rows],
        boxes_xyxy=boxes[rows],
        masks=None if ground_truth.masks is None else tuple(masks[row] for row in rows),
        crowd=ground_truth.crowd[rows] | (share[rows] < min_visibility),
        difficult=ground_truth.difficult[rows],
        areas=np.zeros(0),
        **truncated,
    )


def _limit_empty_tiles(tiles: Sequence[Sample], ratio: float, seed: int) -> list[Sample]:
    """Return the tiles with objects, and at random at most `ratio` times as many without objects."""
    has_objects = [t.ground_truth is not None and bool((~t.ground_truth.crowd).any()) for t in tiles]
    empty = [i for i, has in enumerate(has_objects) if not has]
    limit = round(ratio * sum(has_objects))
    random = rng_stream(seed, RngPurpose.TILES, 0, 0)
    selected = set(random.permutation(empty)[:limit].tolist()) if len(empty) > limit else set(empty)
    return [tile for i, tile in enumerate(tiles) if has_objects[i] or i in selected]


def _digest(sample: Sample) -> str:
    """Return the name of an image's tiles; it changes with the image."""
    stat = sample.path.stat()
    return hashlib.sha256(f"{sample.id}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()[:40]


def _write(image: LoadedImage, region: IntArray, path: Path) -> None:
    """Write a tile completely or not at all, unless it exists already.

    It exists if a run is resumed, or if another process wrote it: several nodes cut the same images into one
    folder.
    """
    if path.is_file():
        return
    left, top, right, bottom = region
    partial = path.with_name(f".{uuid.uuid4().hex}.png")  # process ids are not unique across nodes
    try:
        tile = Image.fromarray(np.ascontiguousarray(image.pixels[top:bottom, left:right]))
        tile.save(partial, compress_level=1)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        if path.is_file():  # another process wrote it, and on Windows reads it now
            return
        raise StorageFull(f"{path} cannot be written ({error.strerror or error}). Free some space") from error
