"""Prepare the data of a run: open the data set, check it, split it and hash its images."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from blemish.config.recipe import Recipe
from blemish.config.split_file import read_split_file
from blemish.data import open_dataset, split_dataset
from blemish.data.image_hashes import hash_images
from blemish.errors import BadDataset, BadRecipe, suggestion
from blemish.evaluation.train_overlap import find_train_overlap
from blemish.imaging import LIMITS
from blemish.model_file import Fingerprints
from blemish.structures import Dataset, Sample
from blemish.training.detection_augmentation import check_changes
from blemish.training.losses import check_loss
from blemish.training.targets import check_objects, check_targets
from blemish.training.validation import check_watched, watched_of

SHOWN = {"shown": True}  # what people see on the screen too, beside train.log
_OWN_KEYS = ("path", "format", "images", "task")  # these have keys of their own in a recipe
_log = logging.getLogger("blemish.training")


@dataclass(frozen=True)
class TrainingData:
    """What is learned from.

    Attributes:
        dataset: all of it, every image in a split.
        train: images to learn from.
        validation: images to judge by; none of the test split is ever opened.
        fingerprints: of both.
    """

    dataset: Dataset
    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    fingerprints: Fingerprints


def prepare_data(recipe: Recipe, split_file: Path | None = None) -> TrainingData:
    """The images of a recipe, split, and each proved to open.

    Args:
        recipe: its data part.
        split_file: of a run that goes on: the split is taken from it.

    Raises:
        BadDataset: no data, no label, or images that cannot be opened; all of them are listed.
    """
    part = recipe.data
    if part.path is None:
        raise BadRecipe("no data: give --data PATH, or data.path in the recipe")
    _check_options(part.options)
    dataset = open_dataset(
        part.path,
        format=part.format,
        images=part.images,
        task=recipe.task,
        **part.options,
    )
    if part.tiles is not None and not dataset.task.has_objects:
        raise BadRecipe(
            f"data.tiles is for detection and segmentation, and the task is {dataset.task}; leave it out"
        )
    check_watched(recipe, dataset.task)
    check_changes(recipe.augmentation, dataset.task)
    check_loss(dataset.task, recipe.training.loss)
    dataset = _split(dataset, recipe, split_file)
    splits = dataset.splits
    for name in ("train", "val"):
        if not splits.get(name):
            raise BadDataset(
                f"{part.path}: the split {name!r} holds no image; give data.split.fractions, or more images"
            )
    _check_names(dataset)
    train, validation = dataset.of_split("train").samples, dataset.of_split("val").samples
    check_targets((*train, *validation), dataset.task)
    check_objects(train, validation, dataset.task, watched_of(recipe, dataset.task))
    limits = LIMITS if part.tiles is None else part.tiles.limits
    prints = hash_images((*train, *validation), limits=limits)
    if prints.unreadable:
        listed = "\n".join(f"  {bad}" for bad in prints.unreadable)
        raise BadDataset(
            f"{len(prints.unreadable)} images cannot be opened; mend them or take them out before "
            f"training:\n{listed}"
        )
    side = np.array([0] * len(train) + [1] * len(validation), np.uint8)
    known = Fingerprints(prints.pixel, prints.perceptual, prints.detail, side)
    dataset = replace(dataset, notes=(*dataset.notes, *_on_both_sides(train, validation, known)))
    return TrainingData(dataset, train, validation, known)


def _on_both_sides(
    train: Sequence[Sample], validation: Sequence[Sample], known: Fingerprints
) -> tuple[str, ...]:
    """A sentence for people where validation judges what was learned by heart."""
    n = len(train)
    learned = Fingerprints(known.pixel[:n], known.perceptual[:n], known.detail[:n], known.split[:n])
    ids = [s.id for s in validation]
    leaks = find_train_overlap(ids, known.pixel[n:], known.perceptual[n:], known.detail[n:], learned)
    seen, groups = {*leaks.train, *leaks.near_train}, {s.group for s in train if s.group is not None}
    seen |= {s.id for s in validation if s.group in groups}
    if not seen:
        return ()
    said = (
        f"{len(seen)} of {len(ids)} validation images show what training images show (one group, "
        "or near-identical): validation figures are better than the truth; "
        "data.split.group_by=near-duplicates keeps such images together where Blemish makes the split"
    )
    return (said,)


def _check_names(dataset: Dataset) -> None:
    """Refuse names that a run's table of splits cannot hold: old archives leave some that are no text."""
    for sample in dataset:
        try:
            sample.id.encode()
        except UnicodeEncodeError:
            raise BadDataset(
                f"{dataset.root}: the name {sample.id!r} cannot be written as text; rename the image"
            ) from None


def _check_options(options: Mapping[str, Any]) -> None:
    known = [n for n in inspect.signature(open_dataset).parameters if n not in _OWN_KEYS]
    for name in options:
        if name not in known:
            raise BadRecipe(f"data.options: there is no option {name!r}{suggestion(name, known)}")


def _split(dataset: Dataset, recipe: Recipe, split_file: Path | None) -> Dataset:
    if split_file is not None and split_file.is_file():
        split_of = read_split_file(split_file)
        missing = [s.id for s in dataset if s.id not in split_of]
        if missing or len(split_of) != len(dataset):
            raise BadDataset(
                f"{dataset.root}: the images are no longer those the run began with "
                f"({len(dataset)} now, {len(split_of)} in {split_file}); begin a new run"
            )
        return dataset.with_splits(split_of)
    part = recipe.data.split
    has = dataset.splits
    if has.get("train") and has.get("val") and not part.resplit:
        return dataset
    if not has:
        fractions = {str(name): share for name, share in part.fractions.items()}
        return split_dataset(dataset, fractions=fractions, seed=part.seed, group_by=part.group_by)
    # The set says what is for testing, or only what is for training, or the recipe wants another draw: the
    # rest is split, the test left alone.
    rest = [i for i, s in enumerate(dataset) if s.split != "test"]
    whole = part.fractions["train"] + part.fractions["val"]
    fractions = {name: part.fractions[name] / whole for name in ("train", "val")}
    parted = split_dataset(dataset.subset(rest), fractions=fractions, seed=part.seed, group_by=part.group_by)
    split_of = {s.id: s.split or "train" for s in parted}
    return dataset.with_splits({s.id: split_of.get(s.id, "test") for s in dataset})


def resolve(recipe: Recipe, data: TrainingData) -> Recipe:
    """The recipe with what the data said filled in."""
    return recipe.model_copy(
        update={
            "task": data.dataset.task,
            "name": recipe.name or recipe.model.name.replace("/", "-"),
        }
    )
