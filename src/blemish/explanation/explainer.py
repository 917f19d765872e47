"""`Explainer`: heatmaps of one model file, one for each label or detection of an image."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput, UnknownName, WrongTask
from blemish.explanation.explanation_method import (
    EXPLAINERS,
    ExplanationMethod,
    LayerActivations,
    MethodInput,
    Requirement,
)
from blemish.explanation.faithfulness import FORWARD_PASSES, STEPS, deletion_insertion
from blemish.explanation.gradient_graph import GradientGraph, GradientSource, explanation_path
from blemish.explanation.heatmap import Heatmap
from blemish.explanation.heatmap_coordinates import resample, to_image
from blemish.explanation.masked_inference import (
    MaskedPredictor,
    Progress,
    ScoreFunction,
    detection_score,
    label_score,
)
from blemish.imaging import LoadedImage, open_image
from blemish.model_file import ExplanationChoice, ModelFile
from blemish.preprocessing import Placement, reduction_for
from blemish.structures import Prediction

if TYPE_CHECKING:
    from blemish.inference.backend import Backend

MAX_TARGETS = 5  # labels or detections of one image that are explained by default


@dataclass(frozen=True)
class Target:
    """What one heatmap explains: a label, or one detection."""

    label_index: int
    score_function: ScoreFunction
    score: float
    box_xyxy: tuple[float, float, float, float] | None = None


class Explainer:
    """Computes heatmaps with one model file.

    Args:
        backend: runs the file.
        model_file: its contract and digests.
        gradients: computes feature maps and gradients. Default: the explanation graph next to the file.
        batch_size: masked images per forward pass.
        threads: CPU threads of the explanation graph. Default: ONNX Runtime's.
    """

    def __init__(
        self,
        backend: Backend,
        model_file: ModelFile,
        *,
        gradients: GradientSource | None = None,
        batch_size: int = 16,
        threads: int | None = None,
    ) -> None:
        self.backend = backend
        self.threads = threads
        self.model_file = model_file
        self.contract = model_file.contract
        self.batch_size = batch_size
        self._gradients = gradients

    @property
    def gradients(self) -> GradientSource:
        """The source of feature maps and gradients.

        Raises:
            BadModelFile: the file has no explanation graph.
        """
        if self._gradients is None:
            self._gradients = GradientGraph(self.model_file, threads=self.threads)
        return self._gradients

    @property
    def has_gradients(self) -> bool:
        """Whether there is a source of gradients for an image-level score."""
        exists = self._gradients is not None or explanation_path(self.model_file.path).is_file()
        return exists and not self.contract.task.has_objects

    def default_method(self, label: str | None = None) -> str:
        """Return the method that the model file names for a label, else `grad-cam`, or `occlusion`.

        Occlusion needs no gradients.

        Args:
            label: name of the label; None for the first one that the file names a method for.
        """
        choice = self._choice(label)
        if choice is not None and choice.method in EXPLAINERS.names():
            requires = EXPLAINERS.get(choice.method).requires
            if self.has_gradients or requires is Requirement.ANY_MODEL:
                return choice.method
        return "grad-cam" if self.has_gradients else "occlusion"

    def default_layer(self, method: str, label: str | None = None) -> str | None:
        """Return the layer that the model file names for its method of a label; None for all, averaged."""
        choice = self._choice(label)
        if choice is None or choice.method != method or not self.has_gradients:
            return None
        return choice.layer if choice.layer in self.gradients.layers else None

    def _choice(self, label: str | None) -> ExplanationChoice | None:
        choices = self.contract.explanation
        return choices.get(label) if label in choices else next(iter(choices.values()), None)

    def check(self, method: str, label: str | None = None, layer: str | None = None) -> None:
        """Raise an error if the options cannot be used with this model, before any work.

        Args:
            method: a registered name.
            label: a label of the model, or None.
            layer: a layer of the gradient source, or None.

        Raises:
            UnknownName: no such method, label or layer.
            WrongTask: a method that requires gradients, for a model file with detections.
            BadModelFile: the method needs an explanation graph and there is none.
        """
        entry = EXPLAINERS.get(method)
        if label is not None:
            self.contract.to_labels().index(label)
        if entry.requires is Requirement.GRADIENTS:
            if self.contract.task.has_objects and self._gradients is None:
                raise WrongTask(
                    f"{self.model_file.path}: method {method} needs gradients, which the file of a "
                    f"{self.contract.task} model does not have. Use --method occlusion or rise (D-RISE), "
                    "or pass the folder of its training run as --model.",
                    reason="needs-gradients",
                )
            layers = self.gradients.layers  # opens the graph, so that a missing one is found here
            if layer is not None and layer not in layers:
                raise UnknownName("layer", layer, layers)

    def max_forward_passes(
        self, method: str, max_evals: int | None = None, *, faithfulness: bool = True
    ) -> int:
        """Return the largest number of forward passes that one heatmap needs.

        Args:
            method: a registered name.
            max_evals: see `explain`.
            faithfulness: see `explain`.
        """
        entry = EXPLAINERS.get(method)
        measures = faithfulness and not entry.is_model_output
        return entry.forward_passes(max_evals) + (FORWARD_PASSES if measures else 0)

    def explain(
        self,
        image: Path | str | bytes | LoadedImage,
        *,
        method: str | None = None,
        label: str | None = None,
        layer: str | None = None,
        max_targets: int = MAX_TARGETS,
        max_evals: int | None = None,
        seed: int = 0,
        faithfulness: bool = True,
        faithfulness_steps: int = STEPS,
        progress: Progress | None = None,
    ) -> list[Heatmap]:
        """Return the heatmaps of one image: of one label, or of all positive labels or detections.

        Args:
            image: a path, an encoded image, or an opened one.
            method: a registered name. Default: see `default_method`.
            label: explain this label; of a model with detections, its detections at or above the threshold,
                or the best one if there are none. Default: every positive label, or the best one if there is
                none; of a model with detections, every detection at or above its threshold.
            layer: read this layer of the gradient source. Default: see `default_layer`; of all, each map is
                divided by its maximum, and their mean is returned.
            max_targets: maximum number of labels or detections to explain, the highest scores first.
            max_evals: maximum number of forward passes of a method that masks the image. Default: 256 for
                occlusion, 1,000 for RISE, 512 for Score-CAM.
            seed: for random masks.
            faithfulness: whether to measure deletion and insertion, which needs 32 more forward passes.
            faithfulness_steps: steps of each of both; two forward passes per step.
            progress: called with the number of forward passes after each batch.

        Returns:
            One heatmap per label or detection; empty if a model with detections finds nothing.

        Raises:
            BadImage: the image cannot be used.
            BadInput: `max_targets` is below 1 or `max_evals` is too small.
            UnknownName: see `check`, like `WrongTask` and `BadModelFile`.
        """
        self.check(method or self.default_method(label), label, layer)
        if max_evals is not None and max_evals < 2:
            raise BadInput(f"max_evals: expected 2 or more, got {max_evals}", reason="max-evals")
        if max_targets < 1:
            raise BadInput(f"max_targets: expected 1 or more, got {max_targets}", reason="max-targets")
        opened = (
            image
            if isinstance(image, LoadedImage)
            else open_image(image, reduction=reduction_for(self.contract.inputs))
        )
        masked_predictor = MaskedPredictor(
            self.backend, self.contract, opened, batch_size=self.batch_size, progress=progress
        )
        prediction = masked_predictor.predict()
        heatmaps = []
        for target in self._targets(prediction, label, max_targets):
            started, passes_before = time.perf_counter(), masked_predictor.num_forward_passes
            name = self._label_name(target)
            used = method or self.default_method(name)
            values, used_layer = self._map(
                masked_predictor, target, used, layer or self.default_layer(used, name), max_evals, seed
            )
            deletion = insertion = None
            if faithfulness and not EXPLAINERS.get(used).is_model_output:
                deletion, insertion = deletion_insertion(
                    masked_predictor, target.score_function, values, steps=faithfulness_steps
                )
            heatmaps.append(
                Heatmap(
                    method=used,
                    label=name,
                    label_index=target.label_index,
                    layer=used_layer,
                    values=values,
                    score=target.score,
                    box_xyxy=target.box_xyxy,
                    model_digest=self.model_file.digest,
                    path=opened.path,
                    deletion=deletion,
                    insertion=insertion,
                    forward_passes=masked_predictor.num_forward_passes - passes_before,
                    seconds=time.perf_counter() - started,
                )
            )
        return heatmaps

    def _label_name(self, target: Target) -> str:
        names = self.contract.to_labels().names
        return names[target.label_index] if names else ""

    def _targets(self, prediction: Prediction, label: str | None, max_targets: int) -> list[Target]:
        """Return the labels or detections to explain."""
        label_index = None if label is None else prediction.labels.index(label)
        if prediction.task.is_image_level:
            return _label_targets(prediction, label_index, max_targets)
        return _detection_targets(prediction, label_index, max_targets)

    def _map(
        self,
        masked_predictor: MaskedPredictor,
        target: Target,
        method: str,
        layer: str | None,
        max_evals: int | None,
        seed: int,
    ) -> tuple[NDArray[np.float32], str]:
        """Return the map over the image, and the layers it was read from."""
        entry = EXPLAINERS.get(method)
        if entry.requires is Requirement.ANY_MODEL:
            request = MethodInput(
                masked_predictor, target.score_function, entry.forward_passes(max_evals), seed
            )
            size_hw = masked_predictor.first_placement.size_hw
            return resample(entry.compute(request), size_hw).astype(np.float32), ""
        layers = self.gradients.layers if layer is None else (layer,)
        grids = self._layer_maps(masked_predictor, target, entry, layers, max_evals, seed)
        maps = [
            to_image(grid, self._placement(masked_predictor, name), self.gradients.receptive_grid(name))
            for grid, name in zip(grids, layers, strict=True)
        ]
        return _average(maps).astype(np.float32), " + ".join(layers)

    def _placement(self, masked_predictor: MaskedPredictor, layer: str) -> Placement:
        """Return the image's position in the input of a layer: the input it is named after, or the first."""
        return masked_predictor.placements.get(layer.partition(".")[0], masked_predictor.first_placement)

    def _layer_maps(
        self,
        masked_predictor: MaskedPredictor,
        target: Target,
        entry: ExplanationMethod,
        layers: Sequence[str],
        max_evals: int | None,
        seed: int,
    ) -> list[NDArray[np.floating]]:
        """Return one map per layer, on the cells of the layer."""
        source = self.gradients
        selector = np.eye(source.output_count, dtype=np.float32)  # one row per output
        if not self.contract.task.has_one_box:  # whose four coordinates are all explained
            selector = selector[[target.label_index]]
        feeds = {
            name: np.repeat(array[None], len(selector), 0) for name, array in masked_predictor.feeds.items()
        }
        near = None
        if self.contract.task.has_objects and target.box_xyxy is not None:
            near = masked_predictor.first_placement.to_network(np.array([target.box_xyxy]))
        features, gradients = source.features_and_gradients(feeds, selector, near)
        masked_predictor.count(1)
        evals_per_layer = max(entry.forward_passes(max_evals) // len(layers), 2)
        # A method that masks the image asks for the score itself, whichever outputs it consists of.
        rows = range(len(selector)) if entry.default_max_evals is None else (0,)
        maps: list[NDArray[np.floating]] = []
        for name in layers:
            at = source.layers.index(name)
            requests = [
                MethodInput(
                    masked_predictor,
                    target.score_function,
                    evals_per_layer,
                    seed,
                    LayerActivations(features[at][row], gradients[at][row], source.receptive_grid(name)),
                )
                for row in rows
            ]
            maps.append(_average([entry.compute(request) for request in requests]))
        return maps


def _label_targets(prediction: Prediction, label_index: int | None, max_targets: int) -> list[Target]:
    """Return one label, or the positive labels of the highest scores, in the model's order."""
    scores = prediction.label_scores
    chosen = [label_index] if label_index is not None else np.flatnonzero(prediction.decide()).tolist()
    chosen = chosen or [int(scores.argmax())]
    best = sorted(chosen, key=lambda index: -scores[index])[:max_targets]
    return [Target(index, label_score(index), float(scores[index])) for index in sorted(best)]


def _detection_targets(prediction: Prediction, label_index: int | None, max_targets: int) -> list[Target]:
    """Return the detections at or above their thresholds, by descending score."""
    assert prediction.boxes_xyxy is not None  # noqa: S101  (a task with boxes)
    targets, positives = [], []
    rows = zip(prediction.label_index, prediction.scores, prediction.boxes_xyxy, strict=True)
    for index, score, box in rows:
        if label_index not in (None, index):
            continue
        corners = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
        target = Target(int(index), detection_score(box, int(index)), float(score), corners)
        targets.append(target)
        if prediction.task.has_one_box or score >= prediction.thresholds[index]:
            positives.append(target)
    # A label that was asked for is explained by its best detection even if none reaches the threshold.
    return positives[:max_targets] or (targets[:1] if label_index is not None else [])


def _average(maps: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    """Return a single map unchanged; of several, the mean at the finest size, each divided by its maximum."""
    if len(maps) == 1:
        return maps[0]
    size = max((m.shape for m in maps), key=lambda hw: hw[0] * hw[1])
    scaled = [resample(m, (size[0], size[1])) / max(float(m.max()), 1e-12) for m in maps]
    return np.asarray(np.mean(scaled, 0), np.float64)
