"""Decisions at a risk or cost for answers: the rule of a request, and its result as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import Query

from blemish.abstention import Decider, Decision, Policy, Risk, decide, make_policy
from blemish.errors import BadInput, BlemishError
from blemish.model_file import Contract
from blemish.service.problem_details import Problem
from blemish.service.service_metrics import ServiceMetrics
from blemish.structures import Prediction

MAX_LABELS = 20  # of a model, so that a model of 1,000 labels does not make 1,000 histograms


def requested_rule(
    risk: Annotated[
        float | None,
        Query(
            gt=0,
            le=0.5,
            description="Decide only what is possible at this risk and leave the other images for review; "
            "default: that of the server.",
        ),
    ] = None,
    cost_miss: Annotated[
        float | None,
        Query(ge=0, allow_inf_nan=False, description="Instead of `risk`: cost of a miss, in any currency."),
    ] = None,
    cost_false_positive: Annotated[
        float | None,
        Query(ge=0, allow_inf_nan=False, description="Instead of `risk`: cost of a false positive."),
    ] = None,
    cost_review: Annotated[
        float | None,
        Query(ge=0, allow_inf_nan=False, description="Instead of `risk`: cost of a review by a person."),
    ] = None,
    good_label: Annotated[
        str | None,
        Query(
            max_length=200,
            description="With costs and a classification model: the label of images without damage.",
        ),
    ] = None,
) -> Policy | None:
    """Return the rule that the query parameters of a request describe, or None without any of them.

    Raises:
        Problem: "bad-parameter.risk-and-costs" or "bad-parameter.costs".
    """
    try:
        return make_policy(
            risk,
            miss=cost_miss,
            false_positive=cost_false_positive,
            review=cost_review,
            good_label=good_label,
        )
    except BadInput as error:
        raise _parameter_problem(error) from error


def check_rule(contract: Contract, name: str, rule: Policy | None, risk: float | None) -> Policy | None:
    """Return the rule of a request, or else that of the server; refuse one by which a model cannot decide.

    Args:
        contract: of the model.
        name: the name that the model is served under.
        rule: of the request, or None.
        risk: of the server, or None.

    Raises:
        Problem: "bad-parameter.no-abstention" or "bad-parameter.good-label".
    """
    rule = rule if rule is not None or risk is None else Risk(risk)
    if rule is None:
        return None
    try:
        Decider(contract, rule, f"model {name}")
    except BlemishError as error:
        raise _parameter_problem(error) from error
    return rule


def _parameter_problem(error: BlemishError) -> Problem:
    return Problem(f"bad-parameter.{error.code.partition('.')[2]}", str(error))


def decide_by(prediction: Prediction, contract: Contract, rule: Policy | None) -> Decision | None:
    """Return the decision for an image, or None without a rule.

    Args:
        prediction: for the image.
        contract: of the model; `check_rule` has accepted it.
        rule: of the request.
    """
    if rule is None or contract.abstention is None:
        return None
    return decide(prediction, contract.abstention, rule)


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
