import dataclasses
from typing import Any

import numpy as np
import pytest
from tests.evaluation.brightness import brightness_predictor

from blemish.abstention import Costs, Decider, Risk, decide, make_policy
from blemish.model_file import AbstentionScores, BoxScoreBin, LabelScores
from blemish.structures import Familiarity, Labels, Prediction, Task
from blemish.testing import raises

LABELS = Labels(("good", "crack"), ("Good", "Crack"))
GRID = tuple(np.linspace(0.05, 0.95, 19).round(3))
LOW, HIGH = tuple(v / 4 for v in GRID), tuple(0.75 + v / 4 for v in GRID)


def image_level(scores, task=Task.CLASSIFICATION):
    scores = np.array(scores)
    index = [int(scores.argmax())] if task.has_one_label else np.flatnonzero(scores >= 0.5)
    return Prediction(
        task=task,
        labels=LABELS,
        label_index=np.array(index),
        scores=scores[index],
        label_scores=scores,
        thresholds=np.full(2, 0.5),
        size_hw=(9, 9),
    )


def test_decide_classification_by_label_conditional_sets():
    scores = AbstentionScores(labels={"good": LabelScores(present=HIGH), "crack": LabelScores(present=GRID)})
    decided = decide(image_level((0.3, 0.7)), scores, Risk(0.1))
    assert decided.outcome == "label" and decided.labels == ("crack",) and not decided.reason_code
    review = decide(image_level((0.79, 0.21)), scores, Risk(0.1))
    assert review.is_review and review.reason_code == "several-labels" and not review.labels
    assert review.possible_labels == ("good", "crack")
    assert {s.state for s in review.states} == {"undecided"}
    neither = decide(image_level((0.01, 0.02)), scores, Risk(0.1))
    assert neither.reason_code == "no-label" and neither.possible_labels == ()
    assert decided.to_dict()["risk"] == 0.1


def test_decide_keeps_a_rare_label_whose_threshold_is_far_from_one_half():
    """Scores of positives near .2: a rule by the distance from .5 would review or miss every one."""
    rare = LabelScores(present=tuple(np.linspace(0.15, 0.4, 19)), absent=tuple(np.linspace(0, 0.1, 19)))
    scores = AbstentionScores(labels={"good": rare, "crack": rare})
    decision = decide(image_level((0.05, 0.2), Task.MULTILABEL), scores, Risk(0.05))
    assert decision.outcome == "label" and decision.labels == ("crack",)


def test_decide_multilabel_decides_each_label():
    known = LabelScores(present=HIGH, absent=LOW)
    scores = AbstentionScores(labels={"good": known, "crack": LabelScores(present=GRID, absent=GRID)})
    decision = decide(image_level((0.9, 0.5), Task.MULTILABEL), scores, Risk(0.1))
    assert [s.state for s in decision.states] == ["present", "undecided"]
    assert decision.is_review and decision.labels == ("good",) and decision.reason_code == "undecided"
    assert decision.possible_labels == ("good", "crack")


def test_decide_states_how_many_images_a_risk_needs():
    few = LabelScores(present=HIGH[:5], absent=LOW[:5])
    scores = AbstentionScores(labels={"good": few, "crack": few})
    decision = decide(image_level((0.99, 0.01), Task.MULTILABEL), scores, Risk(0.05))
    assert decision.is_review and "19" in decision.reason and "5" in decision.reason


