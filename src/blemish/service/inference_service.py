"""From the bytes of an image to its answer, off the event loop, inside its deadline."""

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
from blemish.service.result_links import Kind, LinkedResult, LinkStore
from blemish.service.retention import RetentionStore
from blemish.service.served_model import PreparedImage, ServedModel, TimedPrediction
from blemish.service.service_metrics import ServiceMetrics
from blemish.service.settings import Settings
from blemish.service.uploads import MemoryBudget
from blemish.structures import Prediction

log = logging.getLogger("blemish.service")

Result = TypeVar("Result")
# told as each stage begins: its name, and what there is to say of it
OnStage = Callable[[str, dict[str, Any]], None]


@dataclass(frozen=True, kw_only=True)
class InferenceRequest:
    """What is asked of one image.

    Attributes:
        image: its bytes as sent.
        model: that answers.
        request_id: for the answer and the log.
        reading_seconds: that the upload took.
        explain: whether a map is wanted.
        label: that the map is about; None takes the best.
        min_score: objects below it are left out; None takes the floor, and draws only what holds.
        jet: whether the map has the colours of DamageLens'.
    """

    image: bytes
    model: ServedModel
    request_id: str
    reading_seconds: float = 0.0
    explain: bool = False
    label: str | None = None
    min_score: float | None = None
    jet: bool = False


@dataclass(frozen=True, eq=False)
class InferenceResult:
    """An answer: as JSON takes it, and as the other rooms do.

    Attributes:
        body: of `POST /api/v1/predict`.
        prediction: of the image.
        tokens: of its links, by kind of picture.
    """

    body: dict[str, Any]
    prediction: Prediction
    tokens: Mapping[Kind, str]


