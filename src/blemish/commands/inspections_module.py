"""`blemish inspections module`: judge each cell of a solar module, without a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blemish.commands.data_options import JsonOption
from blemish.commands.json_output import json_document, print_json
from blemish.commands.shared_options import BackendOption, ThreadsOption
from blemish.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

    from blemish.inspections.module_sheet import ModuleSheet

GridOption = Annotated[
    str | None,
    typer.Option(metavar="ROWSxCOLUMNS", help="Cells of a solar module, such as 6x10.", show_default=False),
]
CornersOption = Annotated[
    str | None,
    typer.Option(
        metavar="X,Y,...",
        help="Eight numbers: the outer corners of its cells, from the upper left one clockwise, in pixels.",
        show_default="found",
    ),
]
AUTO = "auto"


def module(
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="Image of the whole module.", show_default=False)
    ],
    model: Annotated[
        Path,
        typer.Option("--model", "-m", metavar="FILE", help="Model file for cells.", show_default=False),
    ],
    grid: Annotated[
        str | None,
        typer.Option(metavar="ROWSxCOLUMNS", help="Cells, such as 6x10.", show_default="counted"),
    ] = None,
    corners: CornersOption = None,
    normal: Annotated[
        list[str] | None, typer.Option(metavar="LABEL", help="Label that is no damage. Repeatable.")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR",
            help="New or empty folder for sheet.json, sheet.png, sheet.pdf and the upright cells.",
            show_default=False,
        ),
    ] = None,
    backend: BackendOption = "auto",
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find the cells of a solar module in an electroluminescence image, and judge each by a model of cells.

    The module may be rotated and in perspective; it is bright on a dark background, and shown whole. To keep
    the result, use `blemish inspections add --grid`.

    Examples:
      blemish inspections module module.png --model cells.onnx --grid 6x10 --normal functional

      blemish inspections module module.png --model cells.onnx --output sheet/
    """
    from blemish.imaging import open_image
    from blemish.inference import load
    from blemish.inspections.module_sheet import cut_cells, inspect_module
    from blemish.model_file import write_atomically

    if output is not None and output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise BadInput(f"{output}: expected a new or empty folder", reason="output-not-empty")
    opened = open_image(image)
    predictor = load(model, backend=backend, threads=threads)
    sheet = inspect_module(
        opened,
        predictor,
        parse_grid_option(grid),
        corners=parse_corners(corners),
        normal_labels=normal or (),
    )
    values = {"path": image.as_posix(), "model": model.name, **sheet.to_dict()}
    if output is not None:
        from blemish.data.synthetic import save_image
        from blemish.inspections.module_image import draw_sheet
        from blemish.inspections.module_pdf import write_sheet_pdf

        (output / "cells").mkdir(parents=True)
        for cell, cut in zip(sheet.cells, cut_cells(opened, sheet.grid), strict=True):
            save_image(cut, output / "cells" / f"{cell.name}.png")
        drawn = draw_sheet(opened, sheet)
        drawn.save(output / "sheet.png")
        write_atomically(output / "sheet.json", json_document(values, indent=2).encode())
        write_atomically(output / "sheet.pdf", write_sheet_pdf(drawn, sheet, image.name, model.name))
    if as_json:
        print_json(values, indent=2)
        return
    print_sheet(sheet)


def parse_grid_option(text: str | None) -> tuple[int, int] | None:
    """Return rows and columns of `--grid`; None if it is missing, or "auto"."""
    from blemish.inspections.module_grid import parse_grid

    return None if text is None or text == AUTO else parse_grid(text)


def parse_corners(text: str | None) -> np.ndarray | None:
    """Return the (4, 2) points of `--corners`, or None."""
    if text is None:
        return None
    import numpy as np

    try:
        return np.array([float(value) for value in text.split(",")]).reshape(4, 2)
    except ValueError as error:
        raise BadInput(f"--corners: expected eight numbers, got {text!r}", reason="corners") from error


def print_sheet(sheet: ModuleSheet) -> None:
    """Print the decisions: one character for each cell, then a line for each damaged cell."""
    from blemish.inspections.module_image import cell_text

    values = sheet.to_dict()
    grid = sheet.grid
    typer.echo(f"{grid.rows} rows x {grid.columns} columns, {grid.support:.0%} of the cell edges agree")
    for row in range(grid.rows):
        cells = sheet.cells[row * grid.columns : (row + 1) * grid.columns]
        typer.echo("  " + " ".join("?" if c.error else "#" if c.labels else "." for c in cells))
    for cell in sheet.cells:
        if cell.labels or cell.error:
            typer.echo(f"{cell.name:7} {cell_text(cell)}, inactive {cell.inactive_share:.0%}")
    typer.echo(
        f"damaged: {values['damaged_cells']} of {len(sheet.cells)} cells; inactive area "
        f"{values['inactive_area_share']:.1%}; worst cell: {values['worst_cell'] or 'none'}"
    )
