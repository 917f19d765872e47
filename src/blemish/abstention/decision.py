"""`Decision`: what a model decides alone, and what it leaves to a person."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from blemish.abstention.conformal import excluded_count, possible_sides, probability
from blemish.abstention.policy import Costs, Policy, Risk
from blemish.errors import BadInput, BadModelFile, WrongTask
from blemish.model_file import AbstentionScores, Contract, LabelScores
from blemish.structures import Labels, Prediction, Task

ANY_OBJECT = "any damage"
State = Literal["present", "absent", "undecided"]
ReasonCode = Literal["", "several-labels", "no-label", "undecided", "unfamiliar"]


@dataclass(frozen=True)
class LabelState:
    """What is decided about one label.

    Attributes:
        label: its name; `ANY_OBJECT` for tasks with objects.
        display_name: for users.
        state: present, absent, or undecided.
        probability: that it is present, as the calibration images suggest.
    """

    label: str
    display_name: str
    state: State
    probability: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return {
            "label": self.label,
            "display_name": self.display_name,
            "state": self.state,
            "probability": self.probability,
        }


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The decision for one image.

    Attributes:
        outcome: `label`: everything is decided; `review`: a person must look.
        policy: the rule.
        labels: names of the labels that are decided to be present.
        possible_labels: names of the labels that may be present, those that are decided included.
        reason_code: why a person must look; "" if everything is decided.
        reason: the same as a sentence; "" if everything is decided.
        states: of every label, or of `ANY_OBJECT`.
        score_intervals: for each detection, the 95 % interval of the share of correct ones among calibration
            detections with such scores; empty for other tasks.
    """

    outcome: Literal["label", "review"]
    policy: Policy
    labels: tuple[str, ...]
    possible_labels: tuple[str, ...]
    reason_code: ReasonCode = ""
    reason: str = ""
    states: tuple[LabelState, ...] = ()
    score_intervals: tuple[tuple[float, float], ...] = ()

    @property
    def is_review(self) -> bool:
        """Whether a person must look."""
        return self.outcome == "review"

    def to_dict(self) -> dict[str, Any]:
        """Return the decision as plain values for JSON, without the intervals of scores."""
        return {
            "outcome": self.outcome,
            **self.policy.to_dict(),
            "labels": list(self.labels),
            "possible_labels": list(self.possible_labels),
            "reason_code": self.reason_code,
            "reason": self.reason,
            "states": [state.to_dict() for state in self.states],
        }


def check_task(task: Task, path: Path | str) -> None:
    """Raise `WrongTask` ("wrong-task.no-abstention") if a task cannot leave images for review.

    Args:
        task: of the model.
        path: of the model file, for the message.
    """
    if "abstention" not in task.fields.hooks:
        raise WrongTask(
            f"{path}: a decision at a risk or cost needs labels or objects, and the task is {task}",
            reason="no-abstention",
        )


def require_scores(contract: Contract, path: Path | str = "the model file") -> AbstentionScores:
    """Return the calibration scores of a model file.

    Raises:
        WrongTask: its task has no abstention ("wrong-task.no-abstention").
        BadModelFile: the file was written without ("bad-model-file.no-abstention").
    """
    if contract.abstention is not None:
        return contract.abstention
    check_task(contract.task, path)
    raise BadModelFile(
        f"{path}: this file has no scores of labeled images, which a decision at a risk or cost needs. Add "
        "them with blemish calibrate --model FILE --data DIR, from labeled images that the model was not "
        "trained on.",
        reason="no-abstention",
    )


def decide(prediction: Prediction, scores: AbstentionScores, policy: Policy) -> Decision:
    """Decide one image, or leave it to a person; an unfamiliar image is always left to a person.

    Args:
        prediction: of the model file whose calibration scores are given.
        scores: of the model file; see `require_scores`.
        policy: at which risk, or at which costs.

    Raises:
        BadInput: costs need to know the label of images without damage, and the policy names none.
    """
    decision = _decide(prediction, scores, policy)
    familiarity = prediction.familiarity
    if familiarity is None or not familiarity.unfamiliar:
        return decision
    unlike = "the image is unlike the training images"
    return replace(
        decision,
        outcome="review",
        labels=(),
        states=tuple(replace(state, state="undecided") for state in decision.states),
        reason_code="unfamiliar",
        reason=f"{unlike}; {decision.reason}" if decision.reason else unlike,
    )


