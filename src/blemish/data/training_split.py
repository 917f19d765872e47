"""The training and validation images of a data set: its own splits, or drawn ones; and their hashes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from blemish.data.image_hashes import ImageHashes, hash_images
from blemish.data.split import split_dataset
from blemish.errors import BadDataset
from blemish.imaging import LIMITS, Limits
from blemish.structures import Dataset, Sample

SIDES = ("train", "val")


def split_for_training(
    dataset: Dataset,
    *,
    fractions: Mapping[str, float],
    seed: int = 0,
    group_by: str | Sequence[str] | None = None,
    resplit: bool = False,
) -> Dataset:
    """Return the data set with a training and a validation split; a test split that it has is left alone.

    Args:
        dataset: with splits train and val, which are kept; without splits, which are drawn; or with others,
            so that the images outside of test are split.
        fractions: of the splits to draw; those of train and val are rescaled where test is left alone.
        seed: of the draw.
        group_by: see `split_dataset`.
        resplit: whether to draw train and val again.

    Raises:
        BadInput: see `split_dataset`.
        BadDataset: see `split_dataset`.
    """
    existing = dataset.splits
    if all(existing.get(side) for side in SIDES) and not resplit:
        return dataset
    if not existing:
        return split_dataset(dataset, fractions=fractions, seed=seed, group_by=group_by)
    rest = [i for i, sample in enumerate(dataset) if sample.split != "test"]
    whole = sum(fractions[side] for side in SIDES)
    shares = {side: fractions[side] / whole for side in SIDES}
    drawn = split_dataset(dataset.subset(rest), fractions=shares, seed=seed, group_by=group_by)
    split_of = {sample.id: sample.split or "train" for sample in drawn}
    return dataset.with_splits({sample.id: split_of.get(sample.id, "test") for sample in dataset})


def hash_for_training(
    train: Sequence[Sample], validation: Sequence[Sample], where: object, *, limits: Limits = LIMITS
) -> tuple[ImageHashes, np.ndarray]:
    """Return the hashes of training and validation images, in this order, and the side of each.

    Args:
        train: training images.
        validation: validation images.
        where: the data set, for the error.
        limits: the largest size of an image that is accepted.

    Returns:
        The hashes, and (n,) uint8: 0 for training and 1 for validation images.

    Raises:
        BadDataset: images cannot be opened ("bad-dataset.unreadable-images"); the message lists all of them.
    """
    hashes = hash_images((*train, *validation), limits=limits)
    if hashes.unreadable:
        listed = "\n".join(f"  {image}" for image in hashes.unreadable)
        raise BadDataset(
            f"{where}: {len(hashes.unreadable)} images cannot be opened. Repair or remove them:\n{listed}",
            reason="unreadable-images",
        )
    return hashes, np.repeat(np.array([0, 1], np.uint8), [len(train), len(validation)])
