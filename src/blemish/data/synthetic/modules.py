"""Synthetic electroluminescence images of whole solar modules, in perspective, with known cells."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from blemish.arrays import FloatArray
from blemish.data.synthetic.brush import Canvas, smooth_noise, to_uint8
from blemish.data.synthetic.cells import CELL_LABELS, CRACK, INACTIVE, Batch, draw_cell
from blemish.data.synthetic.specimen import (
    Flaw,
    Specimen,
    check_request,
    labels_for_task,
    make_flaw,
    make_ground_truth,
)
from blemish.errors import BadInput
from blemish.geometry import homography_from_points, invert_homography, map_points, sample_levels
from blemish.imaging import LoadedImage
from blemish.structures import Task

GRIDS: tuple[tuple[int, int], ...] = ((6, 10), (6, 12), (10, 6))  # rows x columns
_BACKGROUND = 0.03
_DAMAGED_SHARE, _DEAD_SHARE = 0.2, 0.03  # of the cells


@dataclass(frozen=True, eq=False)
class ModuleSpecimen(Specimen):
    """A synthetic module with the places of its cells.

    Attributes:
        grid: rows and columns.
        cell_quads: (rows, columns, 4, 2) float64, the corners of the wafers, x and y in pixels: upper left,
            upper right, lower right, lower left.
        cell_labels: for each row, the names of the damage in each cell.
        inactive_shares: (rows, columns) float64 in [0, 1], the drawn inactive share of each cell.
    """

    grid: tuple[int, int] = (0, 0)
    cell_quads: FloatArray = None  # type: ignore[assignment]
    cell_labels: tuple[tuple[tuple[str, ...], ...], ...] = ()
    inactive_shares: FloatArray = None  # type: ignore[assignment]


def modules(
    count: int,
    seed: int = 0,
    *,
    size: int = 1200,
    grids: Sequence[tuple[int, int]] = GRIDS,
    max_angle: float = 15.0,
    perspective: float = 0.12,
    half_cut: bool = False,
    task: Task | str = Task.SEGMENTATION,
) -> Iterator[ModuleSpecimen]:
    """Yield electroluminescence images of modules: cells with gaps, vignette, noise, and damage.

    A fifth of the cells has cracks or inactive regions; three of a hundred are dark as a whole.

    Args:
        count: number of modules, >= 0.
        seed: the same seed gives the same pixels.
        size: longer side of the image, in pixels, >= 256.
        grids: rows and columns of the modules, in turns.
        max_angle: largest rotation, in degrees.
        perspective: largest shift of a corner, as a share of the module's side.
        half_cut: whether cells are half as high as wide.
        task: any task; the labels are `crack` and `inactive`, see `cells`.

    Raises:
        BadInput: count, size or a grid are out of range.
    """
    task = Task(task)
    check_request(count, size)
    if size < 256 or not grids or any(min(grid) < 1 for grid in grids):
        raise BadInput("modules: expected a size of at least 256 pixels, and grids of cells", reason="size")
    labels = labels_for_task(task, CELL_LABELS, ("functional", "Functional"))
    for number in range(count):
        rng = np.random.default_rng([seed, 31, number])
        rows, columns = grids[number % len(grids)]
        flat = _draw_flat(rng, rows, columns, size, half_cut)
        image, view = show_flat(rng, flat.canvas, size, max_angle, perspective)
        size_hw = image.size_hw
        flaws = []
        for label_index, outlines in flat.flaws:
            flaw = make_flaw(label_index, [_mapped(view, outline) for outline in outlines], size_hw)
            if flaw is not None:
                flaws.append(flaw)
        flaws.sort(key=lambda flaw: flaw.label_index)
        yield ModuleSpecimen(
            f"module-{number:05d}",
            image,
            make_ground_truth(flaws, labels, task, size_hw),
            f"M-{seed:04d}-{number:04d}",
            tuple(flaws),
            (rows, columns),
            _mapped(view, flat.quads.reshape(-1, 2)).reshape(flat.quads.shape),
            flat.labels,
            flat.inactive,
        )


@dataclass
class _Flat:
    """A module that faces the camera."""

    canvas: Canvas
    quads: FloatArray
    flaws: list[tuple[int, list[FloatArray]]]
    labels: tuple[tuple[tuple[str, ...], ...], ...]
    inactive: FloatArray


def _draw_flat(rng: np.random.Generator, rows: int, columns: int, size: int, half_cut: bool) -> _Flat:
    long_side = max(columns, rows / 2 if half_cut else rows)
    side = max(16, round(0.8 * size / long_side))
    height = side // 2 if half_cut else side
    gap = max(1, round(side * rng.uniform(0.015, 0.045)))
    margin = round(side * rng.uniform(0.1, 0.3))
    shape = (2 * margin + rows * height + (rows - 1) * gap, 2 * margin + columns * side + (columns - 1) * gap)
    canvas = np.full(shape, _BACKGROUND, np.float32)
    batch = Batch.draw(rng)
    quads = np.zeros((rows, columns, 4, 2))
    inactive = np.zeros((rows, columns))
    flaws: list[tuple[int, list[FloatArray]]] = []
    labels = []
    for row in range(rows):
        line = []
        for column in range(columns):
            kinds = _kinds(rng)
            cell, found = draw_cell(rng, batch, side, kinds)
            cell = cell * np.float32(rng.uniform(0.88, 1.0))
            corner = np.array([margin + column * (side + gap), margin + row * (height + gap)], np.float64)
            clip = np.array([side, height], np.float64)
            if rng.random() < _DEAD_SHARE:
                cell *= np.float32(rng.uniform(0.03, 0.15))
                found, kinds = [], (INACTIVE,)
                flaws.append((INACTIVE, [_box(corner, clip)]))
                inactive[row, column] = 1
            kept = [(flaw.label_index, _clipped(flaw, clip)) for flaw in found]
            kept = [(index, outlines) for index, outlines in kept if outlines]
            x, y = int(corner[0]), int(corner[1])
            canvas[y : y + height, x : x + side] = np.maximum(cell[:height], _BACKGROUND)
            quads[row, column] = _box(corner, clip)
            flaws += [(index, [outline + corner for outline in outlines]) for index, outlines in kept]
            if not inactive[row, column]:
                regions = [o for index, outlines in kept if index == INACTIVE for o in outlines]
                inactive[row, column] = _share(regions, (height, side))
                kinds = tuple(sorted({index for index, _ in kept}))
            line.append(tuple(CELL_LABELS.names[kind] for kind in kinds))
        labels.append(tuple(line))
    return _Flat(canvas, quads, flaws, tuple(labels), inactive)


def _kinds(rng: np.random.Generator) -> tuple[int, ...]:
    if rng.random() >= _DAMAGED_SHARE:
        return ()
    return ((CRACK,), (INACTIVE,), (CRACK, INACTIVE))[int(rng.choice(3, p=(0.6, 0.25, 0.15)))]


def _box(corner: FloatArray, size_wh: FloatArray) -> FloatArray:
    corners: FloatArray = corner + size_wh * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    return corners


def _clipped(flaw: Flaw, size_wh: FloatArray) -> list[FloatArray]:
    """Return the outlines that reach into the drawn part of a cell, moved into it."""
    inside = [outline for outline in flaw.polygons if outline[:, 1].min() < size_wh[1]]
    return [np.clip(outline, 0, size_wh) for outline in inside]


def _share(outlines: Sequence[FloatArray], size_hw: tuple[int, int]) -> float:
    flaw = make_flaw(INACTIVE, outlines, size_hw) if outlines else None
    return 0.0 if flaw is None else flaw.mask.area / (size_hw[0] * size_hw[1])


def show_flat(
    rng: np.random.Generator,
    flat: Canvas,
    size: int,
    max_angle: float,
    perspective: float,
    *,
    noise: float | None = None,
) -> tuple[LoadedImage, FloatArray]:
    """Return an image of a flat module, rotated and in perspective, with vignette and noise, and its view.

    Args:
        rng: the random generator.
        flat: (h, w) float32 in [0, 1].
        size: longer side of the image, in pixels.
        max_angle: largest rotation, in degrees.
        perspective: largest shift of a corner, as a share of the module's side.
        noise: standard deviation, of a brightness in [0, 1]; without vignette. Default: random, with
            vignette.

    Returns:
        The image, and the homography from the flat module to it, (3, 3) float64.
    """
    view, size_hw = _view(rng, flat.shape, size, max_angle, perspective)
    return LoadedImage(to_uint8(_expose(rng, flat, view, size_hw, noise))), view


def _view(
    rng: np.random.Generator, flat_hw: tuple[int, ...], size: int, max_angle: float, perspective: float
) -> tuple[FloatArray, tuple[int, int]]:
    """Return the homography from the flat module to the image, (3, 3), and the image's height and width."""
    height, width = flat_hw
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    moved = corners + rng.uniform(-1, 1, (4, 2)) * perspective / 2 * min(height, width)
    angle = np.radians(rng.uniform(-max_angle, max_angle))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    moved = (moved - moved.mean(0)) @ turn.T
    low, high = moved.min(0), moved.max(0)
    border = 0.03 * (high - low).max()
    scale = size / ((high - low).max() + 2 * border)
    moved = (moved - low + border) * scale
    wide, tall = np.ceil((high - low + 2 * border) * scale).astype(int)
    return homography_from_points(corners, moved), (min(int(tall), size), min(int(wide), size))


