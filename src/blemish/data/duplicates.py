"""Find copies of images: resized, recompressed, brightened, cropped or mirrored.

Three steps, none of which compares every pair: (1) compute the perceptual hashes of each image and of windows
in it, because a cropped copy shows one of them; (2) find hashes of images, or of their mirror images, that
differ in few bits, with an index; (3) compare the pairs found in a small gray copy without what all images of
the data set have in common (the busbars of solar cells, for example).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from blemish.arrays import BoolArray, FloatArray, IntArray
from blemish.data.image_hashes import (
    KEPT,
    REDUCED,
    UInt64Array,
    connected_components,
    detail_hash,
    gray_copy,
    map_in_parallel,
    perceptual_hash,
    pixel_hash,
)
from blemish.errors import BadImage
from blemish.imaging import LIMITS, Limits, open_image

SIDE = 64  # side of the gray copies, one byte per pixel
COMPARED = 24  # side of the copies that are compared
BAND_BITS = 16
NEAR_BITS = 7  # four bands with one flipped bit in each find all hashes within 7 bits
MIN_SIMILARITY = 0.85
COMMON_COMPONENTS = 16  # number of common components that are removed
IMAGES_PER_COMPONENT = 32
MAX_SAMPLED = 2000  # images that the common components are computed from
CHUNK = 4096
MAX_PER_BAND = 400  # a band that more images share does not identify copies

Window = tuple[float, float, float]  # top, left and side, as fractions of the image
WHOLE: Window = (0.0, 0.0, 1.0)
WINDOWS: tuple[Window, ...] = (
    WHOLE,
    (0.025, 0.025, 0.95),
    *((top / 40, left / 40, 0.9) for top in range(5) for left in range(5)),
)
FINE_SHIFTS = (0.0, -0.0125, 0.0125)
MIN_PROMISING_SIMILARITY = 0.5  # shifting a window does not help a pair that is less similar

GrayArray = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Signatures:
    """The data from which copies are found: about 4 KB per image.

    Attributes:
        gray: (n, 64, 64) uint8 gray copies, each stretched to its own range.
        pixel: (n,) uint64 pixel hashes.
        perceptual: (n,) uint64 and
        detail: (n, 4) uint64 hashes, which the fingerprints of a model file contain too.
        opened: (n,) bool, whether each image could be opened; the rows of the others are undefined.
        errors: position -> error of each image that could not be opened.
    """

    gray: NDArray[np.uint8]
    pixel: UInt64Array
    perceptual: UInt64Array
    detail: UInt64Array
    opened: BoolArray
    errors: dict[int, BadImage]


@dataclass(frozen=True)
class Pair:
    """Two copies of one image.

    Attributes:
        first: position of one of them.
        second: position of the other; larger than `first`.
        exact: whether all pixels are equal.
        similarity: in [0, 1]; 1 for exact copies.
        mirrored: whether one is a mirror image of the other.
    """

    first: int
    second: int
    exact: bool
    similarity: float
    mirrored: bool = False


def image_signatures(paths: Sequence[Path], *, limits: Limits = LIMITS) -> Signatures:
    """Open images in parallel and return the data from which copies are found.

    Args:
        paths: the images.
        limits: the largest size of an image, in bytes and pixels, that is accepted.
    """
    gray = np.zeros((len(paths), SIDE, SIDE), np.uint8)
    pixel, perceptual = np.zeros((2, len(paths)), np.uint64)
    detail = np.zeros((len(paths), 4), np.uint64)
    errors: dict[int, BadImage] = {}

    def sign(position: int) -> None:
        try:
            image = open_image(paths[position], limits)
        except BadImage as error:
            errors[position] = error
            return
        gray[position] = stretch_contrast(gray_copy(image, SIDE))
        pixel[position] = pixel_hash(image)
        perceptual[position], detail[position] = perceptual_hash(image), detail_hash(image)

    map_in_parallel(sign, range(len(paths)))
    opened = np.ones(len(paths), bool)
    opened[list(errors)] = False
    return Signatures(gray, pixel, perceptual, detail, opened, dict(sorted(errors.items())))


def stretch_contrast(gray: GrayArray) -> NDArray[np.uint8]:
    """Return a gray copy stretched to 0..255, so that 16-bit and dim images keep their detail."""
    low, high = float(gray.min()), float(gray.max())
    return np.asarray(np.rint((gray - low) * (255 / max(high - low, 1e-6))), np.uint8)


def find_copies(signatures: Signatures, min_similarity: float = MIN_SIMILARITY) -> list[Pair]:
    """Return the pairs of copies; more than two exact copies are linked in a chain.

    Args:
        signatures: the signatures of the images; see `image_signatures`.
        min_similarity: the similarity from which two images count as copies, in [0, 1].
    """
    usable = np.flatnonzero(signatures.opened)
    exact = _exact_pairs(signatures.pixel, usable)
    linked = {(p.first, p.second) for p in exact}
    # Of exact copies, only the first is compared.
    later = {p.second for p in exact}
    usable = np.array([i for i in usable.tolist() if i not in later], np.int64)
    near = _near_pairs(signatures.gray[usable], min_similarity)
    pairs = exact + [
        Pair(int(usable[p.first]), int(usable[p.second]), False, p.similarity, p.mirrored)
        for p in near
        if (int(usable[p.first]), int(usable[p.second])) not in linked
    ]
    return sorted(pairs, key=lambda p: (p.first, p.second))


def _exact_pairs(pixel: UInt64Array, usable: IntArray) -> list[Pair]:
    order = usable[np.argsort(pixel[usable], kind="stable")]
    same = pixel[order][1:] == pixel[order][:-1]
    return [
        Pair(min(a, b), max(a, b), True, 1.0)
        for a, b in zip(order[:-1][same].tolist(), order[1:][same].tolist(), strict=True)
    ]


def _near_pairs(gray: NDArray[np.uint8], min_similarity: float) -> list[Pair]:
    if len(gray) < 2:
        return []
    query, stored = window_hashes(gray)
    common = _Common.learn(gray)
    best: dict[tuple[int, int], tuple[float, bool]] = {}
    for mirror in range(query.shape[1]):
        first, second, window = _candidates(query[:, mirror], stored)
        for start in range(0, len(first), CHUNK):
            part = slice(start, start + CHUNK)
            similarity = _similarity(gray, first[part], second[part], window[part], mirror, common)
            for a, b, s in zip(first[part].tolist(), second[part].tolist(), similarity.tolist(), strict=True):
                key = (min(a, b), max(a, b))
                if s >= min_similarity and s > best.get(key, (0.0, False))[0]:
                    best[key] = (s, mirror > 0)
    return [Pair(a, b, False, round(min(s, 1.0), 4), m) for (a, b), (s, m) in sorted(best.items())]


def window_hashes(gray: NDArray[np.uint8]) -> tuple[UInt64Array, UInt64Array]:
    """Return the perceptual hashes of images, which are looked up, and of their windows, which are stored.

    Returns:
        (n, 3) uint64 of each image, its mirror image and its upside-down image; (n, w) of its windows.
    """
    query = np.zeros((len(gray), 3), np.uint64)
    stored = np.zeros((len(gray), len(WINDOWS)), np.uint64)
    signs: GrayArray = np.where(np.arange(KEPT) % 2, -1, 1).astype(np.float32)
    for start in range(0, len(gray), CHUNK):
        part = slice(start, start + CHUNK)
        copies = gray[part].astype(np.float32)
        for w, (top, left, side) in enumerate(WINDOWS):
            spectra = _shrunk(copies, _window_basis(top, side), _window_basis(left, side))
            stored[part, w] = _bits(spectra)
            if w == 0:
                # Odd frequencies change their sign in a mirror image.
                query[part] = np.stack(
                    [_bits(spectra), _bits(spectra * signs), _bits(spectra * signs[:, None])], 1
                )
    return query, stored


def _bits(spectra: GrayArray) -> UInt64Array:
    flat = spectra.reshape(len(spectra), -1)
    bits = flat > np.median(flat[:, 1:], axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


@cache
def _window_basis(start: float, side: float) -> GrayArray:
    """(8, 64) the matrix from a gray copy to the lowest frequencies of a window in it."""
    k, n = np.arange(KEPT)[:, None], np.arange(REDUCED)[None, :]
    rows = np.sqrt(2 / REDUCED) * np.cos(np.pi * k * (2 * n + 1) / (2 * REDUCED))
    rows[0] /= np.sqrt(2)
    return np.asarray(rows @ _shrink(start, side, REDUCED), np.float32)


@cache
def _shrink(start: float, side: float, to: int) -> GrayArray:
    """(to, 64) the matrix from a gray copy to the means of `to` cells of a window."""
    edges = (start + side * np.arange(to + 1) / to) * SIDE
    pixels = np.arange(SIDE)
    cover = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    cover = np.clip(cover, 0, None)
    return np.asarray(cover / cover.sum(1, keepdims=True), np.float32)


def _candidates(query: UInt64Array, stored: UInt64Array) -> tuple[IntArray, IntArray, IntArray]:
    """Return (query, stored, window) of hashes that differ in at most 7 bits, found by their bands.

    Source:
        Norouzi, Punjani & Fleet 2012, "Fast Search in Hamming Space with Multi-Index Hashing".
    """
    windows = stored.shape[1]
    flat = stored.reshape(-1)
    flips = np.r_[0, 1 << np.arange(BAND_BITS)].astype(np.int64)
    matches: list[NDArray[np.int64]] = []
    for band in range(0, 64, BAND_BITS):
        keys = ((flat >> np.uint64(band)) & np.uint64(0xFFFF)).astype(np.int64)
        order = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[order], np.arange((1 << BAND_BITS) + 1))
        query_keys = ((query >> np.uint64(band)) & np.uint64(0xFFFF)).astype(np.int64)
        for flip in flips.tolist():
            low, high = starts[query_keys ^ flip], starts[(query_keys ^ flip) + 1]
            count = np.where(high - low <= MAX_PER_BAND * windows, high - low, 0)
            for part in _parts(count):
                query_row = np.repeat(part, count[part])
                offset = np.arange(len(query_row)) - np.repeat(
                    np.cumsum(count[part]) - count[part], count[part]
                )
                other = order[low[query_row] + offset]
                bits = np.bitwise_count(query[query_row] ^ flat[other])
                near = (bits <= NEAR_BITS) & (other // windows != query_row)
                query_row, other = query_row[near], other[near]
                matches.append(np.stack([query_row, other // windows, other % windows, bits[near]], 1))
    if not any(len(m) for m in matches):
        return (np.zeros(0, np.int64),) * 3
    rows = np.concatenate(matches)
    order = np.lexsort((rows[:, 3], rows[:, 1], rows[:, 0]))
    rows = rows[order]
    nearest = np.r_[True, (rows[1:, :2] != rows[:-1, :2]).any(1)]  # the nearest window of each pair
    return rows[nearest, 0], rows[nearest, 1], rows[nearest, 2]


def _parts(count: IntArray, max_total: int = 4_000_000) -> list[IntArray]:
    """Return positions in runs whose counts add up to at most `max_total`, to limit memory."""
    ends = np.cumsum(count)
    if not len(ends) or not ends[-1]:
        return []
    cuts = np.searchsorted(ends, np.arange(max_total, ends[-1] + max_total, max_total), side="left")
    return [p for p in np.split(np.arange(len(count)), cuts[:-1] + 1) if len(p)]


@dataclass(frozen=True, eq=False)
class _Common:
    """The mean of the images of a data set and their principal components."""

    mean: GrayArray
    directions: GrayArray

    @classmethod
    def learn(cls, gray: NDArray[np.uint8]) -> _Common:
        rng = np.random.default_rng(0)
        chosen = (
            gray
            if len(gray) <= MAX_SAMPLED
            else gray[np.sort(rng.choice(len(gray), MAX_SAMPLED, replace=False))]
        )
        shrink = _shrink(0.0, 1.0, COMPARED)
        rows = _unique_part(_shrunk(chosen.astype(np.float32), shrink, shrink))
        parts = min(COMMON_COMPONENTS, len(gray) // IMAGES_PER_COMPONENT)
        if not parts:
            return cls(np.zeros(rows.shape[1], np.float32), np.zeros((0, rows.shape[1]), np.float32))
        mean = rows.mean(0)
        directions = np.linalg.eigh((rows - mean).T @ (rows - mean))[1][:, ::-1][:, :parts].T
        return cls(mean, np.ascontiguousarray(directions, np.float32))

    def without(self, rows: GrayArray) -> GrayArray:
        rest = rows - self.mean
        rest = rest - (rest @ self.directions.T) @ self.directions
        return np.asarray(rest / (np.linalg.norm(rest, axis=1, keepdims=True) + 1e-6), np.float32)


def _unique_part(copies: GrayArray) -> GrayArray:
    """Return (n, d) of (n, side, side): without the mean of every row and column, with length 1."""
    rest = (
        copies
        - copies.mean(1, keepdims=True)
        - copies.mean(2, keepdims=True)
        + copies.mean((1, 2), keepdims=True)
    )
    flat = rest.reshape(len(rest), -1)
    return np.asarray(flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-6), np.float32)


def _similarity(
    gray: NDArray[np.uint8], first: IntArray, second: IntArray, window: IntArray, mirror: int, common: _Common
) -> FloatArray:
    """(p,) the similarity, in [-1, 1], of the first images, mirrored, and windows of the second."""
    queried = gray[first].astype(np.float32)
    queried = queried[:, :, ::-1] if mirror == 1 else queried[:, ::-1] if mirror == 2 else queried
    shrink = _shrink(0.0, 1.0, COMPARED)
    first_rows = common.without(_unique_part(_shrunk(queried, shrink, shrink)))
    best = np.full(len(first), -1.0)
    for w in np.unique(window).tolist():
        top, left, side = WINDOWS[w]
        shifts = FINE_SHIFTS if side < 1 else (0.0,)
        for down in shifts:
            for right in shifts:
                rows = np.flatnonzero((window == w) & ((best > MIN_PROMISING_SIMILARITY) | (best == -1.0)))
                if not len(rows):
                    continue
                t, x = (round(min(max(v, 0.0), 1 - side), 6) for v in (top + down, left + right))
                other = gray[second[rows]].astype(np.float32)
                window_cells = _shrunk(other, _shrink(t, side, COMPARED), _shrink(x, side, COMPARED))
                similarity = (first_rows[rows] * common.without(_unique_part(window_cells))).sum(1)
                best[rows] = np.maximum(best[rows], similarity)
    return best


def _shrunk(copies: GrayArray, rows: GrayArray, columns: GrayArray) -> GrayArray:
    """Return (n, a, b) of (n, 64, 64): the cells of a window, by two matrix products."""
    across = copies.reshape(-1, SIDE) @ columns.T  # (n * 64, b)
    across = across.reshape(len(copies), SIDE, -1).transpose(0, 2, 1).reshape(-1, SIDE)  # (n * b, 64)
    down = across @ rows.T  # (n * b, a)
    return np.ascontiguousarray(down.reshape(len(copies), len(columns), len(rows)).transpose(0, 2, 1))


def group_copies(count: int, pairs: Sequence[Pair]) -> IntArray:
    """Return the group of each of `count` images, copies being in one group: (count,) int64."""
    return connected_components(
        count, np.array([p.first for p in pairs], np.int64), np.array([p.second for p in pairs], np.int64)
    )
