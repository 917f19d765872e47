"""Write reports, and verify that a file is one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from blemish.errors import BadInput, MissingExtra
from blemish.face_blur import Blur
from blemish.inspections import audit, tables
from blemish.inspections.access import check_choice
from blemish.inspections.records import Report
from blemish.inspections.report_content import gather
from blemish.inspections.report_csv import write_csv
from blemish.inspections.report_html import write_html
from blemish.inspections.report_records import FORMATS
from blemish.inspections.store import InspectionStore

if TYPE_CHECKING:
    from blemish.inference import Predictor


def write_report(
    store: InspectionStore,
    inspection_id: str,
    format: str = "pdf",  # noqa: A002
    *,
    options: Mapping[str, str] | None = None,
    logo: Path | None = None,
    font: Path | None = None,
    models: Sequence[Predictor] = (),
    blur: Blur | None = None,
) -> tuple[Report, bytes]:
    """Write a report about an inspection, store it, and return its record and its bytes.

    Args:
        store: the store.
        inspection_id: the inspection.
        format: `pdf`, `html` or `csv`.
        options: `company`, `claim`, `title` and `inspector`.
        logo: image file for the cover of a PDF.
        font: TrueType font of a PDF; see `write_pdf`.
        models: that decided; PDF and HTML show their heatmaps.
        blur: applied to each image, such as `blemish.face_blur.open_blur()`.

    Raises:
        MissingExtra: fpdf2 is not installed.
        BadInput: an option does not exist, or a model decided nothing ("bad-input.heatmap-model").
    """
    check_choice("report format", format, FORMATS)
    content = gather(store, inspection_id, options, () if format == "csv" else models, blur)
    if format == "pdf":
        try:
            from blemish.inspections.report_pdf import write_pdf
        except ModuleNotFoundError as error:
            raise MissingExtra("inspections", "a report as PDF") from error
        data = write_pdf(store, content, logo=logo, font=font)
    else:
        data = write_html(store, content) if format == "html" else write_csv(content)
    return store.reports.add(inspection_id, format, data, content.head, content.options), data


@dataclass(frozen=True)
class ReportCheck:
    """What is known about a file that claims to be a report.

    Attributes:
        unchanged: whether the store wrote this file, and the audit chain proves it.
        reason: `unknown-file`, `chain-broken`, `not-in-chain` or `head-changed`; "" if it is unchanged.
        sha256: of the file.
        report_id: of the report, or None.
        inspection_id: of the report, or None.
        created_at: of the report, or None.
    """

    unchanged: bool
    reason: str
    sha256: str
    report_id: str | None = None
    inspection_id: str | None = None
    created_at: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)


def verify_report(store: InspectionStore, path: Path) -> ReportCheck:
    """Return whether a file is a report that this store wrote, unchanged.

    The content must be that of a stored report; the audit chain must be unbroken, contain the event of the
    report with its SHA-256, and have the hash that is printed on the report at the event that it names.

    Raises:
        BadInput: the file cannot be read ("bad-input.report-file").
    """
    try:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror})", reason="report-file") from error
    report = store.reports.by_digest(digest)
    if report is None:
        return ReportCheck(False, "unknown-file", digest)
    with store.access.database.read() as connection:
        _, fault = audit.verify_chain(connection)
        events = tables.audit_event.c
        written = connection.execute(
            sa.select(events.details).where(
                events.action == "report.add", events.object_id == report.inspection_id
            )
        ).scalars()
        is_recorded = any(digest in details and report.id in details for details in written)
        head = connection.execute(
            sa.select(events.hash).where(events.sequence == report.audit_sequence)
        ).scalar_one_or_none()
    reason = ""
    if fault is not None:
        reason = "chain-broken"
    elif not is_recorded:
        reason = "not-in-chain"
    elif head != report.audit_hash:
        reason = "head-changed"
    return ReportCheck(not reason, reason, digest, report.id, report.inspection_id, report.created_at)