def _expose(
    rng: np.random.Generator,
    flat: Canvas,
    view: FloatArray,
    size_hw: tuple[int, int],
    noise: float | None,
) -> Canvas:
    """Return the module as a camera with vignette and noise sees it."""
    height, width = size_hw
    x, y = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    points = _mapped(invert_homography(view), np.stack([x.ravel(), y.ravel()], 1))
    canvas = sample_levels(flat, points).reshape(size_hw)
    inside = ((points >= 0) & (points <= (flat.shape[1], flat.shape[0]))).all(1).reshape(size_hw)
    canvas = np.where(inside, canvas, np.float32(_BACKGROUND))
    if noise is not None:
        return np.asarray(canvas + np.float32(noise) * rng.standard_normal(size_hw, np.float32), np.float32)
    center = np.array([width, height]) * rng.uniform(0.4, 0.6, 2)
    distance = ((x - center[0]) ** 2 + (y - center[1]) ** 2) / (width**2 + height**2)
    canvas = canvas * (1 - np.float32(rng.uniform(0.2, 0.9)) * distance.astype(np.float32))
    canvas = canvas + np.float32(0.01) * smooth_noise(rng, size_hw, 5)
    spread = np.float32(rng.uniform(0.005, 0.03))
    return np.asarray(canvas + spread * rng.standard_normal(size_hw, np.float32), np.float32)


def _mapped(view: FloatArray, points: FloatArray) -> FloatArray:
    mapped = map_points(view, points)
    assert mapped is not None  # noqa: S101  (views of modules never reach the horizon)
    return mapped
