"""Width and length of cracks, in pixels and in millimeters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from blemish.arrays import FloatArray
from blemish.errors import BadInput, MissingExtra

_STEP = 0.25  # pixels between the samples of a profile
_TANGENT_RADIUS = 8.0  # pixels of the skeleton that give its direction
_FLOOR = 0.02  # coverage at which a profile has left the crack
MAX_WIDTHS = 2000  # points of the skeleton that are measured; of longer cracks, evenly spaced ones


@dataclass(frozen=True)
class ImageScale:
    """The size of a pixel on the surface.

    Attributes:
        mm_per_pixel: millimeters.
        relative_error: standard error of `mm_per_pixel`, as a share of it.
    """

    mm_per_pixel: float
    relative_error: float

    def __post_init__(self) -> None:
        if not (0 < self.mm_per_pixel < math.inf and 0 <= self.relative_error < 1):
            raise BadInput(
                "scale: expected millimeters per pixel above 0 and an error in [0, 1), "
                f"got {self.mm_per_pixel} and {self.relative_error}",
                reason="scale",
            )

    @classmethod
    def from_length(
        cls, length_pixels: float, length_mm: float, *, error_pixels: float = 1.0, error_mm: float = 0.0
    ) -> ImageScale:
        """Return the scale of a known length: a ruler, fields of a checkerboard, or a part of known width.

        Args:
            length_pixels: distance of the two ends in the image.
            length_mm: their distance on the surface.
            error_pixels: standard error of `length_pixels`.
            error_mm: standard error of `length_mm`.

        Example:
            >>> ImageScale.from_length(400, 100)
            ImageScale(mm_per_pixel=0.25, relative_error=0.0025)
        """
        if length_pixels <= 0 or length_mm <= 0:
            raise BadInput("scale: expected lengths above 0", reason="scale")
        error = math.hypot(error_pixels / length_pixels, error_mm / length_mm)
        return cls(length_mm / length_pixels, error)

    @classmethod
    def from_camera(
        cls, distance_mm: float, focal_length_mm: float, pixel_pitch_mm: float, *, error_distance_mm: float
    ) -> ImageScale:
        """Return the scale at a distance, of a surface that the camera faces.

        Args:
            distance_mm: from the lens to the surface.
            focal_length_mm: of the lens, not its equivalent in another format.
            pixel_pitch_mm: width of a pixel on the sensor.
            error_distance_mm: standard error of the distance.

        Source:
            The pinhole camera: pixel on the surface = pixel on the sensor x distance / focal length.
        """
        if min(distance_mm, focal_length_mm, pixel_pitch_mm) <= 0:
            raise BadInput("scale: expected distance, focal length and pitch above 0", reason="scale")
        return cls(pixel_pitch_mm * distance_mm / focal_length_mm, error_distance_mm / distance_mm)


@dataclass(frozen=True, eq=False)
class CrackMeasurement:
    """Width and length of one crack.

    Attributes:
        widths: (n,) float64, pixels, at points along the center line; empty if there is no crack.
        length: of the center line, in pixels, with all branches.
    """

    widths: FloatArray
    length: float

    def to_measures(self, scale: ImageScale | None = None) -> dict[str, float]:
        """Return median and largest width, and length, as `measures` of a finding.

        Args:
            scale: adds millimeters: `width_mm` is the largest width (95th percentile, against outliers), and
                `width_mm_error` its standard error from the scale.
        """
        if not len(self.widths):
            return {}
        high = float(np.percentile(self.widths, 95))
        measures = {
            "width_px": round(high, 3),
            "median_width_px": round(float(np.median(self.widths)), 3),
            "length_px": round(self.length, 2),
        }
        if scale is not None:
            measures |= {
                "width_mm": round(high * scale.mm_per_pixel, 4),
                "width_mm_error": round(high * scale.mm_per_pixel * scale.relative_error, 4),
                "length_mm": round(self.length * scale.mm_per_pixel, 3),
            }
        return measures


def darkness_to_coverage(gray: FloatArray, *, background: float, crack: float) -> FloatArray:
    """Return how much of each pixel is crack, (h, w) float64 in [0, 1], from gray levels.

    Args:
        gray: (h, w) float64.
        background: gray level of the surface.
        crack: gray level inside of the crack.
    """
    if background == crack:
        raise BadInput("coverage: expected different levels of background and crack", reason="coverage")
    return np.clip((background - np.asarray(gray, np.float64)) / (background - crack), 0, 1)


def measure_crack(coverage: FloatArray) -> CrackMeasurement:
    """Return widths along the center line of a crack, and its length.

    The width at a point is the integral of the coverage along the normal: blur moves coverage and keeps the
    integral. Ends are left out, because a normal does not cross the crack there.

    Args:
        coverage: (h, w) float64 in [0, 1], the share of each pixel that is crack; a mask is 0 and 1.

    Raises:
        MissingExtra: scikit-image is not installed.

    Source:
        Zhang and Suen 1984 for the skeleton, as in scikit-image.
    """
    try:
        from scipy.ndimage import distance_transform_edt, map_coordinates
        from skimage.morphology import skeletonize
    except ModuleNotFoundError as error:
        raise MissingExtra("measure", "the measurement of cracks") from error
    padded = np.pad(np.asarray(coverage, np.float64), 2)
    inside = padded >= 0.5
    skeleton = skeletonize(inside)
    points = np.argwhere(skeleton).astype(np.float64)  # (n, 2): row, column
    if len(points) < 2:
        return CrackMeasurement(np.zeros(0), float(len(points)))
    radius = distance_transform_edt(inside)[skeleton]
    chosen = np.unique(np.linspace(0, len(points) - 1, min(len(points), MAX_WIDTHS)).astype(int))
    widths = []
    for row in chosen:
        offsets = points - points[row]
        reach = max(_TANGENT_RADIUS, 1.5 * radius[row])
        near = offsets[(offsets**2).sum(1) <= reach**2]
        direction = _direction(near)
        if direction is None:
            continue
        normal = np.array([-direction[1], direction[0]])
        half = 2 * radius[row] + 6
        steps = np.arange(-half, half + _STEP / 2, _STEP)
        line = points[row][:, None] + normal[:, None] * steps
        profile = map_coordinates(padded, line, order=1, mode="constant")
        widths.append(_integrate(profile))
    return CrackMeasurement(np.asarray(widths, np.float64), _skeleton_length(skeleton))


def _direction(near: FloatArray) -> FloatArray | None:
    """Return the unit direction of (m, 2) points around the origin; None at an end, or where they branch."""
    if len(near) < 4 or np.abs(near.mean(0)).max() > 0.2 * np.abs(near).max():
        return None
    values, vectors = np.linalg.eigh(near.T @ near)
    return None if values[0] > 0.15 * values[1] else vectors[:, 1]


def _integrate(profile: FloatArray) -> float:
    """Return the integral of a profile from its center to where it leaves the crack on both sides."""
    center = len(profile) // 2
    total = 0.0
    for side in (profile[center:], profile[center::-1]):
        outside = np.flatnonzero(side < _FLOOR)
        stop = int(outside[0]) if len(outside) else len(side) - 1
        total += float(np.trapezoid(side[: stop + 1], dx=_STEP)) if stop else 0.0
    return total


def _skeleton_length(skeleton: np.ndarray) -> float:
    """Return the length of a skeleton in pixels: neighbors at 1, diagonal ones at the square root of 2.

    A diagonal step beside a corner is not counted twice.
    """
    straight = (skeleton[1:] & skeleton[:-1]).sum() + (skeleton[:, 1:] & skeleton[:, :-1]).sum()
    down = skeleton[1:, 1:] & skeleton[:-1, :-1] & ~(skeleton[1:, :-1] | skeleton[:-1, 1:])
    up = skeleton[1:, :-1] & skeleton[:-1, 1:] & ~(skeleton[1:, 1:] | skeleton[:-1, :-1])
    return float(straight + math.sqrt(2) * (down.sum() + up.sum()))
