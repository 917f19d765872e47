"""Severity levels by rules from a file: label, part, area share or millimeters decide the level.

    scale: vehicle
    levels: ["0", "1", "2", "3"]     # ascending
    rules:                           # the first that applies decides
      - {name: large dent, label: [dent], min_area_share: 0.02, level: "2"}
      - {name: any dent, label: [dent], level: "1"}

A finding without a matching rule has no level: nothing is guessed. There are no prices.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from blemish.errors import BadInput, UnknownName

_BUILTIN = Path(__file__).parent / "rules"


def _as_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_as_text), Field(min_length=1, max_length=64)]
Names = Annotated[list[str] | None, BeforeValidator(_as_list)]
Amount = Annotated[float | None, Field(ge=0)]


class SeverityRule(BaseModel):
    """One rule; every condition that it has must be true.

    Attributes:
        name: is stored with the findings that it decides.
        label: the labels that it applies to; None for all.
        part: the parts that it applies to; None for all.
        min_area_share: smallest share of the image, in [0, 1].
        max_area_share: the share from which it no longer applies.
        min_width_mm: smallest width in millimeters; a finding without a measured width does not match.
        max_width_mm: the width from which it no longer applies.
        min_length_mm: smallest length in millimeters.
        level: one of the levels.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    name: str = Field(min_length=1, max_length=200)
    label: Names = None
    part: Names = None
    min_area_share: Amount = None
    max_area_share: Amount = None
    min_width_mm: Amount = None
    max_width_mm: Amount = None
    min_length_mm: Amount = None
    level: Text

    def applies(self, label: str, part: str, measures: Mapping[str, float | None]) -> bool:
        """Return whether every condition is true; one on a value that was not measured is not."""
        if self.label is not None and label not in self.label:
            return False
        if self.part is not None and part not in self.part:
            return False
        for name in ("area_share", "width_mm", "length_mm"):
            low, high = getattr(self, f"min_{name}", None), getattr(self, f"max_{name}", None)
            value = measures.get(name)
            if (low is not None or high is not None) and value is None:
                return False
            if value is not None and (
                (low is not None and value < low) or (high is not None and value >= high)
            ):
                return False
        return True


class SeverityRules(BaseModel):
    """A scale and its rules.

    Attributes:
        scale: name of the scale.
        levels: ascending; the last is the worst.
        rules: the first that applies decides.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    scale: Text
    levels: list[Text] = Field(min_length=1)
    rules: list[SeverityRule] = Field(min_length=1)

    @model_validator(mode="after")
    def _check(self) -> SeverityRules:
        if len(set(self.levels)) != len(self.levels):
            raise ValueError("levels: a level appears twice")
        names = [rule.name for rule in self.rules]
        if len(set(names)) != len(names):
            raise ValueError("rules: a name appears twice")
        for rule in self.rules:
            if rule.level not in self.levels:
                raise ValueError(f"rule {rule.name!r}: level {rule.level!r} is not one of {self.levels}")
        return self

    def decide(self, label: str, part: str, measures: Mapping[str, float | None]) -> tuple[str, str]:
        """Return the level and the name of the rule; ("", "") if none applies.

        Args:
            label: of the finding.
            part: of the finding, or "".
            measures: `area_share`, `width_mm`, `length_mm`; None or missing if not measured.

        Example:
            >>> load_rules("vehicle").decide("dent", "", {"area_share": 0.05})
            ('2', 'large dent')
        """
        for rule in self.rules:
            if rule.applies(label, part, measures):
                return rule.level, rule.name
        return "", ""

    def worst(self, levels: Iterable[str]) -> str:
        """Return the worst of some levels; "" if none is on the scale."""
        ranks = [self.levels.index(level) for level in levels if level in self.levels]
        return self.levels[max(ranks)] if ranks else ""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, which `rules_from_dict` reads."""
        return self.model_dump(mode="json", exclude_none=True)


def rules_from_dict(values: Any, where: str = "severity rules") -> SeverityRules:
    """Return the rules of plain values.

    Raises:
        BadInput: a key or value is not possible ("bad-input.severity-rules").
    """
    try:
        return SeverityRules.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise BadInput(
            f"{where}: {place + ': ' if place else ''}{first['msg']}", reason="severity-rules"
        ) from error


def builtin_rules() -> tuple[str, ...]:
    """Return the names of the built-in rules."""
    return tuple(sorted(path.stem for path in _BUILTIN.glob("*.yaml")))


def load_rules(name: str | Path) -> SeverityRules:
    """Return built-in rules by name, or the rules of a YAML file.

    Raises:
        UnknownName: there are no built-in rules of this name, and no file.
        BadInput: the file cannot be read, or a key or value is not possible ("bad-input.severity-rules").
    """
    path = Path(name)
    if str(name) in builtin_rules():
        path = _BUILTIN / f"{name}.yaml"
    elif not path.is_file():
        raise UnknownName("severity rules", str(name), builtin_rules())
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise BadInput(f"{path}: expected a YAML file of severity rules", reason="severity-rules") from error
    return rules_from_dict(values, str(path))
