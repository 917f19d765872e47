"""From an uploaded image to its answer: off the event loop and within a deadline."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request

from blemish.inference.backend import available_cores
from blemish.service import serializers
from blemish.service.heatmaps import HeatmapResult, HeatmapService, HeatmapUnavailable
from blemish.service.micro_batch import AdmissionQueue
from blemish.service.problem_details import Problem
from blemish.service.result_links import ArtifactKind, Colormap, LinkedResult, LinkStore
from blemish.service.retention import RetentionStore
from blemish.service.served_model import PreparedImage, ServedModel, TimedPrediction
from blemish.service.service_metrics import ServiceMetrics
from blemish.service.settings import Settings
from blemish.service.uploads import MemoryBudget
from blemish.structures import Prediction

log = logging.getLogger("blemish.service")

Result = TypeVar("Result")
OnStage = Callable[[str, dict[str, Any]], None]  # called at the start of a stage with its name and details


@dataclass(frozen=True, kw_only=True)
class InferenceRequest:
    """What a client asks about one image.

    Attributes:
        image: the bytes as uploaded.
        model: the model that answers.
        request_id: identifies the request in the answer and in the log.
        upload_seconds: duration of the upload.
        explain: whether to compute a heatmap.
        label: the label that the heatmap explains; None selects the one with the highest score.
        min_score: detections with a lower score are left out; None keeps all that the model file gives, and
            draws only the positive ones.
        colormap: the colors of the heatmap's overlay.
    """

    image: bytes
    model: ServedModel
    request_id: str
    upload_seconds: float = 0.0
    explain: bool = False
    label: str | None = None
    min_score: float | None = None
    colormap: Colormap = "viridis"


@dataclass(frozen=True, eq=False)
class InferenceResult:
    """An answer.

    Attributes:
        body: the JSON body of `POST /api/v1/predict`.
        prediction: the prediction for the image.
        tokens: the tokens of its links, by kind of image.
    """

    body: dict[str, Any]
    prediction: Prediction
    tokens: Mapping[ArtifactKind, str]


class InferenceService:
    """The models of one application with everything that answering needs: threads, links, limits and metrics.

    Attributes:
        models: the models by name; the first is the default.
        settings: the limits and options.
        metrics: the Prometheus metrics.
        draining: whether the server is stopping.
        loop_seen_at: when the event loop of the server ran last, by `time.monotonic`; None without a server.
        upload_memory: the memory of all uploads.
        links: the images behind the links in answers.
        retention: the images and answers on disk.
        drawing_queue: limits the images behind links that are rendered at once.
        drawing_pool: the threads that render them.
    """

    def __init__(
        self, models: Mapping[str, ServedModel], settings: Settings, metrics: ServiceMetrics
    ) -> None:
        self.models = dict(models)
        self.settings, self.metrics = settings, metrics
        self.draining = False
        self.loop_seen_at: float | None = None
        self.upload_memory = MemoryBudget(settings.upload_memory_bytes)
        self.links = LinkStore(settings.link_seconds, settings.link_memory_bytes)
        self.retention = RetentionStore(
            settings.store_dir,
            settings.retention_hours,
            max_bytes=settings.max_store_bytes,
            metrics=metrics,
        )
        self._heatmaps = HeatmapService(settings)
        threads = settings.decoding_threads or max(2, available_cores())
        self._decoding_pool = ThreadPoolExecutor(threads, "blemish-decoding")
        # Rendering and heatmaps have threads of their own, so that they never delay an answer.
        self.drawing_pool = ThreadPoolExecutor(2, "blemish-drawing")
        self.drawing_queue = AdmissionQueue(settings.queue_size, "images to draw")
        self._heatmap_pool = ThreadPoolExecutor(1, "blemish-heatmaps")
        metrics.upload_bytes.set_function(lambda: self.upload_memory.used_bytes)
        metrics.link_bytes.set_function(lambda: self.links.used_bytes)

    def get_model(self, name: str | None) -> ServedModel:
        """Return the model of this name, or the default, once it is ready.

        Args:
            name: the name it is served under; None selects the default.

        Raises:
            Problem: `unknown-model`, `not-ready`, or `draining`.
        """
        if self.draining:
            raise Problem(
                "draining", "The server is stopping. Try again when it is back.", retry_after_seconds=5
            )
        model = next(iter(self.models.values())) if name is None else self.models.get(name)
        if model is None:
            raise self.unknown_model_problem()
        if not model.ready:
            raise not_ready_problem(model)
        return model

    def unknown_model_problem(self) -> Problem:
        """Return the problem of a model name that does not exist."""
        known = ", ".join(self.models)
        return Problem("unknown-model", f"This server has no model of that name. Its models are: {known}.")

    async def infer(
        self, request: InferenceRequest, on_stage: OnStage = lambda stage, details: None
    ) -> InferenceResult:
        """Return the answer to `request`; the caller has entered the queue of the model.

        Args:
            request: the image and what to compute.
            on_stage: called at the start of each stage with its name and details.

        Raises:
            Problem: the image cannot be used, or the deadline has passed.
        """
        try:
            async with asyncio.timeout(self.settings.deadline_seconds):
                return await self._infer(request, on_stage)
        except TimeoutError as error:
            raise Problem(
                "deadline-exceeded",
                f"There was no answer within {self.settings.deadline_seconds:g} seconds. Try again when the "
                "server is less busy.",
                limit=("deadline_seconds", self.settings.deadline_seconds),
                retry_after_seconds=5,
            ) from error

    async def _infer(self, request: InferenceRequest, on_stage: OnStage) -> InferenceResult:
        loop = asyncio.get_running_loop()
        model = request.model
        batcher = model.batcher
        if batcher is None:
            raise not_ready_problem(model)
        began = time.perf_counter()
        on_stage("decoding", {})
        image: PreparedImage = await loop.run_in_executor(self._decoding_pool, model.prepare, request.image)
        on_stage("queued", {"queue_position": batcher.num_queued})
        timed: TimedPrediction = await batcher.submit(
            image, lambda size: on_stage("inferring", {"batch": size})
        )
        inferred = time.perf_counter()
        heatmap, unavailable = await self._explain(request, timed, on_stage)
        explained = time.perf_counter()
        available = serializers.min_score_available(model.model_file.contract)
        min_score = max(request.min_score or 0.0, available)
        stages = {
            "reading": request.upload_seconds,
            "decoding": image.seconds,
            "waiting": (inferred - began) - image.seconds - timed.seconds,
            "inferring": timed.seconds,
            "explaining": explained - inferred if request.explain else 0.0,
        }
        for stage, seconds in stages.items():
            self.metrics.stage_seconds.labels(model=model.name, stage=stage).observe(max(seconds, 0.0))
        if timed.prediction.masks is None:
            fields = serializers.serialize_prediction(timed.prediction, min_score=min_score)
        else:  # the outlines of masks take a while
            fields = await loop.run_in_executor(
                self._decoding_pool,
                lambda: serializers.serialize_prediction(timed.prediction, min_score=min_score),
            )
        tokens = self._add_links(request, timed.prediction, heatmap)
        finished = time.perf_counter()
        stages["total"] = finished - began + request.upload_seconds
        body = {
            "schema_version": serializers.SCHEMA_VERSION,
            "request_id": request.request_id,
            "model": model.name,
            "model_version": serializers.model_version(model.model_file),
            "model_digest": model.model_file.digest,
            "sha256": image.sha256,
            **fields,
            "min_score_available": available,
            "min_score": min_score,
            "warnings": [image.inputs.warning] if image.inputs.warning else [],
            "links": self._serialize_links(tokens),
            "heatmap": None if heatmap is None else _serialize_heatmap(heatmap, model.name, tokens),
            "heatmap_unavailable": unavailable,
            "timing_ms": {stage: round(max(seconds, 0.0) * 1000, 3) for stage, seconds in stages.items()},
        }
        if self.retention.enabled:
            await loop.run_in_executor(self._decoding_pool, self.retention.save, request.image, body)
        return InferenceResult(body, timed.prediction, tokens)

    async def _explain(
        self, request: InferenceRequest, timed: TimedPrediction, on_stage: OnStage
    ) -> tuple[HeatmapResult | None, str | None]:
        """Return the heatmap, or the reason why there is none, or neither if none was requested."""
        if not request.explain:
            return None, None
        on_stage("explaining", {})
        try:
            heatmap = await asyncio.get_running_loop().run_in_executor(
                self._heatmap_pool,
                self._heatmaps.compute,
                request.model.loaded,
                request.image,
                timed.prediction,
                request.label,
                timed.seconds,
            )
        except HeatmapUnavailable as error:
            return None, str(error)
        return heatmap, None

    def _add_links(
        self, request: InferenceRequest, prediction: Prediction, heatmap: HeatmapResult | None
    ) -> Mapping[ArtifactKind, str]:
        kinds: tuple[ArtifactKind, ...] = ("image", "overlay")
        if heatmap is not None:
            kinds += ("heatmap", "heatmap_overlay")
        drawn = prediction.filter_scores(request.min_score)
        values = None if heatmap is None else heatmap.values
        white_level = request.model.loaded.contract.inputs[0].white_level
        return self.links.add(
            LinkedResult(request.image, drawn, values, request.colormap, white_level), kinds
        )

    def _serialize_links(self, tokens: Mapping[ArtifactKind, str]) -> dict[str, Any] | None:
        if not tokens:
            return None
        return {
            "image": serializers.artifact_link(tokens["image"]),
            "overlay": serializers.artifact_link(tokens["overlay"]),
            "expires_at": _utc_time_in(self.settings.link_seconds),
        }

    def describe(self, model: ServedModel) -> dict[str, Any]:
        """Return the description of a model as in `GET /api/v1/models`."""
        backend = None if model.predictor is None else model.predictor.backend
        return serializers.describe_model(
            model.name,
            model.model_file,
            heatmaps=True,  # without an explanation graph, occlusion needs only the model itself
            backend="" if backend is None else backend.name,
            precision="" if backend is None else backend.precision,
        )

    def log_exception(self, request_id: str) -> None:
        """Log the exception that is being handled."""
        log.exception("request %s failed", request_id)

    def close(self) -> None:
        """Stop the models and the threads, and forget every link."""
        self.draining = True
        self._heatmaps.stop()
        for model in self.models.values():
            model.close()
        for pool in (self._decoding_pool, self.drawing_pool, self._heatmap_pool):
            pool.shutdown(wait=False, cancel_futures=True)
        self.links.clear()


async def cancel_on_disconnect(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """Return the result of `work`, or cancel it when the client disconnects.

    Raises:
        ClientDisconnect: the client has disconnected.
    """
    task = asyncio.ensure_future(work)
    # The body has been read: the next message can only be that the client has disconnected.
    disconnected = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((task, disconnected), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        disconnected.cancel()
        task.cancel()


def not_ready_problem(model: ServedModel) -> Problem:
    """Return the problem of a model that cannot answer yet, or never will."""
    if model.failure:
        return Problem("not-ready", f"The model {model.name!r} could not be loaded: {model.failure}")
    return Problem(
        "not-ready",
        f"The model {model.name!r} has not answered its warm-up image yet. Try again in a moment.",
        retry_after_seconds=2,
    )


def _serialize_heatmap(
    heatmap: HeatmapResult, model: str, tokens: Mapping[ArtifactKind, str]
) -> dict[str, Any]:
    return {
        "method": heatmap.method,
        "model": model,
        "label": heatmap.label,
        "display_name": heatmap.display_name,
        "empty": heatmap.is_empty,
        "grayscale": serializers.artifact_link(tokens["heatmap"]) if tokens else None,
        "overlay": serializers.artifact_link(tokens["heatmap_overlay"]) if tokens else None,
    }


def _utc_time_in(seconds: float) -> str:
    """Return the time in `seconds` from now in UTC, such as `2026-01-31T12:10:00Z`."""
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
