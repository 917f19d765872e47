"""The section of a recipe that `blemish tune` reads: which keys are searched, and how."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from blemish.config.fields import Config


class SearchRange(Config):
    """The values of one recipe key.

    Attributes:
        low: Lowest value of a range; whole numbers in both bounds give whole numbers.
        high: Highest value of a range.
        log: Whether the logarithm of the value is searched, as for learning rates.
        step: Distance between two values of a range. Null for any value.
        choices: The values, in place of a range.
    """

    low: int | float | None = None
    high: int | float | None = None
    log: bool = False
    step: int | float | None = None
    choices: tuple[Any, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.choices is not None:
            if len(self.choices) < 2 or (self.low, self.high, self.step) != (None, None, None) or self.log:
                raise ValueError("expected at least two choices and no other key beside them")
            return self
        if self.low is None or self.high is None or self.low >= self.high:
            raise ValueError("expected low below high, or choices")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a logarithmic range needs low above 0 and no step")
        if self.step is not None and self.step <= 0:
            raise ValueError("expected a step above 0")
        return self

    @property
    def is_whole(self) -> bool:
        """Whether the values of the range are whole numbers."""
        return all(isinstance(v, int) for v in (self.low, self.high, self.step) if v is not None)

    def contains(self, value: Any) -> bool:
        """Return whether a value is one of the range or of the choices."""
        if self.choices is not None:
            return value in self.choices
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or self.low is None
            or self.high is None
        ):
            return False
        if self.is_whole and not isinstance(value, int):
            return False
        if not self.low <= value <= self.high:
            return False
        return self.step is None or abs((value - self.low) / self.step % 1) < 1e-9


class TuneConfig(Config):
    """The search of `blemish tune`; training ignores it.

    Attributes:
        space: The searched recipe keys, such as `training.optimizer.learning_rate`, and their values.
        trials: Number of trainings, those that are stopped early included.
        pruner: Whether a training that is worse than half of those before it at the same epoch is stopped:
            `median`, or `none`.
        startup_trials: Trainings that are completed before any is stopped, and before the sampler learns.
        warmup_epochs: Epochs of each training that are never its last.
    """

    space: dict[str, SearchRange] = Field(default_factory=dict)
    trials: int = Field(default=20, ge=1)
    pruner: Literal["median", "none"] = "median"
    startup_trials: int = Field(default=5, ge=1)
    warmup_epochs: int = Field(default=3, ge=0)
