"""What is wrong with a data set: one thing, where it stands, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

DROPS_IMAGE = "drops the image"  # a `fix`; what can still be read of it must not stay in a copy


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing.

    Attributes:
        code: what kind of fault, such as `missing-image`; stable, for filters and scripts.
        severity: an error spoils training or figures; a warning may; a note is only said.
        message: what is wrong, without where.
        path: the image or file it is about.
        origin: where the label stands: `labels.csv:14`.
        remedy: what to do.
        fix: what `--fix` does about it, or "" where only people can.
        split: the one side that a fix takes it from, where the image stands in several; or "".
    """

    code: str
    severity: Severity
    message: str
    path: Path | None = None
    origin: str = ""
    remedy: str = ""
    fix: str = ""
    split: str = ""

    @property
    def where(self) -> str:
        """The place in the labels, with the image's name where it does not show; or else the file."""
        if not self.origin or self.path is None:
            return self.origin or ("" if self.path is None else str(self.path))
        return self.origin if self.path.stem in self.origin else f"{self.origin} ({self.path.name})"

    def sentence(self) -> str:
        """Where, what, and what to do, in one sentence."""
        return (
            (f"{self.where}: " if self.where else "")
            + self.message
            + (f"; {self.remedy}" if self.remedy else "")
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "code": self.code,
            "severity": str(self.severity),
            "path": None if self.path is None else self.path.as_posix(),
            "origin": self.origin,
            "message": self.message,
            "remedy": self.remedy,
            "fix": self.fix,
            "split": self.split,
        }


@dataclass(frozen=True)
class Findings:
    """Everything a check found, worst first.

    Attributes:
        findings: by severity, then in the order found.
        images: how many were looked at.
        notes: what the reader passed over or mended on the way, one sentence each.
    """

    findings: tuple[Finding, ...] = field(default=())
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

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Findings:
        """What `to_dict` gave."""
        found = tuple(
            Finding(
                f["code"],
                Severity(f["severity"]),
                f["message"],
                None if f["path"] is None else Path(f["path"]),
                f["origin"],
                f["remedy"],
                f["fix"],
                f["split"],
            )
            for f in raw["findings"]
        )
        return cls(found, raw["images"], tuple(raw["notes"]))

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that spoil training or figures."""
        return tuple(f for f in self.findings if f.severity is Severity.ERROR)

    @property
    def counts(self) -> dict[str, int]:
        """How many findings of each code."""
        out: dict[str, int] = {}
        for finding in self.findings:
            out[finding.code] = out.get(finding.code, 0) + 1
        return out

    def of(self, code: str) -> tuple[Finding, ...]:
        """The findings of one code."""
        return tuple(f for f in self.findings if f.code == code)

    def to_dict(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "images": self.images,
            "notes": list(self.notes),
            "counts": self.counts,
            "findings": [f.to_dict() for f in self.findings],
        }
