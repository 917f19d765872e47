"""What the store returns: one immutable value for each row."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any, Generic, Self, TypeVar


@dataclass(frozen=True, kw_only=True)
class Record:
    """One row of a table.

    Attributes:
        id: a ULID; those of later rows are greater.
        created_at: UTC, ISO 8601.
    """

    id: str
    created_at: str

    @classmethod
    def from_row(cls, row: Any) -> Self:
        """Return the record of a row of SQLAlchemy."""
        values = row._mapping
        return cls(**{field.name: values[field.name] for field in fields(cls)})

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


T = TypeVar("T")


@dataclass(frozen=True)
class Page(Generic[T]):
    """A part of a list.

    Attributes:
        items: in the order of the list.
        next_cursor: of the following part; None at the end.
    """

    items: tuple[T, ...]
    next_cursor: str | None = None


@dataclass(frozen=True, kw_only=True)
class Asset(Record):
    """The object that is inspected.

    Attributes:
        owner: the API key that created it, or "" for the command line.
        kind: `vehicle`, `pv_module`, `structure`, `part` or `free`.
        reference: its name outside of Blemish: license plate, claim number, serial number.
        attributes: plain values.
        version: increases with each change.
    """

    owner: str
    kind: str
    reference: str
    attributes: dict[str, Any]
    version: int


@dataclass(frozen=True, kw_only=True)
class Inspection(Record):
    """One inspection of an asset: images, findings, reviews.

    Attributes:
        owner: as of the asset.
        asset_id: the asset.
        previous_id: the earlier inspection that this one is compared with, or None.
        kind: free text, such as "claim" or "handover".
        phase: `before`, `after` or `periodic`.
        status: `open`, or `closed`, which refuses changes.
        required_views: the views that a complete inspection has, such as "front left".
        policy: `severity` (the rules as a mapping), `min_score`, `parts_model`.
        comparison: the result of the comparison with the previous inspection, or None.
        open_findings: number of findings without a decision.
        needs_review: 1 if there are such findings, or nothing was predicted yet.
        updated_at: time of the last change.
        version: increases with each change, also of its images and findings.
    """

    owner: str
    asset_id: str
    previous_id: str | None
    kind: str
    phase: str
    status: str
    required_views: list[str]
    policy: dict[str, Any]
    comparison: dict[str, Any] | None
    open_findings: int
    needs_review: int
    updated_at: str
    version: int


@dataclass(frozen=True, kw_only=True)
class InspectionImage(Record):
    """One image of an inspection.

    Attributes:
        inspection_id: the inspection.
        sha256: of the file, by which it is stored.
        size_bytes: size of the file.
        height: of the upright image, in pixels.
        width: of the upright image, in pixels.
        format: such as `JPEG`.
        orientation: EXIF orientation of the file, 1 to 8.
        perceptual_hash: 64 hex digits, similar for similar images.
        file_name: as it was uploaded.
        view: such as "front left", or "".
        quality: plain values, such as `focus` and `mean_level`.
    """

    inspection_id: str
    sha256: str
    size_bytes: int
    height: int
    width: int
    format: str
    orientation: int
    perceptual_hash: str
    file_name: str
    view: str
    quality: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class PredictionRun(Record):
    """One run of a model over images of an inspection; never changed.

    Attributes:
        inspection_id: the inspection.
        model_digest: SHA-256 of the model file.
        model_name: name of its file.
        task: the model's task.
        labels: all labels of the model.
        parameters: thresholds and options.
        images: one mapping for each image: `image_id`, `error` (a code or None), `label_scores`.
        tool_version: of Blemish.
    """

    inspection_id: str
    model_digest: str
    model_name: str
    task: str
    labels: list[str]
    parameters: dict[str, Any]
    images: list[dict[str, Any]]
    tool_version: str


@dataclass(frozen=True, kw_only=True)
class Finding(Record):
    """One damage or defect in one image, as the model or a person found it, and what was decided about it.

    Attributes:
        inspection_id: the inspection.
        image_id: the image.
        run_id: the run that found it; None for a person's.
        origin: `model` or `person`.
        label: as found.
        score: of the model, in [0, 1]; None for a person's.
        box_xyxy: x1 y1 x2 y2 in pixels of the upright image; None for a label of the whole image.
        polygons: rings of (x, y) in pixels, or None.
        area_share: area of the mask or box as a share of the image, in [0, 1], or None.
        part: the part that it is on, or "".
        severity_scale: name of the scale, or "".
        severity_level: level on the scale, or "" if no rule applies.
        severity_rule: name of the rule that gave the level, or "".
        measures: plain values, such as `width_mm`.
        state: `open`, `accepted`, `rejected` or `contested`.
        current_label: the label after the reviews.
        current: what edits changed: `label`, `box_xyxy`, `polygons`, `part`, `severity_level`,
            `severity_rule`; None without.
        group_id: the same for all findings of one damage; None before merging.
        group_basis: why they are one: `geometry`, `part-and-view`, or `alone`; "" before merging.
        change: against the previous inspection: `new`, `pre-existing`, `worsened`, `repaired`, `unknown`.
        version: increases with each change.
    """

    inspection_id: str
    image_id: str
    run_id: str | None
    origin: str
    label: str
    score: float | None
    box_xyxy: list[float] | None
    polygons: list[list[list[float]]] | None
    area_share: float | None
    part: str
    severity_scale: str
    severity_level: str
    severity_rule: str
    measures: dict[str, Any]
    state: str
    current_label: str
    current: dict[str, Any] | None
    group_id: str | None
    group_basis: str
    change: str
    version: int

    def effective(self) -> dict[str, Any]:
        """Return label, box, polygons, part, and severity level and rule after the reviews."""
        values = {name: getattr(self, name) for name in (*EDITABLE, "severity_rule")}
        return values | (self.current or {})


EDITABLE = ("label", "box_xyxy", "polygons", "part", "severity_level")


@dataclass(frozen=True, kw_only=True)
class Review(Record):
    """One decision of a person; never changed.

    Attributes:
        inspection_id: the inspection.
        finding_id: the finding; None for a note about the inspection.
        action: `accept`, `reject`, `edit`, `add`, `contest` or `note`.
        reviewer: who decided.
        reason: short, such as "reflection".
        note: free text.
        before: state and values of the finding before it, or None.
        after: state and values of the finding after it, or None.
    """

    inspection_id: str
    finding_id: str | None
    action: str
    reviewer: str
    reason: str
    note: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Report(Record):
    """One written report.

    Attributes:
        inspection_id: the inspection.
        format: `pdf`, `html`, `csv` or `json`.
        sha256: of the file, by which it is stored.
        options: company, claim number and so on.
        audit_sequence: number of the newest audit event that it covers.
        audit_hash: hash of that event, which is printed on it.
    """

    inspection_id: str
    format: str
    sha256: str
    options: dict[str, Any]
    audit_sequence: int
    audit_hash: str


def to_dicts(records: Iterable[Record]) -> list[dict[str, Any]]:
    """Return plain values of several records."""
    return [record.to_dict() for record in records]
