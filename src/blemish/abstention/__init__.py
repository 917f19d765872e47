"""Abstention: decide an image at a stated risk or cost, or leave it for review with the possible labels.

`Risk` decides by split conformal prediction with one quantile per label, `Costs` by expected cost; both
need the scores of labeled images in the model file (`Contract.abstention`). See `docs/abstention.md`.
"""

from blemish.abstention.conformal import coverage_interval, excluded_count, observed_band, possible_sides
from blemish.abstention.decision import (
    ANY_OBJECT,
    Decider,
    Decision,
    LabelState,
    check_task,
    decide,
    require_scores,
)
from blemish.abstention.policy import Costs, Policy, Risk, make_policy

__all__ = [
    "ANY_OBJECT",
    "Costs",
    "Decider",
    "Decision",
    "LabelState",
    "Policy",
    "Risk",
    "check_task",
    "coverage_interval",
    "decide",
    "excluded_count",
    "make_policy",
    "observed_band",
    "possible_sides",
    "require_scores",
]
