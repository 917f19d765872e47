"""Synthetic painted vehicle panels with gradients, reflections and seams, and scratches, dents and chips."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from blemish.arrays import FloatArray
from blemish.data.synthetic.brush import (
    Canvas,
    darken,
    fill,
    paint_over,
    pixel_grid,
    random_blob,
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
from blemish.geometry import pairwise_iou
from blemish.imaging import LoadedImage
from blemish.structures import Labels, Task

PANEL_LABELS = Labels(("chip", "dent", "scratch"), ("Chip", "Dent", "Scratch"))
CHIP, DENT, SCRATCH = 0, 1, 2
PANELS_PER_VEHICLE = 2
# The damage of consecutive panels: subsets of the three labels.
CYCLE: tuple[tuple[int, ...], ...] = (
    (),
    (CHIP,),
    (DENT,),
    (SCRATCH,),
    (CHIP, SCRATCH),
    (DENT,),
    (DENT, SCRATCH),
    (CHIP, DENT, SCRATCH),
)
PAINTS = np.array(
    [
        [0.72, 0.08, 0.09],
        [0.10, 0.22, 0.55],
        [0.80, 0.81, 0.82],
        [0.35, 0.37, 0.39],
        [0.07, 0.08, 0.09],
        [0.12, 0.38, 0.25],
        [0.88, 0.62, 0.14],
        [0.55, 0.42, 0.30],
    ],
    np.float32,
)


def panels(
    count: int, seed: int = 0, *, size_hw: tuple[int, int] = (128, 128), task: Task | str = Task.SEGMENTATION
) -> Iterator[Specimen]:
    """Yield images of painted panels, two per vehicle.

    A panel depends only on `seed` and its number, so the first ten of twenty panels equal ten panels.

    Args:
        count: number of panels, >= 0.
        seed: the same seed gives the same pixels.
        size_hw: height and width, in pixels, each >= 32.
        task: any task. The labels are `chip`, `dent` and `scratch`. For classification, a panel has one kind
            of damage or the label `clean`, which precedes the others; for localization one object with the
            label `damage`; for detection and segmentation up to four objects; for anomaly, three of four
            panels are good.

    Raises:
        BadInput: count or size are out of range.

    Example:
        >>> [panel.ground_truth.label_names for panel in panels(4, task="classification")]
        [('clean',), ('chip',), ('dent',), ('scratch',)]
    """
    task = Task(task)
    check_request(count, min(size_hw))
    labels = labels_for_task(task, PANEL_LABELS, ("clean", "Clean"))
    for number in range(count):
        rng = np.random.default_rng([seed, 21, number])
        vehicle = number // PANELS_PER_VEHICLE
        canvas = draw_surface(rng, vehicle_paint(seed, vehicle), size_hw)
        flaws = _damage(rng, canvas, _kinds(rng, number, task))
        canvas += np.float32(0.012) * rng.standard_normal(canvas.shape, np.float32)
        ground_truth = make_ground_truth(flaws, labels, task, size_hw)
        image = LoadedImage(to_uint8(canvas))
        yield Specimen(f"panel-{number:05d}", image, ground_truth, f"vehicle-{vehicle:04d}", tuple(flaws))


def vehicle_paint(seed: int, vehicle: int) -> Canvas:
    """Return the paint of one vehicle: (3,) float32 RGB in [0, 1]."""
    rng = np.random.default_rng([seed, 22, vehicle])
    paint = PAINTS[rng.integers(len(PAINTS))] + rng.uniform(-0.05, 0.05, 3).astype(np.float32)
    return np.asarray(np.clip(paint, 0.03, 0.95))


def draw_surface(rng: np.random.Generator, paint: Canvas, size_hw: tuple[int, int]) -> Canvas:
    """Return the surface of a painted panel with reflections, and perhaps a seam: (h, w, 3) float32."""
    x, y = pixel_grid(size_hw)
    slope = rng.uniform(-0.3, 0.3, 2).astype(np.float32)
    light = 0.95 + slope[0] * (x - 0.5) + slope[1] * (y - 0.5)
    light = light + np.float32(0.05) * smooth_noise(rng, size_hw, 3)
    canvas: Canvas = paint * light[:, :, None]
    for _ in range(int(rng.integers(1, 3))):
        # A reflection is a soft curved band, which is never as narrow or sharp as a scratch.
        center, width = rng.uniform(0.1, 0.9), rng.uniform(0.06, 0.14)
        tilt, bend = rng.uniform(-0.4, 0.4), rng.uniform(-0.5, 0.5)
        across = (y - center - tilt * (x - 0.5) - bend * (x - 0.5) ** 2) / width
        band = np.float32(rng.uniform(0.1, 0.28)) * np.exp(-(across.astype(np.float32) ** 2))
        canvas += band[:, :, None] * (np.float32(1.05) - canvas)
    if rng.random() < 0.35:
        _seam(rng, canvas)
    return canvas


def _seam(rng: np.random.Generator, canvas: Canvas) -> None:
    """Draw the gap between two panels, from border to border."""
    height, width = canvas.shape[:2]
    upright = rng.random() < 0.5
    along, across = (height, width) if upright else (width, height)
    first, last = rng.uniform(0.1, 0.9) * across, rng.normal(0, 0.05) * across
    half = max(0.006 * across, 0.7)
    gap = np.array(
        [[0, first - half], [along, first + last - half], [along, first + last + half], [0, first + half]]
    )
    fill(canvas, gap[:, ::-1].copy() if upright else gap, darken(0.8))


def _kinds(rng: np.random.Generator, number: int, task: Task) -> tuple[int, ...]:
    """Return the kinds of damage to draw, in the order of drawing."""
    if task.has_one_label:
        kind = number % 4 - 1
        return () if kind < 0 else (kind,) * int(rng.integers(2, 4))
    if task.has_one_box:
        return (number % 3,)
    if task.is_one_class:  # three of four panels are good
        return (number // 4 % 3,) if number % 4 == 3 else ()
    if task.has_label_set:
        return CYCLE[number % len(CYCLE)]
    # Every eighth panel is clean; the first damage of the others cycles through the kinds.
    if number % 8 == 7:
        return ()
    return (number % 3, *(int(v) for v in rng.integers(0, 3, int(rng.integers(0, 4)))))


def _damage(rng: np.random.Generator, canvas: Canvas, kinds: tuple[int, ...]) -> list[Flaw]:
    """Draw one flaw of each kind if there is free space, and return them; the first always has space."""
    flaws: list[Flaw] = []
    height, width = canvas.shape[:2]
    for kind in kinds:
        for _ in range(20):
            outlines = OUTLINES[kind](rng, height, width)
            flaw = make_flaw(kind, outlines, (height, width))
            if flaw is None or _overlaps(flaw, flaws):
                continue
            PAINTERS[kind](rng, canvas, outlines)
            flaws.append(flaw)
            break
    return flaws


def _overlaps(flaw: Flaw, flaws: list[Flaw]) -> bool:
    """Return whether a flaw would hide another one, whose ground truth would then be wrong."""
    if not flaws:
        return False
    return bool(pairwise_iou(_boxes([flaw]), _boxes(flaws)).max() > 0)


def _boxes(flaws: list[Flaw]) -> FloatArray:
    points = [np.concatenate(flaw.polygons) for flaw in flaws]
    return np.array([[*p.min(0), *p.max(0)] for p in points])


def _chip_outlines(rng: np.random.Generator, height: int, width: int) -> list[FloatArray]:
    side = min(height, width)
    radius = rng.uniform(0.045, 0.09) * side
    center = _random_center(rng, height, width, radius)
    radii = radius * np.array([1.0, rng.uniform(0.6, 1.0)])
    return [random_blob(rng, center, radii, int(rng.integers(6, 10)), 0.25)]


def _dent_outlines(rng: np.random.Generator, height: int, width: int) -> list[FloatArray]:
    radius = rng.uniform(0.11, 0.2) * min(height, width)
    center = _random_center(rng, height, width, radius)
    return [random_blob(rng, center, radius * np.array([1.0, rng.uniform(0.6, 0.9)]), 24, 0.03)]


def _scratch_outlines(rng: np.random.Generator, height: int, width: int) -> list[FloatArray]:
    """Return the outlines of one to three parallel scratches."""
    side = min(height, width)
    length = rng.uniform(0.3, 0.6) * side
    angle = rng.uniform(0, np.pi)
    middle = _random_center(rng, height, width, 0.6 * length * 0.7)
    direction = np.array([np.cos(angle), np.sin(angle)])
    path = random_path(rng, middle - length / 2 * direction, angle, length, 8, 0.05)
    normal = np.array([-direction[1], direction[0]]) * 0.035 * side
    lines = [path + k * normal for k in range(int(rng.integers(1, 4)))]
    return [np.clip(stroke_outline(p, rng.uniform(0.02, 0.032) * side), 0, (width, height)) for p in lines]


def _paint_chip(rng: np.random.Generator, canvas: Canvas, outlines: list[FloatArray]) -> None:
    """Paint a chip: primer or rust with a dark rim."""
    rust = rng.random() < 0.4
    tone = (0.42, 0.22, 0.12) if rust else tuple(rng.uniform(0.55, 0.7) + rng.uniform(-0.02, 0.02, 3))
    for outline in outlines:
        fill(canvas, outline, darken(0.65))
        center = outline.mean(0)
        fill(canvas, center + 0.72 * (outline - center), paint_over(tone))


def _paint_dent(rng: np.random.Generator, canvas: Canvas, outlines: list[FloatArray]) -> None:
    """Paint a dent: dark on the side of the light, bright on the other, and unchanged at its border."""
    angle = rng.uniform(0, 2 * np.pi)
    strength = float(rng.uniform(0.65, 0.9))
    for outline in outlines:
        fill(canvas, outline, _hollow(outline, angle, strength))


def _hollow(outline: FloatArray, angle: float, strength: float) -> Callable[[Canvas, Canvas], Canvas]:
    """Return a paint that shades the area inside `outline` like a dent."""
    corner = np.maximum(np.floor(outline.min(0)) - 1, 0)  # of the window that `fill` passes
    center = outline.mean(0)
    radius = float(np.sqrt(((outline - center) ** 2).sum(1)).max())

    def paint(window: Canvas, coverage: Canvas) -> Canvas:
        rows, columns = coverage.shape
        x = ((corner[0] + np.arange(columns) + 0.5 - center[0]) / radius).astype(np.float32)[None, :]
        y = ((corner[1] + np.arange(rows) + 0.5 - center[1]) / radius).astype(np.float32)[:, None]
        tilt = x * np.float32(np.cos(angle)) + y * np.float32(np.sin(angle))
        relief = np.float32(2.6 * strength) * tilt * np.exp(-np.float32(2.2) * (x * x + y * y)) * coverage
        relief = relief[:, :, None]
        bent = np.where(relief < 0, window * (1 + relief), window + relief * (np.float32(0.95) - window))
        return np.asarray(bent, np.float32)

    return paint


def _paint_scratch(rng: np.random.Generator, canvas: Canvas, outlines: list[FloatArray]) -> None:
    """Paint scratches: bright primer on dark paint, a dark groove on bright paint."""
    bright = float(canvas.mean()) < 0.5
    tone = float(rng.uniform(0.8, 0.95)) if bright else float(rng.uniform(0.1, 0.25))
    for outline in outlines:
        fill(canvas, outline, paint_over((tone, tone, tone), 0.9))


def _random_center(rng: np.random.Generator, height: int, width: int, radius: float) -> FloatArray:
    """Return a random center, x y in pixels, at least `radius` away from the border."""
    margin = np.array([min(radius + 1, width / 2), min(radius + 1, height / 2)])
    return np.asarray(margin + rng.random(2) * (np.array([width, height]) - 2 * margin))


OUTLINES = {CHIP: _chip_outlines, DENT: _dent_outlines, SCRATCH: _scratch_outlines}
PAINTERS = {CHIP: _paint_chip, DENT: _paint_dent, SCRATCH: _paint_scratch}
