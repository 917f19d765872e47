"""Runs and findings of a store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sqlalchemy as sa

from blemish._version import __version__
from blemish.errors import BadInput, UnknownName
from blemish.geometry import box_area
from blemish.inspections import tables
from blemish.inspections.access import Access, check_choice, check_text
from blemish.inspections.database import Transaction
from blemish.inspections.identifiers import new_id, now
from blemish.inspections.inspection_records import check_json
from blemish.inspections.queries import fetch_one, fetch_page
from blemish.inspections.records import Finding, Inspection, InspectionImage, Page, PredictionRun
from blemish.inspections.severity import SeverityRules, rules_from_dict

MAX_POINTS = 100_000  # of one finding's outline


@dataclass(frozen=True, kw_only=True)
class NewFinding:
    """A finding that is not stored yet.

    Attributes:
        image_id: the image.
        label: of the damage or defect.
        score: of the model, in [0, 1]; None for a person's.
        box_xyxy: in pixels of the upright image; None for a label of the whole image.
        polygons: rings of (x, y) in pixels, outer and inner; or None.
        area_share: share of the image, in [0, 1]; default: that of the polygons or the box.
        part: the part that it is on, or "".
        measures: further values, such as `width_mm`.
    """

    image_id: str
    label: str
    score: float | None = None
    box_xyxy: Sequence[float] | None = None
    polygons: Sequence[Sequence[Sequence[float]]] | None = None
    area_share: float | None = None
    part: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class NewRun:
    """A run of a model that is not stored yet; the attributes are those of `PredictionRun`."""

    model_digest: str
    model_name: str
    task: str
    labels: Sequence[str]
    parameters: Mapping[str, Any]
    images: Sequence[Mapping[str, Any]]


class Findings:
    """The runs and findings of a store."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def add_run(self, inspection_id: str, run: NewRun, findings: Sequence[NewFinding]) -> PredictionRun:
        """Store a run of a model with everything that it found, in one transaction.

        Raises:
            UnknownName: an image is not one of the inspection.
            BadInput: a box or polygon is outside of its image, or a score is not in [0, 1].
            Conflict: the inspection is closed.
        """
        values: dict[str, Any] = {
            "id": new_id(),
            "inspection_id": inspection_id,
            "model_digest": check_text("model digest", run.model_digest, 64),
            "model_name": check_text("model name", run.model_name, 200),
            "task": check_text("task", run.task, 32),
            "labels": check_json("labels", list(run.labels), max_characters=1_000_000),
            "parameters": check_json("parameters", dict(run.parameters)),
            "images": check_json("images", [dict(x) for x in run.images], max_characters=20_000_000),
            "tool_version": __version__,
            "created_at": now(),
        }

        def work(transaction: Transaction) -> PredictionRun:
            connection = transaction.connection
            inspection = self._access.inspection(connection, inspection_id)
            images = self._images(connection, inspection_id)
            rules = rules_of(inspection)
            rows = [build_row(new, inspection_id, images, rules, run_id=values["id"]) for new in findings]
            connection.execute(sa.insert(tables.prediction_run), [values])
            if rows:
                connection.execute(sa.insert(tables.finding), rows)
            self._access.change(transaction, inspection_id)
            details = {"run_id": values["id"], "model_digest": run.model_digest, "findings": len(rows)}
            transaction.record("run.add", "inspection", inspection_id, details)
            return PredictionRun(**values)

        return self._access.write(work)

    def _images(self, connection: sa.Connection, inspection_id: str) -> dict[str, InspectionImage]:
        rows = connection.execute(
            sa.select(tables.image).where(tables.image.c.inspection_id == inspection_id)
        )
        return {row.id: InspectionImage.from_row(row) for row in rows}

    def runs(self, inspection_id: str) -> tuple[PredictionRun, ...]:
        """Return the runs of an inspection, the oldest first."""
        with self._access.database.read() as connection:
            self._access.inspection(connection, inspection_id)
            columns = tables.prediction_run.c
            query = (
                sa.select(tables.prediction_run)
                .where(columns.inspection_id == inspection_id)
                .order_by(columns.id)
            )
            return tuple(map(PredictionRun.from_row, connection.execute(query)))

    def get(self, finding_id: str) -> Finding:
        """Return a finding; raise `UnknownName` if there is none of this user."""
        query = sa.select(tables.finding).join(tables.inspection).where(tables.finding.c.id == finding_id)
        query = self._access.visible(query, tables.inspection.c.owner)
        with self._access.database.read() as connection:
            return fetch_one(connection, query, Finding.from_row, "finding", finding_id)

    def of_inspection(self, inspection_id: str) -> tuple[Finding, ...]:
        """Return all findings of an inspection, the oldest first."""
        with self._access.database.read() as connection:
            self._access.inspection(connection, inspection_id)
            query = sa.select(tables.finding).where(tables.finding.c.inspection_id == inspection_id)
            return tuple(map(Finding.from_row, connection.execute(query.order_by(tables.finding.c.id))))

    def list(
        self,
        *,
        inspection_id: str | None = None,
        image_id: str | None = None,
        label: str | None = None,
        state: str | None = None,
        severity_level: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[Finding]:
        """Return findings, the oldest first.

        Args:
            inspection_id: only of this inspection.
            image_id: only of this image.
            label: only with this label after the reviews.
            state: only `open`, `accepted`, `rejected` or `contested` ones.
            severity_level: only of this level as found.
            limit: 1 to 500.
            cursor: of an earlier page.
        """
        columns = tables.finding.c
        query = sa.select(tables.finding)
        if self._access.user.owner is not None:
            query = self._access.visible(query.join(tables.inspection), tables.inspection.c.owner)
        if state is not None:
            check_choice("state", state, tables.STATES)
        wanted = {
            columns.inspection_id: inspection_id,
            columns.image_id: image_id,
            columns.current_label: label,
            columns.state: state,
            columns.severity_level: severity_level,
        }
        for column, value in wanted.items():
            if value is not None:
                query = query.where(column == value)
        with self._access.database.read() as connection:
            if inspection_id is not None:
                self._access.inspection(connection, inspection_id)
            return fetch_page(connection, query, [columns.id], Finding.from_row, limit=limit, cursor=cursor)

    def assign(
        self,
        inspection_id: str,
        derived: Mapping[str, Mapping[str, Any]],
        comparison: Mapping[str, Any] | None = None,
    ) -> None:
        """Store what merging and comparison derive.

        Args:
            inspection_id: the inspection.
            derived: `group_id` and `group_basis`, or `change`, by finding id.
            comparison: the result of a comparison, to store with the inspection.
        """

        def work(transaction: Transaction) -> None:
            values = {} if comparison is None else {"comparison": check_json("comparison", dict(comparison))}
            self._access.change(transaction, inspection_id, **values)
            for finding_id, columns in derived.items():
                transaction.connection.execute(
                    sa.update(tables.finding)
                    .where(tables.finding.c.id == finding_id, tables.finding.c.inspection_id == inspection_id)
                    .values(**columns, version=tables.finding.c.version + 1)
                )
            names = sorted({name for columns in derived.values() for name in columns})
            transaction.record(
                "findings.derive", "inspection", inspection_id, {"fields": names, "count": len(derived)}
            )

        self._access.write(work)


def rules_of(inspection: Inspection) -> SeverityRules | None:
    """Return the severity rules that are stored with an inspection, or None."""
    values = inspection.policy.get("severity")
    return None if values is None else rules_from_dict(values)


def build_row(
    new: NewFinding,
    inspection_id: str,
    images: Mapping[str, InspectionImage],
    rules: SeverityRules | None,
    *,
    run_id: str | None = None,
) -> dict[str, Any]:
    """Return the row of a new finding, with its severity."""
    if new.image_id not in images:
        raise UnknownName("image", new.image_id, images, where=f"inspection {inspection_id}")
    image = images[new.image_id]
    box, polygons = check_outline(new.box_xyxy, new.polygons, image)
    if new.score is not None and not 0 <= new.score <= 1:
        raise BadInput(f"score: expected a number in [0, 1], got {new.score}", reason="score")
    label, part = check_text("label", new.label, 200, required=True), check_text("part", new.part, 200)
    share = new.area_share if new.area_share is not None else area_share(box, polygons, image)
    measures = check_json("measures", dict(new.measures))
    level, rule = grade(rules, label, part, share, measures)
    return {
        "id": new_id(),
        "inspection_id": inspection_id,
        "image_id": new.image_id,
        "run_id": run_id,
        "origin": "person" if run_id is None else "model",
        "label": label,
        "score": new.score,
        "box_xyxy": box,
        "polygons": polygons,
        "area_share": share,
        "part": part,
        "severity_scale": "" if rules is None else rules.scale,
        "severity_level": level,
        "severity_rule": rule,
        "measures": measures,
        "created_at": now(),
        "state": "open",
        "current_label": label,
        "current": None,
        "group_id": None,
        "group_basis": "",
        "change": "unknown",
        "version": 1,
    }


def grade(
    rules: SeverityRules | None, label: str, part: str, share: float | None, measures: Mapping[str, Any]
) -> tuple[str, str]:
    """Return the severity level and the rule's name; ("", "") if none applies."""
    return ("", "") if rules is None else rules.decide(label, part, {**measures, "area_share": share})


def check_outline(
    box: Sequence[float] | None, polygons: Sequence[Sequence[Sequence[float]]] | None, image: InspectionImage
) -> tuple[list[float] | None, list[list[list[float]]] | None]:
    """Return box and polygons as plain numbers; the box of polygons without a box is computed.

    Raises:
        BadInput: they are not finite, have a wrong form, or reach more than a pixel out of the image
            ("bad-input.outline").
    """
    rings: list[list[list[float]]] | None = None
    if polygons is not None:
        try:
            arrays = [np.asarray(ring, np.float64).reshape(-1, 2) for ring in polygons]
        except (TypeError, ValueError) as error:
            raise BadInput("polygons: expected rings of (x, y)", reason="outline") from error
        if not arrays or any(len(ring) < 3 for ring in arrays) or sum(map(len, arrays)) > MAX_POINTS:
            raise BadInput(f"polygons: expected rings of 3 to {MAX_POINTS} points", reason="outline")
        _check_inside(np.concatenate(arrays), image)
        rings = [ring.round(2).tolist() for ring in arrays]
        if box is None:
            points = np.concatenate(arrays)
            box = [*points.min(0), *points.max(0)]
    if box is None:
        return None, rings
    try:
        corners = np.asarray(box, np.float64).reshape(4)
    except (TypeError, ValueError) as error:
        raise BadInput("box: expected x1, y1, x2, y2", reason="outline") from error
    _check_inside(corners.reshape(2, 2), image)
    if not (corners[:2] < corners[2:]).all():
        raise BadInput(f"box: expected x1 < x2 and y1 < y2, got {corners.tolist()}", reason="outline")
    return [round(float(value), 3) for value in corners], rings


def _check_inside(points: np.ndarray, image: InspectionImage) -> None:
    """Raise `BadInput` unless all (n, 2) points are finite and in the image, within a pixel."""
    high = np.array([image.width, image.height]) + 1
    if not np.isfinite(points).all() or (points < -1).any() or (points > high).any():
        raise BadInput(
            f"box or polygon: expected points within {image.width} x {image.height} pixels", reason="outline"
        )


def area_share(
    box: Sequence[float] | None, polygons: Sequence[Sequence[Sequence[float]]] | None, image: InspectionImage
) -> float | None:
    """Return the share of the image that polygons or a box cover, in [0, 1]; None for a whole-image label.

    Rings inside of others are holes: the areas have the signs of their directions.
    """
    pixels = image.height * image.width
    if polygons:
        total = abs(sum(_signed_area(np.asarray(ring)) for ring in polygons))
        return min(1.0, total / pixels)
    if box is None:
        return None
    return min(1.0, float(box_area(np.asarray([box], np.float64))[0]) / pixels)


def _signed_area(ring: np.ndarray) -> float:
    """Return the area of an (n, 2) ring in square pixels, with the sign of its direction."""
    x, y = ring[:, 0], ring[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2
