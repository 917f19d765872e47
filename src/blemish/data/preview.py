"""Draw a grid of images with their annotations."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from blemish.drawing import draw
from blemish.drawing.palette import BACKGROUND, TEXT_COLOR, font, shorten_text
from blemish.errors import BadImage, BadInput
from blemish.imaging import open_image
from blemish.structures import Dataset, Sample

FONT_SIZE = 13
GAP = 8
MIN_TILE_PIXELS = 32


def preview(
    dataset: Dataset, *, count: int = 16, columns: int = 4, tile: int = 320, seed: int = 0
) -> Image.Image:
    """Return a grid of randomly chosen images with their annotations, each with its id below it.

    The images are chosen label by label, so that every label is shown if `count` allows it.

    Args:
        dataset: the data set.
        count: number of images.
        columns: number of images in a row.
        tile: longer side of each image, in pixels, at least 32.
        seed: random seed.

    Raises:
        BadInput: the data set is empty, or a number is too small.
    """
    if not len(dataset) or count < 1 or columns < 1 or tile < MIN_TILE_PIXELS:
        raise BadInput(
            f"expected at least one image of {MIN_TILE_PIXELS} pixels in one column, got"
            f" {min(count, len(dataset))} of {len(dataset)} images of {tile} pixels in {columns} columns",
            reason="empty-preview",
        )
    chosen = [dataset.samples[i] for i in _choose(dataset, min(count, len(dataset)), seed)]
    columns = min(columns, len(chosen))
    rows = -(-len(chosen) // columns)
    caption = FONT_SIZE + 6
    step_x, step_y = tile + GAP, tile + caption + GAP
    grid = Image.new("RGB", (columns * step_x + GAP, rows * step_y + GAP), BACKGROUND)
    pen, letters = ImageDraw.Draw(grid), font(FONT_SIZE)
    for number, sample in enumerate(chosen):
        x, y = GAP + number % columns * step_x, GAP + number // columns * step_y
        drawing = _draw(sample, tile)
        grid.paste(drawing, (x + (tile - drawing.width) // 2, y + (tile - drawing.height) // 2))
        name = (
            sample.id if sample.split is None or sample.split in sample.id else f"{sample.split}: {sample.id}"
        )
        pen.text((x, y + tile + 3), shorten_text(name, FONT_SIZE, tile), fill=TEXT_COLOR, font=letters)
    return grid


def _choose(dataset: Dataset, count: int, seed: int) -> list[int]:
    """Return sorted positions of images, chosen from each label in turn."""
    order = np.random.default_rng(seed).permutation(len(dataset)).tolist()
    queues: list[list[int]] = [[] for _ in range(len(dataset.labels) + 1)]
    for position in order:
        ground_truth = dataset.samples[position].ground_truth
        labels = [] if ground_truth is None else sorted(set(ground_truth.label_index.tolist()))
        for label in labels or [len(dataset.labels)]:
            queues[label].append(position)
    taken: dict[int, None] = {}
    while len(taken) < count:
        for queue in queues:
            while queue and queue[0] in taken:
                queue.pop(0)
            if queue and len(taken) < count:
                taken[queue.pop(0)] = None
    return sorted(taken)


def _draw(sample: Sample, tile: int) -> Image.Image:
    try:
        if sample.ground_truth is None:
            drawing = open_image(sample.path).to_pil()
        else:
            drawing = draw(sample.ground_truth, sample.path)
    except BadImage as error:
        drawing = Image.new("RGB", (tile, tile), "lightgrey")
        ImageDraw.Draw(drawing).multiline_text(
            (8, 8), "cannot be opened:\n" + error.detail[:60], fill=TEXT_COLOR
        )
    drawing.thumbnail((tile, tile), Image.Resampling.LANCZOS)
    return drawing
