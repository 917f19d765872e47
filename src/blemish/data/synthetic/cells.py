"""Synthetic electroluminescence images of solar cells, with dark cracks and dark inactive regions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from blemish.arrays import FloatArray
from blemish.data.synthetic.brush import (
    Canvas,
    darken,
    fill,
    pixel_grid,
    random_path,
    smooth_noise,
    stroke_outline,
    to_uint8,
)
from blemish.data.synthetic.specimen import (
    Flaw,
    Specimen,
    check_request,
    labels_for_task,
    make_flaw,
    make_ground_truth,
)
from blemish.errors import BadInput
from blemish.imaging import LoadedImage
from blemish.structures import Labels, Task

CELL_LABELS = Labels(("crack", "inactive"), ("Crack", "Inactive"))
CELLS_PER_MODULE = 4
CRACK, INACTIVE = 0, 1
# The damage of consecutive cells, so that every label and their combination occur early.
CYCLE: tuple[tuple[int, ...], ...] = (
    (),
    (CRACK,),
    (INACTIVE,),
    (),
    (CRACK, INACTIVE),
    (CRACK,),
    (),
    (INACTIVE,),
)


@dataclass(frozen=True)
class Batch:
    """The properties that the cells of one module share.

    Attributes:
        gain: brightness in [0, 1].
        noise: standard deviation of the pixels' noise.
        busbars: number of busbars of each cell.
        is_mono: whether the wafers are monocrystalline, with cut corners.
    """

    gain: float
    noise: float
    busbars: int
    is_mono: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Batch:
        """Return random properties."""
        return cls(
            gain=float(rng.uniform(0.5, 0.85)),
            noise=float(rng.choice([0.01, 0.02, 0.04])),
            busbars=int(rng.integers(2, 5)),
            is_mono=bool(rng.random() < 0.6),
        )


def cells(
    count: int, seed: int = 0, *, size: int = 128, bits: int = 8, task: Task | str = Task.MULTILABEL
) -> Iterator[Specimen]:
    """Yield electroluminescence images of solar cells, four per module.

    A cell depends only on `seed` and its number, so the first ten of twenty cells equal ten cells.

    Args:
        count: number of cells, >= 0.
        seed: the same seed gives the same pixels.
        size: height and width, in pixels, >= 32.
        bits: 8 for RGB images with equal channels, 16 for uint16 grayscale.
        task: any task. The labels are `crack` and `inactive`; for classification preceded by `functional` (a
            cell with both is a `crack`), for localization `damage`, with one box in every cell.

    Raises:
        BadInput: count, size or bits are out of range.

    Example:
        >>> [cell.ground_truth.label_names for cell in cells(5)]
        [(), ('crack',), ('inactive',), (), ('crack', 'inactive')]
    """
    task = Task(task)
    check_request(count, size)
    if bits not in (8, 16):
        raise BadInput(f"bits: expected 8 or 16, got {bits}", reason="bits")
    labels = labels_for_task(task, CELL_LABELS, ("functional", "Functional"))
    for number in range(count):
        module = number // CELLS_PER_MODULE
        shared = np.random.default_rng([seed, 12, module])
        serial = f"EL-{int(shared.integers(10_000)):04d}-{module:04d}"
        batch = Batch.draw(shared)
        rng = np.random.default_rng([seed, 11, number])
        kinds = CYCLE[number % len(CYCLE)]
        if task.has_one_box:
            kinds = kinds[:1] or (CRACK,)
        canvas, flaws = draw_cell(rng, batch, size, kinds)
        if bits == 16:
            pixels = (np.clip(canvas, 0, 1) * np.float32(60_000) + np.float32(0.5)).astype(np.uint16)
            image = LoadedImage(pixels)
        else:
            image = LoadedImage(to_uint8(canvas))
        ground_truth = make_ground_truth(flaws, labels, task, (size, size))
        yield Specimen(f"cell-{number:05d}", image, ground_truth, serial, tuple(flaws))


def draw_cell(
    rng: np.random.Generator, batch: Batch, size: int, kinds: tuple[int, ...]
) -> tuple[Canvas, list[Flaw]]:
    """Return the image of a cell, (size, size) float32 about in [0, 1], and its damage.

    Args:
        rng: the random generator.
        batch: what it shares with the other cells of its module.
        size: height and width, in pixels.
        kinds: indices of the damage, `CRACK` and `INACTIVE`.
    """
    x, y = pixel_grid((size, size))
    bars = (np.arange(batch.busbars) + 0.5) / batch.busbars
    # The busbars collect the current; between them the cell is slightly darker.
    glow = 1 - 0.12 * np.sin(np.pi * ((y * batch.busbars) % 1)).astype(np.float32)
    canvas = batch.gain * glow * (1 + np.float32(rng.normal(0, 0.05)) * (x - 0.5))
    canvas = canvas + np.float32(0.025) * smooth_noise(rng, (size, size), 4)
    if not batch.is_mono:
        grain = smooth_noise(rng, (size, size), 9) + np.float32(0.6) * smooth_noise(rng, (size, size), 24)
        canvas *= 1 - np.float32(0.22) * np.clip(grain, 0, 1.5) / np.float32(1.5)
    canvas += np.float32(0.012) * rng.standard_normal((1, size), np.float32)  # uneven fingers

    flaws: list[Flaw] = []
    if INACTIVE in kinds:
        flaws += _inactive(rng, canvas, size, bars)
    if CRACK in kinds:
        flaws += _cracks(rng, canvas, size)
    _wafer(canvas, size, bars, batch.is_mono)
    canvas += np.float32(batch.noise) * rng.standard_normal((size, size), np.float32)
    return canvas, sorted(flaws, key=lambda flaw: flaw.label_index)


def _wafer(canvas: Canvas, size: int, bars: FloatArray, is_mono: bool) -> None:
    """Draw the busbars, the border, and the cut corners of a monocrystalline wafer."""
    half = 0.011 * size
    for bar in bars:
        top, low = bar * size - half, bar * size + half
        fill(canvas, np.array([[0, top], [size, top], [size, low], [0, low]]), darken(0.75))
    edge = 0.02 * size
    for low, high in ((0.0, edge), (size - edge, float(size))):
        fill(canvas, np.array([[0, low], [size, low], [size, high], [0, high]]), darken(0.55))
        fill(canvas, np.array([[low, 0], [high, 0], [high, size], [low, size]]), darken(0.55))
    if is_mono:
        cut = 0.12 * size
        for cx, cy in ((0, 0), (size, 0), (0, size), (size, size)):
            dx, dy = cut if cx == 0 else -cut, cut if cy == 0 else -cut
            fill(canvas, np.array([[cx, cy], [cx + dx, cy], [cx, cy + dy]], np.float64), darken(0.7))


def _cracks(rng: np.random.Generator, canvas: Canvas, size: int) -> list[Flaw]:
    """Draw one to three cracks along the diagonals of the crystal, some with a branch."""
    flaws: list[Flaw] = []
    count = int(rng.integers(1, 4))
    while len(flaws) < count:
        angle = float(rng.choice([0.25, 0.75, 1.25, 1.75]) * np.pi + rng.normal(0, 0.15))
        start = rng.uniform(0.2, 0.8, 2) * size
        length = rng.uniform(0.45, 0.9) * size
        middle = start - length / 2 * np.array([np.cos(angle), np.sin(angle)])
        path = np.clip(random_path(rng, middle, angle, length, 7, 0.16), 1, size - 1)
        lines = [stroke_outline(path, rng.uniform(0.014, 0.022) * size)]
        if rng.random() < 0.4:
            turn = angle + float(rng.choice([-1, 1])) * rng.uniform(0.7, 1.2)
            branch = np.clip(random_path(rng, path[3], turn, length / 3, 4, 0.16), 1, size - 1)
            lines.append(stroke_outline(branch, 0.014 * size))
        flaw = make_flaw(CRACK, lines, (size, size))
        if flaw is None:
            continue
        depth = rng.uniform(0.45, 0.75)
        for line in lines:
            fill(canvas, line, darken(depth))
        flaws.append(flaw)
    return flaws


def _inactive(rng: np.random.Generator, canvas: Canvas, size: int, bars: FloatArray) -> list[Flaw]:
    """Draw one or two inactive regions: a corner, or a wedge between a busbar and the edge."""
    flaws: list[Flaw] = []
    for _ in range(int(rng.integers(1, 3))):
        right, down = rng.random(2) < 0.5
        if rng.random() < 0.5:
            reach = rng.uniform(0.22, 0.45, 2) * size
            corner = np.array([[0, 0], [reach[0], 0], [0.55 * reach[0], 0.4 * reach[1]], [0, reach[1]]])
            if down:
                corner = corner * (1, -1) + (0, size)
        else:
            # The first strip extends from the edge to a busbar, for every number of busbars.
            low, high = 0.0, float(bars[0]) * size
            if len(bars) > 1 and rng.random() < 0.6:
                place = int(rng.integers(len(bars) - 1))
                low, high = float(bars[place]) * size, float(bars[place + 1]) * size
            reach = rng.uniform(0.25, 0.7, 2) * size
            between = low + (high - low) * rng.uniform(0.3, 0.7)
            corner = np.array(
                [[0, low], [reach[0], low], [min(reach) * 0.8, between], [reach[1], high], [0, high]]
            )
        if right:
            corner = corner * (-1, 1) + (size, 0)
        flaw = make_flaw(INACTIVE, [corner], (size, size))
        if flaw is not None:
            fill(canvas, corner, darken(rng.uniform(0.6, 0.92)))
            flaws.append(flaw)
    return flaws
