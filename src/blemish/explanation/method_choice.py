"""Choose a model's default explanations: for each label, the method and layer with the most faithful maps."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from blemish.errors import BadImage
from blemish.explanation.explainer import Explainer
from blemish.explanation.explanation_method import EXPLAINERS, Requirement
from blemish.explanation.faithfulness import deletion_insertion
from blemish.explanation.masked_inference import MaskedPredictor, ScoreFunction, label_score
from blemish.imaging import LoadedImage, open_image
from blemish.model_file import ExplanationChoice, ModelFile, write_model_file
from blemish.preprocessing import reduction_for
from blemish.structures import Prediction, Sample

IMAGES_PER_LABEL = 4
MAX_IMAGES = 8
FIRST_IMAGES = 1  # of a label, on which every method and layer is measured
FINALISTS = 3
STEPS = 8  # of deletion and insertion: half of those of one map's own figures
EXACT_LAYER = "pooling"  # of models on pooled features: what the score loses without a window of the image
Candidate = tuple[str, str]  # method and layer


@dataclass(frozen=True)
class MethodScore:
    """How faithful the maps of one method and layer are, as means over images.

    Attributes:
        method: a registered name.
        layer: the layer that the method reads; "" for all, averaged.
        deletion: area under the score as places are hidden; lower is better.
        insertion: area under the score as places are shown; higher is better.
    """

    method: str
    layer: str
    deletion: float
    insertion: float


def choose_images(samples: Sequence[Sample], label_count: int) -> list[list[Sample]]:
    """Return the images to explain for each label, at most `MAX_IMAGES` in all and an equal number for each.

    Args:
        samples: images with ground truth, usually the validation images.
        label_count: number of labels; those behind the first `MAX_IMAGES` get no images.
    """
    by_label: list[list[Sample]] = [[] for _ in range(label_count)]
    share = min(max(MAX_IMAGES // max(label_count, 1), 1), IMAGES_PER_LABEL)
    for sample in samples:
        if sample.ground_truth is not None:
            for index in {int(i) for i in sample.ground_truth.label_index}:
                if len(by_label[index]) < share and index < MAX_IMAGES:
                    by_label[index].append(sample)
    return by_label


def score_methods(
    explainer: Explainer, label: str, samples: Sequence[Sample]
) -> tuple[list[MethodScore], int]:
    """Return deletion and insertion of each method that needs one forward pass on each layer, best first.

    A method takes part if its map depends on the explained label. If the graph has the layer `pooling`, which
    is exact, only that layer takes part: the map of a fine layer is a few points, which can have good areas
    without showing a region. The first image leaves `FINALISTS` of them for the other images. The areas are
    those under the logit: a probability near 1 hides differences.

    Args:
        explainer: of an image-level model with an explanation graph.
        label: the label to explain.
        samples: images with this label, see `choose_images`.

    Returns:
        The scores of the finalists by descending difference of insertion and deletion, and the number of
        readable images.
    """
    layers: Sequence[str] = explainer.gradients.layers
    if EXACT_LAYER in layers:
        layers = (EXACT_LAYER,)
    elif len(layers) > 1:
        layers = (*layers, "")
    candidates = [
        (name, layer) for name in sorted(EXPLAINERS.names()) if _takes_part(name) for layer in layers
    ]
    rows: list[dict[Candidate, tuple[float, float]]] = []
    for sample in samples:
        try:
            image = open_image(sample.path, reduction=reduction_for(explainer.contract.inputs))
        except BadImage:
            continue
        if len(rows) == FIRST_IMAGES:
            ranked = _ranked(candidates, rows)
            # Of equal maps, one is enough: gradient methods agree where a gradient is constant.
            different = {(score.deletion, score.insertion): score for score in reversed(ranked)}
            candidates = [(s.method, s.layer) for s in ranked if s in different.values()][:FINALISTS]
        rows.append(_measure(explainer, image, label, candidates))
    return (_ranked(candidates, rows) if rows else []), len(rows)


def _measure(
    explainer: Explainer, image: LoadedImage, label: str, candidates: Sequence[Candidate]
) -> dict[Candidate, tuple[float, float]]:
    """Return deletion and insertion by candidate; equal maps are measured once."""
    masked_predictor = MaskedPredictor(
        explainer.backend, explainer.contract, image, batch_size=explainer.batch_size
    )
    score = logit_of(label_score(explainer.contract.to_labels().index(label)))
    measured: dict[bytes, tuple[float, float]] = {}
    row = {}
    for method, layer in candidates:
        (heatmap,) = explainer.explain(
            image, method=method, label=label, layer=layer or None, faithfulness=False
        )
        key = heatmap.normalized().tobytes()
        if key not in measured:
            measured[key] = deletion_insertion(masked_predictor, score, heatmap.values, steps=STEPS)
        row[method, layer] = measured[key]
    return row


def logit_of(score_function: ScoreFunction) -> ScoreFunction:
    """Return a function that returns the logit of a score, which is kept 1e-6 from 0 and from 1."""

    def logit(prediction: Prediction) -> float:
        score = min(max(score_function(prediction), 1e-6), 1 - 1e-6)
        return math.log(score / (1 - score))

    return logit


def _ranked(
    candidates: Sequence[Candidate], rows: Sequence[dict[Candidate, tuple[float, float]]]
) -> list[MethodScore]:
    """Return the mean scores of candidates, by descending difference of insertion and deletion."""
    means = {c: np.mean([row[c] for row in rows], 0) for c in candidates}
    scores = [MethodScore(*c, float(d), float(i)) for c, (d, i) in means.items()]
    return sorted(scores, key=lambda score: score.deletion - score.insertion)


def _takes_part(name: str) -> bool:
    method = EXPLAINERS.get(name)
    is_quick = method.requires is Requirement.GRADIENTS and method.default_max_evals is None
    return is_quick and method.depends_on_label


def record_choice(explainer: Explainer, samples: Sequence[Sample]) -> ModelFile:
    """Choose the default explanation of each label and write it into the contract of the model file.

    Args:
        explainer: of the file; one that is not image-level, or has no explanation graph, stays as it is.
        samples: validation images with ground truth.

    Returns:
        The file as it is now.

    Raises:
        StorageFull: the file could not be written; the earlier one is intact.
    """
    model_file, contract = explainer.model_file, explainer.contract
    if not contract.task.is_image_level or not explainer.has_gradients:
        return model_file
    choices = {}
    for spec, images in zip(contract.labels, choose_images(samples, len(contract.labels)), strict=True):
        scores, count = score_methods(explainer, spec.name, images) if images else ([], 0)
        if scores:
            best = scores[0]
            choices[spec.name] = ExplanationChoice(
                method=best.method,
                layer=best.layer,
                images=count,
                deletion=best.deletion,
                insertion=best.insertion,
            )
    if not choices:
        return model_file
    return write_model_file(
        model_file.path,
        model_file.path.read_bytes(),
        contract.model_copy(update={"explanation": choices}),
        model_file.fingerprints,
    )
