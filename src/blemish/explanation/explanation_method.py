"""The registry of explanation methods, and what a method computes a heatmap from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from blemish.explanation.heatmap_coordinates import ReceptiveGrid
from blemish.explanation.masked_inference import MaskedPredictor, ScoreFunction
from blemish.registry import Registry


class Requirement(StrEnum):
    """What a method needs besides the model file."""

    ANY_MODEL = "any-model"
    GRADIENTS = "gradients"  # feature maps and gradients: the explanation graph, or a run's torch network


@dataclass(frozen=True, eq=False)
class LayerActivations:
    """One layer of the network at work on the image.

    Attributes:
        features: (c, h, w) feature maps.
        gradients: (c, h, w) gradient of the explained score with respect to `features`.
        receptive_grid: position of the cells over the network's input; None if it was not measured.
    """

    features: NDArray[np.floating]
    gradients: NDArray[np.floating]
    receptive_grid: ReceptiveGrid | None = None


@dataclass(frozen=True, eq=False)
class MethodInput:
    """What a method computes a heatmap from.

    Attributes:
        masked_predictor: runs the model on masked versions of the image.
        score_function: returns the explained score from a prediction.
        max_evals: forward passes that the method may use.
        seed: for random masks.
        activations: the layer to read; None for methods that need no gradients.
    """

    masked_predictor: MaskedPredictor
    score_function: ScoreFunction
    max_evals: int
    seed: int
    activations: LayerActivations | None = None

    @property
    def layer(self) -> LayerActivations:
        """The layer to read, for methods that require gradients."""
        assert self.activations is not None  # noqa: S101  (set for every method that requires gradients)
        return self.activations


@dataclass(frozen=True)
class ExplanationMethod:
    """A registered method.

    Attributes:
        name: what users write after `--method`.
        compute: returns an (h, w) map in which positive values raise the score. It covers the image
            evenly; if the method requires gradients, the map has one value per cell of the layer.
        requires: what the method needs besides the model file.
        default_max_evals: forward passes on masked images by default; None if the method needs none, and
            is then computed for each output of the network that the score consists of.
        summary: one line for help texts.
        depends_on_label: whether the map is another for another label of the same image.
        is_model_output: whether the map is an output of the model, so that no deletion or insertion is
            measured: to an anomaly model, an image with hidden parts is an anomaly.
    """

    name: str
    compute: Callable[[MethodInput], NDArray[np.floating]]
    requires: Requirement
    default_max_evals: int | None = None
    summary: str = ""
    depends_on_label: bool = True
    is_model_output: bool = False

    def forward_passes(self, max_evals: int | None = None) -> int:
        """Return the largest number of forward passes for one heatmap."""
        return 1 if self.default_max_evals is None else max_evals or self.default_max_evals


EXPLAINERS: Registry[ExplanationMethod] = Registry(
    "explainers", noun="explanation method", builtin="blemish.explanation.methods"
)


def register_method(method: ExplanationMethod, *, module: str) -> None:
    """Register an explanation method under its name.

    Args:
        method: the method.
        module: the module that registers it, usually `__name__`.

    Raises:
        DuplicateName: another module has registered a method of that name.
    """
    EXPLAINERS.register(method.name, method, module=module)
