"""Evaluation: predictions compared with ground truth, as a typed report, JSON and a page.

Example:
    >>> from blemish.evaluation import score_predictions  # predictions and ground truths in memory
    >>> from blemish.evaluation import evaluate  # a model file on labeled images
"""

from blemish.evaluation.build_report import score_predictions
from blemish.evaluation.evaluator import evaluate
from blemish.evaluation.report import ErrorExample, LabelRow, MetricValue, Report, ReportWarning
from blemish.evaluation.report_files import save_report

__all__ = [
    "ErrorExample",
    "LabelRow",
    "MetricValue",
    "Report",
    "ReportWarning",
    "evaluate",
    "save_report",
    "score_predictions",
]
