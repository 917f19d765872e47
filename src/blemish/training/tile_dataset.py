"""Training on tiles: large images are cut before the first step, and what is learned from are the tiles.

An image of 100 megapixels reduced to 640 pixels shows no scratch. Its tiles are written once, as lossless
files in the run's folder, so that every step reads one tile and not the image.
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
from blemish.training.rng import RngPurpose, stream

FOLDER = "tiles"


def on_tiles(data: TrainingData, part: TilesConfig, folder: Path, seed: int) -> TrainingData:
    """The same data, learned from and judged by the tiles of its images.

    Args:
        data: fingerprints and split stay those of whole images.
        part: how to cut.
        folder: of the run.
        seed: decides which tiles without objects are left out.

    Raises:
        StorageFull: the disk is.
    """
    target = folder / FOLDER
    target.mkdir(parents=True, exist_ok=True)
    learned = [tile for sample in data.train for tile in cut(sample, part, target)]
    kept = _fewer_empty(learned, part.empty_ratio, seed)
    judged = [tile for sample in data.validation for tile in cut(sample, part, target)]
    note = (
        f"tiles of {part.size} px: {len(data.train)} training images became {len(learned)} tiles, of "
        f"which {len(learned) - len(kept)} without objects are left out; {len(data.validation)} for "
        f"validation became {len(judged)}, and validation figures are of tiles"
    )
    dataset = replace(data.dataset, notes=(*data.dataset.notes, note))
    return replace(data, dataset=dataset, train=tuple(kept), validation=tuple(judged))


def remove_tiles(folder: Path) -> None:
    """Free the disk of a run's tiles."""
    shutil.rmtree(folder / FOLDER, ignore_errors=True)


def cut(sample: Sample, part: TilesConfig, folder: Path) -> Iterator[Sample]:
    """The tiles of one image, row by row; the image itself where it is no larger than a tile."""
    tiling = Tiling(part.size, part.overlap)
    if sample.size_hw is not None and max(sample.size_hw) <= part.size:
        yield sample
        return
    photo = open_image(sample.path, part.limits)
    if max(photo.size_hw) <= part.size:
        yield sample
        return
    digest = _digest(sample)
    for region in tiling.regions(photo.size_hw):
        left, top, right, bottom = map(int, region)
        path = folder / f"{digest}@{left},{top},{right},{bottom}.png"
        _write(photo, region, path)
        size_hw = (bottom - top, right - left)
        ground_truth = (
            None
            if sample.ground_truth is None
            else ground_truth_in(sample.ground_truth, region, part.min_visibility)
        )
        yield replace(
            sample, id=f"{sample.id}@{left},{top}", path=path, size_hw=size_hw, ground_truth=ground_truth
        )


def ground_truth_in(ground_truth: GroundTruth, region: IntArray, min_visibility: float) -> GroundTruth:
    """What of an image's truth stands in one of its tiles.

    An object of which too little is shown becomes a crowd: no target, and in validation neither right nor
    wrong to find.

    Args:
        ground_truth: with boxes, and masks or None.
        region: (4,) int64 xyxy, the tile in pixels of the image.
        min_visibility: share of an object's area, of its mask where it has one, that must be shown.
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
            shown, area = int(masks[row].counts[1::2].sum()), int(window.sum())
            share[row] = shown / max(area, 1)
            if shown < area:
                boxes[row] = mask_box(masks[row])
    seen = np.flatnonzero(share > 0)
    names = ("truncated",) if len(ground_truth.truncated) else ()
    cut_off = {name: getattr(ground_truth, name)[seen] | (share[seen] < 1) for name in names}
    return replace(
        ground_truth,
        size_hw=size_hw,
        label_index=ground_truth.label_index[seen],
        boxes_xyxy=boxes[seen],
        masks=None if ground_truth.masks is None else tuple(masks[row] for row in seen),
        crowd=ground_truth.crowd[seen] | (share[seen] < min_visibility),
        difficult=ground_truth.difficult[seen],
        areas=np.zeros(0),
        **cut_off,
    )


def _fewer_empty(tiles: Sequence[Sample], share: float, seed: int) -> list[Sample]:
    """The tiles with objects, and at most so many without as `share` of them says, drawn at random."""
    holds = [t.ground_truth is not None and bool((~t.ground_truth.crowd).any()) for t in tiles]
    empty = [i for i, held in enumerate(holds) if not held]
    most = round(share * sum(holds))
    random = stream(seed, RngPurpose.TILES, 0, 0)
    drawn = set(random.permutation(empty)[:most].tolist()) if len(empty) > most else set(empty)
    return [tile for i, tile in enumerate(tiles) if holds[i] or i in drawn]


def _digest(sample: Sample) -> str:
    """What names an image's tiles: another image, or the same one changed, has another."""
    stat = sample.path.stat()
    return hashlib.sha256(f"{sample.id}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()[:40]


def _write(photo: LoadedImage, region: IntArray, path: Path) -> None:
    """Write a tile, complete or not at all; one that is there is left.

    It is there where a run goes on, or where another process was faster: several nodes cut the same
    images into one folder.
    """
    if path.is_file():
        return
    left, top, right, bottom = region
    beside = path.with_name(f".{uuid.uuid4().hex}.png")  # numbers of processes repeat on other nodes
    try:
        image = Image.fromarray(np.ascontiguousarray(photo.pixels[top:bottom, left:right]))
        image.save(beside, compress_level=1)
        beside.replace(path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        if path.is_file():  # another process was faster, and on Windows reads from it now
            return
        raise StorageFull(
            f"{path} could not be written ({error.strerror or error}); free some space"
        ) from error