def test_decide_objects_by_the_highest_score_with_intervals_of_boxes():
    prediction = Prediction(
        task=Task.DETECTION,
        labels=LABELS,
        label_index=np.array([1, 0]),
        scores=np.array([0.9, 0.1]),
        label_scores=np.array([0.1, 0.9]),
        thresholds=np.full(2, 0.5),
        boxes_xyxy=np.array([[0, 0, 2, 2], [1, 1, 3, 3]]),
        size_hw=(9, 9),
    )
    bins = tuple(
        BoxScoreBin(min_score=s, detections=50, groups=20, correct=c, low=c - 0.1, high=c + 0.1)
        for s, c in ((0.0, 0.2), (0.5, 0.8))
    )
    scores = AbstentionScores(any_object=LabelScores(present=HIGH, absent=LOW), boxes=bins)
    decision = decide(prediction, scores, Risk(0.1))
    assert decision.outcome == "label" and decision.labels == ("crack",)
    assert decision.score_intervals == ((0.8 - 0.1, 0.8 + 0.1), (0.2 - 0.1, 0.2 + 0.1))
    unknown = AbstentionScores(any_object=LabelScores(present=HIGH))  # no image without damage
    assert decide(prediction, unknown, Risk(0.1)).is_review


@pytest.mark.parametrize("review, outcome, labels", [(0.01, "review", ()), (5.0, "label", ("crack",))])
def test_decide_by_costs_of_a_classification(review, outcome, labels):
    identity = LabelScores(present=GRID, logistic=(1.0, 0.0))
    scores = AbstentionScores(labels={"good": identity, "crack": identity})
    costs = Costs(miss=10, false_positive=1, review=review, good_label="good")
    decision = decide(image_level((0.8, 0.2)), scores, costs)  # 10 x .2 exceeds 1 x .8
    assert decision.outcome == outcome and decision.labels == labels
    assert decision.to_dict()["costs"]["miss"] == 10


def test_decide_by_costs_of_labels_at_the_break_even_probability():
    identity = LabelScores(present=GRID, absent=GRID, logistic=(1.0, 0.0))
    scores = AbstentionScores(labels={"good": identity, "crack": identity})
    costs = Costs(miss=3, false_positive=1, review=100)
    for p, state in ((0.24, "absent"), (0.26, "present")):  # present if p >= 1 / (1 + 3)
        assert decide(image_level((p, p), Task.MULTILABEL), scores, costs).states[0].state == state


def test_make_policy_combines_options():
    assert make_policy() is None and make_policy(0.05) == Risk(0.05)
    assert make_policy(miss=1, false_positive=2, review=3, good_label="ok") == Costs(1, 2, 3, "ok")
    options: Any
    for code, options in (
        ("bad-input.risk", {"risk": 0.0}),
        ("bad-input.risk", {"risk": 0.6}),
        ("bad-input.risk-and-costs", {"risk": 0.1, "miss": 1.0}),
        ("bad-input.costs", {"miss": 1.0}),
        ("bad-input.costs", {"miss": -1.0, "false_positive": 1, "review": 1}),
    ):
        with raises(code):
            make_policy(**options)


def test_decider_names_the_remedy_for_files_without_scores(tmp_path):
    predictor = brightness_predictor(tmp_path / "model.onnx")
    with raises("bad-model-file.no-abstention", "old.onnx", "blemish calibrate"):
        Decider(predictor.contract, Risk(0.05), "old.onnx")


def test_decider_refuses_costs_without_the_good_label(tmp_path):
    predictor = brightness_predictor(tmp_path / "model.onnx", abstention=AbstentionScores())
    for label in (None, "brihgt"):
        with raises("bad-input.good-label", "bright"):
            Decider(predictor.contract, Costs(1, 1, 1, label))


def test_decide_leaves_unfamiliar_images_for_review():
    known = LabelScores(present=HIGH, absent=LOW)
    scores = AbstentionScores(labels={"good": known, "crack": known})
    strange = Familiarity(distance=90.0, p_value=0.005, rate=0.01, unfamiliar=True)
    prediction = dataclasses.replace(image_level((0.95, 0.05), Task.MULTILABEL), familiarity=strange)
    decision = decide(prediction, scores, Risk(0.1))
    assert decision.outcome == "review" and decision.reason_code == "unfamiliar"
    assert decision.labels == () and {s.state for s in decision.states} == {"undecided"}
    assert decision.possible_labels == ("good",)  # what the scores alone would decide
