"""Maps that say where a model looked, computed on the model file that decided; no torch."""

from blemish.explanation.explainer import BUDGETS, METHODS, Explainer
from blemish.explanation.heatmap import Heatmap

__all__ = ["BUDGETS", "METHODS", "Explainer", "Heatmap"]
