"""Images that show the same picture: resized, recompressed, brightened, cropped or mirrored copies.

Three steps, none of which compares every pair: each image gets the perceptual hashes of itself and of
windows in it, since a cropped copy shows one of them; an index finds hashes that differ in few bits, of the
image or of its mirror images; and the pairs found are held side by side, in what remains of a small
grey copy when all that the set has in common (the busbars of solar cells, say) is taken away.
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
    grey_copy,
    in_parallel,
    linked_groups,
    pixel_hash,
)
from blemish.errors import BadImage
from blemish.imaging import LIMITS, Limits, open_image

SIDE = 64  # of the grey copies that are kept, one byte a pixel
COMPARED = 24  # side of the copies held side by side
BAND_BITS = 16
NEAR_BITS = 7  # four bands, one bit turned in each: all hashes within 7 bits are found
LEAST_SIMILARITY = 0.85
COMMON_PARTS = 16  # how many directions that the set has in common are taken away
IMAGES_A_PART = 32
SAMPLED = 2000  # images that what is common is learned from
CHUNK = 4096
MOST_IN_A_BAND = 400  # a band shared by so many says nothing

Window = tuple[float, float, float]  # top, left and side, as shares
WHOLE: Window = (0.0, 0.0, 1.0)
WINDOWS: tuple[Window, ...] = (
    WHOLE,
    (0.025, 0.025, 0.95),
    *((top / 40, left / 40, 0.9) for top in range(5) for left in range(5)),
)
FINE_SHIFTS = (0.0, -0.0125, 0.0125)
PROMISING = 0.5  # less alike than this at a window's own place is not worth shifting it

Grey = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Signatures:
    """What is kept of images to find copies.

    Attributes:
        grey: (n, 64, 64) uint8, each stretched to its own range.
        pixel: (n,) uint64 pixel hashes.
        opened: (n,) bool; the others' rows mean nothing.
        errors: why, for each that was not opened, by position.
    """

    grey: NDArray[np.uint8]
    pixel: UInt64Array
    opened: BoolArray
    errors: dict[int, BadImage]


@dataclass(frozen=True)
class Pair:
    """Two images that show the same.

    Attributes:
        first: position of one.
        second: position of the other, larger.
        exact: whether every pixel is the same.
        similarity: in [0, 1]; 1 for exact copies.
        mirrored: whether one is the mirror image of the other.
    """

    first: int
    second: int
    exact: bool
    similarity: float
    mirrored: bool = False


def image_signatures(paths: Sequence[Path], *, limits: Limits = LIMITS) -> Signatures:
    """Open images in parallel and keep what finding copies takes: 4 KB each."""
    grey = np.zeros((len(paths), SIDE, SIDE), np.uint8)
    pixel = np.zeros(len(paths), np.uint64)
    errors: dict[int, BadImage] = {}

    def one(position: int) -> None:
        try:
            photo = open_image(paths[position], limits)
        except BadImage as error:
            errors[position] = error
            return
        grey[position] = stretched(grey_copy(photo, SIDE))
        pixel[position] = pixel_hash(photo)

    in_parallel(one, range(len(paths)))
    opened = np.ones(len(paths), bool)
    opened[list(errors)] = False
    return Signatures(grey, pixel, opened, dict(sorted(errors.items())))


def stretched(grey: Grey) -> NDArray[np.uint8]:
    """A grey copy stretched to 0..255, so that 16-bit and dim images keep their detail."""
    low, high = float(grey.min()), float(grey.max())
    return np.asarray(np.rint((grey - low) * (255 / max(high - low, 1e-6))), np.uint8)


def find_copies(found: Signatures, least_similarity: float = LEAST_SIMILARITY) -> list[Pair]:
    """Every pair of images that show the same; exact copies are linked in a chain.

    Args:
        found: of the images, by `image_signatures`.
        least_similarity: from which two count as copies.
    """
    usable = np.flatnonzero(found.opened)
    exact = _exact_pairs(found.pixel, usable)
    linked = {(p.first, p.second) for p in exact}
    # Of exact copies the first stands for all.
    later = {p.second for p in exact}
    usable = np.array([i for i in usable.tolist() if i not in later], np.int64)
    near = _near_pairs(found.grey[usable], least_similarity)
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


def _near_pairs(grey: NDArray[np.uint8], least: float) -> list[Pair]:
    if len(grey) < 2:
        return []
    query, stored = window_hashes(grey)
    common = _Common.learn(grey)
    best: dict[tuple[int, int], tuple[float, bool]] = {}
    for mirror in range(query.shape[1]):
        first, second, window = _candidates(query[:, mirror], stored)
        for start in range(0, len(first), CHUNK):
            part = slice(start, start + CHUNK)
            alike = _similarity(grey, first[part], second[part], window[part], mirror, common)
            for a, b, s in zip(first[part].tolist(), second[part].tolist(), alike.tolist(), strict=True):
                key = (min(a, b), max(a, b))
                if s >= least and s > best.get(key, (0.0, False))[0]:
                    best[key] = (s, mirror > 0)
    return [Pair(a, b, False, round(min(s, 1.0), 4), m) for (a, b), (s, m) in sorted(best.items())]


def window_hashes(grey: NDArray[np.uint8]) -> tuple[UInt64Array, UInt64Array]:
    """Perceptual hashes of images as they are asked for, and of their windows as they are stored.

    Returns:
        (n, 3) uint64 of each image, its mirror image and its upside-down image; (n, w) of its windows.
    """
    query = np.zeros((len(grey), 3), np.uint64)
    stored = np.zeros((len(grey), len(WINDOWS)), np.uint64)
    signs: Grey = np.where(np.arange(KEPT) % 2, -1, 1).astype(np.float32)
    for start in range(0, len(grey), CHUNK):
        part = slice(start, start + CHUNK)
        copies = grey[part].astype(np.float32)
        for w, (top, left, side) in enumerate(WINDOWS):
            spectra = _shrunk(copies, _window_basis(top, side), _window_basis(left, side))
            stored[part, w] = _bits(spectra)
            if w == 0:
                # Odd frequencies change their sign in a mirror.
                query[part] = np.stack(
                    [_bits(spectra), _bits(spectra * signs), _bits(spectra * signs[:, None])], 1
                )
    return query, stored


def _bits(spectra: Grey) -> UInt64Array:
    flat = spectra.reshape(len(spectra), -1)
    bits = flat > np.median(flat[:, 1:], axis=1, keepdims=True)
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


@cache
def _window_basis(start: float, side: float) -> Grey:
    """(8, 64) from a grey copy to the lowest frequencies of a window in it."""
    k, n = np.arange(KEPT)[:, None], np.arange(REDUCED)[None, :]
    rows = np.sqrt(2 / REDUCED) * np.cos(np.pi * k * (2 * n + 1) / (2 * REDUCED))
    rows[0] /= np.sqrt(2)
    return np.asarray(rows @ _shrink(start, side, REDUCED), np.float32)


@cache
def _shrink(start: float, side: float, to: int) -> Grey:
    """(to, 64) the mean of every cell of a window that is divided into `to` cells."""
    edges = (start + side * np.arange(to + 1) / to) * SIDE
    pixels = np.arange(SIDE)
    cover = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    cover = np.clip(cover, 0, None)
    return np.asarray(cover / cover.sum(1, keepdims=True), np.float32)


def _candidates(query: UInt64Array, stored: UInt64Array) -> tuple[IntArray, IntArray, IntArray]:
    """(query, stored, window) of hashes that differ in at most 7 bits, found by their bands.

    Source:
        Norouzi, Punjani & Fleet 2012, "Fast Search in Hamming Space with Multi-Index Hashing".
    """
    windows = stored.shape[1]
    flat = stored.reshape(-1)
    turned = np.r_[0, 1 << np.arange(BAND_BITS)].astype(np.int64)
    found: list[NDArray[np.int64]] = []
    for band in range(0, 64, BAND_BITS):
        keys = ((flat >> np.uint64(band)) & np.uint64(0xFFFF)).astype(np.int64)
        order = np.argsort(keys, kind="stable")
        starts = np.searchsorted(keys[order], np.arange((1 << BAND_BITS) + 1))
        asked = ((query >> np.uint64(band)) & np.uint64(0xFFFF)).astype(np.int64)
        for flip in turned.tolist():
            low, high = starts[asked ^ flip], starts[(asked ^ flip) + 1]
            count = np.where(high - low <= MOST_IN_A_BAND * windows, high - low, 0)
            for part in _parts(count):
                who = np.repeat(part, count[part])
                offset = np.arange(len(who)) - np.repeat(np.cumsum(count[part]) - count[part], count[part])
                other = order[low[who] + offset]
                bits = np.bitwise_count(query[who] ^ flat[other])
                near = (bits <= NEAR_BITS) & (other // windows != who)
                who, other = who[near], other[near]
                found.append(np.stack([who, other // windows, other % windows, bits[near]], 1))
    if not any(len(f) for f in found):
        return (np.zeros(0, np.int64),) * 3
    rows = np.concatenate(found)
    order = np.lexsort((rows[:, 3], rows[:, 1], rows[:, 0]))
    rows = rows[order]
    nearest = np.r_[True, (rows[1:, :2] != rows[:-1, :2]).any(1)]  # of a pair's windows the nearest
    return rows[nearest, 0], rows[nearest, 1], rows[nearest, 2]


def _parts(count: IntArray, most: int = 4_000_000) -> list[IntArray]:
    """Positions in runs whose counts add up to no more than memory allows."""
    ends = np.cumsum(count)
    if not len(ends) or not ends[-1]:
        return []
    cuts = np.searchsorted(ends, np.arange(most, ends[-1] + most, most), side="left")
    return [p for p in np.split(np.arange(len(count)), cuts[:-1] + 1) if len(p)]


@dataclass(frozen=True, eq=False)
class _Common:
    """What the images of a set have in common, as a mean and a few directions."""

    mean: Grey
    directions: Grey

    @classmethod
    def learn(cls, grey: NDArray[np.uint8]) -> _Common:
        rng = np.random.default_rng(0)
        chosen = (
            grey if len(grey) <= SAMPLED else grey[np.sort(rng.choice(len(grey), SAMPLED, replace=False))]
        )
        shrink = _shrink(0.0, 1.0, COMPARED)
        rows = _unique_part(_shrunk(chosen.astype(np.float32), shrink, shrink))
        parts = min(COMMON_PARTS, len(grey) // IMAGES_A_PART)
        if not parts:
            return cls(np.zeros(rows.shape[1], np.float32), np.zeros((0, rows.shape[1]), np.float32))
        mean = rows.mean(0)
        directions = np.linalg.eigh((rows - mean).T @ (rows - mean))[1][:, ::-1][:, :parts].T
        return cls(mean, np.ascontiguousarray(directions, np.float32))

    def without(self, rows: Grey) -> Grey:
        rest = rows - self.mean
        rest = rest - (rest @ self.directions.T) @ self.directions
        return np.asarray(rest / (np.linalg.norm(rest, axis=1, keepdims=True) + 1e-6), np.float32)


def _unique_part(copies: Grey) -> Grey:
    """(n, d) of (n, side, side): without the mean of every row and column, of length 1."""
    rest = (
        copies
        - copies.mean(1, keepdims=True)
        - copies.mean(2, keepdims=True)
        + copies.mean((1, 2), keepdims=True)
    )
    flat = rest.reshape(len(rest), -1)
    return np.asarray(flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-6), np.float32)


def _similarity(
    grey: NDArray[np.uint8], first: IntArray, second: IntArray, window: IntArray, mirror: int, common: _Common
) -> FloatArray:
    """(p,) how alike the first images, mirrored, and windows of the second are, in [-1, 1]."""
    asked = grey[first].astype(np.float32)
    asked = asked[:, :, ::-1] if mirror == 1 else asked[:, ::-1] if mirror == 2 else asked
    shrink = _shrink(0.0, 1.0, COMPARED)
    mine = common.without(_unique_part(_shrunk(asked, shrink, shrink)))
    best = np.full(len(first), -1.0)
    for w in np.unique(window).tolist():
        top, left, side = WINDOWS[w]
        shifts = FINE_SHIFTS if side < 1 else (0.0,)
        for down in shifts:
            for right in shifts:
                rows = np.flatnonzero((window == w) & ((best > PROMISING) | (best == -1.0)))
                if not len(rows):
                    continue
                t, x = (round(min(max(v, 0.0), 1 - side), 6) for v in (top + down, left + right))
                other = grey[second[rows]].astype(np.float32)
                theirs = _shrunk(other, _shrink(t, side, COMPARED), _shrink(x, side, COMPARED))
                alike = (mine[rows] * common.without(_unique_part(theirs))).sum(1)
                best[rows] = np.maximum(best[rows], alike)
    return best


def _shrunk(copies: Grey, rows: Grey, columns: Grey) -> Grey:
    """(n, a, b) of (n, 64, 64): cells of a window, one large product at a time."""
    across = copies.reshape(-1, SIDE) @ columns.T  # (n * 64, b)
    across = across.reshape(len(copies), SIDE, -1).transpose(0, 2, 1).reshape(-1, SIDE)  # (n * b, 64)
    down = across @ rows.T  # (n * b, a)
    return np.ascontiguousarray(down.reshape(len(copies), len(columns), len(rows)).transpose(0, 2, 1))


def linked(count: int, pairs: Sequence[Pair]) -> IntArray:
    """(count,) int64 group of each image, copies of one another being in one group."""
    return linked_groups(
        count, np.array([p.first for p in pairs], np.int64), np.array([p.second for p in pairs], np.int64)
    )
