"""DamageLens' routes, so that its clients go on as they are.

Labels are titles sorted by probability, confidences have 4 decimals, boxes are integers, the field is
`image` or `file`, and a refusal is `{"detail"}`. A map is always made by the model that answered.
"""

from __future__ import annotations

import time
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import JSONResponse, Response

from blemish.service import schemas
from blemish.service.inference_service import InferenceRequest, InferenceResult, InferenceService, unless_gone
from blemish.service.middleware import request_id_of
from blemish.service.problem_details import Problem
from blemish.service.result_links import Kind
from blemish.service.routes import form_schema, show
from blemish.service.served_model import ServedModel
from blemish.service.uploads import MultipartForm, read_form
from blemish.structures import Prediction

Mode = Annotated[
    Literal["resnet", "fusion"], Query(description="The model that answers, by the name it is served under.")
]
_LEAST_SCORE = 0.05  # from which DamageLens lists and draws boxes
_FOLDERS: dict[Kind, str] = {
    "photograph": "/static/uploads",
    "overlay": "/static/results",
    "map": "/static/results",
    "map_overlay": "/static/results",
}


def _refusals(*statuses: int) -> dict[int | str, dict[str, Any]]:
    return {status: {"description": "Refused.", "model": schemas.LegacyError} for status in statuses}


_ANSWERING = _refusals(400, 401, 404, 408, 413, 415, 422, 429, 500, 503, 504)


def build(desk: InferenceService) -> APIRouter:
    """The routes, answered at `desk`."""
    router = APIRouter(tags=["DamageLens"])
    body = form_schema()

    @router.post(
        "/predict/resnet",
        response_model=schemas.LegacyClassification,
        openapi_extra=body,
        responses=_ANSWERING,
    )
    async def resnet(request: Request) -> Response:
        """Classify with the model served as `resnet`."""
        (answered,) = await _ask(desk, request, [_classifier(desk, "resnet")])
        return JSONResponse({"status": "success", "prediction": probabilities(answered.prediction)})

    @router.post(
        "/predict/fusion",
        response_model=schemas.LegacyClassification,
        openapi_extra=body,
        responses=_ANSWERING,
    )
    async def fusion(request: Request) -> Response:
        """Classify with the model served as `fusion`."""
        (answered,) = await _ask(desk, request, [_classifier(desk, "fusion")])
        return JSONResponse({"status": "success", "prediction": probabilities(answered.prediction)})

    @router.post("/predict", response_model=schemas.LegacyViews, openapi_extra=body, responses=_ANSWERING)
    async def views(request: Request, mode: Mode = "resnet") -> Response:
        """Show where the model looked."""
        (answered,) = await _ask(desk, request, [_classifier(desk, mode)], mapped=True)
        view = _link(answered, "map_overlay")
        return JSONResponse(
            {
                "status": "success",
                "mode": mode,
                "original_image": _link(answered, "photograph"),
                "selected_viz": view,
                "resnet_viz": view if mode == "resnet" else None,
                "fusion_viz": view if mode == "fusion" else None,
            }
        )

    @router.post(
        "/predict/yolo", response_model=schemas.LegacyDetections, openapi_extra=body, responses=_ANSWERING
    )
    async def yolo(request: Request) -> Response:
        """Find damage with the model served as `yolo`."""
        (answered,) = await _ask(desk, request, [_detector(desk)])
        found = detections(answered.prediction)
        return JSONResponse(
            {
                "status": "success",
                "original_image": _link(answered, "photograph"),
                "yolo_image": _link(answered, "overlay"),
                "detections": found,
                "total_detections": len(found),
                "message": "Detections found" if found else "No detections found",
            }
        )

    @router.post(
        "/predict/gradcam", response_model=schemas.LegacyMap, openapi_extra=body, responses=_ANSWERING
    )
    async def gradcam(request: Request, mode: Mode = "resnet") -> Response:
        """Show where the model looked."""
        (answered,) = await _ask(desk, request, [_classifier(desk, mode)], mapped=True)
        return JSONResponse(
            {
                "status": "success",
                "original_image": _link(answered, "photograph"),
                "gradcam_image": _link(answered, "map_overlay"),
            }
        )

    @router.post(
        "/predict/comprehensive", response_model=schemas.LegacyAll, openapi_extra=body, responses=_ANSWERING
    )
    async def comprehensive(request: Request, mode: Mode = "resnet") -> Response:
        """Classify, find, and show where the classifier looked."""
        classified, detected = await _ask(
            desk, request, [_classifier(desk, mode), _detector(desk)], mapped=True
        )
        found = detections(detected.prediction)
        return JSONResponse(
            {
                "status": "success",
                "mode": mode,
                "original_image": _link(classified, "photograph"),
                "classification": probabilities(classified.prediction),
                "yolo": {
                    "image": _link(detected, "overlay"),
                    "detections": found,
                    "total_detections": len(found),
                },
                "gradcam": _link(classified, "map_overlay"),
            }
        )

    for folder in ("uploads", "results"):
        router.add_api_route(
            f"/static/{folder}/{{token}}", _picture(desk), methods=["GET"], include_in_schema=False
        )
    return router


