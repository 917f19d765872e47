"""DamageLens' REST routes, so that its clients keep working without a change.

The JSON is DamageLens' own: labels are display names sorted by probability, confidences have 4 decimals,
boxes are integers, the form field is `image` or `file`, and a refusal is `{"detail"}`. A heatmap is always
computed by the model that answered.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import JSONResponse, Response

from blemish.contrib.damagelens import damagelens_schemas as schemas
from blemish.service.inference_service import (
    InferenceRequest,
    InferenceResult,
    InferenceService,
    cancel_on_disconnect,
)
from blemish.service.middleware import get_request_id
from blemish.service.problem_details import Problem
from blemish.service.result_links import ArtifactKind
from blemish.service.routes import artifact_response, image_form_schema
from blemish.service.served_model import ServedModel
from blemish.service.uploads import read_form
from blemish.structures import Prediction

Mode = Annotated[Literal["resnet", "fusion"], Query(description="The name of the served model that answers.")]
_MIN_SCORE = 0.05  # of the boxes that DamageLens lists and draws
_FOLDERS: dict[ArtifactKind, str] = {
    "image": "/static/uploads",
    "overlay": "/static/results",
    "heatmap": "/static/results",
    "heatmap_overlay": "/static/results",
}


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": "Refused.", "model": schemas.DamageLensError} for status in statuses}


_PROBLEMS = _refusals(400, 401, 404, 408, 413, 415, 422, 429, 500, 503, 504)


def build_router(service: InferenceService) -> APIRouter:
    """Return DamageLens' routes, answered by `service`."""
    router = APIRouter(tags=["DamageLens"])
    options: dict[str, Any] = {"openapi_extra": image_form_schema(), "responses": _PROBLEMS}

    @router.post("/predict/resnet", response_model=schemas.DamageLensClassification, **options)
    async def resnet(request: Request) -> Response:
        """Classify an image with the model that is served as `resnet`."""
        (result,) = await _infer(service, request, [_classifier(service, "resnet")])
        return JSONResponse({"status": "success", "prediction": probabilities(result.prediction)})

    @router.post("/predict/fusion", response_model=schemas.DamageLensClassification, **options)
    async def fusion(request: Request) -> Response:
        """Classify an image with the model that is served as `fusion`."""
        (result,) = await _infer(service, request, [_classifier(service, "fusion")])
        return JSONResponse({"status": "success", "prediction": probabilities(result.prediction)})

    @router.post("/predict", response_model=schemas.DamageLensViews, **options)
    async def views(request: Request, mode: Mode = "resnet") -> Response:
        """Return the heatmap of a classifier."""
        (result,) = await _infer(service, request, [_classifier(service, mode)], explain=True)
        view = _link(result, "heatmap_overlay")
        return JSONResponse(
            {
                "status": "success",
                "mode": mode,
                "original_image": _link(result, "image"),
                "selected_viz": view,
                "resnet_viz": view if mode == "resnet" else None,
                "fusion_viz": view if mode == "fusion" else None,
            }
        )

    @router.post("/predict/yolo", response_model=schemas.DamageLensDetections, **options)
    async def yolo(request: Request) -> Response:
        """Detect damage with the model that is served as `yolo`."""
        (result,) = await _infer(service, request, [_detector(service)])
        rows = detections(result.prediction)
        return JSONResponse(
            {
                "status": "success",
                "original_image": _link(result, "image"),
                "yolo_image": _link(result, "overlay"),
                "detections": rows,
                "total_detections": len(rows),
                "message": "Detections found" if rows else "No detections found",
            }
        )

    @router.post("/predict/gradcam", response_model=schemas.DamageLensHeatmap, **options)
    async def gradcam(request: Request, mode: Mode = "resnet") -> Response:
        """Return the heatmap of a classifier."""
        (result,) = await _infer(service, request, [_classifier(service, mode)], explain=True)
        return JSONResponse(
            {
                "status": "success",
                "original_image": _link(result, "image"),
                "gradcam_image": _link(result, "heatmap_overlay"),
            }
        )

    @router.post("/predict/comprehensive", response_model=schemas.DamageLensComprehensive, **options)
    async def comprehensive(request: Request, mode: Mode = "resnet") -> Response:
        """Classify an image, detect damage, and return the heatmap of the classifier."""
        models = [_classifier(service, mode), _detector(service)]
        classified, detected = await _infer(service, request, models, explain=True)
        rows = detections(detected.prediction)
        return JSONResponse(
            {
                "status": "success",
                "mode": mode,
                "original_image": _link(classified, "image"),
                "classification": probabilities(classified.prediction),
                "yolo": {
                    "image": _link(detected, "overlay"),
                    "detections": rows,
                    "total_detections": len(rows),
                },
                "gradcam": _link(classified, "heatmap_overlay"),
            }
        )

    for folder in ("uploads", "results"):
        router.add_api_route(
            f"/static/{folder}/{{token}}", _artifact_route(service), methods=["GET"], include_in_schema=False
        )
    return router


