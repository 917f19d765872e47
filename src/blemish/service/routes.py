"""The routes below `/api/v1`, and `/metrics`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from blemish.abstention import Policy
from blemish.imaging.image_formats import FORMATS
from blemish.service import schemas, service_metrics
from blemish.service.decisions import check_rule, requested_rule
from blemish.service.declared_parameters import declared_names
from blemish.service.disconnect import cancel_on_disconnect
from blemish.service.inference_service import (
    InferenceRequest,
    InferenceService,
    Reservation,
    not_ready_problem,
)
from blemish.service.middleware import get_client, get_request_id
from blemish.service.model_reload import ModelReloader, check_may_reload
from blemish.service.problem_details import CATALOG, MEDIA_TYPE, Problem, internal_problem
from blemish.service.serializers import SCHEMA_VERSION
from blemish.service.served_model import ServedModel
from blemish.service.uploads import MultipartForm, read_form

ModelName = Annotated[
    str | None,
    Query(description="A name from /api/v1/models; default: the first model.", max_length=100),
]
Explain = Annotated[
    Literal["none", "heatmap"], Query(description="`heatmap` adds a heatmap of the model that answers.")
]
HeatmapLabel = Annotated[
    str | None,
    Query(description="The label that the heatmap explains; default: the highest score.", max_length=200),
]
MinScore = Annotated[
    float | None,
    Query(
        ge=0, le=1, description="Detections with a lower score are left out; default: min_score_available."
    ),
]
Rule = Annotated[Policy | None, Depends(requested_rule)]
Stream = Annotated[bool, Query(description="Answer with one JSON line for each stage.")]


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the refusals of a route with these statuses, for the OpenAPI document."""
    return {
        status: {
            "description": "One of "
            + ", ".join(code for code, (s, _) in CATALOG.items() if s == status)
            + ".",
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        for status in statuses
    }


_STUCK_SECONDS = 60.0  # a health check is answered by a thread of its own, so it asks for the others
_PREDICT_PROBLEMS = problem_responses(400, 401, 404, 408, 413, 415, 422, 429, 500, 503, 504)


def image_form_schema(
    *, several: bool = False, fields: Mapping[str, dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Return the request body of a route that accepts images, for the OpenAPI document.

    Args:
        several: whether the route accepts more than one image.
        fields: the schema of each other field that the route reads.
    """
    one = {"type": "string", "format": "binary"}
    field = {"type": "array", "items": one, "minItems": 1} if several else one
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {"image": field, "file": field, **(fields or {})},
                        "anyOf": [{"required": ["image"]}, {"required": ["file"]}],
                        "additionalProperties": False,
                        "description": "The image, in the field `image` or `file`.",
                    }
                }
            },
        }
    }


def api_router(service: InferenceService, reloader: ModelReloader, *, inspections: bool = False) -> APIRouter:
    """Return the routes below `/api/v1`; `inspections`: whether there is a store."""
    router = APIRouter(prefix="/api/v1")
    _add_status_routes(router, service, inspections=inspections)
    _add_model_routes(router, service, reloader)
    _add_predict_route(router, service)
    _add_batch_route(router, service)
    _add_artifact_route(router, service)
    return router


def _add_status_routes(router: APIRouter, service: InferenceService, *, inspections: bool) -> None:
    @router.get(
        "/health/live", tags=["health"], response_model=schemas.Live, responses=problem_responses(503)
    )
    async def live() -> Response:
        """Return 200 while the process answers requests."""
        seen_at = service.loop_seen_at
        if seen_at is not None and time.monotonic() - seen_at > _STUCK_SECONDS:
            raise Problem(
                "not-live",
                f"The server has handled no request for {_STUCK_SECONDS:g} seconds. Restart it.",
            )
        return _json_response({"status": "live"})

    @router.get(
        "/health/ready", tags=["health"], response_model=schemas.Ready, responses=problem_responses(503)
    )
    async def ready() -> Response:
        """Return 200 once every model has answered a warm-up image, and images can be stored if required."""
        if service.draining:
            raise Problem("draining", "The server is stopping.", retry_after_seconds=5)
        for model in service.models.values():
            if not model.ready:
                raise not_ready_problem(model)
        if service.settings.ready_requires_store and service.retention.failing:
            raise Problem(
                "not-ready.store",
                "Images and answers cannot be stored; the server's log has the cause.",
                retry_after_seconds=30,
            )
        return _json_response({"status": "ready", "models": dict.fromkeys(service.models, "ready")})

    @router.get("/limits", tags=["models"], response_model=schemas.Limits, responses=problem_responses(401))
    async def limits() -> Response:
        """Return the limits of this server: sizes, numbers and times."""
        settings = service.settings
        return _json_response(
            {
                "max_upload_bytes": settings.max_upload_bytes,
                "max_pixels": settings.max_pixels,
                "max_images": settings.max_images,
                "queue_size": settings.queue_size,
                "deadline_seconds": settings.deadline_seconds,
                "read_timeout_seconds": settings.read_timeout_seconds,
                "heatmap_seconds": settings.heatmap_seconds,
                "link_seconds": settings.link_seconds,
                "max_linked_pixels": settings.max_linked_pixels,
                "retention_hours": settings.retention_hours,
                "inspections": inspections,
                "formats": list(FORMATS),
            }
        )


def _add_model_routes(router: APIRouter, service: InferenceService, reloader: ModelReloader) -> None:
    @router.get(
        "/models", tags=["models"], response_model=schemas.ModelList, responses=problem_responses(401)
    )
    async def models() -> Response:
        """Return the descriptions of every model, the default one first."""
        described = [service.describe(model) for model in service.models.values()]
        return _json_response({"default": next(iter(service.models)), "models": described})

    @router.get(
        "/models/{name}",
        tags=["models"],
        response_model=schemas.ModelInfo,
        responses=problem_responses(401, 404, 422),
    )
    async def model(name: Annotated[str, Path(max_length=100)]) -> Response:
        """Return the description of one model: task, labels, thresholds, metrics and parity certificate."""
        served = service.models.get(name)
        if served is None:
            raise service.unknown_model_problem()
        return _json_response(service.describe(served))

    @router.post(
        "/models/{name}/reload",
        tags=["models"],
        response_model=schemas.ModelInfo,
        responses=problem_responses(401, 403, 404, 409, 422, 500),
    )
    async def reload(request: Request, name: Annotated[str, Path(max_length=100)]) -> Response:
        """Load the model's file again if it has changed; a file that cannot be served leaves the old one."""
        check_may_reload(get_client(request.scope))
        return _json_response(service.describe(await reloader.reload(name)))


def _add_predict_route(router: APIRouter, service: InferenceService) -> None:
    @router.post(
        "/predict",
        tags=["predict"],
        response_model=schemas.PredictionResponse,
        openapi_extra=image_form_schema(),
        responses={
            **_PREDICT_PROBLEMS,
            200: {
                "description": "The answer; with `stream=true` one line for each stage, the answer last.",
                "content": {
                    "application/x-ndjson": {"schema": {"$ref": "#/components/schemas/StageLine"}},
                },
            },
        },
    )
    async def predict(
        request: Request,
        rule: Rule,
        model: ModelName = None,
        explain: Explain = "none",
        label: HeatmapLabel = None,
        min_score: MinScore = None,
        stream: Stream = False,
    ) -> Response:
        """Run a model on one image."""
        served = service.get_model(model)
        _check_label(served, label)
        rule = check_rule(served.model_file.contract, served.name, rule, service.settings.risk)
        served.queue.check()
        began = time.perf_counter()
        form = await _read_form(request, service)
        try:
            served = service.enter(served.name)
        except Problem:
            service.upload_memory.release(form.size_bytes)
            raise

        reservation = Reservation(service, served, form.size_bytes)
        inference_request = InferenceRequest(
            image=form.images[0],
            model=served,
            request_id=get_request_id(request.scope),
            upload_seconds=time.perf_counter() - began,
            explain=explain == "heatmap",
            label=label,
            min_score=min_score,
            rule=rule,
            client=get_client(request.scope),
            on_predicted=reservation.release,
        )
        if stream:
            # The task is created before the response, so that its end is seen even if the client disconnects.
            lines: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
            task = asyncio.create_task(_write_stages(service, inference_request, lines))
            task.add_done_callback(lambda _: reservation.release())
            # Without this header some proxies hold the lines back until the last one.
            headers = {"X-Accel-Buffering": "no"}
            return StreamingResponse(
                _read_lines(task, lines), media_type="application/x-ndjson", headers=headers
            )
        try:
            result = await cancel_on_disconnect(request, service.infer(inference_request))
            return JSONResponse(result.body)
        finally:
            reservation.release()


def _add_batch_route(router: APIRouter, service: InferenceService) -> None:
    @router.post(
        "/predict:batch",
        tags=["predict"],
        response_model=schemas.BatchResponse,
        openapi_extra=image_form_schema(several=True),
        responses=_PREDICT_PROBLEMS,
    )
    async def predict_batch(
        request: Request,
        rule: Rule,
        model: ModelName = None,
        explain: Explain = "none",
        label: HeatmapLabel = None,
        min_score: MinScore = None,
    ) -> Response:
        """Run a model on several images; each has a result or a problem."""
        served = service.get_model(model)
        _check_label(served, label)
        rule = check_rule(served.model_file.contract, served.name, rule, service.settings.risk)
        served.queue.check()
        began = time.perf_counter()
        form = await _read_form(request, service, max_images=service.settings.max_images)
        upload_seconds = time.perf_counter() - began
        request_id = get_request_id(request.scope)
        try:
            served = service.enter(served.name, len(form.images))
        except Problem:
            service.upload_memory.release(form.size_bytes)
            raise
        reservations = [Reservation(service, served, len(image)) for image in form.images]
        try:
            requests = [
                InferenceRequest(
                    image=image,
                    model=served,
                    request_id=request_id,
                    upload_seconds=upload_seconds,
                    explain=explain == "heatmap",
                    label=label,
                    min_score=min_score,
                    rule=rule,
                    client=get_client(request.scope),
                    on_predicted=reservation.release,
                )
                for image, reservation in zip(form.images, reservations, strict=True)
            ]
            items = await cancel_on_disconnect(request, _batch_items(service, requests))
        finally:
            for reservation in reservations:
                reservation.release()
        return _json_response({"request_id": request_id, "items": items})


def _add_artifact_route(router: APIRouter, service: InferenceService) -> None:
    @router.get(
        "/artifacts/{token}",
        tags=["predict"],
        response_class=Response,
        responses={
            200: {
                "description": "The image.",
                "content": {
                    media_type: {"schema": {"type": "string", "format": "binary"}}
                    for media_type in ("image/png", "image/jpeg")
                },
            },
            **problem_responses(401, 404, 422, 429, 500, 504),
        },
    )
    async def artifact(request: Request, token: Annotated[str, Path(max_length=100)]) -> Response:
        """Return the image behind a link of an answer."""
        return await artifact_response(service, request, token)


def metrics_router(service: InferenceService) -> APIRouter:
    """Return the route `/metrics`, which Prometheus reads."""
    router = APIRouter()

    @router.get(
        "/metrics",
        tags=["health"],
        response_class=Response,
        responses={
            200: {
                "description": "Prometheus text.",
                "content": {"text/plain": {"schema": {"type": "string"}}},
            },
            **problem_responses(401),
        },
    )
    async def metrics() -> Response:
        """Return the metrics in the Prometheus text format."""
        return Response(service.metrics.text(), headers={"Content-Type": service_metrics.MEDIA_TYPE})

    return router


async def artifact_response(service: InferenceService, request: Request, token: str) -> Response:
    """Return the image behind a link; the rendering stops when the client disconnects.

    Raises:
        Problem: see `InferenceService.render_linked_image`.
    """
    await request.body()  # empty: so that the next message is that the client has disconnected
    work = service.render_linked_image(token, get_client(request.scope), service.settings.links_require_key)
    data, media_type = await cancel_on_disconnect(request, work)
    return Response(data, media_type=media_type, headers={"Content-Disposition": "inline"})


def _json_response(body: dict[str, Any]) -> JSONResponse:
    return JSONResponse({"schema_version": SCHEMA_VERSION, **body})


async def _read_form(request: Request, service: InferenceService, *, max_images: int = 1) -> MultipartForm:
    return await read_form(
        request.headers,
        request.stream(),
        service.settings,
        service.upload_memory,
        max_images=max_images,
        query_names=declared_names(request),
    )


def _check_label(model: ServedModel, label: str | None) -> None:
    labels = model.model_file.contract.to_labels()
    if label is not None and label not in labels:
        known = ", ".join(labels.names[:12])
        raise Problem("bad-parameter", f"The model has no label of that name. Its labels are: {known}.")


async def _batch_items(service: InferenceService, requests: list[InferenceRequest]) -> list[dict[str, Any]]:
    return await asyncio.gather(*(_batch_item(service, i, request) for i, request in enumerate(requests)))


async def _batch_item(service: InferenceService, index: int, request: InferenceRequest) -> dict[str, Any]:
    try:
        result = await service.infer(request)
    except Problem as problem:
        document = problem.to_dict(request.request_id)
        return {"index": index, "status": problem.status, "result": None, "problem": document}
    return {"index": index, "status": 200, "result": result.body, "problem": None}


async def _write_stages(
    service: InferenceService, request: InferenceRequest, lines: asyncio.Queue[dict[str, Any] | None]
) -> None:
    """Put one line for each stage into `lines`, then the answer or the problem, then None."""
    began = time.perf_counter() - request.upload_seconds

    def write(stage: str, details: dict[str, Any]) -> None:
        elapsed = round((time.perf_counter() - began) * 1000, 3)
        lines.put_nowait({"stage": stage, "elapsed_ms": elapsed, **details})

    try:
        write("done", {"result": (await service.infer(request, write)).body})
    except Problem as problem:
        write("failed", {"problem": problem.to_dict(request.request_id)})
    except Exception:
        service.log_exception(request.request_id)
        write("failed", {"problem": internal_problem().to_dict(request.request_id)})
    finally:
        lines.put_nowait(None)


async def _read_lines(
    task: asyncio.Task[None], lines: asyncio.Queue[dict[str, Any] | None]
) -> AsyncIterator[bytes]:
    try:
        while (line := await lines.get()) is not None:
            yield json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    finally:
        task.cancel()  # if the client has disconnected, the rest is not needed
