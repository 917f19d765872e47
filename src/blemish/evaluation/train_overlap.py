"""Evaluated images that the model was trained or validated on: equal pixels, or nearly identical images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish.data.image_hashes import NEAR_BITS, NEAR_DETAIL_BITS, hash_images, nearly_identical
from blemish.evaluation.report import ReportWarning
from blemish.model_file import Fingerprints
from blemish.structures import Dataset

TRAIN, VAL = 0, 1


@dataclass(frozen=True)
class TrainOverlap:
    """The evaluated images that the model file has fingerprints of.

    Attributes:
        fingerprints: the number of fingerprints in the model file.
        images: the number of images that were compared with them.
        train: ids of training images.
        near_train: ids of other images that are nearly identical to a training image.
        val: ids of validation images, on which the checkpoint and the thresholds were chosen.
        near_val: ids of other images that are nearly identical to a validation image.
    """

    fingerprints: int = 0
    images: int = 0
    train: tuple[str, ...] = ()
    near_train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    near_val: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the overlap as `report.json` contains it."""
        return {
            "fingerprints": self.fingerprints,
            "images": self.images,
            "train": list(self.train),
            "near_train": list(self.near_train),
            "val": list(self.val),
            "near_val": list(self.near_val),
        }

    def warnings(self) -> tuple[ReportWarning, ...]:
        """Return the warnings for the report: data leakage, and optimistic bias."""
        out = []
        if self.train or self.near_train:
            parts = []
            if self.train:
                share = "All" if len(self.train) == self.images else f"{len(self.train)} of"
                parts.append(f"{share} {self.images} images are in the model's training set")
            if self.near_train:
                number = f"{len(self.near_train)} more" if self.train else f"{len(self.near_train)} images"
                parts.append(f"{number} are nearly identical to a training image")
            text = f"{', and '.join(parts)}: the metrics are better than on new images."
            out.append(ReportWarning("data-leakage", text))
        if self.val or self.near_val:
            validation = len(self.val) + len(self.near_val)
            text = (
                f"{validation} of {self.images} images are those on which the epoch, the temperature or the "
                "thresholds were chosen, or nearly identical to them: the metrics have an optimistic bias."
            )
            out.append(ReportWarning("optimistic-bias", text))
        return tuple(out)


def find_train_overlap(
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
        ids: (n,) ids of the images.
        pixel: (n,) uint64 pixel hashes.
        perceptual: (n,) uint64 perceptual hashes.
        detail: (n, 4) uint64 detail hashes.
        known: the fingerprints in the model file.
        max_bits: the largest number of bits in which the perceptual hashes of nearly identical images differ.
        max_detail_bits: the largest number of bits in which their detail hashes differ.
    """
    if not len(known.pixel):
        return TrainOverlap(images=len(ids))
    overlap: dict[str, tuple[str, ...]] = {}
    seen = np.zeros(len(ids), bool)
    for name, split in (("train", TRAIN), ("val", VAL)):
        of_split = known.split == split
        exact = np.isin(pixel, known.pixel[of_split]) & ~seen
        seen |= exact
        overlap[name] = tuple(ids[i] for i in np.flatnonzero(exact).tolist())
    for name, split in (("near_train", TRAIN), ("near_val", VAL)):
        of_split = known.split == split
        rows, _ = nearly_identical(
            (perceptual, detail),
            (known.perceptual[of_split], known.detail[of_split]),
            max_bits=max_bits,
            max_detail_bits=max_detail_bits,
        )
        near = np.zeros(len(ids), bool)
        near[rows] = True
        near &= ~seen
        seen |= near
        overlap[name] = tuple(ids[i] for i in np.flatnonzero(near).tolist())
    return TrainOverlap(fingerprints=len(known.pixel), images=len(ids), **overlap)


def split_as_in_training(dataset: Dataset, known: Fingerprints) -> Dataset:
    """Assign images to the splits that they had when a model was trained.

    For a data set without splits, which training divided: `train` and `val` contain the images that the model
    file remembers by fingerprints or that are nearly identical to those, and `test` contains the others.
    Images that cannot be read are in `test`, where the evaluation lists them.

    Args:
        dataset: without splits.
        known: the fingerprints in the model file.
    """
    ids = [s.id for s in dataset]
    hashes = hash_images(dataset)
    overlap = find_train_overlap(ids, hashes.pixel, hashes.perceptual, hashes.detail, known)
    split_of = dict.fromkeys(ids, "test")
    split_of |= dict.fromkeys((*overlap.train, *overlap.near_train), "train")
    split_of |= dict.fromkeys((*overlap.val, *overlap.near_val), "val")
    unreadable = np.flatnonzero(~hashes.opened).tolist()
    return dataset.with_splits(split_of | {ids[i]: "test" for i in unreadable})
