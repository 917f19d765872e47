"""Predictions beside truths: a typed report, as JSON and as a page.

Example:
    >>> from blemish.evaluation import score  # predictions and truths in memory
    >>> from blemish.evaluation import evaluate  # a model file on labelled photographs
"""

from blemish.evaluation.measure import evaluate
from blemish.evaluation.report import Figure, LabelRow, Mistake, Report
from blemish.evaluation.score import score

__all__ = ["Figure", "LabelRow", "Mistake", "Report", "evaluate", "score"]