def _decide(prediction: Prediction, scores: AbstentionScores, policy: Policy) -> Decision:
    task, labels = prediction.task, prediction.labels
    if task.has_objects:
        return _decide_objects(prediction, scores, policy)
    known = [scores.labels.get(name, LabelScores()) for name in labels.names]
    values = prediction.label_scores
    if task.has_one_label:
        if isinstance(policy, Costs):
            return _cheapest_label(labels, known, values, policy)
        return _one_label(labels, known, values, policy)
    states = [
        _state(name, title, of_label, float(value), policy)
        for name, title, of_label, value in zip(
            labels.names, labels.display_names, known, values, strict=True
        )
    ]
    open_states = [s for s in states if s.state == "undecided"]
    reason = ""
    if open_states:
        reason = f"undecided: {_listed([s.display_name for s in open_states])}"
        reason += _few_images(_side_counts([known[labels.index(s.label)] for s in open_states]), policy)
    return Decision(
        outcome="review" if open_states else "label",
        policy=policy,
        labels=tuple(s.label for s in states if s.state == "present"),
        possible_labels=tuple(s.label for s in states if s.state != "absent"),
        reason_code="undecided" if open_states else "",
        reason=reason,
        states=tuple(states),
    )


def _state(name: str, display_name: str, known: LabelScores, score: float, policy: Policy) -> LabelState:
    p = probability(known, score)
    if isinstance(policy, Risk):
        present, absent = possible_sides(known, score, policy.value)
    else:
        decided_cost = min(policy.miss * p, policy.false_positive * (1 - p))
        asks = policy.review < decided_cost
        present = asks or policy.false_positive * (1 - p) <= policy.miss * p
        absent = asks or not present
    state: State = "undecided" if present == absent else "present" if present else "absent"
    return LabelState(name, display_name, state, p)


def _one_label(labels: Labels, known: Sequence[LabelScores], values: np.ndarray, policy: Risk) -> Decision:
    possible = [possible_sides(k, float(v), policy.value)[0] for k, v in zip(known, values, strict=True)]
    names = tuple(name for name, is_possible in zip(labels.names, possible, strict=True) if is_possible)
    decided = len(names) == 1
    shares = _normalized(known, values)
    states = []
    for i, is_possible in enumerate(possible):
        state: State = "absent" if not is_possible else "present" if decided else "undecided"
        states.append(LabelState(labels.names[i], labels.display_names[i], state, shares[i]))
    code: ReasonCode = "" if decided else "several-labels" if names else "no-label"
    reason = ""
    if code == "several-labels":
        reason = f"more than one label is possible: {_listed([labels.display_name(n) for n in names])}"
        reason += _few_images([len(known[labels.index(n)].present) for n in names], policy)
    elif code:
        reason = "the scores are unusual for every label"
    return Decision(
        outcome="label" if decided else "review",
        policy=policy,
        labels=names if decided else (),
        possible_labels=names,
        reason_code=code,
        reason=reason,
        states=tuple(states),
    )


def _cheapest_label(
    labels: Labels, known: Sequence[LabelScores], values: np.ndarray, policy: Costs
) -> Decision:
    good = _good_index(labels, policy)
    p = np.array(_normalized(known, values))
    costs = policy.false_positive * (1 - p)  # of deciding for a kind of damage: no damage, or another kind
    costs[good] = policy.miss * (1 - p[good])
    best = int(costs.argmin())
    asks = policy.review < costs[best]
    states = []
    for i, name in enumerate(labels.names):
        state: State = "undecided" if asks else "present" if i == best else "absent"
        states.append(LabelState(name, labels.display_names[i], state, float(p[i])))
    reason = (
        f"a review costs less than deciding for {labels.display_names[best]}, which is {p[best]:.0%} likely"
    )
    return Decision(
        outcome="review" if asks else "label",
        policy=policy,
        labels=() if asks else (labels.names[best],),
        possible_labels=labels.names if asks else (labels.names[best],),
        reason_code="undecided" if asks else "",
        reason=reason if asks else "",
        states=tuple(states),
    )


