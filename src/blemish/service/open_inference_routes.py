"""The routes of the Open Inference Protocol, version 2, for clients of KServe and Triton."""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import numpy as np
from fastapi import APIRouter, Path, Request
from starlette.responses import JSONResponse, Response

from blemish._version import __version__
from blemish.service.disconnect import cancel_on_disconnect
from blemish.service.inference_service import (
    InferenceRequest,
    InferenceResult,
    InferenceService,
    Reservation,
    not_ready_problem,
)
from blemish.service.middleware import get_client, get_request_id
from blemish.service.model_reload import ModelReloader, check_may_reload
from blemish.service.open_inference import (
    HEADER_LENGTH,
    INPUT,
    InferenceCall,
    OutputTensor,
    read_call,
    tensor_problem,
    write_answer,
)
from blemish.service.problem_details import Problem
from blemish.service.served_model import ServedModel
from blemish.service.uploads import read_body

OPEN_INFERENCE_PREFIX = "/v2"
PLATFORM = "blemish_onnx"
EXTENSIONS = ["binary_tensor_data", "model_repository"]
_DIGITS = 12  # of a digest in a version
_MAX_OTHER_BYTES = 1 << 20  # of a request, beside its images
_LABEL_OUTPUTS = {"label_scores": "FP32", "positive": "BOOL"}
_BOX_OUTPUTS = {"num_detections": "INT32", "boxes": "FP32", "scores": "FP32", "label_index": "INT32"}

ModelName = Annotated[str, Path(max_length=100)]
Version = Annotated[str, Path(max_length=100)]


def format_open_inference_problem(problem: Problem) -> tuple[dict[str, Any], str]:
    """Return a refusal as the protocol's clients read it, and its media type."""
    return {"error": problem.detail, "code": problem.code}, "application/json"


def open_inference_router(service: InferenceService, reloader: ModelReloader) -> APIRouter:
    """Return the routes below `/v2`; the protocol describes them, so they are not in the OpenAPI document."""
    router = APIRouter(prefix=OPEN_INFERENCE_PREFIX, include_in_schema=False)
    _add_server_routes(router, service)
    _add_model_routes(router, service)
    _add_repository_routes(router, service, reloader)
    return router


def _add_server_routes(router: APIRouter, service: InferenceService) -> None:
    @router.get("/health/live")
    async def v2_live() -> Response:
        """Return 200 while the process answers requests."""
        return Response(status_code=200)

    @router.get("/health/ready")
    async def v2_ready() -> Response:
        """Return 200 once every model has answered a warm-up image."""
        if service.draining:
            raise Problem("draining", "The server is stopping.", retry_after_seconds=5)
        for model in service.models.values():
            if not model.ready:
                raise not_ready_problem(model)
        return Response(status_code=200)

    @router.get("")
    async def v2_server() -> Response:
        """Return name, version and extensions of the server."""
        return JSONResponse({"name": "blemish", "version": __version__, "extensions": EXTENSIONS})


def _add_model_routes(router: APIRouter, service: InferenceService) -> None:
    async def metadata(name: ModelName, version: Version | None = None) -> Response:
        """Return inputs and outputs of a model."""
        return JSONResponse(describe(_find(service, name, version)))

    async def ready(name: ModelName, version: Version | None = None) -> Response:
        """Return 200 if the model answers."""
        model = _find(service, name, version)
        if not model.ready:
            raise not_ready_problem(model)
        return Response(status_code=200)

    async def infer(request: Request, name: ModelName, version: Version | None = None) -> Response:
        """Run a model on the images of a tensor."""
        model = _find(service, name, version)
        if not model.ready or service.draining:
            service.get_model(name)  # raises
        model.queue.check()
        limit = service.settings.max_upload_bytes * service.settings.max_images + _MAX_OTHER_BYTES
        body, reserved = await read_body(request, service.settings, service.upload_memory, limit)
        try:
            header_length = request.headers.get(HEADER_LENGTH)
            call = await asyncio.to_thread(
                read_call, body, header_length, service.settings, list(_outputs(model))
            )
            del body
            return await _answer(request, service, name, version, call)
        finally:
            service.upload_memory.release(reserved)

    for part in ("/models/{name}", "/models/{name}/versions/{version}"):
        suffix = "_version" if "version" in part else ""
        router.add_api_route(part, metadata, methods=["GET"], name=f"v2_metadata{suffix}")
        router.add_api_route(f"{part}/ready", ready, methods=["GET"], name=f"v2_model_ready{suffix}")
        router.add_api_route(f"{part}/infer", infer, methods=["POST"], name=f"v2_infer{suffix}")


async def _answer(
    request: Request, service: InferenceService, name: str, version: str | None, call: InferenceCall
) -> Response:
    _find(service, name, version)  # it may have been replaced while the body was read
    model = service.enter(name, len(call.images))
    reservations = [Reservation(service, model, 0) for _ in call.images]
    try:
        requests = [
            InferenceRequest(
                image=image,
                model=model,
                request_id=get_request_id(request.scope),
                min_score=call.min_score,
                client=get_client(request.scope),
            )
            for image in call.images
        ]
        results = await cancel_on_disconnect(request, _infer_all(service, requests))
    finally:
        for reservation in reservations:
            reservation.release()
    digest = model.model_file.digest
    fields: dict[str, Any] = {
        "model_name": name,
        "model_version": digest[:_DIGITS],
        "parameters": {"model_digest": digest, "request_id": get_request_id(request.scope)},
    }
    if call.identity:
        fields["id"] = call.identity
    body, header_length = write_answer(fields, output_tensors(model, results), call)
    if not header_length:
        return Response(body, media_type="application/json")
    headers = {HEADER_LENGTH: str(header_length)}
    return Response(body, media_type="application/octet-stream", headers=headers)


