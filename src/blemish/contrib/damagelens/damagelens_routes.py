"""DamageLens' REST routes, so that its clients keep working without a change.

The JSON is DamageLens' own: labels are display names sorted by probability, confidences have 4 decimals,
boxes are integers, the form field is `image` or `file`, `mode` may be a field of the form too, and a refusal
is `{"detail"}`. A heatmap is always computed by the model that answered.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import JSONResponse, Response

from blemish.contrib.damagelens import damagelens_schemas as schemas
from blemish.service.disconnect import cancel_on_disconnect
from blemish.service.inference_service import (
    InferenceRequest,
    InferenceResult,
    InferenceService,
    Reservation,
)
from blemish.service.middleware import get_client, get_request_id
from blemish.service.problem_details import Problem
from blemish.service.result_links import ArtifactKind
from blemish.service.routes import artifact_response, image_form_schema
from blemish.service.served_model import ServedModel
from blemish.service.uploads import read_form
from blemish.structures import Prediction

_MODES = ("resnet", "fusion")
Mode = Annotated[
    Literal["resnet", "fusion"] | None,
    Query(description="The name of the served model that answers; default: resnet. May be a form field."),
]
_MODE_SCHEMA = {"mode": {"type": "string", "enum": list(_MODES), "default": _MODES[0]}}
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
    with_mode = {**options, "openapi_extra": image_form_schema(fields=_MODE_SCHEMA)}

    def classifier(mode: str) -> list[ServedModel]:
        return [_classifier(service, mode)]

    @router.post("/predict/resnet", response_model=schemas.DamageLensClassification, **options)
    async def resnet(request: Request) -> Response:
        """Classify an image with the model that is served as `resnet`."""
        (result,), _ = await _infer(service, request, lambda _: [_classifier(service, "resnet")])
        return JSONResponse({"status": "success", "prediction": probabilities(result.prediction)})

    @router.post("/predict/fusion", response_model=schemas.DamageLensClassification, **options)
    async def fusion(request: Request) -> Response:
        """Classify an image with the model that is served as `fusion`."""
        (result,), _ = await _infer(service, request, lambda _: [_classifier(service, "fusion")])
        return JSONResponse({"status": "success", "prediction": probabilities(result.prediction)})

    @router.post("/predict", response_model=schemas.DamageLensViews, **with_mode)
    async def views(request: Request, mode: Mode = None) -> Response:
        """Return the heatmap of a classifier."""
        (result,), mode = await _infer(service, request, classifier, has_mode=True, mode=mode, explain=True)
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
        (result,), _ = await _infer(service, request, lambda _: [_detector(service)])
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

    @router.post("/predict/gradcam", response_model=schemas.DamageLensHeatmap, **with_mode)
    async def gradcam(request: Request, mode: Mode = None) -> Response:
        """Return the heatmap of a classifier."""
        (result,), _ = await _infer(service, request, classifier, has_mode=True, mode=mode, explain=True)
        return JSONResponse(
            {
                "status": "success",
                "original_image": _link(result, "image"),
                "gradcam_image": _link(result, "heatmap_overlay"),
            }
        )

    @router.post("/predict/comprehensive", response_model=schemas.DamageLensComprehensive, **with_mode)
    async def comprehensive(request: Request, mode: Mode = None) -> Response:
        """Classify an image, detect damage, and return the heatmap of the classifier."""
        (classified, detected), mode = await _infer(
            service,
            request,
            lambda mode: [_classifier(service, mode), _detector(service)],
            has_mode=True,
            mode=mode,
            explain=True,
        )
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
    service: InferenceService,
    request: Request,
    choose: Callable[[str], list[ServedModel]],
    *,
    has_mode: bool = False,
    mode: Mode = None,
    explain: bool = False,
) -> tuple[list[InferenceResult], Any]:
    """Return the result of each model for one image, read once, and the mode.

    Args:
        service: the service.
        request: the request, whose form is read here.
        choose: function that returns the models of a mode.
        has_mode: whether the route has a mode, which may be a field of the form too.
        mode: the mode in the query.
        explain: whether to compute a heatmap of the first model.

    Raises:
        Problem: the form, the image or the mode cannot be used.
    """
    if mode is not None or not has_mode:  # before the upload, if the models are known
        for model in choose(mode or _MODES[0]):
            model.queue.check()
    began = time.perf_counter()
    form = await read_form(
        request.headers,
        request.stream(),
        service.settings,
        service.upload_memory,
        fields=("mode",) if has_mode else (),
    )
    upload_seconds = time.perf_counter() - began
    try:
        effective = _effective_mode(mode, form.fields.get("mode"))
        results = []
        for position, model in enumerate(choose(effective)):
            model = service.enter(model.name)
            place = Reservation(service, model, size_bytes=0)
            inference_request = InferenceRequest(
                image=form.images[0],
                model=model,
                request_id=get_request_id(request.scope),
                upload_seconds=upload_seconds,
                explain=explain and position == 0,
                min_score=_MIN_SCORE,
                colormap="jet",
                client=get_client(request.scope),
                on_predicted=place.release,
            )
            try:
                results.append(await cancel_on_disconnect(request, service.infer(inference_request)))
            finally:
                place.release()
        return results, effective
    finally:
        service.upload_memory.release(form.size_bytes)


def _effective_mode(in_query: str | None, in_form: str | None) -> str:
    """Return the mode of a request that may give it in the query and in the form.

    Raises:
        Problem: it is unknown, or the two differ.
    """
    if in_form is not None and in_form not in _MODES:
        raise Problem("bad-parameter", f"The field 'mode' is not valid: expected {' or '.join(_MODES)}.")
    if in_query is not None and in_form is not None and in_query != in_form:
        raise Problem(
            "bad-parameter.conflict",
            f"The query has mode {in_query!r}, and the form has {in_form!r}. Send one of them.",
        )
    return in_form or in_query or _MODES[0]


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


def _artifact_route(service: InferenceService) -> Callable[[Request, str], Awaitable[Response]]:
    async def artifact(request: Request, token: Annotated[str, Path(max_length=100)]) -> Response:
        """Return the image behind a link of an answer."""
        return await artifact_response(service, request, token)

    return artifact
