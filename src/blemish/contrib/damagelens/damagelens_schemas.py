"""The schemas of DamageLens' answers, for the OpenAPI document."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict


class DamageLensModel(BaseModel):
    """One JSON object; a key without a field is an error."""

    model_config = ConfigDict(extra="forbid")


class DamageLensError(DamageLensModel):
    """A refused request."""

    detail: str


class DamageLensClassification(DamageLensModel):
    """The answer of `/predict/resnet` and `/predict/fusion`."""

    status: Literal["success"]
    prediction: dict[str, float]


class DamageLensViews(DamageLensModel):
    """The answer of `/predict?mode=`."""

    status: Literal["success"]
    mode: str
    original_image: str | None
    selected_viz: str | None
    resnet_viz: str | None
    fusion_viz: str | None


class DamageLensDetection(DamageLensModel):
    """One box."""

    label: str
    confidence: float
    box: list[int]


class DamageLensDetections(DamageLensModel):
    """The answer of `/predict/yolo`."""

    status: Literal["success"]
    original_image: str | None
    yolo_image: str | None
    detections: list[DamageLensDetection]
    total_detections: int
    message: str


class DamageLensHeatmap(DamageLensModel):
    """The answer of `/predict/gradcam`."""

    status: Literal["success"]
    original_image: str | None
    gradcam_image: str | None


class DamageLensBoxes(DamageLensModel):
    """The detector's part of `/predict/comprehensive`."""

    image: str | None
    detections: list[DamageLensDetection]
    total_detections: int


class DamageLensComprehensive(DamageLensModel):
    """The answer of `/predict/comprehensive?mode=`."""

    status: Literal["success"]
    mode: str
    original_image: str | None
    classification: dict[str, float]
    yolo: DamageLensBoxes
    gradcam: str | None
