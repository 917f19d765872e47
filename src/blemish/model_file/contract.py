"""What a model file promises: typed, frozen, checked."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from blemish.errors import BadInput
from blemish.structures import Labels, Task

FORMAT_VERSION = 1

Side = Annotated[int, Field(ge=1, le=2**15)]  # pixels
Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]


class ContractModel(BaseModel):
    """One part of the contract: frozen, and a key nobody knows is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class LabelSpec(ContractModel):
    """One label: its name in data and its title for people."""

    name: str
    title: str


class InputSpec(ContractModel):
    """How an image becomes one named input of the network.

    Attributes:
        name: the graph's input.
        size_hw: what the network takes, pixels.
        resize: `stretch` to `size_hw`; `letterbox`: fit inside, keep the shape, pad the rest;
            `shortest`: the shorter side to `resize_to`, then a centre crop of `size_hw`.
        resize_to: pixels, for `shortest`; the shorter side of `size_hw` where not given.
        interpolation: Pillow's antialiased filter.
        mean: one a channel, taken from values as `scale` leaves them.
        std: likewise; what is left is divided by it.
        channels: 3 for RGB, 1 for grey.
        scale: `unit` brings values to [0, 1], 1 being white; `byte` to 0..255.
        white_level: what counts as 1.0 in 16-bit images.
        pad_value: 0..255, the border of a letterbox.
        letterbox_align: `center` pads both sides, `corner` only right and below.
    """

    name: str = "image"
    size_hw: tuple[Side, Side]
    resize: Literal["stretch", "letterbox", "shortest"] = "stretch"
    resize_to: Side | None = None
    interpolation: Literal["bilinear", "bicubic", "lanczos", "box"] = "bilinear"
    mean: tuple[Finite, ...] = (0.485, 0.456, 0.406)
    std: tuple[Positive, ...] = (0.229, 0.224, 0.225)
    channels: Literal[1, 3] = 3
    scale: Literal["unit", "byte"] = "unit"
    white_level: Annotated[int, Field(ge=1, le=65535)] = 65535
    pad_value: Annotated[int, Field(ge=0, le=255)] = 114
    letterbox_align: Literal["center", "corner"] = "center"

    @model_validator(mode="after")
    def _one_a_channel(self) -> Self:
        if not len(self.mean) == len(self.std) == self.channels:
            raise ValueError(f"mean and std take one number for each of {self.channels} channels")
        return self


class OutputSpec(ContractModel):
    """One output of the graph: its name, what it is, and whether it still needs an activation."""

    name: str
    role: str
    activation: Literal["logits", "probabilities", "none"] = "none"


class DecoderSpec(ContractModel):
    """Which decoder reads the outputs, and its settings."""

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)


class ParityCertificate(ContractModel):
    """The certificate: that this file decides as the network it came from.

    Attributes:
        passed: no verdict changed, detections stayed where they were, and the outputs are not near-constant.
        images: how many were compared.
        verdicts_changed: how many decisions differ.
        largest_difference: of any score.
        metric: the headline metric's name.
        metric_before: with the network, on those images.
        metric_after: with the file.
        backend: what ran the file: `onnxruntime 1.31 CPUExecutionProvider`.
        precision: `fp32`, `fp16`.
        cpu: the processor's widest capability: `avx512`.
        graph_digest: sha256 of the file without metadata.
        reasons: why it did not pass.
    """

    passed: bool
    images: int
    verdicts_changed: int
    largest_difference: float
    metric: str = ""
    metric_before: float | None = None
    metric_after: float | None = None
    backend: str = ""
    precision: str = "fp32"
    cpu: str = ""
    graph_digest: str = ""
    reasons: tuple[str, ...] = ()


class Licences(ContractModel):
    """What the user stated of weights and data; empty where nobody said."""

    weights: str = ""
    data: str = ""
    code: str = "Apache-2.0"


class Contract(ContractModel):
    """Everything that must be known to use the network, and where it came from.

    Attributes:
        format_version: of this contract.
        blemish_version: that wrote it.
        name: of the run.
        architecture: registry name.
        task: what it answers.
        labels: in the order of the outputs.
        inputs: one for each input of the graph.
        outputs: one for each output that is read.
        decoder: how outputs become a prediction.
        temperature: logits are divided by it before the activation.
        thresholds: per label, the score from which the verdict is yes; empty for classification, where
            the best label is the verdict.
        thresholds_tuned_on: the split they were chosen on, or "".
        score_floor: boxes below it are not in the outputs.
        dynamic_batch: whether the graph takes more than one image at once.
        feature_layer: the layer that explanations look at.
        recipe: as resolved.
        training: seed, best epoch, versions, weights, device and the like.
        data: name, counts a split, how it was split and the group key.
        metrics: by split; figures obtained with tuned thresholds are marked `tuned`.
        licences: of weights, data, code.
        certificate: parity of file and network; None before it was made.
    """

    format_version: int = FORMAT_VERSION
    blemish_version: str = ""
    name: str = ""
    architecture: str
    task: Task
    labels: tuple[LabelSpec, ...]
    inputs: Annotated[tuple[InputSpec, ...], Field(min_length=1)]
    outputs: Annotated[tuple[OutputSpec, ...], Field(min_length=1)]
    decoder: DecoderSpec
    temperature: Positive = 1.0
    thresholds: dict[str, Share] = Field(default_factory=dict)
    thresholds_tuned_on: str = ""
    score_floor: Share = 0.0
    dynamic_batch: bool = True
    feature_layer: str = ""
    recipe: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    licences: Licences = Licences()
    certificate: ParityCertificate | None = None

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        try:
            labels = self.label_vocabulary()
        except BadInput as error:
            raise ValueError(str(error)) from None
        if self.task.is_image_level and not len(labels):
            raise ValueError(f"{self.task} without labels")
        if stray := sorted(set(self.thresholds) - set(labels)):
            raise ValueError(f"thresholds of labels that do not exist: {', '.join(stray)}")
        for kind, specs in (("input", self.inputs), ("output", self.outputs)):
            if len({spec.name for spec in specs}) < len(specs):
                raise ValueError(f"two {kind}s of one name")
        return self

    def label_vocabulary(self) -> Labels:
        """The labels as the other rooms take them."""
        return Labels(tuple(x.name for x in self.labels), tuple(x.title for x in self.labels))

    def threshold_array(self) -> np.ndarray:
        """(L,) float64 thresholds in label order; .5 where none was chosen."""
        return np.array([self.thresholds.get(x.name, 0.5) for x in self.labels], np.float64)
