"""How a prediction becomes a decision: at a risk, or at the lowest expected cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from blemish.errors import BadInput

MAX_RISK = 0.5


@dataclass(frozen=True)
class Risk:
    """Decide so that of the images of each label, at most this share loses the true label.

    Attributes:
        value: in (0, 0.5].

    Raises:
        BadInput: it is outside ("bad-input.risk").
    """

    value: float

    def __post_init__(self) -> None:
        if not 0 < self.value <= MAX_RISK:
            raise BadInput(
                f"risk: expected a number above 0 and at most {MAX_RISK}, such as 0.05, got {self.value:g}",
                reason="risk",
            )

    def to_dict(self) -> dict[str, Any]:
        """Return `rule` and `risk`."""
        return {"rule": "risk", "risk": self.value, "costs": None}


@dataclass(frozen=True)
class Costs:
    """Decide for whatever costs least on average, in any currency.

    Attributes:
        miss: of deciding that a label, or any damage, is absent although it is present.
        false_positive: of deciding that it is present although it is absent; for classification, also of the
            wrong kind of damage.
        review: of asking a person.
        good_label: for classification, the label of images without damage.

    Raises:
        BadInput: a cost is negative or not finite ("bad-input.costs").
    """

    miss: float
    false_positive: float
    review: float
    good_label: str | None = None

    def __post_init__(self) -> None:
        for name in ("miss", "false_positive", "review"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0):
                raise BadInput(f"cost of {name}: expected 0 or more, got {value:g}", reason="costs")

    def to_dict(self) -> dict[str, Any]:
        """Return `rule` and `costs`."""
        return {
            "rule": "cost",
            "risk": None,
            "costs": {"miss": self.miss, "false_positive": self.false_positive, "review": self.review},
        }


Policy = Risk | Costs


def make_policy(
    risk: float | None = None,
    *,
    miss: float | None = None,
    false_positive: float | None = None,
    review: float | None = None,
    good_label: str | None = None,
) -> Policy | None:
    """Return the rule that a user's options describe, or None without any of them.

    Args:
        risk: see `Risk`.
        miss: see `Costs`.
        false_positive: see `Costs`.
        review: see `Costs`.
        good_label: see `Costs`.

    Raises:
        BadInput: a value is out of range, the options contradict each other, or a cost is missing.
    """
    costs = {"miss": miss, "false_positive": false_positive, "review": review}
    given = [name for name, value in costs.items() if value is not None]
    if not given and good_label is None:
        return None if risk is None else Risk(risk)
    if risk is not None:
        raise BadInput("risk and costs exclude each other. Give one of them.", reason="risk-and-costs")
    if miss is None or false_positive is None or review is None:
        missing = ", ".join(name.replace("_", " ") for name, value in costs.items() if value is None)
        raise BadInput(
            f"costs: expected those of a miss, a false positive and a review; missing: {missing}",
            reason="costs",
        )
    return Costs(miss, false_positive, review, good_label)
