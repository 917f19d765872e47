"""All that stands before the first step: images checked and split, the network built and filled."""

from __future__ import annotations

import csv
import inspect
import io
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from blemish._version import __version__
from blemish.config.image_level_options import IMAGENET_MEAN, IMAGENET_STD
from blemish.config.recipe import Recipe
from blemish.data import open_dataset, split_dataset
from blemish.data.image_hashes import fingerprints as hash_images
from blemish.errors import BadDataset, BadInput, BadRecipe, suggestion
from blemish.evaluation.train_overlap import find_leaks
from blemish.imaging import LIMITS
from blemish.model_file import Contract, Fingerprints, LabelSpec, Licences, write_atomically
from blemish.models._network import Network
from blemish.models._registry import create, describe
from blemish.models._weights import load_weights
from blemish.preprocessing import resize
from blemish.structures import Dataset, Sample
from blemish.training.detection_augmentation import check_changes
from blemish.training.image_dataset import FileImageSource
from blemish.training.losses import check_loss
from blemish.training.rng import RngPurpose, number
from blemish.training.targets import check_objects, check_targets, largest_coordinate
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
    leaks = find_leaks(ids, known.pixel[n:], known.perceptual[n:], known.detail[n:], learned)
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
        split_of = read_split(split_file)
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


def write_split(dataset: Dataset, path: Path) -> None:
    """`split.csv`: id and split of every image."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("id", "split"))
    writer.writerows((s.id, s.split or "") for s in dataset)
    write_atomically(path, text.getvalue().encode())


def read_split(path: Path) -> dict[str, str]:
    """By id, the split of every image of a run, from what `write_split` left.

    Raises:
        BadInput: it was changed or damaged since.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return {row["id"]: row["split"] for row in csv.DictReader(file)}
    except (KeyError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(
            f"{path}: this is no table of id and split, as training writes it; restore it, or give "
            "images with --data"
        ) from error


def build_network(recipe: Recipe, data: TrainingData, weights: Sequence[Path]) -> Network:
    """The network of a recipe for these labels, filled with weights.

    Args:
        recipe: its model part.
        data: labels, and the images that `dataset` normalisation measures.
        weights: files, as `locate` gives them.
    """
    model, part = recipe.model, recipe.data
    options: dict[str, Any] = dict(model.options)
    if model.input_size is not None:
        options["input_size"] = model.input_size
    if describe(model.name).build.__module__.startswith("blemish.models"):
        options |= _image_options(recipe, data)
    seed = number(recipe.training.seed, RngPurpose.INITIAL_WEIGHTS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = create(model.name, task=data.dataset.task, label_count=len(data.dataset.labels), **options)
    licence = network.code_licence or describe(model.name).licence
    if isinstance(model.input_size, Mapping):
        known = [spec.name for spec in network.inputs]
        for name in model.input_size:
            if name not in known:
                raise BadRecipe(
                    f"model.input_size: {model.name} has no input {name!r}{suggestion(name, known)}"
                )
    if "AGPL" in licence:
        _log.warning("%s: %s", model.name, licence)
    for report in load_weights(network, weights):
        _log.info("%s", report.sentence(), extra=SHOWN)
    if part.normalization == "dataset":
        measured = measure_channels(network, data.train)
        network.inputs = tuple(
            spec.model_copy(update={"mean": mean, "std": std})
            for spec, (mean, std) in zip(network.inputs, measured, strict=True)
        )
    return network


def _image_options(recipe: Recipe, data: TrainingData) -> dict[str, Any]:
    """The options of our architectures that a recipe says elsewhere than in `model.options`."""
    model, part = recipe.model, recipe.data
    options: dict[str, Any] = {"white_level": part.white_level}
    if model.head is not None:
        options["head"] = model.head
    resize_by = model.resize or ("shortest" if model.resize_to else None)
    if resize_by is not None:
        options |= {"resize": resize_by, "resize_to": model.resize_to}
    if part.normalization == "imagenet":
        options |= {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    elif part.normalization == "none":
        options |= {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    if model.options.get("box_scale") == "coord_max" and "coord_max" not in model.options:
        options["coord_max"] = largest_coordinate((*data.train, *data.validation))
    return options


def measure_channels(
    network: Network, samples: Sequence[Sample]
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Mean and standard deviation by channel of the training images, for each input, in [0, 1]."""
    source = FileImageSource()
    sums = [np.zeros((2, spec.channels)) for spec in network.inputs]
    for sample in samples:
        for total, spec in zip(sums, network.inputs, strict=True):
            pixels, _ = resize(source.image(sample), spec)
            white = 255.0 if pixels.dtype == np.uint8 else 1.0
            values = pixels.reshape(-1, spec.channels).astype(np.float64) / white
            total += [values.mean(0), (values**2).mean(0)]
    out = []
    for total in sums:
        mean, square = total / len(samples)
        std = np.sqrt(np.maximum(square - mean**2, 1e-8))
        out.append((tuple(map(float, mean.round(6))), tuple(map(float, np.maximum(std, 1e-3).round(6)))))
    return out


def draft_contract(recipe: Recipe, network: Network, data: TrainingData) -> Contract:
    """The contract as far as it is known before training: thresholds .5, temperature 1."""
    architecture = describe(recipe.model.name)
    labels = data.dataset.labels
    return Contract(
        blemish_version=__version__,
        name=recipe.name,
        architecture=recipe.model.name,
        task=network.task,
        labels=tuple(
            LabelSpec(name=n, title=t) for n, t in zip(labels.names, labels.display_names, strict=True)
        ),
        inputs=network.inputs,
        outputs=network.outputs,
        decoder=network.decoder,
        feature_layer=network.feature_layers[-1] if network.feature_layers else "",
        recipe=recipe.model_dump(mode="json"),
        data={
            "name": Path(recipe.data.path or "").stem,
            "format": data.dataset.format,
            "counts": data.dataset.splits,
            "split": recipe.data.split.model_dump(mode="json"),
        },
        licences=Licences(
            weights=(network.weights_licence or architecture.weights_licence)
            if recipe.model.weights == "default"
            else recipe.model.weights_license,
            data=recipe.data.license,
            code=network.code_licence or architecture.licence,
        ),
    )


def resolve(recipe: Recipe, data: TrainingData) -> Recipe:
    """The recipe with what the data said filled in."""
    return recipe.model_copy(
        update={
            "task": data.dataset.task,
            "name": recipe.name or recipe.model.name.replace("/", "-"),
        }
    )
