"""A4 pages with chapters, tables and a footer, for reports as PDF."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fpdf import FPDF
from fpdf.enums import XPos, YPos
from fpdf.fonts import FontFace
from PIL import Image

from blemish._version import __version__
from blemish.errors import BadInput

GRAY, LINE, SHADE = (87, 96, 106), (208, 215, 222), (246, 248, 250)
HEAD = FontFace(emphasis="BOLD", fill_color=SHADE)
_FONTS = (
    "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf",
    "/usr/share/fonts/dejavu-sans-fonts/DejaVuSans.ttf",
    "/Library/Fonts/Arial Unicode.ttf",
    "C:/Windows/Fonts/arial.ttf",
)


class Document(FPDF):
    """Pages of A4 with a footer: what the document is, and its page number."""

    def __init__(self, title: str, footer: str, font: Path | None = None) -> None:
        super().__init__(format="A4")
        self.footer_text, self.unicode = footer, False
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
        self.set_title(title)
        self.set_lang("en-US")
        self.set_creator(f"Blemish {__version__}")
        self.set_draw_color(*LINE)

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
        self.use(7, color=GRAY)
        self.cell(0, 4, self.text_of(self.footer_text))
        self.set_y(-14)
        self.cell(0, 4, f"Page {self.page_no()} of {{nb}}", align="R")

    def list_rows(self, head: Sequence[str], rows: Sequence[Sequence[Any]], widths: Sequence[int]) -> None:
        """Write a table, or that there is none."""
        if not rows:
            self.line_of("None.")
            return
        with self.table(col_widths=tuple(widths), headings_style=HEAD, line_height=4.6, padding=1,
                        text_align="LEFT", borders_layout="HORIZONTAL_LINES") as table:  # fmt: skip
            for cells in [head, *rows]:
                row = table.row()
                for cell in cells:
                    if isinstance(cell, Image.Image):
                        row.cell(img=as_jpeg(cell), img_fill_width=True)
                    else:
                        row.cell(self.text_of(cell))


def as_jpeg(image: Image.Image) -> io.BytesIO:
    """Return an image as a JPEG file."""
    buffer = io.BytesIO()
    image.convert("RGB").save(buffer, "JPEG", quality=85)
    buffer.seek(0)
    return buffer
