"""A report as PDF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.outline import OutlineSection

from blemish.imaging import open_image
from blemish.inspections.module_image import draw_sheet
from blemish.inspections.module_inspector import module_sheets
from blemish.inspections.module_pdf import write_sheet
from blemish.inspections.report_content import DECISIONS, LIMITS, ReportContent, crop_finding, draw_findings
from blemish.inspections.report_document import GRAY, Document, as_jpeg
from blemish.inspections.store import InspectionStore

_COLORS = {"findings": (207, 34, 46), "no-findings": (26, 127, 55)}
_OTHER_COLOR = (154, 103, 0)
MAX_CROPS = 300  # further findings are listed without a crop


def write_pdf(
    store: InspectionStore, content: ReportContent, *, logo: Path | None = None, font: Path | None = None
) -> bytes:
    """Return the PDF.

    Args:
        store: of the images.
        content: what it states.
        logo: image file for the cover.
        font: TrueType font for all text; default: DejaVu Sans or Arial if the system has it, else Helvetica,
            in which characters outside of Latin-1 are written as escapes.

    Raises:
        BadImage: the logo cannot be used.
        BadInput: the font cannot be used ("bad-input.font").
    """
    head = content.head
    footer = f"{content.asset.reference} · {content.inspection.id} · audit {head.sequence}: {head.hash[:16]}"
    document = Document(f"Inspection {content.inspection.id}", footer, font)
    _write_cover(document, content, logo)
    _write_findings(document, store, content)
    if content.inspection.comparison is not None:
        document.chapter("Changes since the previous inspection")
        rows = [[c["change"], c["label"], c["basis"]] for c in content.changes()]
        document.list_rows(["Change", "Label", "Basis"], rows, [30, 40, 60])
    _write_modules(document, store, content)
    _write_images(document, store, content)
    _write_proof(document, content)
    return bytes(document.output())


def _write_cover(document: Document, content: ReportContent, logo: Path | None) -> None:
    document.add_page()
    if logo is not None:
        document.image(as_jpeg(open_image(logo).to_pil()), h=18)
        document.ln(4)
    document.use(11, color=GRAY)
    document.line_of(content.options.get("company", ""))
    document.use(24, "B")
    document.line_of(content.options.get("title") or "Inspection report", 12)
    decision = content.summary["decision"]
    document.use(16, "B", _COLORS.get(decision, _OTHER_COLOR))
    document.line_of(DECISIONS[decision], 10)
    document.ln(2)
    for name, value in content.facts():
        document.use(9, "B")
        document.cell(52, 6, document.text_of(name))
        document.use(9)
        document.line_of(value, 6)
    document.ln(6)
    document.use(12, "B")
    document.line_of("Contents", 8)
    document.use(9)
    document.insert_toc_placeholder(_write_contents, allow_extra_pages=True)


def _write_contents(document: FPDF, outline: list[OutlineSection]) -> None:
    assert isinstance(document, Document)  # noqa: S101  (fpdf2 hands back the document)
    document.use(9)
    for section in outline:
        document.set_x(document.l_margin)
        link = document.add_link(page=section.page_number)
        document.cell(150, 6, document.text_of(section.name), link=link)
        document.cell(
            0, 6, str(section.page_number), align="R", link=link, new_x=XPos.LMARGIN, new_y=YPos.NEXT
        )


def _write_findings(document: Document, store: InspectionStore, content: ReportContent) -> None:
    document.chapter("Findings")
    images = {image.id: image for image in content.images}
    rows = []
    for finding, row in zip(content.findings, content.rows(), strict=True):
        crop: Any = ""
        if row["number"] <= MAX_CROPS:
            crop = crop_finding(store, images[finding.image_id], finding, blur=content.blur)
        found = "" if row["score"] is None else f"score {row['score']:.2f}"
        edited = f"was {row['label_as_found']}" if row["label"] != row["label_as_found"] else ""
        measures = "; ".join(
            f"{n.removeprefix('measure_')} {v:.4g}" for n, v in row.items() if n.startswith("measure_")
        )
        rows.append(
            [
                row["number"],
                crop,
                "\n".join(filter(None, [row["label"], edited, row["part"], measures])),
                "\n".join(filter(None, [row["severity_level"] or "no rule", row["severity_rule"]])),
                "\n".join(filter(None, [row["state"], row["change"] if row["change"] != "unknown" else ""])),
                "\n".join(filter(None, [row["image"], row["view"], found or row["origin"]])),
            ]
        )
    document.list_rows(["No.", "", "Finding", "Severity", "State", "Image"], rows, [11, 22, 39, 33, 24, 45])


def _write_images(document: Document, store: InspectionStore, content: ReportContent) -> None:
    """Write two images on each page."""
    for position, image in enumerate(content.images):
        if position % 2 == 0:
            document.add_page()
            if position == 0:
                document.chapter("Images")
        drawn = draw_findings(store, content, image)
        heatmap = content.heatmaps.get(image.id)
        wide = document.epw if heatmap is None else (document.epw - 4) / 2
        height = min(100.0, wide * drawn.height / drawn.width)
        top = document.get_y()
        document.image(as_jpeg(drawn), h=height, w=height * drawn.width / drawn.height)
        if heatmap is not None:
            place = document.l_margin + wide + 4
            document.image(
                as_jpeg(heatmap.drawn), x=place, y=top, h=height, w=height * drawn.width / drawn.height
            )
            document.set_y(top + height)
        document.use(8, color=GRAY)
        name = " · ".join(
            filter(None, [image.file_name or image.id, image.view, f"{image.width} x {image.height}"])
        )
        document.line_of(name)
        if heatmap is not None:
            document.line_of(heatmap.caption)
        document.ln(3)


def _write_modules(document: Document, store: InspectionStore, content: ReportContent) -> None:
    """Write the sheet of each module on a page of its own."""
    images = {image.id: image for image in content.images}
    for image_id, (_, sheet) in module_sheets(store, content.inspection.id).items():
        image = images[image_id]
        document.add_page()
        document.chapter(f"Module sheet: {image.file_name or image.id}")
        write_sheet(document, draw_sheet(store.images.open(image), sheet), sheet)


def _write_proof(document: Document, content: ReportContent) -> None:
    document.add_page()
    document.chapter("Reviews")
    rows = [
        [
            review.created_at[:19].replace("T", " "),
            review.reviewer,
            review.action,
            "" if review.finding_id is None else content.numbers.get(review.finding_id, ""),
            " ".join(filter(None, [review.reason, review.note])),
        ]
        for review in content.reviews
    ]
    document.list_rows(["Time (UTC)", "Reviewer", "Action", "No.", "Reason"], rows, [34, 34, 18, 10, 78])
    document.chapter("Models")
    for facts in content.models():
        rows = [
            ["SHA-256", facts["sha256"]],
            ["Certificate", facts["certificate"]],
            ["Images", f"{facts['images']}, from {facts['first_run']} UTC"],
        ]
        document.list_rows(["Model", f"{facts['name']} ({facts['task']})"], rows, [30, 144])
        document.ln(2)
    if not content.runs:
        document.line_of("None.")
    document.chapter("What images cannot show")
    for line in (*LIMITS, *content.problems()):
        document.line_of(f"- {line}")
    document.chapter("Proof")
    document.line_of(
        f"This report covers the audit chain up to event {content.head.sequence} with the hash "
        f"{content.head.hash}. The command blemish inspections verify-report FILE checks that this file is "
        "the one that was written, and that the chain is unbroken."
    )
