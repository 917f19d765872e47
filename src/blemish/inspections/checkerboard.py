"""The size of a pixel from a checkerboard in the image."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from blemish.arrays import FloatArray
from blemish.errors import BadInput, MissingExtra
from blemish.geometry import homography_from_points, map_points, sample_levels
from blemish.imaging import LoadedImage
from blemish.inspections.measurement import ImageScale

SIDE = 1600  # larger images are reduced
MIN_CORNERS = 12
_SIGMA = 2.0  # pixels
_REACH = 0.25  # of a field: how far a corner may be from where its neighbors predict it
_NEIGHBORS = ((1, 0), (0, 1), (-1, 0), (0, -1))


@dataclass(frozen=True, eq=False)
class Checkerboard:
    """A checkerboard in an image.

    Attributes:
        corners: (n, 2) float64, the inner corners, x and y in pixels.
        fields: (n, 2) int64, column and row of each corner on the board.
        homography: (3, 3) float64, from columns and rows to pixels.
        residual: root mean square distance of the corners from the homography, in pixels.
    """

    corners: FloatArray
    fields: np.ndarray
    homography: FloatArray
    residual: float

    def scale(self, field_mm: float) -> ImageScale:
        """Return the size of a pixel at the center of the board.

        The error is that of the corners, and the change of the scale over the board: a board that is tilted
        against the camera has another scale at each place.

        Args:
            field_mm: side of a field, in millimeters.

        Raises:
            BadInput: it is not above 0 ("bad-input.scale").
        """
        if not 0 < field_mm < math.inf:
            raise BadInput(f"field: expected millimeters above 0, got {field_mm}", reason="scale")
        places = np.concatenate([self.fields.mean(0)[None], self.fields]).astype(np.float64)
        sizes = _field_sizes(self.homography, places)
        change = float(np.std(sizes[1:] / sizes[0]))
        extent = float(np.ptp(self.fields, axis=0).max()) * float(sizes[0])
        return ImageScale(field_mm / float(sizes[0]), math.hypot(change, self.residual / extent))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        columns, rows = (np.ptp(self.fields, axis=0) + 1).tolist()
        return {"corners": len(self.corners), "columns": columns, "rows": rows,
                "residual_px": round(self.residual, 3)}  # fmt: skip


def find_checkerboard(image: LoadedImage) -> Checkerboard:
    """Return the largest checkerboard of an image.

    Args:
        image: the board is sharp, with fields of at least 8 pixels and at least 12 inner corners.

    Raises:
        BadInput: there is none ("bad-input.no-checkerboard").
        MissingExtra: scikit-image is not installed.

    Source:
        Saddle points of the smoothed image as corners: Lucchese and Mitra 2002, "Using saddle points for
        subpixel feature detection in camera calibration targets".
    """
    height, width = image.size_hw
    factor = max(1.0, max(height, width) / SIDE)
    reduced = image.to_pil().convert("L").resize((round(width / factor), round(height / factor)))
    gray = np.asarray(reduced, np.float32) / np.float32(255)
    lattice = _grow(_saddle_points(gray))
    if len(lattice) < MIN_CORNERS:
        raise BadInput(
            f"checkerboard: none was found. Expected at least {MIN_CORNERS} inner corners of a sharp board.",
            reason="no-checkerboard",
        )
    fields = np.array(list(lattice), np.int64)
    corners = np.array(list(lattice.values()), np.float64)
    matrix = homography_from_points(fields.astype(np.float64), corners)
    mapped = map_points(matrix, fields.astype(np.float64))
    size = float(_field_sizes(matrix, fields.mean(0)[None].astype(np.float64))[0])
    residual = math.inf if mapped is None else float(np.sqrt(((mapped - corners) ** 2).sum(1).mean()))
    spans = np.ptp(fields, axis=0) + 1
    if residual > 0.05 * size or spans.min() < 3 or not _alternates(gray, matrix, fields):
        raise BadInput(
            "checkerboard: the corners that were found are not those of a flat board of alternating fields.",
            reason="no-checkerboard",
        )
    scaled = np.diag([factor, factor, 1.0]) @ matrix
    return Checkerboard(corners * factor, fields, scaled / scaled[2, 2], residual * factor)


def _saddle_points(gray: np.ndarray) -> FloatArray:
    """Return saddle points of the brightness, (n, 2) float64 x and y in pixels, the strongest first."""
    try:
        from scipy.ndimage import gaussian_filter
        from skimage.feature import peak_local_max
    except ModuleNotFoundError as error:
        raise MissingExtra("measure", "the search for a checkerboard") from error
    xx, yy, xy = (gaussian_filter(gray, _SIGMA, order=order) for order in ((0, 2), (2, 0), (1, 1)))
    strength = np.maximum(xy**2 - xx * yy, 0)
    peaks = peak_local_max(strength, min_distance=3, threshold_rel=0.1, num_peaks=4000, exclude_border=3)
    points = []
    for row, column in peaks:
        window = strength[row - 1 : row + 2, column - 1 : column + 2]
        shift = [
            0.5 * (low - high) / (low - 2 * window[1, 1] + high + 1e-12)
            for low, high in ((window[1, 0], window[1, 2]), (window[0, 1], window[2, 1]))
        ]
        points.append((column + 0.5 + np.clip(shift[0], -1, 1), row + 0.5 + np.clip(shift[1], -1, 1)))
    return np.array(points, np.float64).reshape(-1, 2)


def _grow(points: FloatArray) -> dict[tuple[int, int], FloatArray]:
    """Return the largest lattice of points: x and y by column and row."""
    best: dict[tuple[int, int], FloatArray] = {}
    for seed in range(min(len(points), 12)):
        distance = np.hypot(*(points - points[seed]).T)
        near = np.argsort(distance)[1:9]
        for first in near[:2]:
            across = points[first] - points[seed]
            turned = np.array([-across[1], across[0]])
            sides = [points[k] - points[seed] for k in near]
            along = min(sides, key=lambda side: float(np.hypot(*(side - turned))), default=turned)
            cosine = abs(float(across @ along)) / (float(np.hypot(*across) * np.hypot(*along)) + 1e-9)
            if cosine < 0.7:
                found = _grow_from(points, seed, across, along)
                best = max(best, found, key=len)
    return best


def _grow_from(
    points: FloatArray, seed: int, across: FloatArray, along: FloatArray
) -> dict[tuple[int, int], FloatArray]:
    lattice: dict[tuple[int, int], FloatArray] = {(0, 0): points[seed]}
    used, steps = {seed}, {(0, 0): (across, along)}
    queue = [(0, 0)]
    while queue:
        place = queue.pop(0)
        a, b = steps[place]
        for dx, dy in _NEIGHBORS:
            target = (place[0] + dx, place[1] + dy)
            if target in lattice:
                continue
            step = dx * a + dy * b
            distance = np.hypot(*(points - lattice[place] - step).T)
            nearest = int(distance.argmin())
            if nearest in used or distance[nearest] > _REACH * float(np.hypot(*step)):
                continue
            moved = points[nearest] - lattice[place]
            lattice[target] = points[nearest]
            steps[target] = (dx * moved, b) if dx else (a, dy * moved)  # perspective changes the steps
            used.add(nearest)
            queue.append(target)
    return lattice


def _field_sizes(matrix: FloatArray, places: FloatArray) -> FloatArray:
    """Return the side of a field at places on the board, (n,) float64 pixels: the root of its area."""
    corners = np.array([[-0.5, -0.5], [0.5, -0.5], [0.5, 0.5], [-0.5, 0.5]])
    mapped = map_points(matrix, (places[:, None] + corners).reshape(-1, 2))
    if mapped is None:
        return np.full(len(places), np.inf)
    x, y = np.moveaxis(mapped.reshape(-1, 4, 2), 2, 0)
    area = (x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1) / 2
    sizes: FloatArray = np.sqrt(np.abs(area))
    return sizes


def _alternates(gray: np.ndarray, matrix: FloatArray, fields: np.ndarray) -> bool:
    """Return whether neighboring fields are dark and bright in turns."""
    known = {(int(x), int(y)) for x, y in fields}
    inside = [p for p in known if {(p[0] + 1, p[1]), (p[0], p[1] + 1), (p[0] + 1, p[1] + 1)} <= known]
    if len(inside) < 4:
        return False
    centers = map_points(matrix, np.array(inside, np.float64) + 0.5)
    if centers is None:
        return False
    levels = sample_levels(gray, centers)
    odd = np.array([(x + y) % 2 == 1 for x, y in inside])
    middle = (float(np.median(levels[odd])) + float(np.median(levels[~odd]))) / 2
    agree = (levels > middle) == odd
    return bool(max(agree.mean(), 1 - agree.mean()) > 0.95)
