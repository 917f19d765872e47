"""Measures of how an image was captured, from the pixels that the network receives: no further decoding.

They are measured at the size of the network's input, so that images of every size are compared alike, and
blur that the network cannot see has no effect. A part of the rows suffices.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.data.image_hashes import dct_basis
from blemish.model_file import InputSpec
from blemish.model_file.capture_spec import DIRECTIONS
from blemish.preprocessing import Placement

LUMA = np.array([0.299, 0.587, 0.114])
COARSE = 3  # pixels between those whose differences are coarse detail, which noise changes little
MIN_SIDE = 8  # pixels of the image in the network's input; a smaller one is not measured
ROWS = 32  # triples of rows that are read, at least
NOISE = 1e-6  # variance of a pixel of an image without detail, by rounding to 8 bits
NO_DETAIL = NOISE / 20  # energy of second differences of an image without detail
BRIGHT, DARK = 250 / 255, 5 / 255
TOLERANCE = 4 / 255  # of the pixels of a border
MIN_UNIFORM = 0.85  # share of the pixels of a line of a border: text may be on it
CELLS = 28  # per side, in which glare is searched
BLOB = 2  # cells from a saturated cell within which a small blob ends
HASH_KEPT = 16  # lowest frequencies per side
Image = NDArray[np.float32]
Matrix = NDArray[Any]


@dataclass(frozen=True, eq=False)
class CaptureMeasures:
    """What is measured of one image.

    Attributes:
        values: by name; see `measure`.
        sampled: (n, w) float32, some rows of the image, from which the hash is computed.
    """

    values: dict[str, float]
    sampled: Image

    @cached_property
    def hash(self) -> NDArray[np.uint64]:
        """(4,) uint64, 256 bits that are similar for images that are nearly identical."""
        return _hash(self.sampled)


def measure(feed: Image, spec: InputSpec, placement: Placement) -> CaptureMeasures | None:
    """Return the measures of an image.

    `sharpness` is the mean over four directions of the logarithm of the energy of second differences over
    that of first differences: neither contrast nor exposure changes it. `sharpness_coarse` is the same of
    pixels at three times the distance, where noise matters less. Defocus lowers both in every direction,
    motion in its own: `sharpness_0` (along rows), `sharpness_45`, `sharpness_90` and `sharpness_135` are the
    differences of each direction from the mean. `bright` and `dark` are the shares of clipped pixels,
    `brightness` is the mean; `glare` is the share of the image in small saturated spots; `border` the share
    in bars of one color along opposite edges; `enlargement` the pixels of the network per pixel of the image.

    Args:
        feed: (c, h, w) the normalized input of the network.
        spec: of that input.
        placement: of the image in it.

    Returns:
        None if fewer than 8 pixels of the image are in the input along one side.
    """
    luma, offset = _luma(feed, spec, placement)
    if min(luma.shape) < MIN_SIDE:
        return None
    step = max(luma.shape[0] // ROWS, 1)
    sampled = np.ascontiguousarray(luma[::step])
    values = _sharpness(luma, luma.shape[0] - 2 * COARSE, step)
    bright = sampled >= BRIGHT - offset
    values["bright"] = np.count_nonzero(bright) / sampled.size
    values["dark"] = np.count_nonzero(sampled <= DARK - offset) / sampled.size
    values["brightness"] = float(np.add.reduce(sampled, axis=None)) / sampled.size + offset
    values["glare"] = _glare(bright) if values["bright"] else 0.0
    values["border"] = _border(sampled)
    values["enlargement"] = max(placement.scale_xy)
    return CaptureMeasures(values, sampled)


def _luma(feed: Image, spec: InputSpec, placement: Placement) -> tuple[Image, float]:
    """Return the (h, w) brightness of the image without its padding, and what is missing to [0, 1]."""
    weights, offset = _luma_weights(spec.mean, spec.std, spec.scale)
    luma: Matrix = (weights @ feed.reshape(len(feed), -1)).reshape(spec.size_hw)
    (height, width), (sx, sy), (ox, oy) = placement.size_hw, placement.scale_xy, placement.offset_xy
    top, left = max(round(oy), 0), max(round(ox), 0)
    bottom, right = min(round(oy + height * sy), luma.shape[0]), min(round(ox + width * sx), luma.shape[1])
    return luma[top:bottom, left:right], offset


@cache
def _luma_weights(
    mean: tuple[float, ...], std: tuple[float, ...], scale: str
) -> tuple[NDArray[np.float32], float]:
    share = LUMA if len(mean) == len(LUMA) else np.full(len(mean), 1 / len(mean))
    unit = 1.0 if scale == "unit" else 1 / 255
    return (share * std * unit).astype(np.float32), float(share @ np.array(mean)) * unit


def _sharpness(luma: Image, rows: int, step: int) -> dict[str, float]:
    """Return the sharpness of fine and of coarse detail, and along four directions."""
    fine, coarse = (_log_ratios(luma, rows, step, lag) for lag in (1, COARSE))
    mean_fine, mean_coarse = sum(fine) / 4, sum(coarse) / 4
    directions: dict[str, float] = {
        name: (f + c - mean_fine - mean_coarse) / 2
        for name, f, c in zip(DIRECTIONS, fine, coarse, strict=True)
    }
    return {"sharpness": mean_fine, "sharpness_coarse": mean_coarse, **directions}


def _log_ratios(luma: Image, rows: int, step: int, lag: int) -> list[float]:
    """Return log(energy of second differences / energy of first differences) along four directions.

    Rounding to 8 bits adds its variance twice to the energy of first differences, six times to that of second
    ones; without subtracting it, a strongly blurred image would seem sharp.

    Args:
        luma: (h, w).
        rows: each `step`-th of the first `rows` is compared with two rows below it.
        step: see `rows`.
        lag: distance of the pixels that are compared.
    """
    first, second, third = (luma[i * lag : i * lag + rows : step] for i in range(3))
    center, before, after = slice(lag, -lag), slice(None, -2 * lag), slice(2 * lag, None)
    middle = second[:, center]
    rise, fall = np.empty((2, len(DIRECTIONS), *middle.shape), np.float32)  # few calls: they are the cost
    ends = (
        (second[:, before], second[:, after]),
        (first[:, before], third[:, after]),
        (first[:, center], third[:, center]),
        (first[:, after], third[:, before]),
    )
    for k, (start, end) in enumerate(ends):
        np.subtract(middle, start, out=rise[k])
        np.subtract(end, middle, out=fall[k])
    curves, slopes = _energies(fall - rise), _energies(rise)
    return [
        math.log(max(curve - 6 * NOISE, NO_DETAIL) / max(slope - 2 * NOISE, NOISE))
        for curve, slope in zip(curves, slopes, strict=True)
    ]


def _energies(values: Image) -> list[float]:
    """Return the mean square of each of (k, h, w)."""
    flat = values.reshape(len(values), 1, -1)
    energies: list[float] = (flat @ flat.transpose(0, 2, 1)).reshape(-1).tolist()
    return [energy / flat.shape[2] for energy in energies]


def _glare(bright: NDArray[np.bool_]) -> float:
    """Return the share of cells that are saturated, in blobs that end within a few cells."""
    rows, columns = _pooling(bright.shape[0]), _pooling(bright.shape[1])
    cells = (rows @ bright.astype(np.float32) @ columns.T >= 0.5).astype(np.float32)
    if not cells.any():
        return 0.0
    (r1, c1), (r2, c2) = ((_band(len(rows), reach), _band(len(columns), reach)) for reach in (BLOB, BLOB + 1))
    is_small = (r2 @ cells @ c2) - (r1 @ cells @ c1) < 0.5
    return float((cells * is_small).sum()) / cells.size


@cache
def _pooling(count: int) -> Image:
    """(cells, count) the matrix from lines to the means of cells."""
    cell = np.arange(count) * min(CELLS, count) // count
    members = (np.arange(cell[-1] + 1)[:, None] == cell).astype(np.float32)
    pooling: Image = members / members.sum(1, keepdims=True)
    return pooling


@cache
def _band(count: int, reach: int) -> Image:
    place = np.arange(count)
    band: Image = (np.abs(place[:, None] - place) <= reach).astype(np.float32)
    return band


def _border(luma: Image) -> float:
    """Return the share of the image in lines of one color along two opposite edges.

    A white sky has one edge only, and colors that differ at opposite edges are no bars.
    """
    kept = []
    for lines in (luma, luma.T):
        start = _uniform_lines(lines)
        end = _uniform_lines(lines[::-1]) if start else 0
        are_bars = start and end and abs(lines[0, 0] - lines[-1, 0]) <= TOLERANCE
        kept.append(1 - min((start + end) / len(lines), 1) if are_bars else 1.0)
    return float(1 - kept[0] * kept[1])


def _uniform_lines(lines: Image) -> int:
    """Return the number of lines of one color before the first other one."""
    width = lines.shape[1]
    near = np.abs(lines[0] - lines[0, 0]) <= TOLERANCE
    if np.count_nonzero(near) < MIN_UNIFORM * width:
        return 0
    uniform = np.count_nonzero(np.abs(lines - lines[0, 0]) <= TOLERANCE, axis=1) >= MIN_UNIFORM * width
    return len(lines) if uniform.all() else int(uniform.argmin())


def _hash(luma: Image) -> NDArray[np.uint64]:
    """Return the signs of the 16 x 16 lowest frequencies against their median."""
    rows, columns = (_basis(count) for count in luma.shape)
    frequencies = (rows @ luma @ columns.T).reshape(-1)
    half = HASH_KEPT**2 // 2 - 1
    middle = np.partition(frequencies[1:], half)[half]
    words: NDArray[Any] = np.packbits(frequencies > middle).view(np.uint64)
    return words


@cache
def _basis(count: int) -> Image:
    return dct_basis(HASH_KEPT, count).astype(np.float32)
