"""Prepare the data of a run: open the data set, check it, split it and hash its images. Torch-free."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from blemish.config.recipe import Recipe
from blemish.config.split_file import read_split_file
from blemish.data import open_dataset
from blemish.data.training_split import hash_for_training, split_for_training
from blemish.errors import BadDataset, BadRecipe, suggestion
from blemish.evaluation.train_overlap import find_train_overlap
from blemish.imaging import LIMITS
from blemish.model_file import Fingerprints
from blemish.structures import Dataset, Sample
from blemish.training.monitored_metrics import watched_metrics
from blemish.training.recipe_checks import check_recipe_for_task
from blemish.training.sample_checks import check_ground_truth, check_ids, check_objects

SPLIT_NAME = "split.csv"  # in a run's folder
LOG_LINE = "%(asctime)s %(levelname)s %(message)s"  # of train.log
SHOWN = {"shown": True}  # marks a log record that is printed on the screen, and not only in train.log
_RECIPE_KEYS = (
    "path",
    "format",
    "images",
    "task",
)  # parameters of `open_dataset` with recipe keys of their own


@dataclass(frozen=True)
class TrainingData:
    """The images of a run.

    Attributes:
        dataset: all images, each in a split.
        train: training images.
        validation: validation images; images of the test split are never opened.
        fingerprints: of the training and the validation images.
    """

    dataset: Dataset
    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]
    fingerprints: Fingerprints


def split_data(recipe: Recipe, split_file: Path | None = None) -> TrainingData:
    """Return the images of a recipe in their splits, without opening them.

    Args:
        recipe: its section `data` is used; its names must fit the task of the data.
        split_file: of a resumed run, whose split it contains.

    Raises:
        BadRecipe: no data, or a key that does not fit the task.
        BadDataset: no data set, an empty split, or images without the ground truth that the task needs.
    """
    config = recipe.data
    if config.path is None:
        raise BadRecipe("no data. Give --data PATH, or data.path in the recipe", reason="no-data")
    _check_options(config.options)
    dataset = open_dataset(
        config.path, format=config.format, images=config.images, task=recipe.task, **config.options
    )
    task = dataset.task
    check_recipe_for_task(recipe, task)
    dataset = _split(dataset, recipe, split_file)
    for name in ("train", "val"):
        if not dataset.splits.get(name):
            raise BadDataset(
                f"{config.path}: the split {name!r} has no images. Set data.split.fractions, or add images",
                reason="empty-split",
            )
    check_ids(dataset)
    train, validation = dataset.of_split("train").samples, dataset.of_split("val").samples
    check_ground_truth((*train, *validation), task)
    check_objects(train, validation, task, watched_metrics(recipe, task))
    return TrainingData(dataset, train, validation, Fingerprints.none())


def prepare_data(recipe: Recipe, split_file: Path | None = None) -> TrainingData:
    """Return the images of a recipe in their splits, each opened once, with their fingerprints.

    Args:
        recipe: its section `data` is used.
        split_file: of a resumed run, whose split it contains.

    Raises:
        BadRecipe: as `split_data`.
        BadDataset: as `split_data`; also if images cannot be opened, which are all listed.
    """
    return hash_data(recipe, split_data(recipe, split_file))


def hash_data(recipe: Recipe, data: TrainingData) -> TrainingData:
    """Return the images of `split_data`, each opened once, with their fingerprints.

    Raises:
        BadDataset: images cannot be opened; all are listed.
    """
    train, validation = data.train, data.validation
    limits = LIMITS if recipe.data.tiles is None else recipe.data.tiles.limits
    hashes, side = hash_for_training(train, validation, recipe.data.path, limits=limits)
    fingerprints = Fingerprints(hashes.pixel, hashes.perceptual, hashes.detail, side)
    notes = (*data.dataset.notes, *_overlap_notes(train, validation, fingerprints))
    return replace(data, dataset=replace(data.dataset, notes=notes), fingerprints=fingerprints)


def resolve(recipe: Recipe, data: TrainingData) -> Recipe:
    """Return the recipe with the task of the data and a name."""
    name = recipe.name or recipe.model.name.replace("/", "-")
    return recipe.model_copy(update={"task": data.dataset.task, "name": name})


def _overlap_notes(
    train: Sequence[Sample], validation: Sequence[Sample], fingerprints: Fingerprints
) -> tuple[str, ...]:
    """Return a note if validation images show the same objects as training images."""
    n = len(train)
    pixel, perceptual, detail = fingerprints.pixel, fingerprints.perceptual, fingerprints.detail
    trained = Fingerprints(pixel[:n], perceptual[:n], detail[:n], fingerprints.split[:n])
    ids = [s.id for s in validation]
    matches = find_train_overlap(ids, pixel[n:], perceptual[n:], detail[n:], trained)
    groups = {s.group for s in train if s.group is not None}
    overlap = {*matches.train, *matches.near_train} | {s.id for s in validation if s.group in groups}
    if not overlap:
        return ()
    note = (
        f"{len(overlap)} of {len(ids)} validation images show the same group as training images or are "
        "near-duplicates of them, so that validation metrics are too good. If Blemish draws the split, "
        "data.split.group_by=near-duplicates keeps such images together."
    )
    return (note,)


def _split_note(split: Dataset) -> str:
    """Return how many images of a data set without splits are not trained on, and how to change that."""
    counts = split.splits
    held_back = [f"{counts['val']} select the epoch and the thresholds"]
    if counts.get("test"):
        held_back.append(f"{counts['test']} are held back for testing (split.csv in the run's folder)")
    return (
        f"{counts['train']} of {len(split)} images are trained on, {' and '.join(held_back)}, because the "
        "data set has no splits. To change the shares, set data.split.fractions, for example "
        "--set data.split.fractions='{train: 0.9, val: 0.1}'."
    )


def _check_options(options: Mapping[str, Any]) -> None:
    known = [n for n in inspect.signature(open_dataset).parameters if n not in _RECIPE_KEYS]
    for name in options:
        if name not in known:
            raise BadRecipe(
                f"data.options: unknown option {name!r}{suggestion(name, known)}", reason="unknown-option"
            )


def _split(dataset: Dataset, recipe: Recipe, split_file: Path | None) -> Dataset:
    if split_file is not None and split_file.is_file():
        split_of = read_split_file(split_file)
        if len(split_of) != len(dataset) or any(s.id not in split_of for s in dataset):
            raise BadDataset(
                f"{dataset.root}: expected the {len(split_of)} images in {split_file}, got {len(dataset)} "
                "other images. Restore them, or start a new run",
                reason="changed-data",
            )
        return dataset.with_splits(split_of)
    config = recipe.data.split
    fractions = {str(name): share for name, share in config.fractions.items()}
    split = split_for_training(
        dataset, fractions=fractions, seed=config.seed, group_by=config.group_by, resplit=config.resplit
    )
    return split if dataset.splits else replace(split, notes=(*split.notes, _split_note(split)))


def hash_contents(data: TrainingData) -> str:
    """Return the SHA-256 of labels, pixels, splits and ground truths; paths and order do not change it.

    Args:
        data: with its fingerprints, from `hash_data`.

    Returns:
        64 hexadecimal digits.
    """
    rows = []
    for sample, pixels in zip((*data.train, *data.validation), data.fingerprints.pixel, strict=True):
        row = hashlib.sha256(int(pixels).to_bytes(8, "little"))
        row.update(f"{sample.split}\0".encode())
        labeled = sample.ground_truth
        if labeled is not None:
            boxes = () if labeled.boxes_xyxy is None else (labeled.boxes_xyxy,)
            masks = () if labeled.masks is None else (mask.counts for mask in labeled.masks)
            for array in (labeled.label_index, *boxes, *masks):
                row.update(np.ascontiguousarray(array).tobytes())
        rows.append(row.digest())
    names = "\0".join(data.dataset.labels.names).encode()
    return hashlib.sha256(b"".join([names, *sorted(rows)])).hexdigest()
