"""Why a model file says what it says: one map for each label or object of an image."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from blemish.errors import BadInput, UnknownName, WrongTask
from blemish.explanation.activation_maps import ACTIVATION_METHODS
from blemish.explanation.faithfulness import LOOKS, deletion_insertion
from blemish.explanation.gradient_graph import GradientGraph, GradientSource, explanation_path
from blemish.explanation.heatmap import Heatmap
from blemish.explanation.heatmap_coordinates import resample, to_image
from blemish.explanation.masked_inference import (
    MaskedPredictor,
    Progress,
    Question,
    box_question,
    label_question,
)
from blemish.explanation.perturbation import occlusion, rise, score_cam
from blemish.imaging import open_image
from blemish.model_file import ModelFile
from blemish.preprocessing import Placement
from blemish.structures import Prediction, Task

if TYPE_CHECKING:
    from blemish.inference.backend import Backend

BUDGETS = {"occlusion": 256, "rise": 1000, "score-cam": 512}
METHODS = (*ACTIVATION_METHODS, *BUDGETS)
NEEDS_GRAPH = (*ACTIVATION_METHODS, "score-cam")
MOST_TARGETS = 5  # objects of one image that are explained where no label is named


@dataclass(frozen=True)
class Target:
    """What is explained: a label, or one object."""

    label_index: int
    question: Question
    score: float
    box_xyxy: tuple[float, float, float, float] | None = None


class Explainer:
    """A model file, ready to say where it looks.

    Args:
        backend: runs the file.
        model_file: its contract and digests.
        gradients: where feature maps and gradients come from; the graph beside the file by default.
        batch_size: versions of an image that the model sees at once.
    """

    def __init__(
        self,
        backend: Backend,
        model_file: ModelFile,
        *,
        gradients: GradientSource | None = None,
        batch_size: int = 16,
    ) -> None:
        self.backend = backend
        self.model_file = model_file
        self.contract = model_file.contract
        self.batch_size = batch_size
        self._gradients = gradients

    @property
    def gradients(self) -> GradientSource:
        """Feature maps and gradients; BadModelFile where there are none."""
        if self._gradients is None:
            self._gradients = GradientGraph(self.model_file)
        return self._gradients

    def default_method(self) -> str:
        """`grad-cam` where the file has an explanation graph, else `occlusion`."""
        has = self._gradients is not None or explanation_path(self.model_file.path).is_file()
        return "grad-cam" if has and not _many(self.contract.task) else "occlusion"

    def check(self, method: str, label: str | None = None, layer: str | None = None) -> None:
        """Refuse before any work what cannot be done.

        Raises:
            UnknownName: no such method, label or layer.
            WrongTask: a gradient method, asked of a detector's or segmenter's file.
            BadModelFile: the method needs an explanation graph and the file has none.
        """
        if method not in METHODS:
            raise UnknownName("method", method, METHODS)
        if label is not None:
            self.contract.label_vocabulary().index(label)
        if method in NEEDS_GRAPH:
            if _many(self.contract.task) and self._gradients is None:
                raise WrongTask(
                    f"{method} needs gradients, which {self.model_file.path}, a {self.contract.task} model, "
                    "has not: use --method occlusion or rise (D-RISE), or give its run's folder as --model"
                )
            known = self.gradients.layers  # opens the graph: a missing one is told before any work
            if layer is not None and layer not in known:
                raise UnknownName("layer", layer, known)

    def looks(self, method: str, budget: int | None = None, *, judge: bool = True) -> int:
        """At most how many versions of an image one map costs."""
        return (budget or BUDGETS[method] if method in BUDGETS else 1) + (LOOKS if judge else 0)

    def explain(
        self,
        source: Path | str | bytes,
        *,
        method: str | None = None,
        label: str | None = None,
        layer: str | None = None,
        budget: int | None = None,
        seed: int = 0,
        judge: bool = True,
        most_targets: int = MOST_TARGETS,
        progress: Progress | None = None,
    ) -> list[Heatmap]:
        """Maps for one image: of the named label, or of everything the model says of it.

        Args:
            source: a path, or an encoded image.
            method: one of `METHODS`; see `default_method`.
            label: its name; by default every label of the verdict, or the likeliest where there is none.
                Of a detector's label the objects it is sure of, or the likeliest.
            layer: one of the gradient source's; by default all, each map divided by its peak, averaged.
            budget: versions of the image that a map may cost; by default 256 for occlusion, 1,000 for
                RISE, 512 for Score-CAM.
            seed: of RISE's masks.
            judge: whether to measure deletion and insertion, 32 more looks.
            most_targets: labels or objects that are explained, the best ones.
            progress: called with the number of looks done.

        Returns:
            One explanation a label or object; empty where a detector finds nothing.

        Raises:
            BadImage: the image cannot be read.
        """
        method = method or self.default_method()
        self.check(method, label, layer)
        if budget is not None and budget < 2:
            raise BadInput(f"the budget is {budget} looks an image; give at least 2")
        photo = open_image(source)
        asker = MaskedPredictor(
            self.backend, self.contract, photo, batch_size=self.batch_size, progress=progress
        )
        prediction = asker.decide()
        out = []
        for target in self._targets(prediction, label)[:most_targets]:
            start, before = time.perf_counter(), asker.looks
            values, used = self._map(asker, target, method, layer, budget, seed)
            deletion = insertion = None
            if judge:
                deletion, insertion = deletion_insertion(asker, target.question, values)
            out.append(
                Heatmap(
                    method=method,
                    label=self._name(target),
                    label_index=target.label_index,
                    layer=used,
                    values=values,
                    score=target.score,
                    box_xyxy=target.box_xyxy,
                    model_digest=self.model_file.digest,
                    path=None if isinstance(source, bytes) else Path(source),
                    deletion=deletion,
                    insertion=insertion,
                    looks=asker.looks - before,
                    seconds=time.perf_counter() - start,
                )
            )
        return out

    def _name(self, target: Target) -> str:
        names = self.contract.label_vocabulary().names
        return names[target.label_index] if names else ""

    def _targets(self, prediction: Prediction, label: str | None) -> list[Target]:
        wanted = None if label is None else prediction.labels.index(label)
        if prediction.task.is_image_level:
            chosen = [wanted] if wanted is not None else np.flatnonzero(prediction.decide()).tolist()
            chosen = chosen or [int(prediction.label_scores.argmax())]
            return [Target(i, label_question(i), float(prediction.label_scores[i])) for i in chosen]
        assert prediction.boxes_xyxy is not None  # noqa: S101  (a task with boxes)
        found, sure = [], []
        rows = zip(prediction.label_index, prediction.scores, prediction.boxes_xyxy, strict=True)
        for index, score, box in rows:
            if wanted in (None, index):
                corners = (float(box[0]), float(box[1]), float(box[2]), float(box[3]))
                found.append(Target(int(index), box_question(box, int(index)), float(score), corners))
                sure.append(_sure(prediction, int(index), float(score)))
        held = [target for target, holds in zip(found, sure, strict=True) if holds]
        # A label that was asked for is explained by its likeliest object even where none is sure.
        found = held or (found[:1] if wanted is not None else [])
        return found[:MOST_TARGETS]

    def _map(
        self,
        asker: MaskedPredictor,
        target: Target,
        method: str,
        layer: str | None,
        budget: int | None,
        seed: int,
    ) -> tuple[NDArray[np.float32], str]:
        """The map over the image, and the layer it was read from."""
        if method == "occlusion":
            grid = occlusion(asker, target.question, budget=budget or BUDGETS[method])
        elif method == "rise":
            grid = rise(asker, target.question, budget=budget or BUDGETS[method], seed=seed)
        else:
            layers = self.gradients.layers if layer is None else (layer,)
            grids = self._layer_maps(asker, target, method, layers, budget)
            maps = [
                to_image(grid, self._placement(asker, name), self.gradients.lattice(name))
                for grid, name in zip(grids, layers, strict=True)
            ]
            return _merged(maps).astype(np.float32), " + ".join(layers)
        return resample(grid, self._placement(asker).size_hw).astype(np.float32), ""

    def _placement(self, asker: MaskedPredictor, layer: str = "") -> Placement:
        """Where the image lies in the input a layer sees: the one it is named after, or the first."""
        first = self.contract.inputs[0].name
        return asker.placements.get(layer.partition(".")[0], asker.placements[first])

    def _layer_maps(
        self, asker: MaskedPredictor, target: Target, method: str, layers: Sequence[str], budget: int | None
    ) -> list[NDArray[np.floating]]:
        source = self.gradients
        if self.contract.task.has_one_box:
            selector = np.eye(source.output_count, dtype=np.float32)  # one map a coordinate
        else:
            selector = np.eye(source.output_count, dtype=np.float32)[[target.label_index]]
        feeds = {name: np.repeat(array[None], len(selector), 0) for name, array in asker.feeds.items()}
        near = None
        if _many(self.contract.task) and target.box_xyxy is not None:
            near = self._placement(asker).to_network(np.array([target.box_xyxy]))
        features, gradients = source.look(feeds, selector, near)
        asker.looks += 1
        asker.progress(1)
        maps: list[NDArray[np.floating]] = []
        for name in layers:
            at = source.layers.index(name)
            if method == "score-cam":
                share = max((budget or BUDGETS[method]) // len(layers), 2)
                looked = features[at][0].astype(np.float64)
                lattice = source.lattice(name)
                maps.append(score_cam(asker, target.question, looked, budget=share, lattice=lattice))
                continue
            compute = ACTIVATION_METHODS[method]
            maps.append(_merged([compute(f, g) for f, g in zip(features[at], gradients[at], strict=True)]))
        return maps


def _merged(maps: Sequence[NDArray[np.floating]]) -> NDArray[np.floating]:
    """One map as it is; several each divided by its peak, at the size of the finest, averaged."""
    if len(maps) == 1:
        return maps[0]
    size = max((m.shape for m in maps), key=lambda hw: hw[0] * hw[1])
    scaled = [resample(m, (size[0], size[1])) / max(float(m.max()), 1e-12) for m in maps]
    return np.asarray(np.mean(scaled, 0), np.float64)


def _many(task: Task) -> bool:
    return task.has_objects


def _sure(prediction: Prediction, index: int, score: float) -> bool:
    return prediction.task.has_one_box or score >= prediction.thresholds[index]
