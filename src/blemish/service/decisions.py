"""Decisions at a risk for answers: the rule of a request, and its result as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from blemish.abstention import Decision, Risk, decide, require_scores
from blemish.errors import BadInput, BlemishError
from blemish.model_file import Contract
from blemish.service.problem_details import Problem
from blemish.service.service_metrics import ServiceMetrics
from blemish.structures import Prediction

MAX_LABELS = 20  # of a model, so that a model of 1,000 labels does not make 1,000 histograms


def check_risk(contract: Contract, name: str, risk: float | None) -> None:
    """Refuse a risk at which a model cannot decide.

    Args:
        contract: of the model.
        name: the name that the model is served under.
        risk: of the request; None needs nothing.

    Raises:
        Problem: "bad-parameter.risk" or "bad-parameter.no-abstention".
    """
    if risk is None:
        return
    try:
        Risk(risk)
    except BadInput as error:
        raise Problem("bad-parameter.risk", str(error)) from error
    try:
        require_scores(contract, f"model {name}")
    except BlemishError as error:
        raise Problem("bad-parameter.no-abstention", str(error)) from error


def decide_at_risk(prediction: Prediction, contract: Contract, risk: float | None) -> Decision | None:
    """Return the decision for an image, or None without a risk.

    Args:
        prediction: for the image.
        contract: of the model; `check_risk` has accepted it.
        risk: of the request.
    """
    if risk is None or contract.abstention is None:
        return None
    return decide(prediction, contract.abstention, Risk(risk))


def add_score_intervals(detections: Sequence[dict[str, Any]] | None, decision: Decision | None) -> None:
    """Add to each detection the interval of how often detections with such scores were correct.

    Args:
        detections: in the order of the prediction; some of the lowest scores may be left out.
        decision: for the image, or None.
    """
    if decision is not None:
        for row, interval in zip(detections or (), decision.score_intervals, strict=False):
            row["correct_interval"] = list(interval)


def count_prediction(
    metrics: ServiceMetrics, model: str, prediction: Prediction, decision: Decision | None
) -> None:
    """Count unfamiliar images, those to take again and decisions, and record the scores, to show a shift.

    Args:
        metrics: of the service.
        model: the name that the model is served under.
        prediction: for the image.
        decision: at a risk, or None.
    """
    if prediction.familiarity is not None:
        metrics.familiarity.labels(model=model).observe(prediction.familiarity.p_value)
        if prediction.familiarity.unfamiliar:
            metrics.unfamiliar.labels(model=model).inc()
    for reason in () if prediction.capture is None else prediction.capture.reasons:
        metrics.retakes.labels(model=model, reason=reason.code).inc()
    for name, score in list(zip(prediction.labels.names, prediction.label_scores, strict=True))[:MAX_LABELS]:
        metrics.label_scores.labels(model=model, label=name).observe(float(score))
    if decision is not None:
        metrics.decisions.labels(model=model, outcome=decision.outcome).inc()
