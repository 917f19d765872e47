"""Believable data, drawn from a seed: the tests and the examples need no download.

`cells`, `panels` and `vehicles` draw in memory; `write_cells`, `write_panels` and `write_vehicles` write
ordinary data sets.
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
