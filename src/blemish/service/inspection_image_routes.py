"""The images of inspections below `/api/v1`: upload, view, file, and small copies for pages."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from blemish.imaging import Limits
from blemish.inspections.image_preview import encode_preview
from blemish.inspections.records import to_dicts
from blemish.service.inference_service import InferenceService
from blemish.service.inspection_requests import ImageChange, InspectionRequests, expected_version, json_answer
from blemish.service.uploads import read_form

_MEDIA = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "TIFF": "image/tiff",
          "BMP": "image/bmp", "AVIF": "image/avif"}  # fmt: skip
_CACHED = {"Cache-Control": "private, max-age=86400, immutable"}  # the file of an image never changes
MaxSide = Annotated[
    int | None,
    Query(ge=32, le=8192, description="Return an upright JPEG whose sides are at most this long, in pixels."),
]


def add_image_routes(router: APIRouter, requests: InspectionRequests, service: InferenceService) -> None:
    """Add the routes of images."""
    limits = Limits(max_pixels=service.settings.max_pixels, max_bytes=service.settings.max_upload_bytes)

    @router.get("/inspections/{inspection_id}/images")
    def list_images(request: Request, inspection_id: str) -> Response:
        store = requests.store(request, "read")
        return requests.answer(
            lambda: json_answer(
                {"items": to_dicts(store.images.of_inspection(inspection_id)), "next_cursor": None}
            )
        )

    @router.post("/inspections/{inspection_id}/images", status_code=201)
    async def add_image(request: Request, inspection_id: str) -> Response:
        store = requests.store(request, "write")
        form = await read_form(
            request.headers,
            request.stream(),
            service.settings,
            service.upload_memory,
            fields=("view", "file_name"),
        )
        try:
            view, file_name = (form.fields.get(name, "") for name in ("view", "file_name"))
            return await asyncio.to_thread(
                requests.create,
                request,
                store,
                b"\n".join([view.encode(), file_name.encode(), form.images[0]]),
                lambda: store.images.add(
                    inspection_id, form.images[0], file_name=file_name, view=view, limits=limits
                ).to_dict(),
            )
        finally:
            service.upload_memory.release(form.size_bytes)

    @router.get("/images/{image_id}")
    def read_image(request: Request, image_id: str) -> Response:
        store = requests.store(request, "read")
        return requests.answer(lambda: json_answer(store.images.get(image_id).to_dict()))

    @router.patch("/images/{image_id}")
    def change_image(request: Request, image_id: str, body: ImageChange) -> Response:
        store = requests.store(request, "write")

        def work() -> Response:
            version = expected_version(request)
            return json_answer(store.images.set_view(image_id, body.view, version=version).to_dict())

        return requests.answer(work)

    @router.get("/images/{image_id}/content")
    def read_image_content(request: Request, image_id: str, max_side: MaxSide = None) -> Response:
        store = requests.store(request, "read")

        def work() -> Response:
            image = store.images.get(image_id)
            data = store.images.content(image_id)
            if max_side is not None:
                preview = encode_preview(data, max_side, limits)
                return Response(preview, media_type="image/jpeg", headers=_CACHED)
            media_type = _MEDIA.get(image.format, "application/octet-stream")
            return Response(data, media_type=media_type, headers=_CACHED)

        return requests.answer(work)
