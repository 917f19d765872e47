"""The routes below `/api/v1`."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from blemish.imaging.image_formats import FORMATS
from blemish.service import schemas, service_metrics
from blemish.service.inference_service import (
    InferenceRequest,
    InferenceResult,
    InferenceService,
    not_ready,
    unless_gone,
)
from blemish.service.middleware import request_id_of
from blemish.service.problem_details import CATALOGUE, MEDIA_TYPE, Problem, internal
from blemish.service.rendering import paint
from blemish.service.served_model import ServedModel
from blemish.service.uploads import read_form

ModelName = Annotated[
    str | None,
    Query(description="A name from /api/v1/models; the first one where not given.", max_length=100),
]
Explain = Annotated[Literal["none", "map"], Query(description="`map` adds a heat map of the model's own.")]
MapLabel = Annotated[
    str | None, Query(description="The label that the map is about; else the best.", max_length=200)
]
MinScore = Annotated[
    float | None, Query(ge=0, le=1, description="Objects below it are left out; else the file's floor.")
]
Stream = Annotated[bool, Query(description="Answer in lines of JSON, one a stage.")]


def refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What a route may refuse with, for the OpenAPI document."""
    return {
        status: {
            "description": "One of "
            + ", ".join(code for code, (s, _) in CATALOGUE.items() if s == status)
            + ".",
            "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDocument"}}},
        }
        for status in statuses
    }


_ANSWERING = refusals(400, 401, 404, 408, 413, 415, 422, 429, 500, 503, 504)


def form_schema(*, several: bool = False) -> dict[str, Any]:
    """The request body of a route that takes images, for the OpenAPI document."""
    one = {"type": "string", "format": "binary"}
    field = {"type": "array", "items": one, "minItems": 1} if several else one
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {
                        "type": "object",
                        "properties": {"image": field, "file": field},
                        "anyOf": [{"required": ["image"]}, {"required": ["file"]}],
                        "description": "The photograph stands in `image` or in `file`.",
                    }
                }
            },
        }
    }


def build(desk: InferenceService) -> APIRouter:
    """The routes, answered at `desk`."""
    router = APIRouter(prefix="/api/v1")

    @router.get("/health/live", tags=["health"], response_model=schemas.Live)
    async def live() -> Response:
        """Answer while the process runs."""
        return JSONResponse({"status": "live"})

    @router.get("/health/ready", tags=["health"], response_model=schemas.Ready, responses=refusals(503))
    async def ready() -> Response:
        """Answer 200 once every model has answered a warm-up image."""
        if desk.draining:
            raise Problem("draining", "The server is stopping.", retry_after_seconds=5)
        for served in desk.models.values():
            if not served.ready:
                raise not_ready(served)
        return JSONResponse({"status": "ready", "models": dict.fromkeys(desk.models, "ready")})

    @router.get("/limits", tags=["models"], response_model=schemas.Limits, responses=refusals(401))
    async def limits() -> Response:
        """Tell how large, how many and how long."""
        settings = desk.settings
        return JSONResponse(
            {
                "max_upload_bytes": settings.max_upload_bytes,
                "max_pixels": settings.max_pixels,
                "max_batch": settings.max_batch,
                "queue_size": settings.queue_size,
                "deadline_seconds": settings.deadline_seconds,
                "read_timeout_seconds": settings.read_timeout_seconds,
                "link_seconds": settings.link_seconds,
                "kept_hours": settings.keep_hours,
                "formats": list(FORMATS),
            }
        )

    @router.get("/models", tags=["models"], response_model=schemas.ModelList, responses=refusals(401))
    async def models() -> Response:
        """List the models, the default one first."""
        described = [desk.describe(served) for served in desk.models.values()]
        return JSONResponse({"default": next(iter(desk.models)), "models": described})

    @router.get(
        "/models/{name}", tags=["models"], response_model=schemas.ModelInfo, responses=refusals(401, 404, 422)
    )
    async def model(name: Annotated[str, Path(max_length=100)]) -> Response:
        """Tell what a model can say, and what was promised of it."""
        served = desk.models.get(name)
        if served is None:
            raise Problem(
                "unknown_model", f"This server has no model of that name; it has {', '.join(desk.models)}."
            )
        return JSONResponse(desk.describe(served))

    @router.post(
        "/predict",
        tags=["predict"],
        response_model=schemas.PredictionResponse,
        openapi_extra=form_schema(),
        responses={
            **_ANSWERING,
            200: {
                "description": "The answer; with `stream=true`, a line a stage, the last with the answer.",
                "content": {
                    "application/x-ndjson": {"schema": {"$ref": "#/components/schemas/StageLine"}},
                },
            },
        },
    )
    async def predict(
        request: Request,
        model: ModelName = None,
        explain: Explain = "none",
        label: MapLabel = None,
        min_score: MinScore = None,
        stream: Stream = False,
    ) -> Response:
        """Look at one image."""
        served = desk.model(model)
        _check_label(served, label)
        served.gate.check()
        began = time.perf_counter()
        form = await read_form(request.headers, request.stream(), desk.settings, desk.budget)
        try:
            served.gate.enter()
        except Problem:
            desk.budget.give_back(form.held)
            raise

        def done() -> None:
            served.gate.leave()
            desk.budget.give_back(form.held)

        question = InferenceRequest(
            image=form.images[0],
            model=served,
            request_id=request_id_of(request.scope),
            reading_seconds=time.perf_counter() - began,
            explain=explain == "map",
            label=label,
            min_score=min_score,
        )
        if stream:
            # The task is made before the response, so that `done` runs whatever becomes of the client.
            lines: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
            task = asyncio.create_task(_tell(desk, question, lines))
            task.add_done_callback(lambda _: done())
            # Some proxies would gather the lines until the last one.
            headers = {"X-Accel-Buffering": "no"}
            return StreamingResponse(_lines(task, lines), media_type="application/x-ndjson", headers=headers)
        try:
            return JSONResponse((await unless_gone(request, desk.answer(question))).body)
        finally:
            done()

    @router.post(
        "/predict:batch",
        tags=["predict"],
        response_model=schemas.BatchResponse,
        openapi_extra=form_schema(several=True),
        responses=_ANSWERING,
    )
    async def predict_batch(
        request: Request,
        model: ModelName = None,
        explain: Explain = "none",
        label: MapLabel = None,
        min_score: MinScore = None,
    ) -> Response:
        """Look at several images; each has a result or a problem."""
        served = desk.model(model)
        _check_label(served, label)
        served.gate.check()
        began = time.perf_counter()
        form = await read_form(
            request.headers, request.stream(), desk.settings, desk.budget, most=desk.settings.max_batch
        )
        reading = time.perf_counter() - began
        request_id = request_id_of(request.scope)
        try:
            with served.gate.entered(len(form.images)):
                questions = [
                    InferenceRequest(
                        image=image,
                        model=served,
                        request_id=request_id,
                        reading_seconds=reading,
                        explain=explain == "map",
                        label=label,
                        min_score=min_score,
                    )
                    for image in form.images
                ]
                items = await unless_gone(request, _items(desk, questions))
        finally:
            desk.budget.give_back(form.held)
        return JSONResponse({"request_id": request_id, "items": items})

    @router.get(
        "/artifacts/{token}",
        tags=["predict"],
        response_class=Response,
        responses={
            200: {
                "description": "The picture.",
                "content": {
                    kind: {"schema": {"type": "string", "format": "binary"}}
                    for kind in ("image/png", "image/jpeg")
                },
            },
            **refusals(404, 422, 429, 500),
        },
    )
    async def artifact(token: Annotated[str, Path(max_length=100)]) -> Response:
        """Open a link of an answer."""
        return await show(desk, token)

    return router


