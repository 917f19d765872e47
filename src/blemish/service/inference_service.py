"""From an uploaded image to its answer: off the event loop and within a deadline."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from blemish.abstention import Policy
from blemish.explanation.gradient_graph import explanation_path
from blemish.inference.backend import available_cores
from blemish.service import serializers
from blemish.service.decisions import add_score_intervals, count_prediction, decide_by
from blemish.service.fair_executor import FairExecutor, WorkStopped
from blemish.service.heatmaps import HeatmapResult, HeatmapService, HeatmapUnavailable
from blemish.service.middleware import client_label
from blemish.service.problem_details import Problem
from blemish.service.result_images import reduction, render
from blemish.service.result_links import ArtifactKind, Colormap, LinkedResult, LinkStore
from blemish.service.retention import RetentionStore
from blemish.service.served_model import PreparedImage, ServedModel, TimedPrediction
from blemish.service.service_metrics import ServiceMetrics
from blemish.service.settings import Settings
from blemish.service.uploads import MemoryBudget
from blemish.structures import Prediction

log = logging.getLogger("blemish.service")

_HEATMAP_SHARE = 0.95  # of the deadline, after which an answer leaves without its heatmap

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
        rule: by which the image is decided or left for review; None decides every image.
        colormap: the colors of the heatmap's overlay.
        client: the client, with which others take turns; see `blemish.service.middleware.get_client`.
        on_predicted: called once when the prediction is known and only the heatmap is missing, so that the
            caller releases the place in the queue of the model.
    """

    image: bytes
    model: ServedModel
    request_id: str
    upload_seconds: float = 0.0
    explain: bool = False
    label: str | None = None
    min_score: float | None = None
    rule: Policy | None = None
    colormap: Colormap = "viridis"
    client: str = "address:"
    on_predicted: Callable[[], None] = lambda: None


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
        renderings: the threads that render the images behind links, and their queue.
        heatmaps: the threads that compute heatmaps, and their queue.
    """

    def __init__(
        self, models: Mapping[str, ServedModel], settings: Settings, metrics: ServiceMetrics
    ) -> None:
        self.models = dict(models)
        for model in self.models.values():
            model.count_in_metrics()
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
        # Rendering and heatmaps have threads and queues of their own, so that they never delay a prediction.
        self.renderings = FairExecutor(
            "blemish-rendering",
            threads=max(1, available_cores() // 2),
            capacity=settings.queue_size,
            max_per_client=settings.max_per_client,
            busy_with="images to draw",
        )
        self.heatmaps = FairExecutor(
            "blemish-heatmaps",
            threads=1,  # whose network has half of the cores
            capacity=settings.heatmap_queue_size,
            max_per_client=settings.max_per_client,
            busy_with="heatmaps to compute",
            limit_name="heatmap_queue_size",
        )
        self._heatmap_memory = MemoryBudget(settings.heatmap_memory_bytes)
        metrics.queued.labels(queue="linked-images").set_function(lambda: self.renderings.size)
        metrics.queued.labels(queue="heatmaps").set_function(lambda: self.heatmaps.size)
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

    def enter(self, name: str, amount: int = 1) -> ServedModel:
        """Return the model that answers under a name now, with places in its queue.

        It may have replaced the one that answered when the request began, so call this after the upload has
        been read: the model stays open until the places are released.

        Args:
            name: the name of the model.
            amount: number of places.

        Raises:
            Problem: see `get_model`, or `queue-full`.
        """
        model = self.get_model(name)
        model.queue.enter(amount)
        return model

    def replace_model(self, model: ServedModel) -> None:
        """Let another model answer under its name from now on."""
        self.models[model.name] = model
        model.count_in_metrics()

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
        heatmap, unavailable = await self._explain(request, timed, on_stage, began)
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
        decision = decide_by(timed.prediction, model.model_file.contract, request.rule)
        count_prediction(self.metrics, model.name, timed.prediction, decision)
        add_score_intervals(fields["detections"], decision)
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
            "risk_decision": None if decision is None else decision.to_dict(),
            "min_score_available": available,
            "min_score": min_score,
            "warnings": list(image.warnings),
            "links": self._serialize_links(tokens, timed.prediction),
            "heatmap": None if heatmap is None else _serialize_heatmap(heatmap, model.name, tokens),
            "heatmap_unavailable": unavailable,
            "timing_ms": {stage: round(max(seconds, 0.0) * 1000, 3) for stage, seconds in stages.items()},
        }
        if self.retention.enabled:
            await loop.run_in_executor(self._decoding_pool, self.retention.save, request.image, body)
        return InferenceResult(body, timed.prediction, tokens)

    async def _explain(
        self, request: InferenceRequest, timed: TimedPrediction, on_stage: OnStage, began: float
    ) -> tuple[HeatmapResult | None, str | None]:
        """Return the heatmap, or the reason why there is none, or neither if none was requested.

        Args:
            request: the request.
            timed: the prediction to explain.
            on_stage: see `infer`.
            began: when the deadline of the answer began, by `time.perf_counter`.
        """
        if not request.explain:
            return None, None
        # The answer must leave before its deadline: without the heatmap rather than not at all.
        left = self.settings.deadline_seconds * _HEATMAP_SHARE - (time.perf_counter() - began)
        seconds = min(self.settings.heatmap_seconds, left)
        outcome, heatmap, unavailable = "unavailable", None, None
        reserved = 0
        try:
            if not self.offers_heatmaps(request.model) or seconds <= 0:
                raise self._heatmaps.too_slow()
            self._heatmap_memory.acquire(len(request.image))
            reserved = len(request.image)
            request.on_predicted()
            on_stage("explaining", {})
            heatmap = await self.heatmaps.run(
                request.client,
                lambda stop: self._heatmaps.compute(
                    request.model.loaded,
                    request.image,
                    timed.prediction,
                    request.label,
                    timed.seconds,
                    stop,
                ),
                seconds=seconds,
            )
            outcome = "done"
        except Problem as problem:
            if problem.code not in ("queue-full", "memory-full"):
                raise
            outcome, unavailable = "refused", f"{problem.detail} The prediction is complete without it."
        except TimeoutError:
            outcome, unavailable = "too-slow", str(self._heatmaps.too_slow())
        except HeatmapUnavailable as error:
            outcome, unavailable = error.code.rpartition(".")[2], str(error)
        except (asyncio.CancelledError, WorkStopped):
            outcome = "canceled"
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            self._heatmap_memory.release(reserved)
            self.metrics.heatmaps.labels(outcome=outcome, client=client_label(request.client)).inc()
        return heatmap, unavailable

    def offers_heatmaps(self, model: ServedModel) -> bool:
        """Return whether the model can be asked for a heatmap within `settings.heatmap_seconds`."""
        return model.predictor is not None and self._heatmaps.is_offered(
            model.warm_pass_seconds, explanation_path(model.model_file.path).is_file()
        )

    async def render_linked_image(self, token: str, client: str, owner_required: bool) -> tuple[bytes, str]:
        """Return the image behind a link as a file, and its media type.

        Args:
            token: the token of the link.
            client: the client that opens it; see `blemish.service.middleware.get_client`.
            owner_required: whether only the client that got the answer may open it.

        Raises:
            Problem: `link-expired`, `queue-full`, `deadline-exceeded`, or `api-key-missing` and
                `api-key-unknown` if the key of the answer is required.
        """
        linked = self.links.get(token)
        if linked is None:
            raise Problem(
                "link-expired",
                "There is no image behind this link, or the link has expired. Send the image again.",
            )
        result, kind = linked
        outcome = "refused"
        try:
            if owner_required:
                _check_owner(result, client)
            outcome = "failed"
            rendered = await self.renderings.run(
                client,
                lambda stop: render(result, kind, self.settings, stop),
                seconds=self.settings.rendering_seconds,
            )
            outcome = "done"
        except Problem as problem:
            if problem.code == "queue-full":
                outcome = "refused"
            raise
        except (TimeoutError, WorkStopped) as error:
            outcome = "too-slow"
            raise Problem(
                "deadline-exceeded",
                f"The image was not drawn within {self.settings.rendering_seconds:g} seconds. Try again when "
                "the server is less busy.",
                limit=("rendering_seconds", self.settings.rendering_seconds),
                retry_after_seconds=5,
            ) from error
        except asyncio.CancelledError:
            outcome = "canceled"
            raise
        finally:
            self.metrics.linked_images.labels(kind=kind, outcome=outcome, client=client_label(client)).inc()
        return rendered

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
            LinkedResult(request.image, drawn, values, request.colormap, white_level, request.client), kinds
        )

    def _serialize_links(
        self, tokens: Mapping[ArtifactKind, str], prediction: Prediction
    ) -> dict[str, Any] | None:
        if not tokens:
            return None
        return {
            "image": serializers.artifact_link(tokens["image"]),
            "overlay": serializers.artifact_link(tokens["overlay"]),
            "reduction": reduction(prediction.size_hw or (1, 1), self.settings),
            "expires_at": _utc_time_in(self.settings.link_seconds),
        }

    def describe(self, model: ServedModel) -> dict[str, Any]:
        """Return the description of a model as in `GET /api/v1/models`."""
        backend = None if model.predictor is None else model.predictor.backend
        return serializers.describe_model(
            model.name,
            model.model_file,
            heatmaps=self.offers_heatmaps(model),
            backend="" if backend is None else backend.name,
            precision="" if backend is None else backend.precision,
        )

    def log_exception(self, request_id: str) -> None:
        """Log the exception that is being handled."""
        log.exception("request %s failed", request_id)

    def close(self) -> None:
        """Stop the models and the threads, and forget every link."""
        self.draining = True
        for model in self.models.values():
            model.close()
        self._decoding_pool.shutdown(wait=False, cancel_futures=True)
        self.renderings.close()
        self.heatmaps.close()
        self.links.clear()


def _check_owner(result: LinkedResult, client: str) -> None:
    if client == result.client or not result.client.startswith("key:"):
        return
    challenge = {"WWW-Authenticate": 'Bearer realm="blemish"'}
    if not client.startswith("key:"):
        raise Problem(
            "api-key-missing", "This link requires the API key that got the answer.", headers=challenge
        )
    raise Problem(
        "api-key-unknown.other-key", "This link requires the API key that got the answer.", headers=challenge
    )


class Reservation:
    """The place of one image in the queue of its model, and the memory of its upload; released once."""

    def __init__(self, service: InferenceService, model: ServedModel, size_bytes: int) -> None:
        """Take over a place that `model.queue.enter` reserved, and memory of `service.upload_memory`."""
        self._service, self._model, self._size_bytes = service, model, size_bytes
        self._released = False

    def release(self) -> None:
        """Release both; do nothing the second time."""
        if not self._released:
            self._released = True
            self._model.queue.leave()
            self._service.upload_memory.release(self._size_bytes)


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
        "is_faithful": heatmap.is_faithful,
        "grayscale": serializers.artifact_link(tokens["heatmap"]) if tokens else None,
        "overlay": serializers.artifact_link(tokens["heatmap_overlay"]) if tokens else None,
    }


def _utc_time_in(seconds: float) -> str:
    """Return the time in `seconds` from now in UTC, such as `2026-01-31T12:10:00Z`."""
    moment = datetime.now(UTC) + timedelta(seconds=seconds)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")