class InferenceService:
    """Everything that answering takes: models, threads, links, and what is counted.

    Attributes:
        models: by name; the first is the default.
        draining: whether the server is stopping.
    """

    def __init__(
        self, models: Mapping[str, ServedModel], settings: Settings, telemetry: ServiceMetrics
    ) -> None:
        self.models = dict(models)
        self.settings, self.telemetry = settings, telemetry
        self.draining = False
        self.budget = MemoryBudget(settings.upload_memory_bytes)
        self.shelf = LinkStore(settings.link_seconds, settings.link_memory_bytes)
        self.keeper = RetentionStore(settings.keep_folder, settings.keep_hours)
        self.heat = HeatmapService(settings)
        threads = settings.decoding_threads or max(2, available_cores())
        self.eyes = ThreadPoolExecutor(threads, "blemish-decoding")
        # Pictures and maps have threads of their own, so that they never hold up an answer.
        self.painters = ThreadPoolExecutor(2, "blemish-drawing")
        self.pictures = AdmissionQueue(settings.queue_size, "as many pictures to draw as it takes on")
        self.explainers = ThreadPoolExecutor(1, "blemish-explaining")
        telemetry.gauge("blemish_upload_bytes", "Bytes of uploads in memory.", lambda: self.budget.held)
        telemetry.gauge("blemish_link_bytes", "Bytes kept for links.", lambda: self.shelf.held)

    def model(self, name: str | None) -> ServedModel:
        """The model of that name, or the default, ready to answer.

        Raises:
            Problem: there is none, it is not ready, or the server is stopping.
        """
        if self.draining:
            raise Problem(
                "draining", "The server is stopping; ask again when it is back.", retry_after_seconds=5
            )
        served = next(iter(self.models.values())) if name is None else self.models.get(name)
        if served is None:
            known = ", ".join(self.models)
            raise Problem("unknown_model", f"This server has no model of that name; it has {known}.")
        if not served.ready:
            raise not_ready(served)
        return served

    async def answer(
        self, question: InferenceRequest, on_stage: OnStage = lambda stage, more: None
    ) -> InferenceResult:
        """The answer to `question`; the caller has entered the model's gate.

        Raises:
            Problem: the image cannot be used, or there was not enough time.
        """
        try:
            async with asyncio.timeout(self.settings.deadline_seconds):
                return await self._answer(question, on_stage)
        except TimeoutError as error:
            raise Problem(
                "deadline_exceeded",
                f"There was no answer within {self.settings.deadline_seconds:g} seconds; try again when the "
                "server has less to do.",
                limit=("deadline_seconds", self.settings.deadline_seconds),
                retry_after_seconds=5,
            ) from error

    async def _answer(self, question: InferenceRequest, on_stage: OnStage) -> InferenceResult:
        loop = asyncio.get_running_loop()
        served = question.model
        batcher = served.batcher
        if batcher is None:
            raise not_ready(served)
        began = time.perf_counter()
        on_stage("decoding", {})
        opened: PreparedImage = await loop.run_in_executor(self.eyes, served.prepare, question.image)
        on_stage("queued", {"ahead": batcher.waiting})
        seen: TimedPrediction = await batcher.ask(opened, lambda size: on_stage("inferring", {"batch": size}))
        inferred = time.perf_counter()
        heat: HeatmapResult | None = None
        unavailable: str | None = None
        if question.explain:
            on_stage("explaining", {})
            try:
                heat = await loop.run_in_executor(
                    self.explainers,
                    self.heat.make,
                    served.loaded,
                    question.image,
                    seen.prediction,
                    question.label,
                    seen.seconds,
                )
            except HeatmapUnavailable as reason:
                unavailable = str(reason)
        explained = time.perf_counter()
        floor = serializers.min_available_score(served.model_file.contract)
        min_score = max(question.min_score or 0.0, floor)
        parts = {
            "reading": question.reading_seconds,
            "decoding": opened.seconds,
            "waiting": (inferred - began) - opened.seconds - seen.seconds,
            "inferring": seen.seconds,
            "explaining": explained - inferred if question.explain else 0.0,
        }
        for stage, seconds in parts.items():
            self.telemetry.observe(
                "blemish_stage_seconds", "Time by stage.", max(seconds, 0.0), stage=stage, model=served.name
            )
        if seen.prediction.masks is None:
            said = serializers.say(seen.prediction, min_score=min_score)
        else:  # outlines of masks take a while
            said = await loop.run_in_executor(
                self.eyes, lambda: serializers.say(seen.prediction, min_score=min_score)
            )
        tokens = self._links(question, seen.prediction, None if heat is None else heat.map)
        finished = time.perf_counter()
        parts["total"] = finished - began + question.reading_seconds
        body = {
            "request_id": question.request_id,
            "model": served.name,
            "model_version": serializers.version_of(served.model_file),
            "model_digest": served.model_file.digest,
            "sha256": opened.sha256,
            **said,
            "score_floor": floor,
            "min_score": min_score,
            "links": None
            if not tokens
            else {
                "photograph": serializers.link(tokens["photograph"]),
                "overlay": serializers.link(tokens["overlay"]),
                "expires_at": _in(self.settings.link_seconds),
            },
            "map": None
            if heat is None
            else {
                "method": heat.method,
                "model": served.name,
                "label": heat.label,
                "title": heat.title,
                "empty": heat.is_empty,
                "map": serializers.link(tokens["map"]) if tokens else None,
                "overlay": serializers.link(tokens["map_overlay"]) if tokens else None,
            },
            "map_unavailable": unavailable,
            "timing_ms": {stage: round(max(seconds, 0.0) * 1000, 3) for stage, seconds in parts.items()},
        }
        if self.keeper.keeps:
            await loop.run_in_executor(self.eyes, self.keeper.keep, question.image, body)
        return InferenceResult(body, seen.prediction, tokens)

    def _links(self, question: InferenceRequest, prediction: Prediction, heat: Any) -> Mapping[Kind, str]:
        kinds: tuple[Kind, ...] = ("photograph", "overlay")
        if heat is not None:
            kinds += ("map", "map_overlay")
        shown = prediction.filter_scores(question.min_score)
        return self.shelf.put(LinkedResult(question.image, shown, heat, jet=question.jet), kinds)

    def describe(self, served: ServedModel) -> dict[str, Any]:
        """What is told of a model."""
        backend = None if served.predictor is None else served.predictor.backend
        return serializers.describe(
            served.name,
            served.model_file,
            maps=True,  # where there is no explanation graph, occlusion asks the model itself
            backend="" if backend is None else backend.name,
            precision="" if backend is None else backend.precision,
        )

    def log_failure(self, request_id: str) -> None:
        """Log the exception that is being handled."""
        log.exception("request %s failed", request_id)

    def close(self) -> None:
        """Let go of everything."""
        self.draining = True
        self.heat.stop()
        for served in self.models.values():
            served.close()
        for pool in (self.eyes, self.painters, self.explainers):
            pool.shutdown(wait=False, cancel_futures=True)
        self.shelf.clear()


async def unless_gone(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """What `work` gives; it is given up when the client goes away, so that nobody works for no one.

    Raises:
        ClientDisconnect: it went away.
    """
    task = asyncio.ensure_future(work)
    # The body has been read: the next message can only be that the client has gone.
    gone = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait((task, gone), return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientDisconnect
    finally:
        gone.cancel()
        task.cancel()


def not_ready(served: ServedModel) -> Problem:
    """The problem of a model that cannot answer yet, or never will."""
    if served.failure:
        return Problem("not_ready", f"The model {served.name!r} could not be loaded: {served.failure}")
    return Problem(
        "not_ready",
        f"The model {served.name!r} has not answered its warm-up photograph yet; try again in a moment.",
        retry_after_seconds=2,
    )


def _in(seconds: float) -> str:
    """That moment, in UTC, as ISO 8601 has it."""
    return (
        (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat(timespec="seconds").replace("+00:00", "Z")
    )
