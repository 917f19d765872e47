"""Solar modules: run a model over their cells, and read the sheets."""

from __future__ import annotations

import io
from typing import Any

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from blemish.errors import UnknownName
from blemish.inspections.module_grid import parse_grid
from blemish.inspections.module_image import draw_sheet
from blemish.inspections.module_inspector import inspect_modules, module_sheets
from blemish.service.inference_service import InferenceService
from blemish.service.inspection_requests import Body, InspectionRequests, json_answer


class ModuleRunBody(Body):
    """A run of a served model over the cells of the modules that it has not seen."""

    model: str | None = None
    grid: str | None = Field(default=None, max_length=20, description="Such as 6x10; null counts the cells.")
    normal_labels: list[str] = Field(default_factory=list, max_length=1000)


def add_module_routes(router: APIRouter, requests: InspectionRequests, service: InferenceService) -> None:
    """Add the routes of solar modules."""

    @router.post("/inspections/{inspection_id}/module-runs", status_code=201)
    def run_model_on_cells(request: Request, inspection_id: str, body: ModuleRunBody) -> Response:
        store = requests.store(request, "write")
        model = service.get_model(body.model)

        def work() -> dict[str, Any]:
            run, left_out = inspect_modules(
                store,
                inspection_id,
                model.loaded,
                model_name=model.name,
                grid=None if body.grid is None else parse_grid(body.grid),
                normal_labels=body.normal_labels,
            )
            reasons = [
                {"image_id": image_id, "code": error.code, "detail": str(error)}
                for image_id, error in left_out.items()
            ]
            return {**run.to_dict(), "left_out": reasons}

        return requests.perform(request, work)

    @router.get("/inspections/{inspection_id}/modules")
    def list_module_sheets(request: Request, inspection_id: str) -> Response:
        store = requests.store(request, "read")

        def work() -> Response:
            items = [
                {"image_id": image_id, "run_id": run.id, "model_name": run.model_name, **sheet.to_dict()}
                for image_id, (run, sheet) in module_sheets(store, inspection_id).items()
            ]
            return json_answer({"items": items, "next_cursor": None})

        return requests.answer(work)

    @router.get("/images/{image_id}/module-sheet")
    def read_module_sheet(request: Request, image_id: str) -> Response:
        store = requests.store(request, "read")

        def work() -> Response:
            image = store.images.get(image_id)
            sheets = module_sheets(store, image.inspection_id)
            if image_id not in sheets:
                raise UnknownName("image", image_id, sheets, where="images with a module sheet")
            buffer = io.BytesIO()
            draw_sheet(store.images.open(image), sheets[image_id][1]).save(buffer, "PNG", compress_level=3)
            return Response(buffer.getvalue(), media_type="image/png")

        return requests.answer(work)
