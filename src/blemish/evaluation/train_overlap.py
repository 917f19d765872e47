"""Images of a test that the model has seen before: the same pixels, or nearly the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.data.image_hashes import NEAR_BITS, NEAR_DETAIL_BITS, fingerprints
from blemish.evaluation.report import ReportWarning
from blemish.model_file import Fingerprints
from blemish.structures import Dataset

TRAIN, VAL = 0, 1
CHUNK_CELLS = 20_000_000


@dataclass(frozen=True)
class TrainOverlap:
    """Which evaluated images the model file has fingerprints of.

    Attributes:
        compared: how many fingerprints the file carries.
        evaluated: how many images were compared with them.
        train: ids of images that were learned from.
        near_train: ids of others that are near-identical to one that was learned from.
        val: ids of images on which epoch and thresholds were chosen.
        near_val: ids of others that are near-identical to one of those.
    """

    compared: int = 0
    evaluated: int = 0
    train: tuple[str, ...] = ()
    near_train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    near_val: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """One word a thing."""
        return {
            "compared": self.compared,
            "evaluated": self.evaluated,
            "train": list(self.train),
            "near_train": list(self.near_train),
            "val": list(self.val),
            "near_val": list(self.near_val),
        }

    def stamps(self) -> tuple[ReportWarning, ...]:
        """What a reader of the figures must know."""
        out = []
        if self.train or self.near_train:
            parts = []
            if self.train:
                whole = len(self.train) == self.evaluated
                count = f"all {self.evaluated}" if whole else f"{len(self.train)} of {self.evaluated}"
                parts.append(f"{count} images are among those the model learned from")
            if self.near_train:
                more = f"{len(self.near_train)} more are" if self.train else f"{len(self.near_train)} are"
                parts.append(f"{more} near-identical to one it learned from")
            out.append(
                ReportWarning("leak", f"{', and '.join(parts)}: the figures are better than the truth")
            )
        if self.val or self.near_val:
            number = len(self.val) + len(self.near_val)
            out.append(
                ReportWarning(
                    "tuned",
                    f"{number} of {self.evaluated} images are those on which epoch, temperature or "
                    "thresholds were chosen, or near-identical to one: the figures lean to the good side",
                )
            )
        return tuple(out)


def find_leaks(
    ids: Sequence[str],
    pixel: NDArray[np.uint64],
    perceptual: NDArray[np.uint64],
    detail: NDArray[np.uint64],
    known: Fingerprints,
    *,
    max_bits: int = NEAR_BITS,
    max_detail_bits: int = NEAR_DETAIL_BITS,
) -> TrainOverlap:
    """Compare evaluated images with the model file's fingerprints.

    Args:
        ids: (n,) names of the images.
        pixel: (n,) uint64 pixel hashes.
        perceptual: (n,) uint64 perceptual hashes.
        detail: (n, 4) uint64 detailed hashes.
        known: what the model file carries.
        max_bits: near-identical images differ in at most so many bits of the perceptual hash,
        max_detail_bits: and in at most so many of the detailed one.
    """
    if not len(known.pixel):
        return TrainOverlap(evaluated=len(ids))
    found: dict[str, tuple[str, ...]] = {}
    seen = np.zeros(len(ids), bool)
    for name, split in (("train", TRAIN), ("val", VAL)):
        of_split = known.split == split
        exact = np.isin(pixel, known.pixel[of_split]) & ~seen
        seen |= exact
        found[name] = tuple(ids[i] for i in np.flatnonzero(exact).tolist())
    for name, split in (("near_train", TRAIN), ("near_val", VAL)):
        of_split = known.split == split
        near = _near(
            (perceptual, detail),
            (known.perceptual[of_split], known.detail[of_split]),
            max_bits,
            max_detail_bits,
        )
        near &= ~seen
        seen |= near
        found[name] = tuple(ids[i] for i in np.flatnonzero(near).tolist())
    return TrainOverlap(compared=len(known.pixel), evaluated=len(ids), **found)


def split_as_in_training(dataset: Dataset, known: Fingerprints) -> Dataset:
    """The images in the splits that they had when a model was trained.

    For a set that names no splits itself, which training divided: `train` and `val` as the model file
    remembers them by fingerprints, and `test` for images that it has never seen, nor anything near
    them. Images that cannot be opened are in `test`, where evaluation lists them.
    """
    ids = [s.id for s in dataset]
    prints = fingerprints(dataset)
    leaks = find_leaks(ids, prints.pixel, prints.perceptual, prints.detail, known)
    split_of = dict.fromkeys(ids, "test")
    split_of |= dict.fromkeys((*leaks.train, *leaks.near_train), "train")
    split_of |= dict.fromkeys((*leaks.val, *leaks.near_val), "val")
    closed = np.flatnonzero(~prints.opened).tolist()
    return dataset.with_splits(split_of | {ids[i]: "test" for i in closed})


def _near(
    ours: tuple[NDArray[np.uint64], NDArray[np.uint64]],
    known: tuple[NDArray[np.uint64], NDArray[np.uint64]],
    max_bits: int,
    max_detail_bits: int,
) -> NDArray[np.bool_]:
    """(n,) bool: whether any known image differs in few bits of both hashes."""
    hashes, details = ours
    out = np.zeros(len(hashes), bool)
    step = max(1, CHUNK_CELLS // max(len(known[0]), 1))
    for i in range(0, len(hashes), step):
        bits = np.bitwise_count(hashes[i : i + step, None] ^ known[0])
        row, other = np.nonzero(bits <= max_bits)
        finer = np.bitwise_count(details[i + row] ^ known[1][other]).sum(1, dtype=np.int64)
        out[i + row[finer <= max_detail_bits]] = True
    return out
