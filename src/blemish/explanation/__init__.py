"""Heatmaps: which parts of an image a model file's score depends on. No torch.

Each method is one registered object with its requirements; a third-party package adds a method through the
entry point `blemish.explainers`, and it then reaches `Explainer`, the command line and the service.
"""

from blemish.explanation.explainer import MAX_TARGETS, Explainer
from blemish.explanation.explanation_method import (
    EXPLAINERS,
    ExplanationMethod,
    MethodInput,
    Requirement,
    register_method,
)
from blemish.explanation.heatmap import Heatmap

__all__ = [
    "EXPLAINERS",
    "MAX_TARGETS",
    "Explainer",
    "ExplanationMethod",
    "Heatmap",
    "MethodInput",
    "Requirement",
    "register_method",
]
