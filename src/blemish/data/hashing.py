"""Fingerprints of photographs: the same pixels, and nearly the same picture."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.errors import BadImage
from blemish.imaging import LIMITS, Limits, Photograph, open_photograph
from blemish.vocabulary import IntArray, Sample

UInt64Array = NDArray[np.uint64]
REDUCED = 32  # side of the grey copy that is transformed
KEPT = 8  # lowest frequencies a side; 8 x 8 = 64 bits
NEAR_BITS = 6  # photographs whose hashes differ in at most so many bits are taken for the same
THREADS = min(8, os.cpu_count() or 1)

_In = TypeVar("_In")
_Out = TypeVar("_Out")


@dataclass(frozen=True, eq=False)
class Prints:
    """Fingerprints of many photographs, and those that could not be opened.

    Attributes:
        pixel: (n,) uint64, 0 where the photograph could not be opened.
        perceptual: (n,) uint64, likewise.
        opened: (n,) bool.
        unreadable: why, for each that was not.
    """

    pixel: UInt64Array
    perceptual: UInt64Array
    opened: NDArray[np.bool_]
    unreadable: tuple[BadImage, ...]


def pixel_hash(photo: Photograph) -> int:
    """The first 8 bytes of the SHA-256 of a photograph's upright pixels, their shape and depth."""
    digest = hashlib.sha256(repr((photo.pixels.shape, photo.pixels.dtype.str)).encode())
    digest.update(np.ascontiguousarray(photo.pixels).data)
    return int.from_bytes(digest.digest()[:8], "little")


def perceptual_hash(photo: Photograph) -> int:
    """64 bits that stay nearly the same when a photograph is resized, recompressed or brightened.

    Source:
        Zauner 2010, "Implementation and Benchmarking of Perceptual Image Hash Functions", the DCT hash: the
        signs, against their median, of the 8 x 8 lowest frequencies of a 32 x 32 grey copy.
    """
    return _to_bits(spectrum(grey_copy(photo)))


