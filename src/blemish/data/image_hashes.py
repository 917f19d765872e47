"""Hashes of images: equal for equal pixels, and similar for similar images."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.arrays import IntArray
from blemish.errors import BadImage
from blemish.imaging import LIMITS, Limits, LoadedImage, open_image
from blemish.structures import Sample

UInt64Array = NDArray[np.uint64]
REDUCED = 32  # side of the gray copy that is transformed
KEPT = 8  # lowest frequencies per side; 8 x 8 = 64 bits
NEAR_BITS = 6  # images whose perceptual hashes differ in more bits are not copies
DETAIL_REDUCED, DETAIL_KEPT = 64, 16  # the same for the detail hash: 16 x 16 = 256 bits
CHUNK_CELLS = 20_000_000  # of a matrix of pairs that is in memory at once
NEAR_DETAIL_BITS = 24  # copies differ in up to about 20 of them, other solar cells of one kind in 50 and more
THREADS = min(8, os.cpu_count() or 1)

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True, eq=False)
class ImageHashes:
    """The hashes of many images, and the errors of those that could not be opened.

    Attributes:
        pixel: (n,) uint64, 0 if the image could not be opened.
        perceptual: (n,) uint64, 0 if the image could not be opened.
        detail: (n, 4) uint64, 0 if the image could not be opened.
        opened: (n,) bool, whether each image could be opened.
        unreadable: the error of each image that could not be opened.
    """

    pixel: UInt64Array
    perceptual: UInt64Array
    detail: UInt64Array
    opened: NDArray[np.bool_]
    unreadable: tuple[BadImage, ...]


def pixel_hash(photo: LoadedImage) -> int:
    """Return the first 8 bytes of the SHA-256 of the upright pixels, their shape and depth, as an integer."""
    digest = hashlib.sha256(repr((photo.pixels.shape, photo.pixels.dtype.str)).encode())
    digest.update(np.ascontiguousarray(photo.pixels).data)
    return int.from_bytes(digest.digest()[:8], "little")


def perceptual_hash(photo: LoadedImage) -> int:
    """Return 64 bits, nearly the same for a resized, recompressed or brightened copy of an image.

    Source:
        Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", the DCT hash: the
        signs, against their median, of the 8 x 8 lowest frequencies of a 32 x 32 gray copy.
    """
    return int(_to_words(spectrum(gray_copy(photo)))[0])


def detail_hash(photo: LoadedImage) -> UInt64Array:
    """Return (4,) uint64, 256 bits that differ between images with the same coarse structure.

    Surfaces that are photographed in series (solar cells, panels of one car park) share their coarse
    structure, so that their 64-bit hashes are similar; the finer frequencies contain grain and damage.
    """
    return _to_words(spectrum(gray_copy(photo, DETAIL_REDUCED), DETAIL_KEPT))


def gray_copy(photo: LoadedImage, side: int = REDUCED) -> NDArray[np.float32]:
    """Return a (side, side) float32 gray copy of an image, in [0, 255] (16 bits: [0, 65535])."""
    if photo.is_16bit:
        image = Image.fromarray(photo.pixels.astype(np.float32))
    else:
        image = photo.rgb_image()
        # Reducing by a whole number first takes a tenth of the time and changes few bits.
        image = image.reduce(max(1, min(image.size) // (REDUCED * 4))).convert("L")
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), np.float32)


def spectrum(gray: NDArray[np.float32], kept: int = KEPT) -> NDArray[np.float64]:
    """Return the (kept, kept) float64 lowest frequencies of a square gray copy, vertical first."""
    basis = dct_basis(kept, len(gray))
    frequencies: NDArray[np.float64] = basis @ gray.astype(np.float64) @ basis.T
    return frequencies


def _to_words(frequencies: NDArray[np.float64]) -> UInt64Array:
    flat = frequencies.reshape(-1)
    bits = flat > np.median(flat[1:])  # the first is the brightness, which does not identify an image
    return np.packbits(bits).view(">u8").astype(np.uint64)


@cache
def dct_basis(kept: int, side: int) -> NDArray[np.float64]:
    """(kept, side) the lowest rows of the orthonormal DCT-II."""
    k, n = np.arange(kept)[:, None], np.arange(side)[None, :]
    rows = np.sqrt(2 / side) * np.cos(np.pi * k * (2 * n + 1) / (2 * side))
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, np.float64)


def hash_images(samples: Iterable[Sample | Path], *, limits: Limits = LIMITS) -> ImageHashes:
    """Return the hashes of images; each is opened once, in parallel.

    Args:
        samples: samples or paths; the hashes are in their order.
        limits: the largest size of an image, in bytes and pixels, that is accepted.
    """

    def hash_image(path: Path) -> tuple[int, int, UInt64Array] | BadImage:
        try:
            photo = open_image(path, limits)
        except BadImage as error:
            return error
        return pixel_hash(photo), perceptual_hash(photo), detail_hash(photo)

    results = map_in_parallel(hash_image, [s.path if isinstance(s, Sample) else s for s in samples])
    errors = tuple(r for r in results if isinstance(r, BadImage))
    no_hashes = (0, 0, np.zeros(4, np.uint64))
    hashes = [no_hashes if isinstance(r, BadImage) else r for r in results]
    return ImageHashes(
        pixel=np.array([h[0] for h in hashes], np.uint64),
        perceptual=np.array([h[1] for h in hashes], np.uint64),
        detail=np.array([h[2] for h in hashes], np.uint64).reshape(-1, 4),
        opened=np.array([not isinstance(r, BadImage) for r in results], bool),
        unreadable=errors,
    )


def nearly_identical(
    images: tuple[UInt64Array, UInt64Array],
    others: tuple[UInt64Array, UInt64Array],
    *,
    max_bits: int = NEAR_BITS,
    max_detail_bits: int = NEAR_DETAIL_BITS,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the pairs of an image and another whose hashes differ in few bits.

    Args:
        images: (n,) perceptual and (n, 4) detail hashes, uint64.
        others: (m,) perceptual and (m, 4) detail hashes.
        max_bits: largest number of different bits of the perceptual hashes.
        max_detail_bits: largest number of different bits of the detail hashes.

    Returns:
        The positions among `images` and among `others`, one of each per pair.
    """
    rows, columns = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    step = max(1, CHUNK_CELLS // max(len(others[0]), 1))
    for start in range(0, len(images[0]), step):
        bits = np.bitwise_count(images[0][start : start + step, None] ^ others[0])
        row, column = np.nonzero(bits <= max_bits)
        finer = np.bitwise_count(images[1][start + row] ^ others[1][column]).sum(1, dtype=np.int64)
        near = finer <= max_detail_bits
        rows.append(start + row[near])
        columns.append(column[near])
    return np.concatenate(rows), np.concatenate(columns)


def map_in_parallel(
    function: Callable[[_In], _Out], items: Sequence[_In], threads: int = THREADS
) -> list[_Out]:
    """Return the result of `function` for each item, in order, computed by threads."""
    if len(items) < 8 or threads < 2:  # starting threads would take longer
        return [function(i) for i in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def connected_components(count: int, first: IntArray, second: IntArray) -> IntArray:
    """Return the connected component of each of `count` nodes: (count,) int64, numbered by first member.

    Args:
        count: number of nodes.
        first: (n,) one end of each edge.
        second: (n,) the other end of each edge.
    """
    parent = np.arange(count)

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = int(parent[i])
        return i

    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        ra, rb = root(a), root(b)
        if ra != rb:
            parent[max(ra, rb)] = min(ra, rb)
    roots = np.array([root(i) for i in range(count)], np.int64)
    return np.unique(roots, return_inverse=True)[1].reshape(-1).astype(np.int64)
