"""Fingerprints of images: the same pixels, and nearly the same picture."""

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
REDUCED = 32  # side of the grey copy that is transformed
KEPT = 8  # lowest frequencies a side; 8 x 8 = 64 bits
NEAR_BITS = 6  # images whose hashes differ in more bits than this do not show the same
DETAIL_REDUCED, DETAIL_KEPT = 64, 16  # likewise for the detailed hash: 16 x 16 = 256 bits
NEAR_DETAIL_BITS = 24  # copies differ in up to about 20 of them, other solar cells of one kind in 50 and more
THREADS = min(8, os.cpu_count() or 1)

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True, eq=False)
class ImageHashes:
    """Fingerprints of many images, and those that could not be opened.

    Attributes:
        pixel: (n,) uint64, 0 where the image could not be opened.
        perceptual: (n,) uint64, likewise.
        detail: (n, 4) uint64, likewise.
        opened: (n,) bool.
        unreadable: why, for each that was not.
    """

    pixel: UInt64Array
    perceptual: UInt64Array
    detail: UInt64Array
    opened: NDArray[np.bool_]
    unreadable: tuple[BadImage, ...]


def pixel_hash(photo: LoadedImage) -> int:
    """The first 8 bytes of the SHA-256 of an image's upright pixels, their shape and depth."""
    digest = hashlib.sha256(repr((photo.pixels.shape, photo.pixels.dtype.str)).encode())
    digest.update(np.ascontiguousarray(photo.pixels).data)
    return int.from_bytes(digest.digest()[:8], "little")


def perceptual_hash(photo: LoadedImage) -> int:
    """64 bits that stay nearly the same when an image is resized, recompressed or brightened.

    Source:
        Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", the DCT hash: the
        signs, against their median, of the 8 x 8 lowest frequencies of a 32 x 32 grey copy.
    """
    return int(_to_words(spectrum(grey_copy(photo)))[0])


def detail_hash(photo: LoadedImage) -> UInt64Array:
    """(4,) uint64, 256 bits: what tells two images apart that look alike at first sight.

    Surfaces photographed in series (solar cells, panels of one car park) share their coarse structure, and
    64 bits take them for one another; the finer frequencies hold grain and damage.
    """
    return _to_words(spectrum(grey_copy(photo, DETAIL_REDUCED), DETAIL_KEPT))


def grey_copy(photo: LoadedImage, side: int = REDUCED) -> NDArray[np.float32]:
    """(side, side) float32 grey copy of an image, in [0, 255] (16 bits: [0, 65535])."""
    if photo.is_16bit:
        image = Image.fromarray(photo.pixels.astype(np.float32))
    else:
        image = Image.fromarray(photo.pixels)
        # Shrinking by a whole number first takes a tenth of the time and changes hardly a bit.
        image = image.reduce(max(1, min(image.size) // (REDUCED * 4))).convert("L")
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), np.float32)


def spectrum(grey: NDArray[np.float32], kept: int = KEPT) -> NDArray[np.float64]:
    """(kept, kept) float64 lowest frequencies of a square grey copy, vertical first."""
    basis = _basis(kept, len(grey))
    out: NDArray[np.float64] = basis @ grey.astype(np.float64) @ basis.T
    return out


def _to_words(frequencies: NDArray[np.float64]) -> UInt64Array:
    flat = frequencies.reshape(-1)
    bits = flat > np.median(flat[1:])  # the first is the brightness, and says nothing of the picture
    return np.packbits(bits).view(">u8").astype(np.uint64)


@cache
def _basis(kept: int, side: int) -> NDArray[np.float64]:
    """(kept, side) the lowest rows of the orthonormal DCT-II."""
    k, n = np.arange(kept)[:, None], np.arange(side)[None, :]
    rows = np.sqrt(2 / side) * np.cos(np.pi * k * (2 * n + 1) / (2 * side))
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, np.float64)


def fingerprints(samples: Iterable[Sample | Path], *, limits: Limits = LIMITS) -> ImageHashes:
    """Pixel and perceptual hashes of images, each opened once, in parallel.

    Args:
        samples: samples or paths; the hashes are in their order.
        limits: as for `open_image`.
    """

    def one(path: Path) -> tuple[int, int, UInt64Array] | BadImage:
        try:
            photo = open_image(path, limits)
        except BadImage as error:
            return error
        return pixel_hash(photo), perceptual_hash(photo), detail_hash(photo)

    results = in_parallel(one, [s.path if isinstance(s, Sample) else s for s in samples])
    bad = tuple(r for r in results if isinstance(r, BadImage))
    nothing = (0, 0, np.zeros(4, np.uint64))
    hashes = [nothing if isinstance(r, BadImage) else r for r in results]
    return ImageHashes(
        pixel=np.array([h[0] for h in hashes], np.uint64),
        perceptual=np.array([h[1] for h in hashes], np.uint64),
        detail=np.array([h[2] for h in hashes], np.uint64).reshape(-1, 4),
        opened=np.array([not isinstance(r, BadImage) for r in results], bool),
        unreadable=bad,
    )


def in_parallel(function: Callable[[_In], _Out], items: Sequence[_In], threads: int = THREADS) -> list[_Out]:
    """`function` of every item, in order; threads, since decoding and hashing leave the interpreter free."""
    if len(items) < 8 or threads < 2:  # not worth a thread
        return [function(i) for i in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def linked_groups(count: int, first: IntArray, second: IntArray) -> IntArray:
    """(count,) int64: which of `count` things hang together by the pairs; numbered by first member."""
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
