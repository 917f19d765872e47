"""Predictions beside truths: a typed report, as JSON and as a page.

Example:
    >>> from blemish.evaluation import score  # predictions and ground_truths in memory
    >>> from blemish.evaluation import evaluate  # a model file on labelled images
"""

from blemish.evaluation.build_report import score
from blemish.evaluation.evaluator import evaluate
from blemish.evaluation.report import ErrorExample, LabelRow, MetricValue, Report

__all__ = ["ErrorExample", "LabelRow", "MetricValue", "Report", "evaluate", "score"]
