"""A report as PDF."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import FontFace
from fpdf.outline import OutlineSection
from PIL import Image

from blemish.errors import BadInput
from blemish.imaging import open_image
from blemish.inspections.report_content import DECISIONS, LIMITS, ReportContent, crop_finding, draw_findings
from blemish.inspections.store import InspectionStore

_GRAY, _LINE, _SHADE = (87, 96, 106), (208, 215, 222), (246, 248, 250)
_COLORS = {"findings": (207, 34, 46), "no-findings": (26, 127, 55)}
_OTHER_COLOR = (154, 103, 0)
_HEAD = FontFace(emphasis="BOLD", fill_color=_SHADE)
MAX_CROPS = 300  # further findings are listed without a crop
_FONTS = (
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf",
    "/Library/Fonts/Arial Unicode.ttf",
    "C:/Windows/Fonts/arial.ttf",
)


class _Document(FPDF):
    """A page of A4 with a footer: what the report is, and its page number."""

    def __init__(self, content: ReportContent, font: Path | None) -> None:
        super().__init__(format="A4")
        self.content, self.unicode = content, False
        self.set_margins(18, 18)
        self.set_auto_page_break(True, margin=20)
        self.family = "Helvetica"
        file = font or next((Path(name) for name in _FONTS if Path(name).is_file()), None)
        if file is not None:
            bold = file.with_name(f"{file.stem}-Bold{file.suffix}")
            try:
                self.add_font("report", "", file)
                self.add_font("report", "B", bold if bold.is_file() else file)
            except Exception as error:  # fontTools raises anything
                raise BadInput(f"--font {file}: expected a TrueType font", reason="font") from error
            self.family, self.unicode = "report", True
        self.set_title(f"Inspection {content.inspection.id}")
        self.set_creator(f"Blemish {content.version}")

    def text_of(self, value: Any) -> str:
        """Return a text that the font can show; other characters of built-in fonts become escapes."""
        text = "" if value is None else str(value)
        return text if self.unicode else text.encode("latin-1", "backslashreplace").decode("latin-1")

    def use(self, size: float, style: str = "", color: tuple[int, int, int] = (27, 31, 36)) -> None:
        """Choose size, style and color of the following text."""
        self.set_font(self.family, style, size)
        self.set_text_color(*color)

    def line_of(self, value: Any, height: float = 5.5) -> None:
        """Write a paragraph."""
        self.multi_cell(0, height, self.text_of(value), align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def chapter(self, name: str) -> None:
        """Begin a chapter, with its entry in the contents."""
        if self.get_y() > self.h - 60:
            self.add_page()
        self.ln(4)
        self.start_section(name)
        self.use(14, "B")
        self.line_of(name, 8)
        self.use(9)

    def footer(self) -> None:
        """Write the footer of each page."""
        self.set_y(-14)
        self.use(7, color=_GRAY)
        head = self.content.head
        self.cell(0, 4, self.text_of(f"{self.content.asset.reference} · {self.content.inspection.id} · audit "
                                     f"{head.sequence}: {head.hash[:16]}"))  # fmt: skip
        self.set_y(-14)
        self.cell(0, 4, f"Page {self.page_no()} of {{nb}}", align="R")

    def list_rows(self, head: Sequence[str], rows: Sequence[Sequence[Any]], widths: Sequence[int]) -> None:
        """Write a table, or that there is none."""
        if not rows:
            self.line_of("None.")
            return
        with self.table(col_widths=tuple(widths), headings_style=_HEAD, line_height=4.6, padding=1,
                        text_align="LEFT", borders_layout="HORIZONTAL_LINES") as table:  # fmt: skip
            for cells in [head, *rows]:
                row = table.row()
                for cell in cells:
                    if isinstance(cell, Image.Image):
                        row.cell(img=_jpeg(cell), img_fill_width=True)
                    else:
                        row.cell(self.text_of(cell))


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
    document = _Document(content, font)
    document.set_draw_color(*_LINE)
    _write_cover(document, content, logo)
    _write_findings(document, store, content)
    if content.inspection.comparison is not None:
        document.chapter("Changes since the previous inspection")
        rows = [[c["change"], c["label"], c["basis"]] for c in content.changes()]
        document.list_rows(["Change", "Label", "Basis"], rows, [30, 40, 60])
    _write_images(document, store, content)
    _write_proof(document, content)
    return bytes(document.output())


def _write_cover(document: _Document, content: ReportContent, logo: Path | None) -> None:
    document.add_page()
    if logo is not None:
        document.image(_jpeg(open_image(logo).to_pil()), h=18)
        document.ln(4)
    document.use(11, color=_GRAY)
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
    assert isinstance(document, _Document)  # noqa: S101  (fpdf2 hands back the document)
    document.use(9)
    for section in outline:
        document.set_x(document.l_margin)
        link = document.add_link(page=section.page_number)
        document.cell(150, 6, document.text_of(section.name), link=link)
        document.cell(
            0, 6, str(section.page_number), align="R", link=link, new_x=XPos.LMARGIN, new_y=YPos.NEXT
        )


def _write_findings(document: _Document, store: InspectionStore, content: ReportContent) -> None:
    document.chapter("Findings")
    images = {image.id: image for image in content.images}
    rows = []
    for finding, row in zip(content.findings, content.rows(), strict=True):
        crop: Any = ""
        if row["number"] <= MAX_CROPS:
            crop = crop_finding(store, images[finding.image_id], finding)
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


def _write_images(document: _Document, store: InspectionStore, content: ReportContent) -> None:
    """Write two images on each page."""
    for position, image in enumerate(content.images):
        if position % 2 == 0:
            document.add_page()
            if position == 0:
                document.chapter("Images")
        drawn = draw_findings(store, content, image)
        height = min(105.0, document.epw * drawn.height / drawn.width)
        document.image(_jpeg(drawn), h=height, w=height * drawn.width / drawn.height)
        document.use(8, color=_GRAY)
        name = " · ".join(
            filter(None, [image.file_name or image.id, image.view, f"{image.width} x {image.height}"])
        )
        document.line_of(name)
        document.ln(3)


def _write_proof(document: _Document, content: ReportContent) -> None:
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
    runs = [[run.model_name, run.task, run.model_digest] for run in content.runs]
    document.list_rows(["Model", "Task", "SHA-256"], runs, [44, 26, 104])
    document.chapter("What images cannot show")
    for line in (*LIMITS, *content.problems()):
        document.line_of(f"- {line}")
    document.chapter("Proof")
    document.line_of(
        f"This report covers the audit chain up to event {content.head.sequence} with the hash "
        f"{content.head.hash}. The command blemish inspections verify-report FILE checks that this file is "
        "the one that was written, and that the chain is unbroken."
    )


def _jpeg(image: Image.Image) -> io.BytesIO:
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    buffer.seek(0)
    return buffer
