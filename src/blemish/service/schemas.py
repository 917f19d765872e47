"""The schemas of the answers, for the OpenAPI document and for the tests that validate the answers.

Answers are built as plain dictionaries (a mask has thousands of points, and to validate them would cost
more than to compute them); `tests/service` validates every kind of answer against these schemas.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from blemish.image_checks import CaptureFault
from blemish.structures import Task


class ResponseModel(BaseModel):
    """One JSON object; a key without a field is an error."""

    model_config = ConfigDict(extra="forbid")


class Answer(ResponseModel):
    """A JSON object that is a whole answer."""

    schema_version: Literal[1]


Score = float


class ExceededLimit(ResponseModel):
    """The limit that a request exceeded."""

    name: str
    value: float


class ProblemDocument(Answer):
    """An RFC 9457 document: why a request was refused."""

    type: str
    title: str
    status: int
    detail: str = Field(description="One sentence for users.")
    code: str = Field(description="Stable code for programs; a suffix after a dot may refine it.")
    request_id: str
    limit: ExceededLimit | None


class LabelScore(ResponseModel):
    """One label and the probability that it applies to the image."""

    label: str
    display_name: str
    score: Score = Field(ge=0, le=1)
    threshold: float
    positive: bool = Field(description="Whether the model decides for the label.")
    reliable: bool = Field(
        description="Whether the label reached the precision that was required of its threshold; "
        "if not, a person has to review the decision."
    )


class DetectionSchema(ResponseModel):
    """One object that the model detected."""

    id: int = Field(ge=1)
    label: str | None
    display_name: str | None
    score: Score = Field(ge=0, le=1)
    positive: bool = Field(description="Whether the score reaches the threshold of the label.")
    reliable: bool = Field(
        description="Whether the label reached the precision that was required of its threshold; "
        "if not, a person has to review the decision."
    )
    box_xyxy: list[float] = Field(
        min_length=4, max_length=4, description="x1, y1, x2, y2 in pixels of the upright image."
    )
    polygons: list[list[list[float]]] | None = Field(
        description="Outlines of the mask, filled by the even-odd rule."
    )
    correct_interval: list[float] | None = Field(
        default=None,
        min_length=2,
        max_length=2,
        description="With a risk: how often detections with such scores were correct on the calibration "
        "images, as a 95 % interval.",
    )
    area: float = Field(description="Area of the mask, or of the box if there is no mask, in pixels.")
    area_percent: float = Field(description="The area as a percentage of the image.")


class Decision(ResponseModel):
    """The decision of the model at its own thresholds."""

    labels: list[str] = Field(description="The positive labels.")
    detections: list[int] = Field(description="The ids of the positive detections.")


class LabelStateSchema(ResponseModel):
    """What is decided about one label."""

    label: str
    display_name: str
    state: Literal["present", "absent", "undecided"]
    probability: float = Field(
        ge=0, le=1, description="That the label is present, as the calibration images suggest."
    )


class RiskDecision(ResponseModel):
    """What the model decides alone at the risk or costs of the request, and what is left for review."""

    outcome: Literal["label", "review"]
    rule: Literal["risk", "cost"]
    risk: float | None
    costs: dict[str, float] | None
    labels: list[str] = Field(description="The labels that are decided to be present.")
    possible_labels: list[str] = Field(description="The labels that may be present.")
    reason_code: Literal["", "several-labels", "no-label", "undecided", "unfamiliar"]
    reason: str = Field(description="Why a person must look, as a sentence; empty if all is decided.")
    states: list[LabelStateSchema]


class FamiliaritySchema(ResponseModel):
    """How familiar the image is to the model, by its distance from the training images."""

    distance: float = Field(
        ge=0, description="Squared distance of the features, 2 on average for training images."
    )
    p_value: float = Field(ge=0, le=1, description="The share of held-out images that are at least as far.")
    rate: float = Field(description="The share of familiar images that is called unfamiliar, on average.")
    unfamiliar: bool = Field(description="Whether the p-value is at most the rate.")


class CaptureReasonSchema(ResponseModel):
    """Why an image should be taken again."""

    code: CaptureFault
    text: str = Field(description="The fault in words, after `the image`.")
    measure: str = Field(description="Name of the measure that found it; empty for near-duplicates.")
    value: float
    limit: float = Field(description="The limit of usual images.")
    other: str | None = Field(description="The image that a near-duplicate is nearly identical to.")


class CaptureSchema(ResponseModel):
    """Whether the image should be taken again; the prediction is there nevertheless."""

    retake: bool
    sentence: str = Field(description="What to do and why; empty for a usual image.")
    reasons: list[CaptureReasonSchema]
    rate: float = Field(description="The share of usual images that has each fault, on average.")


class Links(ResponseModel):
    """Private links to the images of the answer."""

    image: str
    overlay: str
    reduction: int = Field(
        ge=1,
        description="The sides of the images behind links are divided by it, because of max_linked_pixels.",
    )
    expires_at: str


class HeatmapSchema(ResponseModel):
    """A heatmap: which parts of the image raise the score of a label."""

    method: str
    model: str
    label: str | None
    display_name: str | None
    empty: bool = Field(description="Whether no part of the image raises the score: the heatmap is black.")
    is_faithful: bool | None = Field(
        description="Whether hiding the highlighted places lowers the score (deletion below the score and "
        "below insertion); null if it was not measured."
    )
    grayscale: str | None = Field(description="Link to an 8-bit gray PNG of the size of links.image.")
    overlay: str | None = Field(description="Link to the image under the colored heatmap.")


class Timing(ResponseModel):
    """The duration of each stage in milliseconds."""

    reading: float
    decoding: float
    waiting: float
    inferring: float
    explaining: float
    total: float


class PredictionResponse(Answer):
    """The prediction for one image."""

    request_id: str
    model: str
    model_version: str
    model_digest: str
    task: Task
    sha256: str = Field(description="Digest of the uploaded bytes.")
    size_hw: list[int] = Field(min_length=2, max_length=2)
    labels: list[LabelScore]
    familiarity: FamiliaritySchema | None = Field(
        description="Null if the model file has no features, as files of earlier versions."
    )
    capture: CaptureSchema | None = Field(
        description="Null if the model file has no limits of usual images, as files of earlier versions, or "
        "if the server does not check them."
    )
    detections: list[DetectionSchema] | None
    min_score_available: float = Field(
        description="The lowest score of a detection that the model file gives."
    )
    min_score: float = Field(description="The minimum score that was applied.")
    decision: Decision
    risk_decision: RiskDecision | None = Field(
        description="The decision at the risk or costs of the request, or at the risk of the server; null "
        "without them."
    )
    warnings: list[str] = Field(
        description="Why the network may not see what the image shows, such as a 16-bit image with samples "
        "of 12 bits; usually empty."
    )
    links: Links | None
    heatmap: HeatmapSchema | None
    heatmap_unavailable: str | None
    timing_ms: Timing


class BatchItem(ResponseModel):
    """The result or the problem of one image of several."""

    index: int
    status: int
    result: PredictionResponse | None
    problem: ProblemDocument | None


class BatchResponse(Answer):
    """The results for several images, in their order."""

    request_id: str
    items: list[BatchItem]


class StageLine(ResponseModel):
    """One line of a streamed answer."""

    stage: Literal["decoding", "queued", "inferring", "explaining", "done", "failed"]
    elapsed_ms: float
    queue_position: int | None = None
    batch: int | None = None
    result: PredictionResponse | None = None
    problem: ProblemDocument | None = None


class LabelInfo(ResponseModel):
    """One label of a model."""

    label: str
    display_name: str
    threshold: float
    reliable: bool = Field(
        description="Whether the label reached the precision that was required of its threshold."
    )


class ModelDescription(ResponseModel):
    """The task, labels, thresholds, metrics and parity certificate of a model."""

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
    min_score_available: float
    input_size_hw: list[int]
    heatmaps: bool = Field(description="Whether heatmaps can be computed within heatmap_seconds.")
    backend: str
    precision: str
    data: str
    metrics: dict[str, Any]
    licenses: dict[str, str]
    certificate: dict[str, Any] | None
    blemish_version: str


class ModelInfo(Answer, ModelDescription):
    """The description of one model."""


class ModelList(Answer):
    """Every model, and the name of the default."""

    default: str
    models: list[ModelDescription]


class Live(Answer):
    """The process runs."""

    status: Literal["live"]


class Ready(Answer):
    """Every model has answered an image."""

    status: Literal["ready"]
    models: dict[str, str]


class Limits(Answer):
    """The limits of the server."""

    max_upload_bytes: int
    max_pixels: int
    max_images: int
    queue_size: int
    deadline_seconds: float
    read_timeout_seconds: float
    heatmap_seconds: float
    link_seconds: float
    max_linked_pixels: int
    retention_hours: float | None
    inspections: bool
    formats: list[str]


class Running(ResponseModel):
    """The answer of `/` to clients other than browsers."""

    status: Literal["API is running"]
