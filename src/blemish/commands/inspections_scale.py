"""`blemish inspections scale`: the size of a pixel from a checkerboard."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from blemish.commands.data_options import JsonOption
from blemish.commands.json_output import print_json


def scale(
    image: Annotated[
        Path, typer.Argument(metavar="IMAGE", help="Image with a checkerboard.", show_default=False)
    ],
    field: Annotated[
        float, typer.Option(metavar="MM", help="Side of a field, in millimeters.", show_default=False)
    ],
    as_json: JsonOption = False,
) -> None:
    """Measure the size of a pixel on the surface by a checkerboard on it.

    The error is that of the corners and of the change of the scale over the board. Needs the extra measure.

    Example:
      blemish inspections scale board.jpg --field 10
    """
    from blemish.imaging import open_image
    from blemish.inspections.checkerboard import find_checkerboard

    board = find_checkerboard(open_image(image))
    found = board.scale(field)
    fields = {"mm_per_pixel": found.mm_per_pixel, "relative_error": found.relative_error, **board.to_dict()}
    if as_json:
        print_json({"path": image.as_posix(), **fields}, indent=2)
        return
    typer.echo(f"{fields['columns']} x {fields['rows']} corners, residual {board.residual:.2f} pixels")
    typer.echo(f"--mm-per-pixel {found.mm_per_pixel:.6g} --mm-error {found.relative_error:.4f}")