def _good_index(labels: Labels, policy: Costs) -> int:
    if policy.good_label is None or policy.good_label not in labels:
        given = "none" if policy.good_label is None else repr(policy.good_label)
        raise BadInput(
            f"costs of a classification: expected the label of images without damage (good label), one of "
            f"{', '.join(labels.names[:12])}, got {given}",
            reason="good-label",
        )
    return labels.index(policy.good_label)


def _decide_objects(prediction: Prediction, scores: AbstentionScores, policy: Policy) -> Decision:
    known = scores.any_object or LabelScores()
    score = float(prediction.scores.max(initial=0.0))
    state = _state(ANY_OBJECT, ANY_OBJECT, known, score, policy)
    sure = prediction.filter_scores()
    names = tuple(dict.fromkeys(sure.label_names)) if len(prediction.labels) else ()
    detected = tuple(dict.fromkeys(prediction.label_names)) if len(prediction.labels) else ()
    reason = ""
    if state.state == "undecided":
        reason = f"undecided whether there is any damage (highest score {score:.2f})"
        reason += _few_images(_side_counts([known]), policy)
    return Decision(
        outcome="review" if reason else "label",
        policy=policy,
        labels=names if state.state == "present" else (),
        possible_labels=() if state.state == "absent" else detected,
        reason_code="undecided" if reason else "",
        reason=reason,
        states=(state,),
        score_intervals=tuple(_score_interval(scores, float(s)) for s in prediction.scores),
    )


def _score_interval(scores: AbstentionScores, score: float) -> tuple[float, float]:
    """Return the interval of the share of correct detections in the bin of a score; [0, 1] without bins."""
    if not scores.boxes:
        return 0.0, 1.0
    starts = [b.min_score for b in scores.boxes]
    found = scores.boxes[max(int(np.searchsorted(starts, score, side="right")) - 1, 0)]
    return found.low, found.high


def _normalized(known: Sequence[LabelScores], values: np.ndarray) -> list[float]:
    """Return the probabilities of labels that exclude each other, which add up to 1."""
    p = np.array([probability(k, float(v)) for k, v in zip(known, values, strict=True)])
    return [float(v) for v in p / max(float(p.sum()), 1e-12)]


def _side_counts(known: Sequence[LabelScores]) -> list[int]:
    return [len(side) for of_label in known for side in (of_label.present, of_label.absent)]


def _few_images(counts: Sequence[int], policy: Policy) -> str:
    """Return a remark if a side cannot be excluded because too few calibration images have it."""
    if not isinstance(policy, Risk) or excluded_count(min(counts), policy.value) > 0:
        return ""
    needed = math.ceil(1 / policy.value - 1e-9) - 1
    return f" (only {min(counts)} calibration images of one side; this risk needs {needed})"


def _listed(names: Sequence[str], max_names: int = 8) -> str:
    more = f" and {len(names) - max_names} more" if len(names) > max_names else ""
    return ", ".join(names[:max_names]) + more


class Decider:
    """Decides predictions of one model file by one rule.

    Attributes:
        policy: at which risk, or at which costs.
        scores: the calibration scores of the model file.
    """

    def __init__(self, contract: Contract, policy: Policy, path: Path | str = "the model file") -> None:
        """Check that the model file can decide by the rule.

        Args:
            contract: of the model file.
            policy: at which risk, or at which costs.
            path: of the model file, for errors.

        Raises:
            WrongTask: see `require_scores`.
            BadModelFile: see `require_scores`.
            BadInput: costs need to know the label of images without damage, and the policy names none.
        """
        self.policy, self.scores = policy, require_scores(contract, path)
        if isinstance(policy, Costs) and contract.task.has_one_label:
            _good_index(contract.to_labels(), policy)

    def __call__(self, prediction: Prediction) -> Decision:
        """Return the decision for one image."""
        return decide(prediction, self.scores, self.policy)
