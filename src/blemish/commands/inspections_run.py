"""The run of a model in `blemish inspections add`, checked before an image is stored."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from blemish.commands.inspections_module import parse_corners, parse_grid_option
from blemish.errors import BadInput

if TYPE_CHECKING:
    from blemish.inspections.records import PredictionRun
    from blemish.inspections.store import InspectionStore

    # Takes an inspection, and returns the run and why an image was left out, by image id.
    ModelRun = Callable[[InspectionStore, str], tuple[PredictionRun, dict[str, BadInput]]]


def prepare_run(
    model: Path | None,
    *,
    parts: Path | None,
    min_score: float | None,
    normal: Sequence[str],
    mm_per_pixel: float | None,
    mm_error: float,
    grid: str | None,
    corners: str | None,
    backend: str,
    threads: int | None,
) -> ModelRun | None:
    """Return a function that runs the model on the new images of an inspection; None without a model.

    The options and the model files are checked here, so that a mistake stores nothing.

    Raises:
        BadInput: the options contradict each other ("bad-input.option"), or one cannot be read.
        BlemishError: a model file cannot be used, or is of the wrong task.
    """
    other = parts or min_score is not None or mm_per_pixel is not None
    if corners is not None and grid is None:
        raise BadInput("--corners needs --grid", reason="option")
    if grid is not None and other:
        raise BadInput("--grid: --parts, --min-score and --mm-per-pixel judge no cells", reason="option")
    if model is None:
        if other or normal or grid is not None:
            options = "--parts, --normal, --grid, --min-score and --mm-per-pixel"
            raise BadInput(f"{options} need --model", reason="option")
        return None

    from blemish.inference import load
    from blemish.inspections.inspector import check_models, inspect_images
    from blemish.inspections.measurement import ImageScale
    from blemish.inspections.module_inspector import inspect_modules
    from blemish.inspections.module_sheet import check_cell_model

    if grid is not None:
        cells, points = parse_grid_option(grid), parse_corners(corners)
        predictor = load(model, backend=backend, threads=threads)
        check_cell_model(predictor, normal)
        return lambda store, inspection_id: inspect_modules(
            store,
            inspection_id,
            predictor,
            model_name=model.name,
            grid=cells,
            corners=points,
            normal_labels=normal,
        )
    scale = None if mm_per_pixel is None else ImageScale(mm_per_pixel, mm_error)
    predictor = load(model, backend=backend, threads=threads)
    parts_predictor = None if parts is None else load(parts, backend=backend, threads=threads)
    check_models(predictor, parts_predictor, normal)

    def run_on_images(
        store: InspectionStore, inspection_id: str
    ) -> tuple[PredictionRun, dict[str, BadInput]]:
        run = inspect_images(
            store,
            inspection_id,
            predictor,
            model_name=model.name,
            parts=parts_predictor,
            min_score=min_score,
            normal_labels=normal,
            scale=scale,
        )
        return run, {}

    return run_on_images
