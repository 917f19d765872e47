"""Judge the cells of the modules of an inspection, and store the sheets and the findings."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import numpy as np

from blemish.arrays import FloatArray
from blemish.errors import BadInput
from blemish.inspections.finding_records import NewFinding
from blemish.inspections.inspector import describe_run, merge_inspection, unseen_images
from blemish.inspections.module_sheet import CellDecision, ModuleSheet, check_cell_model, inspect_module
from blemish.inspections.records import InspectionImage, PredictionRun
from blemish.inspections.store import InspectionStore

if TYPE_CHECKING:
    from blemish.inference import Predictor


def inspect_modules(
    store: InspectionStore,
    inspection_id: str,
    predictor: Predictor,
    *,
    model_name: str = "",
    grid: tuple[int, int] | None = None,
    corners: FloatArray | None = None,
    normal_labels: Collection[str] = (),
) -> tuple[PredictionRun, dict[str, BadInput]]:
    """Judge the cells in the images of modules that a model has not seen, and store sheets and findings.

    Each damage label of a cell becomes a finding on the part that is named after the cell, such as "R2C5", so
    that it is recognized in further images of the same view, and in later inspections. The sheet is stored
    with the run, see `module_sheets`.

    Args:
        store: the store.
        inspection_id: the inspection.
        predictor: of a model file for cells.
        model_name: name of its file.
        grid: rows and columns of all these modules. Default: they are counted in each image.
        corners: see `find_grid`; of the only new image.
        normal_labels: labels that are no damage, such as "functional".

    Returns:
        The run, and why an image was left out by image id: no grid was found in it. It counts as not
        inspected, and a further run may give its grid.

    Raises:
        BadInput: no image is new ("bad-input.nothing-to-inspect"), corners were given for several images
            ("bad-input.corners"), or every image was left out (the error of the first).
        WrongTask: see `inspect_module`.
        UnknownName: see `inspect_module`.
    """
    check_cell_model(predictor, normal_labels)
    images = unseen_images(store, inspection_id, predictor)
    if corners is not None and len(images) > 1:
        raise BadInput(f"corners: expected one new image, got {len(images)}", reason="corners")
    entries: list[dict[str, Any]] = []
    found: list[NewFinding] = []
    refused: dict[str, BadInput] = {}
    for image in images:
        try:
            loaded = store.images.open(image)
            sheet = inspect_module(loaded, predictor, grid, corners=corners, normal_labels=normal_labels)
        except BadInput as error:
            refused[image.id] = error
            continue
        entries.append({"image_id": image.id, "error": None, "warning": "", "module": sheet.to_dict()})
        found += [finding for cell in sheet.cells for finding in _findings_of(image, cell)]
    if not entries:
        raise next(iter(refused.values()))
    settings = {"min_score": None, "grid": "counted" if grid is None else f"{grid[0]}x{grid[1]}"}
    run = describe_run(predictor, model_name, normal_labels, settings, entries)
    stored = store.findings.add_run(inspection_id, run, found)
    merge_inspection(store, inspection_id)
    return stored, refused


def _findings_of(image: InspectionImage, cell: CellDecision) -> list[NewFinding]:
    quad = np.clip(np.array(cell.quad), 0, [image.width, image.height])
    return [
        NewFinding(
            image_id=image.id,
            label=label,
            score=score,
            polygons=[quad.tolist()],
            part=cell.name,
            measures={"inactive_share": cell.inactive_share},
        )
        for label, score in cell.labels
    ]


def module_sheets(store: InspectionStore, inspection_id: str) -> dict[str, tuple[PredictionRun, ModuleSheet]]:
    """Return the newest sheet of each image of a module, with its run, by image id."""
    return {
        entry["image_id"]: (run, ModuleSheet.from_dict(entry["module"]))
        for run in store.findings.runs(inspection_id)
        for entry in run.images
        if "module" in entry
    }