async def _infer_all(service: InferenceService, requests: list[InferenceRequest]) -> list[InferenceResult]:
    return await asyncio.gather(*(service.infer(one) for one in requests))


def _add_repository_routes(router: APIRouter, service: InferenceService, reloader: ModelReloader) -> None:
    @router.post("/repository/index")
    async def v2_index() -> Response:
        """Return the models and their states."""
        return JSONResponse(
            [
                {
                    "name": model.name,
                    "version": model.model_file.digest[:_DIGITS],
                    "state": "READY" if model.ready else "UNAVAILABLE" if model.failure else "LOADING",
                    "reason": model.failure,
                }
                for model in service.models.values()
            ]
        )

    @router.post("/repository/models/{name}/load")
    async def v2_load(request: Request, name: ModelName) -> Response:
        """Load the file of a model again; one that cannot be served leaves the model before it in place."""
        check_may_reload(get_client(request.scope))
        body, reserved = await read_body(request, service.settings, service.upload_memory, _MAX_OTHER_BYTES)
        service.upload_memory.release(reserved)
        try:
            content = json.loads(body or b"{}")
        except (ValueError, RecursionError) as error:
            raise tensor_problem("The body is not JSON.", "json") from error
        if not isinstance(content, dict) or content.get("parameters"):
            raise tensor_problem(
                "Models are loaded from their own files: expected no parameters.", "parameter"
            )
        await reloader.reload(name)
        return Response(status_code=200)


def _find(service: InferenceService, name: str, version: str | None) -> ServedModel:
    """Return the model of a name and a version, whether it is ready or not.

    Raises:
        Problem: `unknown-model`.
    """
    model = service.models.get(name)
    if model is None:
        raise service.unknown_model_problem()
    digest = model.model_file.digest
    if version is not None and version not in (digest, digest[:_DIGITS]):
        raise Problem(
            "unknown-model.version",
            f"The model {name!r} has the version {digest[:_DIGITS]}. Ask for that one, or for none.",
        )
    return model


def _outputs(model: ServedModel) -> dict[str, str]:
    """Return the datatype of each output of a model by name."""
    boxes = _BOX_OUTPUTS if model.model_file.contract.task.has_boxes else {}
    return {**_LABEL_OUTPUTS, **boxes, "json": "BYTES"}


def describe(model: ServedModel) -> dict[str, Any]:
    """Return the metadata of a model: one input of images, and its outputs; -1 is any number."""
    contract = model.model_file.contract
    shapes = {
        "label_scores": [-1, len(contract.labels)],
        "positive": [-1, len(contract.labels)],
        "boxes": [-1, -1, 4],
        "scores": [-1, -1],
        "label_index": [-1, -1],
    }
    return {
        "name": model.name,
        "versions": [model.model_file.digest[:_DIGITS]],
        "platform": PLATFORM,
        "inputs": [{"name": INPUT, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [
            {"name": name, "datatype": datatype, "shape": shapes.get(name, [-1])}
            for name, datatype in _outputs(model).items()
        ],
        "parameters": {
            "task": str(contract.task),
            "labels": json.dumps([label.name for label in contract.labels], ensure_ascii=False),
            "model_digest": model.model_file.digest,
        },
    }


def output_tensors(model: ServedModel, results: list[InferenceResult]) -> list[OutputTensor]:
    """Return the outputs of n images; the detections of each are padded to the largest number of any.

    Args:
        model: the model that answered.
        results: one per image.

    Returns:
        `label_scores` (n, L) in [0, 1] and `positive` (n, L); with boxes `num_detections` (n,), `boxes`
        (n, m, 4) x1 y1 x2 y2 in pixels of the upright image, `scores` (n, m) and `label_index` (n, m), -1
        where there is none; `json` (n,), the answers of `/api/v1/predict`.
    """
    names = [label.name for label in model.model_file.contract.labels]
    tensors = [
        OutputTensor("label_scores", "FP32", np.array([r.prediction.label_scores for r in results])),
        OutputTensor("positive", "BOOL", np.array([r.prediction.decide() for r in results])),
    ]
    if model.model_file.contract.task.has_boxes:
        rows = [result.body["detections"] for result in results]
        counts = [len(found) for found in rows]
        shape = (len(rows), max(counts))
        boxes, scores, labels = np.zeros((*shape, 4)), np.zeros(shape), np.full(shape, -1)
        for image, found in enumerate(rows):
            for position, row in enumerate(found):
                boxes[image, position], scores[image, position] = row["box_xyxy"], row["score"]
                labels[image, position] = names.index(row["label"]) if row["label"] is not None else 0
        tensors += [
            OutputTensor("num_detections", "INT32", np.array(counts)),
            OutputTensor("boxes", "FP32", boxes),
            OutputTensor("scores", "FP32", scores),
            OutputTensor("label_index", "INT32", labels),
        ]
    bodies = [json.dumps(result.body, ensure_ascii=False).encode() for result in results]
    return [*tensors, OutputTensor("json", "BYTES", bodies)]
