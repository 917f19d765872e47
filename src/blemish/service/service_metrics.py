"""The metrics of the service for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

MEDIA_TYPE = CONTENT_TYPE_LATEST
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


class ServiceMetrics:
    """Counters, histograms and gauges of one application, safe to use from any thread.

    Label values come from a closed set (routes, model names, status codes, names of API keys), so that a
    client cannot create time series.

    Attributes:
        registry: the metrics of this application; plug-ins may add their own.
        requests: number of answered requests, by route and status.
        request_seconds: time from the head of a request to the end of its answer, by route.
        stage_seconds: time of each stage of an answer, by model and stage.
        batch_size: number of images in a forward pass, by model.
        images_in_progress: number of images that a model processes or queues, by model.
        reloads: number of times that the file of a model was loaded again, by model and outcome.
        ready: 1 once a model has answered its warm-up image, by model.
        upload_bytes: memory of the uploads that are being read or processed.
        link_bytes: memory of the images behind links.
        stored_bytes: size of the stored images and answers.
        store_failures: number of answers that could not be stored.
        deleted_files: number of stored files that were deleted, by reason.
        linked_images: number of requests for images behind links, by kind, outcome and client.
        heatmaps: number of requests for heatmaps, by outcome and client.
        queued: number of images behind links (`linked-images`) or heatmaps that are made or queued, by queue.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.requests = Counter(
            "blemish_requests_total", "Answered requests.", ("route", "status"), registry=registry
        )
        self.request_seconds = Histogram(
            "blemish_request_seconds",
            "Time from the head of a request to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=registry,
        )
        self.stage_seconds = Histogram(
            "blemish_stage_seconds",
            "Time of each stage of an answer.",
            ("model", "stage"),
            buckets=_SECONDS,
            registry=registry,
        )
        self.batch_size = Histogram(
            "blemish_batch_size", "Images in one forward pass.", ("model",), buckets=_SIZES, registry=registry
        )
        self.images_in_progress = Gauge(
            "blemish_images_in_progress",
            "Images that a model processes or queues.",
            ("model",),
            registry=registry,
        )
        self.ready = Gauge(
            "blemish_ready", "1 once the model has answered its warm-up image.", ("model",), registry=registry
        )
        self.reloads = Counter(
            "blemish_reloads_total",
            "Model files that were loaded again and replaced the model, or failed.",
            ("model", "outcome"),
            registry=registry,
        )
        self.upload_bytes = Gauge(
            "blemish_upload_bytes", "Memory of uploads that are read or processed.", registry=registry
        )
        self.link_bytes = Gauge("blemish_link_bytes", "Memory of images behind links.", registry=registry)
        self.stored_bytes = Gauge(
            "blemish_stored_bytes", "Size of the stored images and answers.", registry=registry
        )
        self.store_failures = Counter(
            "blemish_store_failures_total", "Answers that could not be stored.", registry=registry
        )
        self.deleted_files = Counter(
            "blemish_deleted_files_total", "Stored files that were deleted.", ("reason",), registry=registry
        )
        for reason in ("expired", "left-over", "size-limit"):
            self.deleted_files.labels(reason=reason)
        self.linked_images = Counter(
            "blemish_linked_images_total",
            "Requests for images behind links, by name of the API key.",
            ("kind", "outcome", "client"),
            registry=registry,
        )
        self.unfamiliar = Counter(
            "blemish_unfamiliar_images_total",
            "Images unlike the training images.",
            ("model",),
            registry=registry,
        )
        self.retakes = Counter(
            "blemish_retake_images_total",
            "Images that should be taken again, by reason; an image with two reasons counts twice.",
            ("model", "reason"),
            registry=registry,
        )
        self.familiarity = Histogram(
            "blemish_familiarity_p_value",
            "Conformal p-values of images: of familiar images, a tenth is in each tenth.",
            ("model",),
            buckets=tuple(i / 10 for i in range(1, 11)),
            registry=registry,
        )
        self.label_scores = Histogram(
            "blemish_label_score",
            "Scores of each label, whose shift against earlier weeks is drift.",
            ("model", "label"),
            buckets=tuple(i / 10 for i in range(1, 11)),
            registry=registry,
        )
        self.decisions = Counter(
            "blemish_decisions_total",
            "Images that were decided (label) or left for review at a risk.",
            ("model", "outcome"),
            registry=registry,
        )
        self.heatmaps = Counter(
            "blemish_heatmaps_total",
            "Requests for heatmaps, by name of the API key.",
            ("outcome", "client"),
            registry=registry,
        )
        self.queued = Gauge(
            "blemish_queued",
            "Images behind links and heatmaps that are made or queued.",
            ("queue",),
            registry=registry,
        )

    def text(self) -> bytes:
        """Return every metric in the Prometheus text format."""
        return generate_latest(_WithoutCreationTimes(self.registry))


class _WithoutCreationTimes(Collector):
    """The metrics of a registry without one `…_created` series for each counter and histogram."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics."""
        for metric in self._registry.collect():
            metric.samples = [s for s in metric.samples if not s.name.endswith("_created")]
            yield metric
