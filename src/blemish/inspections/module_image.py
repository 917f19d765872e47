"""Draw the module sheet: the upright cells, colored by their decisions, with a legend."""

from __future__ import annotations

from PIL import Image, ImageDraw

from blemish.drawing import label_color
from blemish.drawing.palette import (
    BACKGROUND,
    MUTED_COLOR,
    TEXT_COLOR,
    Color,
    font,
    text_color_on,
    text_width,
)
from blemish.imaging import LoadedImage
from blemish.inspections.module_sheet import CellDecision, ModuleSheet, cut_cells

_TINT = 0.22
_NO_DAMAGE: Color = (150, 153, 160)
_FAILED: Color = (70, 70, 70)


def draw_sheet(image: LoadedImage, sheet: ModuleSheet, *, width: int = 1600) -> Image.Image:
    """Return the module sheet, RGB.

    Each cell is upright, without perspective, and framed in the color of its label with the highest score;
    an inactive share of 1 % or more is printed in it, and the worst cell has a double frame.

    Args:
        image: the image of the module.
        sheet: the decisions about its cells.
        width: of the drawing, in pixels.
    """
    rows, columns = sheet.grid.rows, sheet.grid.columns
    side = max(24, (width - 80) // columns)
    tall = max(12, round(side * _cell_shape(sheet)))
    text = max(11, min(22, tall // 7))
    left, top = text * 3, text * 2
    legend = 2 * (text + 10) + 16
    canvas = Image.new("RGB", (left + columns * side + 16, top + rows * tall + legend), BACKGROUND)
    pencil = ImageDraw.Draw(canvas)
    colors = label_colors(sheet)
    worst = sheet.worst_cell()
    for column in range(columns):
        pencil.text((left + (column + 0.5) * side, top / 2), str(column + 1), MUTED_COLOR, font(text), "mm")
    for row in range(rows):
        pencil.text((left / 2, top + (row + 0.5) * tall), str(row + 1), MUTED_COLOR, font(text), "mm")
    inner = (side - 6, tall - 6)
    for cell, cut in zip(sheet.cells, cut_cells(_for_display(image), sheet.grid, inner), strict=True):
        place = (left + cell.column * side + 3, top + cell.row * tall + 3)
        _draw_cell(canvas, pencil, cell, cut.rgb_image(), place, colors, text, cell is worst)
    _draw_legend(pencil, sheet, colors, (left, top + rows * tall + 12), text)
    return canvas


def label_colors(sheet: ModuleSheet) -> dict[str, Color]:
    """Return the color of each label that is damage, in the order of the model."""
    names = dict.fromkeys(name for cell in sheet.cells for name in cell.scores)
    damage = [name for name in names if name not in sheet.normal_labels]
    return {name: label_color(index) for index, name in enumerate(damage)}


def cell_text(cell: CellDecision) -> str:
    """Return the labels and scores of a cell as text; "no damage" without one."""
    if cell.error is not None:
        return f"not judged: {cell.error}"
    return ", ".join(f"{label} {score:.2f}" for label, score in cell.labels) or "no damage"


def _for_display(image: LoadedImage) -> LoadedImage:
    return LoadedImage(image.to_pil()) if image.is_16bit else image


def _cell_shape(sheet: ModuleSheet) -> float:
    """Return height / width of the cells, of the middle one in the image."""
    quads = sheet.grid.cell_quads()
    quad = quads[sheet.grid.rows // 2, sheet.grid.columns // 2]
    wide = abs(quad[1] - quad[0]).max() + abs(quad[2] - quad[3]).max()
    tall = abs(quad[3] - quad[0]).max() + abs(quad[2] - quad[1]).max()
    return float(tall / max(wide, 1e-6))


def _draw_cell(
    canvas: Image.Image,
    pencil: ImageDraw.ImageDraw,
    cell: CellDecision,
    cut: Image.Image,
    place: tuple[int, int],
    colors: dict[str, Color],
    text: int,
    is_worst: bool,
) -> None:
    color = _FAILED if cell.error else colors[cell.labels[0][0]] if cell.labels else None
    if color is not None:
        cut = Image.blend(cut, Image.new("RGB", cut.size, color), _TINT)
    canvas.paste(cut, place)
    x, y = place
    right, low = x + cut.width - 1, y + cut.height - 1
    frame = max(2, cut.width // 30) if color is not None else 1
    pencil.rectangle((x - 1, y - 1, right + 1, low + 1), outline=color or _NO_DAMAGE, width=frame)
    if is_worst:
        pencil.rectangle((x - 3, y - 3, right + 3, low + 3), outline=(255, 255, 255), width=1)
        pencil.rectangle((x + frame, y + frame, right - frame, low - frame), outline=(255, 255, 255), width=2)
    if color is not None:
        _tag(pencil, cell.name, (x + frame, y + frame), color, text)
    if cell.inactive_share >= 0.01:
        note = f"{cell.inactive_share:.0%}"
        width = text_width(note, text) + 8
        _tag(pencil, note, (right - frame - width, low - frame - text - 6), _FAILED, text)


def _tag(
    pencil: ImageDraw.ImageDraw, words: str, place: tuple[float, float], color: Color, text: int
) -> None:
    x, y = place
    width = text_width(words, text) + 8
    pencil.rectangle((x, y, x + width, y + text + 6), fill=color)
    pencil.text((x + 4, y + 3 + text / 2), words, text_color_on(color), font(text), "lm")


def _draw_legend(
    pencil: ImageDraw.ImageDraw,
    sheet: ModuleSheet,
    colors: dict[str, Color],
    place: tuple[int, int],
    text: int,
) -> None:
    values = sheet.to_dict()
    x, y = place
    entries = [(f"{name} ({values['counts'].get(name, 0)})", color) for name, color in colors.items()]
    entries.append((f"no damage ({len(sheet.cells) - values['damaged_cells']})", _NO_DAMAGE))
    for words, color in entries:
        pencil.rectangle((x, y, x + text, y + text), fill=color)
        pencil.text((x + text + 6, y + text / 2), words, TEXT_COLOR, font(text), "lm")
        x += text + 6 + text_width(words, text) + 24
    worst = "none" if values["worst_cell"] is None else values["worst_cell"]
    line = (
        f"{values['damaged_cells']} of {len(sheet.cells)} cells damaged · worst cell {worst} · "
        f"inactive area {values['inactive_area_share']:.1%} (dark share of the cells, printed in them)"
    )
    pencil.text((place[0], y + text + 10 + text / 2), line, TEXT_COLOR, font(text), "lm")