def grey_copy(photo: Photograph, side: int = REDUCED) -> NDArray[np.float32]:
    """(side, side) float32 grey copy of a photograph, in [0, 255] (16 bits: [0, 65535])."""
    if photo.is_16bit:
        image = Image.fromarray(photo.pixels.astype(np.float32))
    else:
        image = Image.fromarray(photo.pixels)
        # Shrinking by a whole number first takes a tenth of the time and changes hardly a bit.
        image = image.reduce(max(1, min(image.size) // (REDUCED * 4))).convert("L")
    return np.asarray(image.resize((side, side), Image.Resampling.BOX), np.float32)


def spectrum(grey: NDArray[np.float32]) -> NDArray[np.float64]:
    """(8, 8) float64 lowest frequencies of a (32, 32) grey copy, vertical first."""
    basis = _basis()
    out: NDArray[np.float64] = basis @ grey.astype(np.float64) @ basis.T
    return out


def _to_bits(frequencies: NDArray[np.float64]) -> int:
    flat = frequencies.reshape(-1)
    bits = flat > np.median(flat[1:])  # the first is the brightness, and says nothing of the picture
    return int(np.packbits(bits).view(">u8")[0])


@cache
def _basis() -> NDArray[np.float64]:
    """(8, 32) the lowest rows of the orthonormal DCT-II."""
    k, n = np.arange(KEPT)[:, None], np.arange(REDUCED)[None, :]
    rows = np.sqrt(2 / REDUCED) * np.cos(np.pi * k * (2 * n + 1) / (2 * REDUCED))
    rows[0] /= np.sqrt(2)
    return np.asarray(rows, np.float64)


def fingerprints(samples: Iterable[Sample | Path], *, limits: Limits = LIMITS) -> Prints:
    """Pixel and perceptual hashes of photographs, each opened once, in parallel.

    Args:
        samples: samples or paths; the hashes are in their order.
        limits: as for `open_photograph`.
    """

    def one(path: Path) -> tuple[int, int] | BadImage:
        try:
            photo = open_photograph(path, limits)
        except BadImage as error:
            return error
        return pixel_hash(photo), perceptual_hash(photo)

    results = in_parallel(one, [s.path if isinstance(s, Sample) else s for s in samples])
    bad = tuple(r for r in results if isinstance(r, BadImage))
    hashes = [(0, 0) if isinstance(r, BadImage) else r for r in results]
    return Prints(
        pixel=np.array([h[0] for h in hashes], np.uint64),
        perceptual=np.array([h[1] for h in hashes], np.uint64),
        opened=np.array([not isinstance(r, BadImage) for r in results], bool),
        unreadable=bad,
    )


def in_parallel(function: Callable[[_In], _Out], items: Sequence[_In], threads: int = THREADS) -> list[_Out]:
    """`function` of every item, in order; threads, since decoding and hashing leave the interpreter free."""
    if len(items) < 8 or threads < 2:  # not worth a thread
        return [function(i) for i in items]
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(function, items))


def near_duplicate_groups(hashes: UInt64Array, max_bits: int = NEAR_BITS) -> IntArray:
    """Which photographs belong together, because a chain of near-identical ones links them.

    Args:
        hashes: (n,) uint64 perceptual hashes.
        max_bits: two that differ in at most so many bits are linked.

    Returns:
        (n,) int64 group of each; groups are numbered by their first member.

    Example:
        >>> near_duplicate_groups(np.array([0, 2**63 - 1, 1], np.uint64), max_bits=2).tolist()
        [0, 1, 0]
    """
    first, second = near_pairs(hashes, max_bits)
    return linked_groups(len(hashes), first, second)


def near_pairs(hashes: UInt64Array, max_bits: int) -> tuple[IntArray, IntArray]:
    """All pairs of hashes that differ in at most `max_bits` bits, without comparing every pair.

    Two hashes that differ in at most k bits agree in at least one of k + 1 bands of bits, so only those that
    agree in a band are compared.

    Returns:
        Positions (p,) int64 of the first and of the second of each pair, first < second.

    Source:
        Manku, Jain & Das Sarma 2007, "Detecting Near-Duplicates for Web Crawling".
    """
    hashes = np.asarray(hashes, np.uint64)
    unique, where = np.unique(hashes, return_inverse=True)
    found: list[NDArray[np.int64]] = []
    edges = np.linspace(0, 64, max_bits + 2).astype(int)
    for low, high in pairwise(edges):
        width = int(high - low)
        mask = np.uint64((1 << width) - 1) if width < 64 else np.uint64(2**64 - 1)
        band = (unique >> np.uint64(low)) & mask
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(band[order]) != 0])
        ends = np.r_[starts[1:], len(order)]
        # Every member is compared with those that follow it in its band: at step s with the s-th after it.
        last = np.repeat(ends, ends - starts)
        position = np.arange(len(order))
        step = 1
        while True:
            position = position[position + step < last[position]]
            if not len(position):
                break
            a, b = order[position], order[position + step]
            near = np.bitwise_count(unique[a] ^ unique[b]) <= max_bits
            if near.any():
                found.append(np.stack([a[near], b[near]], 1))
            step += 1
    pairs = np.unique(np.sort(np.concatenate(found), 1), axis=0) if found else np.zeros((0, 2), np.int64)
    return _members(pairs, where.reshape(-1).astype(np.int64))


def _members(pairs: NDArray[np.int64], where: IntArray) -> tuple[IntArray, IntArray]:
    """Pairs of positions from pairs of distinct hashes; equal hashes are linked in a chain."""
    order = np.argsort(where, kind="stable")
    same = where[order][1:] == where[order][:-1]
    chain = np.stack([order[:-1][same], order[1:][same]], 1)
    leaders = order[np.flatnonzero(np.r_[True, ~same])] if len(order) else order
    linked = np.stack([leaders[pairs[:, 0]], leaders[pairs[:, 1]]], 1) if len(pairs) else pairs
    both = np.sort(np.concatenate([linked, chain]), 1).astype(np.int64)
    both = np.unique(both, axis=0)
    return both[:, 0], both[:, 1]


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
