"""A grid of images with what people say of them, drawn."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from blemish.drawing import draw
from blemish.drawing.palette import BACKGROUND, TEXT_COLOR, font, shorten_text
from blemish.errors import BadImage, BadInput
from blemish.imaging import open_image
from blemish.structures import Dataset, Sample

LETTERS = 13
GAP = 8


def preview(
    dataset: Dataset, *, count: int = 16, columns: int = 4, tile: int = 320, seed: int = 0
) -> Image.Image:
    """Images of a set in a grid, each with its truth drawn and its name below.

    Every label is shown as long as there is room: the images are drawn by lot, label by label.

    Args:
        dataset: what to show.
        count: how many images.
        columns: how many in a row.
        tile: longer side of each, pixels.
        seed: of the lot.

    Raises:
        BadInput: there is no image, or the numbers leave no room for one.
    """
    if not len(dataset) or count < 1 or columns < 1 or tile < 32:
        raise BadInput(
            f"{count} images in {columns} columns of {tile} pixels: nothing would be seen; ask for more"
        )
    chosen = [dataset.samples[i] for i in _by_lot(dataset, min(count, len(dataset)), seed)]
    columns = min(columns, len(chosen))
    rows = -(-len(chosen) // columns)
    caption = LETTERS + 6
    step_x, step_y = tile + GAP, tile + caption + GAP
    grid = Image.new("RGB", (columns * step_x + GAP, rows * step_y + GAP), BACKGROUND)
    pen, letters = ImageDraw.Draw(grid), font(LETTERS)
    for number, sample in enumerate(chosen):
        x, y = GAP + number % columns * step_x, GAP + number // columns * step_y
        picture = _drawn(sample, tile)
        grid.paste(picture, (x + (tile - picture.width) // 2, y + (tile - picture.height) // 2))
        name = (
            sample.id if sample.split is None or sample.split in sample.id else f"{sample.split}: {sample.id}"
        )
        pen.text((x, y + tile + 3), shorten_text(name, LETTERS, tile), fill=TEXT_COLOR, font=letters)
    return grid


def _by_lot(dataset: Dataset, count: int, seed: int) -> list[int]:
    """Positions, in order, that show every label in turn."""
    order = np.random.default_rng(seed).permutation(len(dataset)).tolist()
    queues: list[list[int]] = [[] for _ in range(len(dataset.labels) + 1)]
    for position in order:
        ground_truth = dataset.samples[position].ground_truth
        held = [] if ground_truth is None else sorted(set(ground_truth.label_index.tolist()))
        for label in held or [len(dataset.labels)]:
            queues[label].append(position)
    taken: dict[int, None] = {}
    while len(taken) < count:
        for queue in queues:
            while queue and queue[0] in taken:
                queue.pop(0)
            if queue and len(taken) < count:
                taken[queue.pop(0)] = None
    return sorted(taken)


def _drawn(sample: Sample, tile: int) -> Image.Image:
    try:
        if sample.ground_truth is None:
            picture = open_image(sample.path).to_pil()
        else:
            picture = draw(sample.ground_truth, sample.path)
    except BadImage as error:
        picture = Image.new("RGB", (tile, tile), "lightgrey")
        ImageDraw.Draw(picture).multiline_text(
            (8, 8), "cannot be opened:\n" + error.detail[:60], fill=TEXT_COLOR
        )
    picture.thumbnail((tile, tile), Image.Resampling.LANCZOS)
    return picture