def probabilities(prediction: Prediction) -> dict[str, float]:
    """Return the probability of each display name, highest first, with 4 decimals."""
    pairs = zip(prediction.labels.display_names, prediction.label_scores.tolist(), strict=True)
    return {name: round(score, 4) for name, score in sorted(pairs, key=lambda pair: -pair[1])}


def detections(prediction: Prediction) -> list[dict[str, Any]]:
    """Return the detections with a score of at least 0.05, best first: name, confidence and integer box."""
    boxes = () if prediction.boxes_xyxy is None else prediction.boxes_xyxy.tolist()
    return [
        {
            "label": prediction.labels.display_names[index] if len(prediction.labels) else "damage",
            "confidence": round(float(score), 4),
            "box": [round(side) for side in box],
        }
        for index, score, box in zip(prediction.label_index, prediction.scores, boxes, strict=True)
        if score >= _MIN_SCORE
    ]


async def _infer(
    service: InferenceService, request: Request, models: list[ServedModel], *, explain: bool = False
) -> list[InferenceResult]:
    """Return the result of each model for one image, read once; `explain` concerns the first model."""
    for model in models:
        model.queue.check()
    began = time.perf_counter()
    form = await read_form(request.headers, request.stream(), service.settings, service.upload_memory)
    upload_seconds = time.perf_counter() - began
    try:
        results = []
        for position, model in enumerate(models):
            with model.queue.admitted():
                inference_request = InferenceRequest(
                    image=form.images[0],
                    model=model,
                    request_id=get_request_id(request.scope),
                    upload_seconds=upload_seconds,
                    explain=explain and position == 0,
                    min_score=_MIN_SCORE,
                    colormap="jet",
                )
                results.append(await cancel_on_disconnect(request, service.infer(inference_request)))
        return results
    finally:
        service.upload_memory.release(form.size_bytes)


def _classifier(service: InferenceService, name: str) -> ServedModel:
    model = _model(service, name)
    if not model.model_file.contract.task.is_image_level:
        raise Problem("unknown-model", f"The model that is served as {name!r} is not a classifier.")
    return model


def _detector(service: InferenceService) -> ServedModel:
    model = _model(service, "yolo")
    if not model.model_file.contract.task.has_boxes:
        raise Problem("unknown-model", "The model that is served as 'yolo' is not a detector.")
    return model


def _model(service: InferenceService, name: str) -> ServedModel:
    if name not in service.models:
        known = ", ".join(service.models)
        raise Problem("unknown-model", f"This server has no model {name!r}. Its models are: {known}.")
    return service.get_model(name)


def _link(result: InferenceResult, kind: ArtifactKind) -> str | None:
    token = result.tokens.get(kind)
    return None if token is None else f"{_FOLDERS[kind]}/{token}"


def _artifact_route(service: InferenceService) -> Callable[[str], Awaitable[Response]]:
    async def artifact(token: Annotated[str, Path(max_length=100)]) -> Response:
        """Return the image behind a link of an answer."""
        return await artifact_response(service, token)

    return artifact
