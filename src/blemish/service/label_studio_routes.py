"""The routes of a machine learning backend of Label Studio, below `/label-studio`."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse, Response

from blemish.service import serializers
from blemish.service.disconnect import cancel_on_disconnect
from blemish.service.inference_service import (
    InferenceRequest,
    InferenceService,
    Reservation,
)
from blemish.service.label_studio import ImageSource, label_studio_problem, read_interface, results_of
from blemish.service.middleware import get_client, get_request_id
from blemish.service.problem_details import Problem
from blemish.service.served_model import ServedModel
from blemish.service.uploads import read_body

LABEL_STUDIO_PREFIX = "/label-studio"
_MAX_BYTES = 8 << 20  # of a request, which has tasks and no images


def format_label_studio_problem(problem: Problem) -> tuple[dict[str, Any], str]:
    """Return a refusal as Label Studio shows it, and its media type."""
    return {"error": problem.detail, "detail": problem.detail, "code": problem.code}, "application/json"


def label_studio_router(service: InferenceService) -> APIRouter:
    """Return the routes; the first model answers, or `/label-studio/MODEL` names another.

    Label Studio defines them, so they are not in the OpenAPI document.
    """
    router = APIRouter(prefix=LABEL_STUDIO_PREFIX, include_in_schema=False)
    images = ImageSource(service.settings)

    async def health(name: str | None = None) -> Response:
        """Return 200 while the model answers."""
        model = service.get_model(name)
        return JSONResponse({"status": "UP", "model_class": "blemish", "model_version": _version(model)})

    async def setup(request: Request, name: str | None = None) -> Response:
        """Check that the model fits the labeling interface of a project, and return its version."""
        model = service.get_model(name)
        content = await _content(request, service)
        read_interface(content.get("schema"))
        return JSONResponse({"model_version": _version(model)})

    async def versions(name: str | None = None) -> Response:
        """Return the version of the model."""
        return JSONResponse({"versions": [_version(service.get_model(name))]})

    async def predict(request: Request, name: str | None = None) -> Response:
        """Return the predictions for the images of tasks."""
        model = service.get_model(name)
        content = await _content(request, service)
        tasks = content.get("tasks")
        if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
            raise label_studio_problem("tasks: expected a list of tasks.", "tasks")
        interface = read_interface(content.get("label_config"))
        answers: list[dict[str, Any]] = []
        used = model
        for number, task in enumerate(tasks):  # one after another: a project may have thousands
            data = task.get("data")
            address = data.get(interface.key) if isinstance(data, dict) else None
            used, answer = await _predict_one(request, service, images, model.name, address)
            prefix = f"{task.get('id', number)}-"
            results = await asyncio.to_thread(results_of, answer, interface, prefix=prefix)
            scores = [result["score"] for result in results if "score" in result]
            answers.append(
                {"result": results, "score": min(scores, default=1.0), "model_version": _version(used)}
            )
        return JSONResponse({"results": answers, "model_version": _version(used)})

    for part in ("", "/models/{name}"):
        suffix = "_of_model" if part else ""
        for path in ("/health", "/") if part else ("/health", "/", ""):
            label = {"/health": "health", "/": "root", "": "base"}[path]
            router.add_api_route(
                f"{part}{path}", health, methods=["GET"], name=f"label_studio_{label}{suffix}"
            )
        router.add_api_route(f"{part}/setup", setup, methods=["POST"], name=f"label_studio_setup{suffix}")
        router.add_api_route(
            f"{part}/versions", versions, methods=["GET", "POST"], name=f"label_studio_versions{suffix}"
        )
        router.add_api_route(
            f"{part}/predict", predict, methods=["POST"], name=f"label_studio_predict{suffix}"
        )
    return router


async def _predict_one(
    request: Request, service: InferenceService, images: ImageSource, name: str, address: object
) -> tuple[ServedModel, Any]:
    data = await asyncio.to_thread(images.read, address)
    service.upload_memory.acquire(len(data))
    try:
        model = service.enter(name)
    except Problem:
        service.upload_memory.release(len(data))
        raise
    reservation = Reservation(service, model, len(data))
    try:
        inference_request = InferenceRequest(
            image=data,
            model=model,
            request_id=get_request_id(request.scope),
            client=get_client(request.scope),
        )
        result = await cancel_on_disconnect(request, service.infer(inference_request))
    finally:
        reservation.release()
    return model, result.prediction


async def _content(request: Request, service: InferenceService) -> dict[str, Any]:
    """Return the JSON object of a request."""
    body, reserved = await read_body(request, service.settings, service.upload_memory, _MAX_BYTES)
    service.upload_memory.release(reserved)
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise label_studio_problem("The body is not JSON.", "json") from error
    if not isinstance(content, dict):
        raise label_studio_problem("The body: expected a JSON object.", "json")
    return content


def _version(model: ServedModel) -> str:
    return serializers.model_version(model.model_file)
