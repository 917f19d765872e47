"""Synthetic images with ground truth, so that tests and examples need no download.

`cells`, `panels` and `vehicles` generate specimens in memory; `write_cells`, `write_panels` and
`write_vehicles` write them as data sets. The same seed gives the same pixels.
"""

from blemish.data.synthetic.cells import CELL_LABELS, cells
from blemish.data.synthetic.panels import PANEL_LABELS, panels
from blemish.data.synthetic.specimen import Flaw, Specimen
from blemish.data.synthetic.specimen_writer import (
    LAYOUTS,
    save_image,
    write_cells,
    write_panels,
    write_specimens,
    write_vehicles,
)
from blemish.data.synthetic.vehicles import VEHICLE_LABELS, vehicles

__all__ = [
    "CELL_LABELS",
    "LAYOUTS",
    "PANEL_LABELS",
    "VEHICLE_LABELS",
    "Flaw",
    "Specimen",
    "cells",
    "panels",
    "save_image",
    "vehicles",
    "write_cells",
    "write_panels",
    "write_specimens",
    "write_vehicles",
]