def probabilities(prediction: Prediction) -> dict[str, float]:
    """Title: probability, the most probable first."""
    pairs = zip(prediction.labels.display_names, prediction.label_scores.tolist(), strict=True)
    return {title: round(score, 4) for title, score in sorted(pairs, key=lambda pair: -pair[1])}


def detections(prediction: Prediction) -> list[dict[str, Any]]:
    """What was found from a score of .05, best first: title, confidence, and box in whole pixels."""
    boxes = () if prediction.boxes_xyxy is None else prediction.boxes_xyxy.tolist()
    return [
        {
            "label": prediction.labels.display_names[index] if len(prediction.labels) else "damage",
            "confidence": round(float(score), 4),
            "box": [round(side) for side in box],
        }
        for index, score, box in zip(prediction.label_index, prediction.scores, boxes, strict=True)
        if score >= _LEAST_SCORE
    ]


async def _ask(
    desk: InferenceService, request: Request, models: list[ServedModel], *, mapped: bool = False
) -> list[InferenceResult]:
    """One image, read once, answered by each model in turn; the first one also says where it looked."""
    for served in models:
        served.gate.check()
    began = time.perf_counter()
    form: MultipartForm = await read_form(request.headers, request.stream(), desk.settings, desk.budget)
    reading = time.perf_counter() - began
    try:
        answered = []
        for place, served in enumerate(models):
            with served.gate.entered():
                question = InferenceRequest(
                    image=form.images[0],
                    model=served,
                    request_id=request_id_of(request.scope),
                    reading_seconds=reading,
                    explain=mapped and place == 0,
                    min_score=_LEAST_SCORE,
                    jet=True,
                )
                answered.append(await unless_gone(request, desk.answer(question)))
        return answered
    finally:
        desk.budget.give_back(form.held)


def _classifier(desk: InferenceService, name: str) -> ServedModel:
    served = _served(desk, name)
    if not served.model_file.contract.task.is_image_level:
        raise Problem("unknown_model", f"The model served as {name!r} does not classify photographs.")
    return served


def _detector(desk: InferenceService) -> ServedModel:
    served = _served(desk, "yolo")
    if not served.model_file.contract.task.has_boxes:
        raise Problem("unknown_model", "The model served as 'yolo' does not find boxes.")
    return served


def _served(desk: InferenceService, name: str) -> ServedModel:
    if name not in desk.models:
        raise Problem(
            "unknown_model",
            f"This server has no model of the name {name!r}; it has {', '.join(desk.models)}.",
        )
    return desk.model(name)


def _link(answered: InferenceResult, kind: Kind) -> str | None:
    token = answered.tokens.get(kind)
    return None if token is None else f"{_FOLDERS[kind]}/{token}"


def _picture(desk: InferenceService) -> Any:
    async def picture(token: Annotated[str, Path(max_length=100)]) -> Response:
        """Open a link of an answer."""
        return await show(desk, token)

    return picture
