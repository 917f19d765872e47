"""Synthetic images with ground truth, so that tests and examples need no download.

`cells`, `modules`, `panels` and `vehicles` generate specimens in memory; `write_cells` and so on write them
as data sets. The same seed gives the same pixels.
"""

from blemish.data.synthetic.cells import CELL_LABELS, cells
from blemish.data.synthetic.modules import ModuleSpecimen, modules
from blemish.data.synthetic.panels import PANEL_LABELS, panels
from blemish.data.synthetic.specimen import Flaw, Specimen
from blemish.data.synthetic.specimen_writer import (
    LAYOUTS,
    save_image,
    write_cells,
    write_modules,
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
    "ModuleSpecimen",
    "Specimen",
    "cells",
    "modules",
    "panels",
    "save_image",
    "vehicles",
    "write_cells",
    "write_modules",
    "write_panels",
    "write_specimens",
    "write_vehicles",
]
