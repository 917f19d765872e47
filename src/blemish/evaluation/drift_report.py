"""`measure_drift`: compare a folder of images with the images that a model file remembers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from blemish._version import __version__
from blemish.errors import BadInput, BadModelFile
from blemish.evaluation.page_templates import template_environment
from blemish.familiarity.drift import MAX_IMAGES, Drift, compare_features, compare_numbers
from blemish.inference import Predictor
from blemish.inference.sources import find_inputs
from blemish.model_file import FamiliaritySpec
from blemish.structures import Prediction

LEVEL = 0.01  # of all tests together
MIN_IMAGES = 5
BINS = 20


@dataclass(frozen=True, eq=False, kw_only=True)
class DriftReport:
    """The comparison of a stream of images with held-out images of the training.

    Attributes:
        model: name of the model.
        source: the images.
        images: number of compared images.
        unreadable: the other images, with the reason.
        unfamiliar: number of images that are unfamiliar on their own.
        rate: share of familiar images that is called unfamiliar, on average.
        tests: of the features, of the distance, and of the score of each label.
        level: the p-value from which a test finds a difference, divided by the number of tests.
        most_unfamiliar: the images with the largest distances, and these.
        histograms: shares of the reference and of the stream by distance, and the edges.
    """

    model: str
    source: str
    images: int
    unreadable: tuple[tuple[str, str], ...]
    unfamiliar: int
    rate: float
    tests: tuple[Drift, ...]
    level: float
    most_unfamiliar: tuple[tuple[str, float], ...]
    histograms: dict[str, list[float]]

    @property
    def has_drift(self) -> bool:
        """Whether any test finds a difference."""
        return any(self.is_found(test) for test in self.tests)

    def is_found(self, test: Drift) -> bool:
        """Return whether a test finds a difference."""
        return test.p_value <= self.level

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain values for JSON."""
        return {
            "model": self.model,
            "source": self.source,
            "images": self.images,
            "unreadable": [{"path": path, "error": reason} for path, reason in self.unreadable],
            "unfamiliar": self.unfamiliar,
            "rate": self.rate,
            "drift": self.has_drift,
            "level": self.level,
            "tests": [{**test.to_dict(), "found": self.is_found(test)} for test in self.tests],
            "most_unfamiliar": [{"path": path, "distance": value} for path, value in self.most_unfamiliar],
            "histograms": self.histograms,
        }


def measure_drift(
    predictor: Predictor,
    sources: Sequence[Path | str],
    *,
    permutations: int = 999,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> DriftReport:
    """Compare images with the held-out images whose features the model file contains.

    Args:
        predictor: of the model file.
        sources: images, folders or patterns; of more than 1,000 images, a random part is compared.
        permutations: of each test.
        seed: of the permutations and of the random part.
        progress: called with the number of finished images and of all.

    Raises:
        BadModelFile: the model file has no features ("bad-model-file.no-familiarity").
        BadInput: fewer than five images can be read ("bad-input.few-images").
    """
    spec = require_familiarity(predictor)
    inputs = list(find_inputs([str(source) for source in sources]))
    if len(inputs) > MAX_IMAGES:
        chosen = np.sort(np.random.default_rng(seed).permutation(len(inputs))[:MAX_IMAGES])
        inputs = [inputs[i] for i in chosen]
    features, predictions, names, unreadable = [], [], [], []
    for result in predictor.stream(inputs):
        familiarity = None if result.prediction is None else result.prediction.familiarity
        if result.prediction is None or familiarity is None:
            unreadable.append((str(result.input), str(result.error)))
        else:
            features.append(familiarity.features)
            predictions.append(result.prediction)
            names.append(str(result.input))
        if progress is not None:
            progress(len(names) + len(unreadable), len(inputs))
    if len(names) < MIN_IMAGES:
        raise BadInput(
            f"{', '.join(map(str, sources))}: expected at least {MIN_IMAGES} images that can be read, got "
            f"{len(names)}. Give more.",
            reason="few-images",
        )
    options = {"permutations": permutations, "seed": seed}
    tests = _compare(predictor, spec, np.array(features), predictions, options)
    known = np.log1p((spec.reference_features() ** 2).sum(1))
    found = np.log1p((np.array(features) ** 2).sum(1))
    edges = np.linspace(0, max(known.max(), found.max()) * 1.001 + 1e-9, BINS + 1)
    judged = [p.familiarity for p in predictions if p.familiarity is not None]
    return DriftReport(
        model=predictor.contract.name,
        source=", ".join(map(str, sources)),
        images=len(names),
        unreadable=tuple(unreadable),
        unfamiliar=sum(f.unfamiliar for f in judged),
        rate=judged[0].rate,
        tests=tuple(tests),
        level=LEVEL / len(tests),
        most_unfamiliar=tuple((names[i], judged[i].distance) for i in np.argsort(-found)[:12]),
        histograms={
            "edges": edges.round(5).tolist(),
            "reference": (np.histogram(known, edges)[0] / len(known)).round(5).tolist(),
            "images": (np.histogram(found, edges)[0] / len(found)).round(5).tolist(),
        },
    )


def require_familiarity(predictor: Predictor) -> FamiliaritySpec:
    """Return the features of a model file.

    Raises:
        BadModelFile: it has none ("bad-model-file.no-familiarity").
    """
    spec = predictor.contract.familiarity
    if spec is None:
        place = predictor.model_file.path if predictor.model_file is not None else "the model"
        raise BadModelFile(
            f"{place}: this file has no features of training images to compare with. Train again with "
            "blemish train --few, or with blemish train for a classification or multilabel model.",
            reason="no-familiarity",
        )
    return spec


def _compare(
    predictor: Predictor,
    spec: FamiliaritySpec,
    features: NDArray[np.float64],
    predictions: Sequence[Prediction],
    options: dict[str, int],
) -> list[Drift]:
    """Return the tests of the features, of the distance and of the score of each label."""
    reference = spec.reference_features()
    known, found = np.log1p((reference**2).sum(1)), np.log1p((features**2).sum(1))
    tests = [
        compare_features(reference, features, **options),
        compare_numbers("log(1 + distance)", known, found, **options),
    ]
    labels = predictor.labels
    reference_scores = spec.reference_label_scores(max(len(labels), 1))
    scores = np.array([p.label_scores for p in predictions])
    for i, name in enumerate(labels.names):
        tests.append(compare_numbers(name, reference_scores[:, i], scores[:, i], **options))
    return tests


def render_drift(report: DriftReport) -> str:
    """Return the report as one HTML page without scripts and without references to other files.

    Raises:
        MissingExtra: jinja2 is not installed.
    """
    environment = template_environment()
    from blemish.evaluation import charts

    drawn = charts.compare_histograms(
        {"reference": report.histograms["reference"], "images": report.histograms["images"]},
        axis="log(1 + squared distance)",
        limit=report.histograms["edges"][-1],
        title="distances of the reference images (above) and of the compared images (below)",
    )
    return environment.get_template("drift.html.jinja").render(
        report=report, histogram=drawn, version=__version__
    )
