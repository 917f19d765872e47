"""Prepare the network of a run: build it, load its weights, measure its normalization, draft its contract."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from blemish._version import __version__
from blemish.config.architectures import describe
from blemish.config.recipe import Recipe
from blemish.errors import BadRecipe
from blemish.imaging import LoadedImage
from blemish.model_file import Contract, LabelSpec, Licenses
from blemish.models._build import build_network
from blemish.models._folded_norms import find_folded_norms, restore_norms
from blemish.models._network import Network
from blemish.models._weights import load_weights
from blemish.preprocessing import normalize, resize
from blemish.structures import Sample
from blemish.training.data_setup import SHOWN, TrainingData
from blemish.training.detection_dataset import check_network_augmentation
from blemish.training.image_source import FileImageSource
from blemish.training.loss_registry import check_loss
from blemish.training.losses import label_weights, start_at_frequency
from blemish.training.optimizers import freeze
from blemish.training.rng import RngPurpose, rng_seed
from blemish.training.targets import largest_coordinate

_log = logging.getLogger("blemish.training")
NORM_IMAGES, NORM_BATCH = 64, 16  # training images that restore folded normalization, and per forward pass


def prepare_network(recipe: Recipe, data: TrainingData, weights: Sequence[Path]) -> Network:
    """Return the network of a recipe for the labels of the data, with weights loaded.

    Args:
        recipe: its sections `model`, `data`, `augmentation` and `training` are used.
        data: the labels; for the normalization `dataset`, also the training images.
        weights: files, as `find_weights` returns them.

    Raises:
        UnknownName: no such architecture.
        WrongTask: the architecture does not support the task of the data.
        BadRecipe: an option that the architecture does not take, a value out of range, quarter turns of an
            input that is not square ("bad-recipe.input-not-square"), or augmentation that the network cannot
            be trained with ("bad-recipe.unsuitable-augmentation").
        BadWeights: the weights belong to another architecture.
    """
    measured = recipe.model.options.get("box_scale") == "coord_max"
    seed = rng_seed(recipe.training.seed, RngPurpose.INITIAL_WEIGHTS)
    network = build_network(
        recipe,
        task=data.dataset.task,
        label_count=len(data.dataset.labels),
        seed=seed,
        largest_coordinate=largest_coordinate((*data.train, *data.validation)) if measured else None,
    )
    check_square_inputs(recipe, network)
    check_network_augmentation(recipe.augmentation, network)
    architecture = describe(recipe.model.name)
    if architecture.copyleft if network.copyleft is None else network.copyleft:
        _log.warning("%s: %s", recipe.model.name, network.code_license or architecture.license)
    with torch.random.fork_rng(devices=[]):  # a branch that gets the width of a file starts at random again
        torch.manual_seed(seed)
        reports = load_weights(network, weights)
    for report in reports:
        _log.info("%s", report.summary(), extra=SHOWN)
    loss = check_loss(network.task, recipe.training.loss)
    if recipe.training.loss.class_weights == "balanced" and loss is not None and loss.name == "bce":
        start_at_frequency(network, label_weights(data.train, network.task, network.label_count))
    if recipe.data.decode != "full":
        network.inputs = tuple(spec.model_copy(update={"decode": "scaled"}) for spec in network.inputs)
    if recipe.data.normalization == "dataset":
        source = FileImageSource()
        statistics = measure_channels(network, (source.image(sample) for sample in data.train))
        network.inputs = tuple(
            spec.model_copy(update={"mean": mean, "std": std})
            for spec, (mean, std) in zip(network.inputs, statistics, strict=True)
        )
    freeze(network, recipe.model.trainable)
    folded = {name: norm for name, norm in find_folded_norms(network).items() if norm.weight.requires_grad}
    if recipe.training.batch_norm == "train" and folded:
        restore_norms(network, folded, _spread_inputs(network, data.train))
        _log.info(
            "the weights have %d batch normalization layers folded into convolutions; their statistics are "
            "restored from %d training images, so that training starts from what the weights have learned",
            len(folded),
            min(len(data.train), NORM_IMAGES),
            extra=SHOWN,
        )
    return network


def _spread_inputs(network: Network, samples: Sequence[Sample]) -> Iterator[tuple[Tensor, ...]]:
    """Yield batches of inputs from images evenly spread over the training data."""
    rows = np.unique(np.linspace(0, len(samples) - 1, NORM_IMAGES).round().astype(int))
    source = FileImageSource()
    for start in range(0, len(rows), NORM_BATCH):
        images = [source.image(samples[row]) for row in rows[start : start + NORM_BATCH]]
        yield tuple(
            torch.stack([torch.from_numpy(normalize(resize(image, spec)[0], spec)) for image in images])
            for spec in network.inputs
        )


def check_square_inputs(recipe: Recipe, network: Network) -> None:
    """Refuse quarter turns of an input that is not square.

    Raises:
        BadRecipe: "bad-recipe.input-not-square".
    """
    if not recipe.augmentation.quarter_turn:
        return
    for spec in network.inputs:
        height, width = spec.size_hw
        if height != width:
            raise BadRecipe(
                f"augmentation.quarter_turn: expected a square input, got {height} x {width} pixels. Set "
                "model.input_size to one number, or remove the key",
                reason="input-not-square",
            )


def measure_channels(
    network: Network, images: Iterable[LoadedImage]
) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Return the mean and standard deviation of every channel of images, resized as for each input.

    Args:
        network: its `inputs` are used.
        images: at least one.

    Returns:
        One (mean, std) pair for each input, of values in [0, 1].
    """
    sums = [np.zeros((2, spec.channels)) for spec in network.inputs]
    count = 0
    for image in images:
        count += 1
        for total, spec in zip(sums, network.inputs, strict=True):
            pixels, _ = resize(image, spec)
            white = 255.0 if pixels.dtype == np.uint8 else 1.0
            values = pixels.reshape(-1, spec.channels).astype(np.float64) / white
            total += [values.mean(0), (values**2).mean(0)]
    statistics = []
    for total in sums:
        mean, square = total / count
        std = np.maximum(np.sqrt(np.maximum(square - mean**2, 1e-8)), 1e-3)
        statistics.append((tuple(map(float, mean.round(6))), tuple(map(float, std.round(6)))))
    return statistics


def draft_contract(recipe: Recipe, network: Network, data: TrainingData) -> Contract:
    """Return the contract as known before training: thresholds 0.5, temperature 1, no certificate."""
    architecture = describe(recipe.model.name)
    labels = data.dataset.labels
    published = network.weights_license or architecture.weights_license
    stated = recipe.model.weights_license or "; ".join(
        sorted({source.license for source in network.weight_sources if source.license})
    )
    return Contract(
        blemish_version=__version__,
        name=recipe.name,
        architecture=recipe.model.name,
        task=network.task,
        labels=tuple(
            LabelSpec(name=n, display_name=t) for n, t in zip(labels.names, labels.display_names, strict=True)
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
        licenses=Licenses(
            weights=published if recipe.model.weights == "default" else stated,
            data=recipe.data.license,
            code=network.code_license or architecture.license,
        ),
    )