def build_metrics(desk: InferenceService) -> APIRouter:
    """The route that Prometheus reads."""
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
            **refusals(401),
        },
    )
    async def metrics() -> Response:
        """Tell what was counted."""
        return Response(desk.telemetry.text(), media_type=service_metrics.MEDIA_TYPE)

    return router


async def show(desk: InferenceService, token: str) -> Response:
    """The picture behind a link.

    Raises:
        Problem: there is none, or not any more, or too many are being drawn.
    """
    found = desk.shelf.get(token)
    if found is None:
        raise Problem(
            "link_expired", "There is no such picture, or its link has expired; ask the model again."
        )
    record, kind = found
    loop = asyncio.get_running_loop()
    with desk.pictures.entered():
        began, waiting = time.perf_counter(), desk.pictures.inside
        data, media_type = await loop.run_in_executor(desk.painters, paint, record, kind, desk.settings)
        desk.pictures.learn((time.perf_counter() - began) / waiting)
    return Response(data, media_type=media_type, headers={"Content-Disposition": "inline"})


def _check_label(served: ServedModel, label: str | None) -> None:
    labels = served.model_file.contract.to_labels()
    if label is not None and label not in labels:
        raise Problem(
            "bad_parameter", f"The model has no label of that name; it has {', '.join(labels.names[:12])}."
        )


async def _items(desk: InferenceService, questions: list[InferenceRequest]) -> list[dict[str, Any]]:
    return await asyncio.gather(*(_item(desk, index, question) for index, question in enumerate(questions)))


async def _item(desk: InferenceService, index: int, question: InferenceRequest) -> dict[str, Any]:
    try:
        answered: InferenceResult = await desk.answer(question)
    except Problem as problem:
        document = problem.to_dict(question.request_id)
        return {"index": index, "status": problem.status, "result": None, "problem": document}
    return {"index": index, "status": 200, "result": answered.body, "problem": None}


async def _tell(
    desk: InferenceService, question: InferenceRequest, lines: asyncio.Queue[dict[str, Any] | None]
) -> None:
    """Put a line a stage into `lines`, then the last one, then None."""
    began = time.perf_counter() - question.reading_seconds

    def line(stage: str, more: dict[str, Any]) -> None:
        elapsed = round((time.perf_counter() - began) * 1000, 3)
        lines.put_nowait({"stage": stage, "elapsed_ms": elapsed, **more})

    try:
        line("done", {"result": (await desk.answer(question, line)).body})
    except Problem as problem:
        line("failed", {"problem": problem.to_dict(question.request_id)})
    except Exception:
        desk.log_failure(question.request_id)
        line("failed", {"problem": internal().to_dict(question.request_id)})
    finally:
        lines.put_nowait(None)


async def _lines(
    task: asyncio.Task[None], lines: asyncio.Queue[dict[str, Any] | None]
) -> AsyncIterator[bytes]:
    try:
        while (line := await lines.get()) is not None:
            yield json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
    finally:
        task.cancel()  # the client went away: nobody waits for the rest
