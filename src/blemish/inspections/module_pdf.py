"""The module sheet as a page of a PDF."""

from __future__ import annotations

from PIL import Image

from blemish.errors import MissingExtra
from blemish.inspections.module_image import cell_text
from blemish.inspections.module_sheet import INACTIVE_LEVEL, ModuleSheet

try:
    from blemish.inspections.report_document import Document, as_jpeg
except ModuleNotFoundError as error:
    raise MissingExtra("inspections", "a module sheet as PDF") from error

MAX_HEIGHT = 150.0  # millimeters of the drawing
NOTE = (
    "Each cell is cut out upright; decisions and scores are those of the model. The inactive area is "
    f"measured in the image: the share of the cells below {INACTIVE_LEVEL:.0%} of their usual level. "
    "Electroluminescence shows where no current flows; it does not show the power that is lost."
)


def write_sheet_pdf(drawn: Image.Image, sheet: ModuleSheet, image_name: str, model_name: str) -> bytes:
    """Return a PDF of one module sheet.

    Args:
        drawn: by `draw_sheet`.
        sheet: the decisions.
        image_name: name of the image file.
        model_name: name of the model file.
    """
    document = Document(
        f"Module sheet {image_name}", f"{image_name} · {model_name} {sheet.model_digest[:16]}"
    )
    document.add_page()
    document.use(20, "B")
    document.line_of("Module sheet", 11)
    document.use(10)
    document.line_of(image_name)
    document.ln(3)
    write_sheet(document, drawn, sheet)
    document.use(8)
    document.ln(2)
    document.line_of(f"Model {model_name}, SHA-256 {sheet.model_digest}", 4)
    return bytes(document.output())


def write_sheet(document: Document, drawn: Image.Image, sheet: ModuleSheet) -> None:
    """Write drawing, totals and the damaged cells of a module at the current place of a document."""
    values, grid = sheet.to_dict(), sheet.grid
    height = min(MAX_HEIGHT, document.epw * drawn.height / drawn.width)
    document.image(as_jpeg(drawn), h=height, w=height * drawn.width / drawn.height)
    document.ln(3)
    facts = [
        ("Cells", f"{grid.rows} rows x {grid.columns} columns"),
        ("Damaged cells", f"{values['damaged_cells']} of {len(sheet.cells)}"),
        ("Worst cell", values["worst_cell"] or "none"),
        ("Inactive area", f"{values['inactive_area_share']:.1%} of the cells"),
    ]
    for name, value in facts:
        document.use(9, "B")
        document.cell(40, 5.5, document.text_of(name))
        document.use(9)
        document.line_of(value)
    document.ln(2)
    document.use(8)
    document.line_of(NOTE, 4)
    rows = [
        [cell.name, cell_text(cell), f"{cell.inactive_share:.1%}"]
        for cell in sheet.cells
        if cell.labels or cell.error or cell.inactive_share >= 0.05
    ]
    document.ln(2)
    document.use(9)
    document.list_rows(["Cell", "Decision", "Inactive"], rows, [24, 120, 30])
