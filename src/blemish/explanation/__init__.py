"""Maps that say where a model looked, computed on the model file that decided; no torch."""

from blemish.explanation.explaining import BUDGETS, METHODS, Explainer
from blemish.explanation.explanation import Explanation

__all__ = ["BUDGETS", "METHODS", "Explainer", "Explanation"]
