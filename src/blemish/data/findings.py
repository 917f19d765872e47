"""`Finding`: one fault of a data set, its place, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any


class Severity(StrEnum):
    """The consequence of a finding."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One fault of a data set, or a fact that is worth knowing.

    Attributes:
        code: the kind of fault, such as "missing-image"; stable, for filters and scripts.
        severity: an error spoils training or metrics, a warning may, a note does not.
        message: what is wrong, without the place.
        path: the image or file that it concerns.
        origin: the place of the label: "labels.csv:14".
        remedy: what the user can do.
        fix: what `blemish data check --fix` does about it, or "" if a person has to decide.
        split: the split that a fix removes the image from, if the image is in several; else "".
        drops_image: whether the fix leaves the image out of the cleaned copy.
        check: id of the check that reported it, such as "images.missing".
    """

    code: str
    severity: Severity
    message: str
    path: Path | None = None
    origin: str = ""
    remedy: str = ""
    fix: str = ""
    split: str = ""
    drops_image: bool = False
    check: str = ""

    @property
    def where(self) -> str:
        """The place in the labels, with the image's name if it does not show it; or else the path."""
        if not self.origin or self.path is None:
            return self.origin or ("" if self.path is None else str(self.path))
        return self.origin if self.path.stem in self.origin else f"{self.origin} ({self.path.name})"

    def sentence(self) -> str:
        """Return the place, the fault and the remedy in one sentence."""
        place = f"{self.where}: " if self.where else ""
        return place + self.message + (f"; {self.remedy}" if self.remedy else "")

    def to_dict(self) -> dict[str, Any]:
        """Return the finding as values that JSON can represent."""
        return {
            "code": self.code,
            "check": self.check,
            "severity": str(self.severity),
            "path": None if self.path is None else self.path.as_posix(),
            "origin": self.origin,
            "message": self.message,
            "remedy": self.remedy,
            "fix": self.fix,
            "split": self.split,
            "drops_image": self.drops_image,
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Finding:
        """Return the finding that `to_dict` described.

        Example:
            >>> finding = Finding("tiny-image", Severity.WARNING, "it is 4 x 4 pixels", Path("a.png"))
            >>> Finding.from_dict(finding.to_dict()) == finding
            True
        """
        path = content["path"]
        return cls(
            **content
            | {"severity": Severity(content["severity"]), "path": None if path is None else Path(path)}
        )


@dataclass(frozen=True)
class Findings:
    """Everything that the checks of a data set found, the most severe first.

    Attributes:
        findings: sorted by severity, then in the order in which they were found.
        images: number of images that were checked.
        notes: what the reader left out or converted, one sentence each.
    """

    findings: tuple[Finding, ...] = ()
    images: int = 0
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        order = list(Severity)
        ranked = sorted(self.findings, key=lambda f: order.index(f.severity))
        object.__setattr__(self, "findings", tuple(ranked))

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that spoil training or metrics."""
        return tuple(f for f in self.findings if f.severity is Severity.ERROR)

    @property
    def counts(self) -> dict[str, int]:
        """The number of findings of each code."""
        counts: dict[str, int] = {}
        for finding in self.findings:
            counts[finding.code] = counts.get(finding.code, 0) + 1
        return counts

    def of(self, code: str) -> tuple[Finding, ...]:
        """Return the findings of one code."""
        return tuple(f for f in self.findings if f.code == code)

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as values that JSON can represent."""
        return {
            "images": self.images,
            "notes": list(self.notes),
            "counts": self.counts,
            "findings": [f.to_dict() for f in self.findings],
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> Findings:
        """Return the findings that `to_dict` described."""
        findings = tuple(Finding.from_dict(f) for f in content["findings"])
        return cls(findings, content["images"], tuple(content["notes"]))
