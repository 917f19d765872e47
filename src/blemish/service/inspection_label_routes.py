"""What a client may choose from, and the reviewed labels of an inspection as a ZIP file."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from blemish.data.formats import FORMATS
from blemish.inspections import tables
from blemish.inspections.label_export import export_labels
from blemish.inspections.severity import builtin_rules
from blemish.service.inspection_requests import InspectionRequests, json_answer

FormatName = Annotated[str, Query(alias="format", max_length=40, description="A format of data sets.")]
TaskName = Annotated[str | None, Query(max_length=40, description="The task of the data set.")]


def add_label_routes(router: APIRouter, requests: InspectionRequests) -> None:
    """Add the routes of settings and labels."""

    @router.get("/inspection-settings")
    def read_inspection_settings(request: Request) -> Response:
        requests.store(request, "read")
        formats = sorted(name for name, entry in FORMATS.items() if entry.is_writable)
        fields = {
            **requests.user_fields(request),
            "asset_kinds": list(tables.ASSET_KINDS),
            "phases": list(tables.PHASES),
            "severities": list(builtin_rules()),
            "label_formats": formats,
        }
        return json_answer(fields)

    @router.get("/inspections/{inspection_id}/labels")
    def read_labels(
        request: Request, inspection_id: str, format_name: FormatName = "coco", task: TaskName = None
    ) -> Response:
        store = requests.store(request, "read")
        folder = Path(tempfile.mkdtemp(prefix="blemish-labels-"))

        def work() -> Response:
            _, left_out = export_labels(store, [inspection_id], folder / "labels", format_name, task=task)
            archive = shutil.make_archive(str(folder / "archive"), "zip", folder / "labels")
            return FileResponse(
                archive,
                media_type="application/zip",
                filename=f"labels-{inspection_id}-{format_name}.zip",
                headers={"X-Images-Left-Out": str(sum(left_out.values()))},
                background=BackgroundTask(shutil.rmtree, folder, ignore_errors=True),
            )

        try:
            return requests.answer(work)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
