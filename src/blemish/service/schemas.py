"""The shapes of the answers, for the OpenAPI document and for the tests that hold the answers against it.

Answers are plain dictionaries on their way out (a mask has thousands of corners, and checking them a
second time would cost more than finding them); `tests/service` validates every kind of answer here.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from blemish.structures import Task


class Shape(BaseModel):
    """One JSON object; a key that is not named is a mistake."""

    model_config = ConfigDict(extra="forbid")


Score = float


class LimitMet(Shape):
    """The limit that a request met."""

    name: str
    value: float


class ProblemDocument(Shape):
    """RFC 9457: why a request was refused."""

    type: str
    title: str
    status: int
    detail: str = Field(description="A sentence for people.")
    code: str = Field(description="A word for programs.")
    request_id: str
    limit: LimitMet | None


class LabelScore(Shape):
    """One label and how probable it is that it stands in the image."""

    label: str
    title: str
    score: Score = Field(ge=0, le=1)
    threshold: float
    verdict: bool


class DetectionSchema(Shape):
    """One thing found in the image."""

    id: int = Field(ge=1)
    label: str | None
    title: str | None
    score: Score = Field(ge=0, le=1)
    verdict: bool
    box_xyxy: list[float] = Field(
        min_length=4, max_length=4, description="x1, y1, x2, y2 in pixels of the upright photograph."
    )
    polygons: list[list[list[float]]] | None = Field(description="Outlines, filled by the even-odd rule.")
    area: float = Field(description="Pixels of the mask, or of the box where there is none.")
    area_percent: float = Field(description="Of the photograph.")


class Verdict(Shape):
    """What the model says at its own thresholds."""

    labels: list[str]
    objects: list[int]


class Links(Shape):
    """Private pictures of the answer."""

    image: str
    overlay: str
    expires_at: str


class HeatMap(Shape):
    """Where the model looked."""

    method: str
    model: str
    label: str | None
    title: str | None
    empty: bool = Field(description="Nothing in the photograph speaks for the label: the map is black.")
    map: str | None = Field(description="8-bit grey PNG in the size of the photograph.")
    overlay: str | None


class Timing(Shape):
    """Milliseconds by stage."""

    reading: float
    decoding: float
    waiting: float
    inferring: float
    explaining: float
    total: float


class PredictionResponse(Shape):
    """What a model says of one image."""

    request_id: str
    model: str
    model_version: str
    model_digest: str
    task: Task
    sha256: str = Field(description="Of the bytes that were sent.")
    size_hw: list[int] = Field(min_length=2, max_length=2)
    labels: list[LabelScore]
    objects: list[DetectionSchema] | None
    score_floor: float
    min_score: float
    verdict: Verdict
    links: Links | None
    map: HeatMap | None
    map_unavailable: str | None
    timing_ms: Timing


class BatchItem(Shape):
    """The answer to one image of several."""

    index: int
    status: int
    result: PredictionResponse | None
    problem: ProblemDocument | None


class BatchResponse(Shape):
    """The answers to several images, in their order."""

    request_id: str
    items: list[BatchItem]


class StageLine(Shape):
    """One line of a streamed answer."""

    stage: Literal["decoding", "queued", "inferring", "explaining", "done", "failed"]
    elapsed_ms: float
    ahead: int | None = None
    batch: int | None = None
    result: PredictionResponse | None = None
    problem: ProblemDocument | None = None


class LabelInfo(Shape):
    """A label that a model can say."""

    label: str
    title: str
    threshold: float


class ModelInfo(Shape):
    """What a model can say, and what was promised of it."""

    name: str
    model_version: str
    model_digest: str
    graph_digest: str
    run: str
    created: str | None
    architecture: str
    task: Task
    labels: list[LabelInfo]
    thresholds_tuned_on: str
    score_floor: float
    input_size_hw: list[int]
    maps: bool
    backend: str
    precision: str
    data: str
    metrics: dict[str, Any]
    licenses: dict[str, str]
    certificate: dict[str, Any] | None
    blemish_version: str


class ModelList(Shape):
    """Every model, and the one that answers where none is named."""

    default: str
    models: list[ModelInfo]


class Live(Shape):
    """The process runs."""

    status: Literal["live"]


class Ready(Shape):
    """Every model has answered an image."""

    status: Literal["ready"]
    models: dict[str, str]


class Limits(Shape):
    """How large, how many, how long."""

    max_upload_bytes: int
    max_pixels: int
    max_batch: int
    queue_size: int
    deadline_seconds: float
    read_timeout_seconds: float
    link_seconds: float
    kept_hours: float | None
    formats: list[str]


class Running(Shape):
    """The answer of `/` to everybody but browsers."""

    status: Literal["API is running"]


class LegacyError(Shape):
    """How DamageLens' routes refuse."""

    detail: str


class LegacyClassification(Shape):
    """`/predict/resnet`, `/predict/fusion`."""

    status: Literal["success"]
    prediction: dict[str, float]


class LegacyViews(Shape):
    """`/predict?mode=`."""

    status: Literal["success"]
    mode: str
    original_image: str | None
    selected_viz: str | None
    resnet_viz: str | None
    fusion_viz: str | None


class LegacyDetection(Shape):
    """One box."""

    label: str
    confidence: float
    box: list[int]


class LegacyDetections(Shape):
    """`/predict/yolo`."""

    status: Literal["success"]
    original_image: str | None
    yolo_image: str | None
    detections: list[LegacyDetection]
    total_detections: int
    message: str


class LegacyMap(Shape):
    """`/predict/gradcam`."""

    status: Literal["success"]
    original_image: str | None
    gradcam_image: str | None


class LegacyBoxes(Shape):
    """The detector's part of `/predict/comprehensive`."""

    image: str | None
    detections: list[LegacyDetection]
    total_detections: int


class LegacyAll(Shape):
    """`/predict/comprehensive?mode=`."""

    status: Literal["success"]
    mode: str
    original_image: str | None
    classification: dict[str, float]
    yolo: LegacyBoxes
    gradcam: str | None
